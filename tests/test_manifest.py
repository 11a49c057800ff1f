"""The user's own crops: what is read, what is stored, and what is said of mistakes."""

import io
import json
import shutil

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from data_builders import build
from data_builders.command_line import FAILED, PARTLY
from data_builders.errors import UserError
from data_builders.manifest import reader
from qad_jax.training.input_pipeline import TupleSource
from tests.faces import write_manifest


def records(dataset, split):
    known = dataset.info.features["image"].keys()
    skip = {"image": {quality: tfds.decode.SkipDecoding() for quality in known}}
    return list(dataset.as_data_source(split, decoders=skip))


def test_records_are_the_listed_pictures_and_lossless(dataset, manifest):
    lists = json.loads(manifest.read_text())["test"]
    got = {(r["video"].decode(), int(r["frame"])): r for r in records(dataset, "test")}
    assert len(got) == len(lists["labels"]) == 14
    for i, label in enumerate(lists["labels"]):
        path = manifest.parent / lists["raw"][i]
        record = got[str((path.parent).relative_to(manifest.parent)), i]
        assert record["label"] == label
        assert record["method"] == (b"manipulated" if label else b"original")
        assert record["identity"] == record["video"]
        for quality in ("raw", "c23", "c40"):
            data = record["image"][quality]
            assert data.startswith(b"\x89PNG")
            stored = np.asarray(Image.open(io.BytesIO(data)))
            listed = Image.open(manifest.parent / lists[quality][i]).convert("RGB")
            np.testing.assert_array_equal(stored, np.asarray(listed))
        height, width = np.asarray(Image.open(path)).shape[:2]
        np.testing.assert_array_equal(record["box"], [0, 0, width, height])


def test_any_tfds_user_can_open_it(dataset):
    source = tfds.builder_from_directory(dataset.data_dir).as_data_source("validation")
    assert len(source) == 12
    record = source[0]
    assert set(record["image"]) == {"raw", "c23", "c40"}
    assert record["image"]["raw"].dtype == np.uint8
    assert record["image"]["raw"].ndim == 3


@pytest.fixture
def small(tmp_path):
    """A fresh manifest of six tuples in one split, and a function that rewrites it."""
    for i in range(6):
        for quality in ("best", "worst"):
            folder = tmp_path / quality
            folder.mkdir(exist_ok=True)
            picture = np.full((20, 24, 3), 10 * i, np.uint8)
            cv2.imwrite(str(folder / f"p{i}.png"), picture)
    lists = {q: [f"{q}/p{i}.png" for i in range(6)] for q in ("best", "worst")}
    lists["labels"] = ["real", "fake", 0, 1, "Real", "FAKE"]
    path = tmp_path / "own.json"

    def rewrite(**changes):
        path.write_text(json.dumps({"train": {**lists, **changes}}))
        return path

    return rewrite


def test_any_quality_names_and_labels_in_words(small):
    listing = reader.read(small())
    assert listing.qualities == ("best", "worst")
    assert [t.label for t in listing.splits["train"]] == ["real", "fake"] * 3


def test_optional_lists_are_honoured(small):
    listing = reader.read(
        small(
            video=["a", "b", "a", "b", "a", "b"], method=["original", "X"] * 3, identity=["i"] * 6
        )
    )
    assert [(t.video, t.method, t.identity) for t in listing.splits["train"]][:2] == [
        ("a", "original", "i"),
        ("b", "X", "i"),
    ]
    assert [t.frame for t in listing.splits["train"]] == [0, 1, 2, 3, 4, 5]  # of their names


def test_a_folder_that_is_no_video_makes_each_picture_one(small):
    assert len({t.video for t in reader.read(small()).splits["train"]}) == 6


def test_frames_that_share_a_number_are_numbered_by_position(small, tmp_path):
    paths = [f"best/{i}/p0.png" for i in range(6)]
    for i, name in enumerate(paths):
        (tmp_path / name).parent.mkdir(parents=True)
        shutil.copy(tmp_path / f"worst/p{i}.png", tmp_path / name)
    listing = reader.read(small(best=paths, video=["v"] * 6, method=["m", "n"] * 3))
    assert [t.frame for t in listing.splits["train"]] == [0, 0, 1, 1, 2, 2]


def test_people_in_two_splits_are_pointed_out(small):
    path = small()
    lists = json.loads(path.read_text())["train"]
    train = {name: values[:4] for name, values in lists.items()} | {"identity": list("abcd")}
    test = {name: values[4:] for name, values in lists.items()} | {"identity": list("ud")}
    path.write_text(json.dumps({"train": train, "test": test}))
    with pytest.warns(UserWarning, match="1 identities are in more than one split .'d' is in"):
        reader.read(path)


def test_another_content_is_another_dataset(small, tmp_path):
    first = reader.read(small()).digest()
    assert reader.read(small()).digest() == first
    cv2.imwrite(str(tmp_path / "best" / "p0.png"), np.zeros((30, 30, 3), np.uint8))
    second = reader.read(small()).digest()
    assert len({first, second, reader.read(small(labels=[1, 0] * 3)).digest()}) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [0] * 5}, "train.best has 6 entries, train.labels has 5"),
        ({"worst": ["worst/p0.png"]}, "train.worst has 1 entries"),
        ({"labels": [0, 1, 2, 0, 1, 0]}, r"train.labels\[2\] is 2; must be 0, 1, 'real' or 'fake'"),
        ({"labels": [0, 1, True, 0, 1, 0]}, r"train.labels\[2\] is True"),
        ({"best": ["gone.png"] * 6}, r"image .*gone.png does not exist \(and 5 more\)"),
        ({"best": [1] * 6}, r"train.best\[0\] is 1, not a path"),
        ({"worst": "all"}, "train.worst is not a list"),
        ({"labels": [1] * 6}, "all train.labels are 'fake'; both are needed"),
    ],
)
def test_mistakes_are_named(small, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        reader.read(small(**changes))
    assert "own.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "must be an object of splits"),
        ("{}", "lists no split"),
        ('{"trian": {"labels": []}}', "unknown split 'trian': did you mean 'train'"),
        ('{"train": {"raw": []}}', "train has no list 'labels'"),
        ('{"train": {"labels": []}}', "no images at any quality"),
        (
            '{"train": {"raw": [], "labels": []}, "val": {"c23": [], "labels": []}}',
            "val has qualities c23",
        ),
    ],
)
def test_files_that_are_no_manifest(tmp_path, text, message):
    path = tmp_path / "data.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        reader.read(path)


