"""Blended faces: masks lie where they should, real and fake share all but the blend."""

import csv
import dataclasses
import functools
import zlib

import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data_builders import build
from data_builders import faces as faces_of_clips
from data_builders.errors import UserError
from data_builders.self_blended import builder, clip, preview, recipes
from tests import trees

pytestmark = pytest.mark.usefixtures("pairs_in_this_process")

PEOPLE = 10


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder of rendered people, a file of each; a face that MTCNN finds, or nothing."""
    folder = tmp_path_factory.mktemp("people")
    for person in range(PEOPLE):
        image = trees.frames_of(person % 3, 6)[3 + person % 2]
        image = np.roll(image, person, axis=1)  # another file for each
        path = folder / f"p{person}" / "a.png"
        path.parent.mkdir()
        cv2.imwrite(str(path), image[..., ::-1])
    return folder


def made(photographs, folder, **recipe):
    dataset = build.builder(
        "self_blended", data_dir=folder, manual_dir=photographs, max_skipped=0.5, **recipe
    )
    build.prepare(dataset)
    return dataset


def records(dataset):
    return {
        split: [
            {name: v.decode() if isinstance(v, bytes) else v for name, v in record.items()}
            for record in dataset.as_data_source(split)
        ]
        for split in dataset.info.splits
    }


# The dataset


@pytest.fixture(scope="module")
def dataset(photographs, tmp_path_factory):
    return made(
        photographs,
        tmp_path_factory.mktemp("built"),
        qualities=("raw", "c40"),
        frames_per_video=1,
        variants=2,
    )


def test_each_real_clip_has_its_fake(dataset):
    people = {}
    for split, found in records(dataset).items():
        of = {(r["video"], r["label"]): r for r in found}
        assert len(of) == len(found)
        for (video, label), record in of.items():
            other = of[video, 1 - label]
            np.testing.assert_array_equal(record["box"], other["box"])
            assert record["image"]["raw"].shape == other["image"]["raw"].shape
            assert record["identity"] == other["identity"]
            assert (record["method"] == "original") == (label == 0)
            assert label == 0 or record["method"] in recipes.FAMILIES
            people.setdefault(record["identity"], set()).add(split)
    assert len(people) >= PEOPLE // 2
    assert all(len(splits) == 1 for splits in people.values())
    # What has no face is named as a pair, and is not there by half.
    without = dataset.info.metadata["skipped"]
    assert len(without) == 2 * (PEOPLE - len(people)) > 0
    assert all("no face was found" in reason for reason in without)


def borders(image):
    """Strips of a crop that no mask reaches: above the face, and beside it."""
    edge = max(2, len(image) // 16)
    return [image[:edge], image[:, :edge], image[:, -edge:]]


def noise_around(image):
    """What is left of the strips when their neighbours' mean is taken away."""
    rest = image.astype(np.float32) - cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.0)
    return float(np.mean([part.std() for part in borders(rest)]))


def test_nothing_but_the_blend_tells_real_from_fake(dataset):
    """A classifier of all that is around the face finds chance: sizes of files, box, border."""
    rows, labels, groups = [], [], []
    for found in records(dataset).values():
        for record in found:
            features = [*record["box"], record["frame"]]
            for image in record["image"].values():
                height, width = image.shape[:2]
                parts = borders(image)
                features += [part.mean() for part in parts] + [part.std() for part in parts]
                features.append(noise_around(image))
                features.append(len(cv2.imencode(".png", image)[1]))
                features += [height, width]
            rows.append(features)
            labels.append(record["label"])
            groups.append(zlib.crc32(record["identity"].encode()) % 2)
    rows, labels, groups = map(np.array, (rows, labels, groups))
    assert len(rows) > 20
    scores = np.zeros(len(rows))
    for held_out in (0, 1):  # people whom the classifier has not seen
        train = groups != held_out
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        model.fit(rows[train], labels[train])
        scores[~train] = model.predict_proba(rows[~train])[:, 1]
    assert 0.35 < roc_auc_score(labels, scores) < 0.65


