"""The same source video in two datasets is found, and strangers are not."""

import json

import cv2
import numpy as np
import pytest
import scipy.fft

from data_builders import build, h264
from data_builders.synthetic_faces.builder import SyntheticVideo, film
from qad_jax.evaluation import fingerprints, leakage
from qad_jax.evaluation.fingerprints import SIDE, Fingerprints

SEED, FRAMES = 3, 3
METHOD = "inner_face_swap"


def textured(seed=0):
    """A grey image of shades and details."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.uniform(0, 255, (6, 6)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    fine = cv2.GaussianBlur(rng.normal(0, 60, (SIDE, SIDE)), (0, 0), 1.5)
    return np.float32(coarse + fine)


def test_the_hash_is_that_of_the_definition():
    images = np.stack([textured(seed) for seed in range(3)])
    for image, value in zip(images, fingerprints.phash(images), strict=True):
        low = scipy.fft.dctn(image.astype(np.float64), norm="ortho")[:8, :8].ravel()
        bits = "".join("1" if each > np.median(low[1:]) else "0" for each in low)
        assert f"{int(value):064b}" == bits


def test_a_crop_is_moved_as_one_would_cut_it():
    image = textured()
    x, y = 3, -2
    shown = fingerprints.moved(image, (1.0, x / SIDE, y / SIDE))
    np.testing.assert_allclose(shown[2:, :-3], image[:-2, 3:], atol=0.1)
    ramp = np.float32(np.tile(np.arange(SIDE), (SIDE, 1)))
    smaller = fingerprints.moved(ramp, (0.5, 0.0, 0.0))
    np.testing.assert_allclose(smaller[0], (np.arange(SIDE) - 23.5) / 2 + 23.5, atol=0.05)


def test_light_and_place_do_not_count_and_details_do():
    large = cv2.resize(textured(), (4 * SIDE, 4 * SIDE), interpolation=cv2.INTER_CUBIC)
    image = cv2.resize(large, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    tighter = cv2.resize(large[18:186, 8:176], (SIDE, SIDE), interpolation=cv2.INTER_AREA)

    def best(moving, fixed):
        near = np.bitwise_count(
            fingerprints.hashes_of_places(moving) ^ fingerprints.phash(fixed[None])
        )
        return fingerprints.correlation(moving, fixed, int(near.argmin()))

    assert best(image, image) == pytest.approx(1, abs=1e-3)
    assert best(image, 0.5 * image + 30) == pytest.approx(1, abs=1e-3)
    assert best(tighter, image) > 0.97
    assert best(image, tighter) > 0.97
    assert best(image, textured(1)) < 0.5
    assert best(image, np.full_like(image, 9)) <= 0


@pytest.fixture(scope="module")
def films():
    """Frames of twice the rendered size by person and method, before compression."""

    def enlarged(method, person):
        frames = film(SyntheticVideo(SEED, FRAMES, method, person, person + 1))
        return [cv2.resize(f, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC) for f in frames]

    return {
        (method, person): enlarged(method, person)
        for person in range(8)
        for method in ("original", METHOD)
    }


def crops(frames, *, crf, box, size):
    """What a dataset cuts out of a film: `box` is left, top and side, of the frame's side."""
    side = frames[0].shape[0]
    left, top, edge = (round(each * side) for each in box)
    decoded = h264.decode(h264.encode(frames, crf=crf))
    cut = (f[top : top + edge, left : left + edge] for f in decoded)
    return [cv2.resize(c, (size, size), interpolation=cv2.INTER_AREA) for c in cut]


def built(folder, split, videos):
    """A dataset of these videos, by method and name, in one split."""
    lists = {name: [] for name in ("raw", "labels", "method", "video", "identity")}
    for (method, name), images in videos.items():
        for i, image in enumerate(images):
            path = folder / f"{method}-{name}-{i}.png"
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image[..., ::-1])
            row = (path.name, int(method != "original"), method, name, name)
            for values, value in zip(lists.values(), row, strict=True):
                values.append(value)
    (folder / "data.json").write_text(json.dumps({split: lists}))
    made = build.builder("manifest", data_dir=folder / "tfds", manifest=folder / "data.json")
    build.prepare(made)
    return made


@pytest.fixture(scope="module")
def splits(films, tmp_path_factory):
    """Training shows people 0 to 4; the test split of another dataset shows 2 to 7."""
    place = tmp_path_factory.mktemp("leakage")
    wide, tight = (0.15, 0.15, 0.7), (0.17, 0.19, 0.64)
    training = {
        (method, str(person)): crops(frames, crf=0, box=wide, size=140)
        for (method, person), frames in films.items()
        if person < 5
    }
    # Of person 2 the recompressed original, of 3 the same at half the size, of 4 the fake alone.
    known = {
        ("original", "a"): crops(films["original", 2], crf=40, box=wide, size=140),
        ("original", "b"): crops(films["original", 3], crf=23, box=tight, size=70),
        ("other", "c"): crops(films[METHOD, 4], crf=23, box=tight, size=120),
    }
    strangers = {
        ("original", f"stranger {person}"): crops(films[m, person], crf=crf, box=wide, size=140)
        for person, m, crf in ((5, "original", 0), (6, METHOD, 23), (7, "original", 40))
    }
    return (
        Fingerprints(built(place / "test", "test", {**known, **strangers}), "test"),
        Fingerprints(built(place / "training", "train", training), "train"),
    )


def test_recompressed_resized_and_recut_videos_and_fakes_are_found_and_strangers_are_not(splits):
    test, training = splits
    pairs = {
        (test.videos[match.test], training.videos[match.training])
        for match in leakage.search(test, training)
    }
    people = {"a": "2", "b": "3", "c": "4"}
    assert {(name, person) for (_, name), (_, person) in pairs} == set(people.items())
    # The fake of a person has the same source, in either direction.
    assert (("original", "a"), ("original", "2")) in pairs
    assert (("other", "c"), (METHOD, "4")) in pairs


def test_what_was_found_is_told_by_run(splits, tmp_path):
    test, training = splits
    matches = [
        leakage.Match(test=0, training=4, frames=3, correlation=0.9876),
        leakage.Match(test=0, training=5, frames=2, correlation=0.9),
        leakage.Match(test=2, training=5, frames=2, correlation=0.91),
    ]
    found = leakage.Leakage()
    found.add("all", test, training, matches, ())
    left_out = training.videos[5][0]
    found.add("less", test, training, matches, (left_out,))
    found.unknown("theirs", "nobody says")
    titles = f"6 videos in {test.title} with the source of a video in {training.title}"
    assert found.text().splitlines() == [
        f"leakage: all: 2 of {titles}",
        f"leakage: less: 1 of {titles}",
        "leakage: theirs: not compared with its training data: nobody says",
    ]
    found.write(tmp_path)
    header, first, *more = (tmp_path / "leakage.csv").read_text().splitlines()
    assert header == ",".join(leakage.FIELDS)
    assert test.videos[0][1] in first
    assert '0.988,"all, less"' in first
    assert len(more) == 2


def test_a_split_is_not_too_large_to_keep(splits):
    _, training = splits
    assert len(training.hashes) == 10 * FRAMES
    assert training.hashes.dtype == np.uint64
    assert [len(training.frames_of(video)) for video in range(10)] == [FRAMES] * 10
    frames = [(place, 100 + place) for place in range(32)]
    assert fingerprints._spread(frames) == [100, 104, 109, 113, 118, 122, 127, 131]
    assert fingerprints._spread(frames[:2]) == [100, 101]