def test_a_missing_manifest(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.json: cannot read the manifest"):
        reader.read(tmp_path / "nowhere.json")


@pytest.mark.parametrize("damage", ["truncate", "replace"])
def test_a_damaged_picture_is_named_and_left_out(tmp_path, capsys, damage):
    crops = write_manifest(tmp_path / "crops", {"train": 12}).parent
    victim = next(crops.glob("c40/train_*/*.png"))
    data = victim.read_bytes()
    victim.write_bytes(data[: len(data) // 2] if damage == "truncate" else b"not a picture")
    command = ["manifest", "--manifest", str(crops / "data.json"), "--data_dir"]
    assert build.main([*command, str(tmp_path / "none"), "--max_skipped", "0"]) == FAILED
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: 1 of 12 tuples are unusable, more than --max_skipped 0 allows")
    assert f"{victim}: not a readable image" in error
    assert not (tmp_path / "none").exists()
    assert build.main([*command, str(tmp_path / "some")]) == PARTLY
    out, err = capsys.readouterr()
    assert "train: 11 tuples" in out
    assert f"{victim}: not a readable image" in err
    built = build.builder("manifest", data_dir=tmp_path / "some", manifest=crops / "data.json")
    assert len(built.info.metadata["skipped"]) == 1


def test_sixteen_bits_keep_the_upper_eight(small, tmp_path):
    path = small()
    cv2.imwrite(str(tmp_path / "best" / "p3.png"), np.full((20, 24), 40000, np.uint16))
    dataset = build.builder("manifest", data_dir=tmp_path / "tfds", manifest=path)
    build.prepare(dataset)
    images = [record["image"]["best"] for record in dataset.as_data_source("train")]
    assert sorted({int(image[0, 0, 0]) for image in images}) == [0, 10, 20, 40, 50, 40000 // 256]


def test_what_is_checked_is_what_every_decoder_sees(small, tmp_path):
    """A PNG file stored sideways: OpenCV obeys EXIF in one mode and not in another."""
    path = small()
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    Image.fromarray(sideways).save(tmp_path / "best" / "p0.png", exif=exif)
    dataset = build.builder("manifest", data_dir=tmp_path / "tfds", manifest=path)
    build.prepare(dataset)
    upright = np.rot90(sideways, -1)
    (index,) = (i for i, r in enumerate(records(dataset, "train")) if r["video"] == b"best/p0.png")
    data = records(dataset, "train")[index]["image"]["best"]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), upright)
    plain = dataset.as_data_source("train")[index]
    np.testing.assert_array_equal(plain["image"]["best"], upright)
    np.testing.assert_array_equal(plain["box"], [0, 0, 20, 24])
    ours = TupleSource(dataset, "train", ["best"], 24)[index]["image"][0]
    larger = cv2.resize(np.ascontiguousarray(upright), (24, 24), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(ours, larger)


@pytest.mark.parametrize("folder", ["[1] x", "100% *", "a?{b,c}", "e\u0301"])
def test_a_dataset_may_be_in_a_folder_of_any_name(small, tmp_path, folder):
    path = small().rename(tmp_path / f"{folder}.json")
    place = tmp_path / folder
    before = None
    for _ in range(2):
        dataset = build.builder("manifest", data_dir=place, manifest=path)
        build.prepare(dataset)
        assert dataset.is_prepared()
        assert len(TupleSource(dataset, "train", ["worst"], 24)) == 6
        now = {file: file.stat().st_mtime_ns for file in place.rglob("*") if file.is_file()}
        assert before in (None, now)  # not built again
        before = now
        assert len(list(place.glob("manifest/*/*"))) == 1


def test_beam_refuses_a_folder_that_is_a_pattern(small, tmp_path):
    dataset = build.builder("manifest", data_dir=tmp_path / "a[1]", manifest=small())
    with pytest.raises(UserError, match=r"--data_dir: .*a\[1\].*choose another folder"):
        build.prepare(dataset, beam=[])
    assert not (tmp_path / "a[1]").exists()


def test_the_build_command(manifest, data_dir, dataset, capsys):
    assert build.main(["manifest", "--manifest", str(manifest), "--data_dir", str(data_dir)]) == 0
    out = capsys.readouterr().out
    assert "train: 40 tuples at raw, c23, c40" in out
    assert dataset.data_dir in out
    assert build.main(["manifst"]) == 1
    assert capsys.readouterr().err.startswith("error: there is no builder for dataset 'manifst'")
    assert build.main(["manifest/x", "--manifest", str(manifest)]) == 1
    assert "no configuration 'x'" in capsys.readouterr().err


def test_two_videos_of_one_name_are_refused(small):
    """Keys of records join method and video: two records would have one."""
    path = small(method=["x/y", "a", "x", "a", "b", "c"], video=["z", "1", "y/z", "2", "3", "4"])
    with pytest.raises(UserError, match=r"video 'y/z' of method 'x' and video 'z' of .*'x/y/z'"):
        reader.read(path)
