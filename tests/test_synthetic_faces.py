"""The embedded dataset: paired, reproducible, and nothing but the manipulation to tell by."""

import collections
import hashlib
import subprocess
import sys

import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data_builders import h264
from data_builders.png import encode_png
from data_builders.records import SPLITS
from data_builders.synthetic_faces import Builder, builder, preview
from data_builders.synthetic_faces.manipulate import METHODS
from tests.conftest import ROOT

QUALITIES = ("raw", "c23", "c40")
_DIGEST = """
import hashlib
from data_builders.synthetic_faces import Builder, builder
clip = Builder.read_clip(builder.SyntheticVideo(3, 2, {method!r}, 4, 5))
print(hashlib.sha256(b"".join(f.tobytes() for q in clip.crops.values() for f in q)).hexdigest())
"""


def source(method, number, *, frames=1, seed=5):
    return builder.SyntheticVideo(seed, frames, method, number, number + 1)


@pytest.fixture(scope="module")
def clips():
    """Real and fake of 70 people, one frame each."""
    return [
        Builder.read_clip(source(method, number))
        for number in range(70)
        for method in (builder.REAL, METHODS[number % 2])
    ]


@pytest.fixture(scope="module")
def tiny(data_dir):
    made = Builder(config="tiny", data_dir=data_dir)
    made.download_and_prepare()
    return made


def test_records(tiny):
    count = {split: len(tiny.as_data_source(split=split)) for split in SPLITS}
    config = tiny.builder_config
    assert count == {split: 2 * config.frames * n for split, n in config.identities.items()}
    for record in tiny.as_data_source(split="train"):
        images = record["image"]
        assert set(images) == set(QUALITIES)
        x0, y0, x1, y1 = record["box"]
        assert {image.shape for image in images.values()} == {(int(y1 - y0), int(x1 - x0), 3)}
        assert x1 - x0 == y1 - y0
        assert min(x0, y0) >= 0
        assert max(x1, y1) <= 144
        method = record["method"].decode()
        assert record["label"] == (method != "original")
        assert method in ("original", *METHODS)
        assert record["video"].decode().split("_")[0] == record["identity"].decode()


def test_small_is_the_default(tmp_path):
    assert Builder(data_dir=tmp_path).builder_config.name == "small"