def test_the_noise_around_the_face_is_that_of_the_real_clip(dataset):
    """In pairs, which shows far less than a classifier sees: neither has more at any quality."""
    ratios = {}
    for found in records(dataset).values():
        noise = {
            (r["video"], r["label"], q): noise_around(r["image"][q])
            for r in found
            for q in r["image"]
        }
        for (video, label, quality), value in noise.items():
            if label:
                real = noise[video, 0, quality]
                ratios.setdefault(quality, []).append(np.log((value + 0.01) / (real + 0.01)))
    for quality, logs in ratios.items():
        assert len(logs) > 8
        assert abs(np.mean(logs)) < 0.02 + 3 * np.std(logs) / len(logs) ** 0.5, quality
        assert np.std(logs) < {"raw": 0.05, "c40": 0.3}[quality], quality


def test_the_border_of_raw_crops_is_the_same_in_both(dataset):
    """The camera, its noise and what came before the qualities are those of the pair."""
    same = []
    for found in records(dataset).values():
        of = {(r["video"], r["label"]): r["image"]["raw"] for r in found}
        for (video, label), image in of.items():
            if label:
                edge = max(2, len(image) // 20)
                same.append((image[:edge] == of[video, 0][:edge]).mean())
    # An encoding before the qualities spreads a change over its blocks, here and there.
    assert np.median(same) == 1
    assert min(same) > 0.2


def test_a_sheet_shows_every_family(photographs, tmp_path):
    out = tmp_path / "sheet.png"
    assert preview.main(["--manual_dir", str(photographs), "--out", str(out)]) == 0
    image = cv2.imread(str(out))
    columns = [
        image[30:170, 50 + 152 * i : 190 + 152 * i] for i in range(1 + len(recipes.UNPAINTED))
    ]
    assert all((column != columns[0]).any() for column in columns[1:])
    for person in photographs.iterdir():
        (tmp_path / "alone").mkdir(exist_ok=True)
        (tmp_path / "alone/a.png").write_bytes((person / "a.png").read_bytes())
    assert preview.main(["--manual_dir", str(tmp_path / "alone"), "--out", str(out)]) == 1


def test_the_same_seed_gives_the_same_pixels(photographs, tmp_path):
    source = made_source(photographs, tmp_path, seed=3)
    first, again = (clip.read(source).fake for _ in range(2))
    other = clip.read(made_source(photographs, tmp_path, seed=4)).fake
    for one, two in zip(first.crops["c40"], again.crops["c40"], strict=True):
        np.testing.assert_array_equal(one, two)
    assert (first.boxes != other.boxes).any()


def test_a_fake_that_changes_nothing_is_drawn_again(photographs, tmp_path, monkeypatch):
    source = made_source(photographs, tmp_path, families=["full_face"])
    draw, calls = recipes.draw, []

    def drawn(*arguments, invisible):
        recipe = draw(*arguments)
        calls.append(recipe)
        return dataclasses.replace(recipe, strength=0.0) if len(calls) <= invisible else recipe

    for invisible, count in ((0, 1), (3, 4), (99, 8)):
        calls.clear()
        monkeypatch.setattr(recipes, "draw", functools.partial(drawn, invisible=invisible))
        pair = clip.read(source)
        same = all(
            (fake == real).all()
            for fake, real in zip(pair.fake.crops["raw"], pair.real.crops["raw"], strict=True)
        )
        assert len(calls) == count
        assert same == (invisible == 99)
    assert len(set(calls)) == 8


def made_source(photographs, folder, *, which=0, **recipe):
    options = {"qualities": ("raw", "c40"), "data_dir": folder, "manual_dir": photographs}
    dataset = build.builder("self_blended", **options | recipe)
    return [source for split in dataset.clip_sources().values() for source in split][which]


def test_families_and_variants_are_chosen(photographs, tmp_path):
    dataset = build.builder(
        "self_blended",
        data_dir=tmp_path,
        manual_dir=photographs,
        families=["eyes", "swap"],
        variants=2,
    )
    for sources in dataset.clip_sources().values():
        people = {source.files.identity for source in sources}
        assert len(sources) == 2 * len(people)
        assert {source.files.method for source in sources} <= {"eyes", "swap"}
        for source in sources:
            assert bool(source.donors) == (source.files.method == "swap")
            assert {path.parent.name for path in source.donors} <= people - {source.files.identity}
    assert dataset.recipe.describe()["families"] == ["eyes", "swap"]
    for wrong, message in (
        ({"families": ["eye"]}, "did you mean 'eyes'"),
        ({"variants": 0}, "--variants: is 0, must be at least 1"),
        ({"face_source": faces_of_clips.Whole()}, "--faces: dataset 'self_blended' has no such"),
    ):
        with pytest.raises(UserError, match=message):
            build.builder("self_blended", data_dir=tmp_path, manual_dir=photographs, **wrong)
    with pytest.raises(UserError, match="--variants: dataset 'ffiw10k' has no such option"):
        build.builder("ffiw10k", data_dir=tmp_path, manual_dir=photographs, variants=2)


def test_both_clips_of_a_pair_have_the_crf_that_is_stored(photographs, tmp_path):
    dataset = made(
        photographs, tmp_path, qualities=("raw", "random"), frames_per_video=1, variants=1
    )
    stored = dataset.info.metadata["random_crf"]
    for found in records(dataset).values():
        for record in found:
            real = stored[f"original/{record['video']}"]
            assert 18 <= stored[f"{record['method']}/{record['video']}"] == real <= 45
    assert len(set(stored.values())) > 3


def test_a_list_says_who_is_in_which_file(photographs, tmp_path):
    folder = tmp_path / "flat"
    folder.mkdir()
    for person in range(4):
        (folder / f"{person}.png").write_bytes((photographs / f"p{person}/a.png").read_bytes())
    layout = builder.SelfBlended.find(folder)
    assert {files.identity for files in layout.videos} == {"0", "1", "2", "3"}

    def listed(*rows):
        with (folder / builder.LIST).open("w", encoding="utf-8-sig", newline="") as file:
            csv.writer(file).writerows([("file", "identity", "age"), *rows])

    listed(("0.png", "ann", 3), ("1.png", "ann", 4), ("9.png", "bob", 5))
    layout = builder.SelfBlended.find(folder)
    assert {files.identity for files in layout.videos} == {"ann"}
    assert sum(bool(listed) for listed in layout.splits.values()) == 1
    assert layout.missing == ["9.png"]
    assert layout.notes == ["2 files are not in identities.csv and are left out"]
    listed((".\\0.png", "ann", 3))  # as Windows writes it
    assert [files.video for files in builder.SelfBlended.find(folder).videos] == ["0"]
    listed(("0.png", "ann", 3), ("0.png", "bob", 4))
    with pytest.raises(UserError, match=r"identities.csv: line 3 gives 0.png a second identity"):
        builder.SelfBlended.find(folder)
    listed(("8.png", "ann", 3), ("9.png", "bob", 4))
    with pytest.raises(UserError, match=r"none of its 2 files is .* in the folder; .* as 0.png"):
        builder.SelfBlended.find(folder)
    listed(("0.png", " ", 3))
    with pytest.raises(UserError, match="line 2 has no file or no identity"):
        builder.SelfBlended.find(folder)


def test_frames_of_a_video_are_blended_alike(tmp_path):
    """A clip of a video: its own movement, and one blend through all frames."""
    folder = tmp_path / "videos"
    trees.write(folder / "ann/a.mp4", trees.rendered("2", 12, crf=10))
    source = made_source(folder, tmp_path, families=["colour"], frames_per_video=2)
    pair = clip.read(source)
    assert len(pair.fake.crops["raw"]) == 2
    shift = [
        (np.asarray(fake, int) - np.asarray(true, int)).mean()
        for fake, true in zip(pair.fake.crops["raw"], pair.real.crops["raw"], strict=True)
    ]
    assert abs(shift[0]) > 0.2
    # The face moves in the crop, by a little more or less where another FFmpeg has decoded it.
    assert shift[0] == pytest.approx(shift[1], rel=0.2)