@pytest.mark.parametrize("config", ["small", "tiny"])
def test_no_person_is_in_two_splits_not_even_as_a_donor(config, tmp_path):
    people, videos = collections.defaultdict(set), collections.Counter()
    for split, sources in Builder(config=config, data_dir=tmp_path).clip_sources().items():
        for each in sources:
            people[split] |= {each.target, each.donor}
            assert each.target != each.donor
            videos[each.method, each.target, each.donor] += 1
        made_of = {each.target for each in sources if each.method != builder.REAL}
        assert made_of == {each.target for each in sources if each.method == builder.REAL}
    assert set(people) == set(SPLITS)
    assert sum(map(len, people.values())) == len(set.union(*people.values()))
    assert set(videos.values()) == {1}


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_gives_the_same_pixels_in_another_process(method):
    # After other clips, so that nothing may depend on what came before.
    Builder.read_clip(source(builder.REAL, 9))
    clip = Builder.read_clip(source(method, 4, frames=2, seed=3))
    pixels = b"".join(f.tobytes() for quality in clip.crops.values() for f in quality)
    code = [sys.executable, "-c", _DIGEST.format(method=method)]
    done = subprocess.run(code, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(pixels).hexdigest()
    other = Builder.read_clip(source(method, 4, frames=2, seed=4))
    assert other.crops["raw"][0].tobytes() != clip.crops["raw"][0].tobytes()


def test_qualities_are_the_same_moment():
    """A c40 crop is nearer to its own raw crop than to that of any other frame."""
    for number in range(8):
        crops = Builder.read_clip(source(METHODS[number % 2], number, frames=3)).crops
        raw, c40 = (np.asarray(crops[quality], np.float32) for quality in ("raw", "c40"))
        distance = np.abs(raw[:, None] - c40[None]).mean((2, 3, 4))
        np.testing.assert_array_equal(distance.argmin(0), range(3))


def test_the_compression_is_real(monkeypatch):
    """What is stored is what libx264 gave back: exact at CRF 0, with less and less detail after."""
    encoded = []
    encode = h264.encode

    def spy(frames, *, crf):
        encoded.append((crf, encode(frames, crf=crf)))
        return encoded[-1][1]

    monkeypatch.setattr(h264, "encode", spy)
    it = source(METHODS[0], 2, frames=2)
    clip = Builder.read_clip(it)
    film = builder.film(it)
    assert [crf for crf, _ in encoded] == [0, 23, 40]
    assert all(b"avc1" in data for _, data in encoded)
    sizes = [len(data) for _, data in encoded]
    assert sizes[0] > 4 * sizes[1]
    assert sizes[1] > 1.5 * sizes[2]
    np.testing.assert_array_equal(list(h264.decode(encoded[0][1])), film)
    for i, (x0, y0, x1, y1) in enumerate(clip.boxes.astype(int)):
        np.testing.assert_array_equal(clip.crops["raw"][i], film[i][y0:y1, x0:x1])
    detail = [
        np.mean([np.abs(cv2.Laplacian(crop, cv2.CV_32F)).mean() for crop in clip.crops[quality]])
        for quality in QUALITIES
    ]
    assert detail == sorted(detail, reverse=True)


def test_a_fake_differs_from_its_real_in_the_face_alone(clips):
    for real, fake in zip(clips[::2], clips[1::2], strict=True):
        np.testing.assert_array_equal(real.boxes, fake.boxes)
        assert list(real.frames) == list(fake.frames)
        assert (real.label, fake.label) == ("real", "fake")
        assert real.identity == fake.identity
        difference = np.subtract(real.crops["raw"][0], fake.crops["raw"][0], dtype=np.float32)
        # Above there is the sensor's noise, without a mean; around the mouth there is more.
        above, mouth = difference[:8], difference[-32:-12, 24:-24]
        assert abs(above.mean()) < 0.5
        assert mouth.std() > 1.5 * above.std()


def _global_statistics(crop):
    grey = crop.mean(-1, dtype=np.float32)
    corners = np.stack([grey[:12, :12], grey[:12, -12:]])
    noise = [np.median(np.abs(cv2.Laplacian(corner, cv2.CV_32F))) for corner in corners]
    return [*crop.mean((0, 1)), *crop.std((0, 1)), *noise]


def _separation(clips, features):
    """AUC of a logistic regression on people it has not seen; 0.5 is none."""
    labels = [clip.label == "fake" for clip in clips]
    model = make_pipeline(StandardScaler(), LogisticRegression())
    scores = cross_val_predict(
        model,
        np.asarray(features, np.float64),
        labels,
        groups=[clip.identity for clip in clips],
        cv=GroupKFold(5),
        method="decision_function",
    )
    return roc_auc_score(labels, scores)


def test_no_shortcut_tells_real_from_fake(clips):
    """Neither size, nor colour, nor noise, nor the bytes of a file give a fake away."""
    everything = [[len(clip.crops["raw"][0])] for clip in clips]
    for quality in QUALITIES:
        crops = [clip.crops[quality][0] for clip in clips]
        statistics = [_global_statistics(crop) for crop in crops]
        size = [[len(encode_png(crop))] for crop in crops]
        assert abs(_separation(clips, statistics) - 0.5) < 0.1, quality
        assert abs(_separation(clips, size) - 0.5) < 0.1, quality
        everything = [[*a, *b] for a, b in zip(everything, statistics, strict=True)]
    assert abs(_separation(clips, everything) - 0.5) < 0.1


def test_frames_follow_no_order(tiny):
    labels = [record["label"] for record in tiny.as_data_source(split="train")]
    assert labels != sorted(labels)
    assert labels != sorted(labels, reverse=True)


def test_preview(tmp_path, monkeypatch, capsys):
    out = tmp_path / "docs" / "sheet.png"
    monkeypatch.setattr(sys, "argv", ["preview", "--out", str(out)])
    preview.main()
    picture = cv2.imread(str(out))
    assert picture.shape[1] > 800
    assert out.stat().st_size < 400_000
    assert str(out) in capsys.readouterr().out
