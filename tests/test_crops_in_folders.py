"""Datasets that come as crops: WildDeepfake by its folders, DF40 by its lists."""

import itertools
import json

import numpy as np
import pytest
from PIL import Image

from data_builders import build, celeb_df_pp, celeb_df_v1, df40, wild_deepfake
from data_builders.errors import UserError
from tests.test_builds import check, read
from tests.test_more_builds import train
from tests.test_readers import disjoint


def crop(path, grey):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), grey, np.uint8)).save(path)


@pytest.fixture
def wild(tmp_path):
    """Archives of two sequences, the first of 70 frames that are numbered without zeros."""
    root = tmp_path / "deepfake_in_the_wild"
    for part, archives in (("train", 5), ("test", 2)):
        for label in ("real", "fake"):
            for archive in range(archives):
                for sequence in range(2):
                    folder = root / f"{label}_{part}" / str(archive) / label / str(sequence)
                    for frame in range(70 if archive == sequence == 0 else 3):
                        crop(folder / f"{frame}.png", frame)
                (root / f"{label}_{part}" / f"{archive}.tar.gz").write_bytes(b"unpacked")
    return tmp_path


def listed(dataset):
    return dataset.clip_sources()


def test_wild_deepfake_has_the_labels_of_its_folders(wild, tmp_path):
    (wild / "deepfake_in_the_wild/fake_train/77.tar.gz").write_bytes(b"not unpacked")
    with pytest.warns(UserWarning, match="1 archives are not unpacked"):
        dataset = wild_deepfake.Builder(manual_dir=wild, data_dir=tmp_path / "data")
    found = listed(dataset)
    assert set(found) == {"train", "validation", "test"}
    for split, items in found.items():
        assert {item.label for item in items} == {"real", "fake"}
        assert {(item.label, item.method) for item in items} == {
            ("real", "original"),
            ("fake", "WildDeepfake"),
        }
        for item in items:
            parts = item.paths["raw"].parts
            assert parts[-3] == item.label
            assert parts[-5] == f"{item.label}_{'test' if split == 'test' else 'train'}"
    archives = {split: {item.identity for item in items} for split, items in found.items()}
    assert disjoint(*archives.values())
    assert {split: len(names) for split, names in archives.items()} == {
        "train": 6,
        "validation": 4,
        "test": 4,
    }
    long = [item for item in found["test"] if item.video == "fake_test/0/0"]
    assert [item.frame for item in long] == [(2 * i + 1) * 70 // 64 for i in range(32)]
    assert [item.paths["raw"].stem for item in long] == [str(item.frame) for item in long]
    short = [item for item in found["test"] if item.video == "fake_test/1/0"]
    assert [item.frame for item in short] == [0, 1, 2]


def test_wild_deepfake_is_built_of_a_part(wild, tmp_path):
    for label in ("real", "fake"):
        (wild / f"deepfake_in_the_wild/{label}_train").rename(tmp_path / f"{label}_elsewhere")
    dataset = build.builder(
        "wild_deepfake", manual_dir=wild / "deepfake_in_the_wild", data_dir=tmp_path / "data"
    )
    build.prepare(dataset)
    assert set(dataset.info.splits) == {"test"}
    assert dataset.info.splits["test"].num_examples == 2 * (32 + 3 * 3)
    record = dataset.as_data_source("test")[0]
    assert set(record["image"]) == {"raw"}
    assert record["image"]["raw"].shape == (8, 8, 3)


def test_wild_deepfake_without_the_folders(tmp_path, capsys):
    for root, says in ((tmp_path / "typo", "there is no such folder"), (tmp_path, "no unpacked")):
        with pytest.raises(UserError, match=says):
            wild_deepfake.Builder(manual_dir=root)
        assert build.main(["wild_deepfake", "--manual_dir", str(root), "--doctor"]) == 1
        out, err = capsys.readouterr()
        assert "how to get it:\n  page: https://" in out
        assert says in err
    assert build.main(["wild_deepfake"]) == 1
    assert "--manual_dir: name the folder of wild_deepfake" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_the_doctor_counts_crops(wild, capsys):
    assert build.main(["wild_deepfake", "--manual_dir", str(wild), "--doctor"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "wild_deepfake"
    counts = {tuple(line.split()[:2]): line.split()[2:] for line in out[2:]}
    assert counts["original", "test"] == ["4", str(32 + 3 * 3)]


@pytest.fixture
def forty(tmp_path):
    """A list of DF40: fakes of two methods under one wrong label, and the reals of FF++."""
    frames = {
        ("roop_Real", "train", "071"): "FaceForensics++/original_sequences/youtube/c23/frames/071",
        ("roop_Real", "test", "953"): "FaceForensics++/original_sequences/youtube/c23/frames/953",
        ("roop_Fake", "train", "071_054"): "DF40_train/simswap/frames/071_054",
        ("roop_Fake", "test", "953_974"): "DF40/simswap/ff/frames/953_974",
        ("roop_Fake", "test", "953"): "DF40/e4e/ff/953",
    }
    content = {}
    for (label, split, video), folder in frames.items():
        paths = [f"{folder}/{number:03d}.png" for number in (0, 9)]
        for path in paths:
            crop(tmp_path / path, len(video))
        stored = [f"/mnt/deepfakes_detection_datasets/{path}" for path in paths]
        stored[0] = stored[0].replace("/", "\\")  # written on Windows
        splits = content.setdefault(label, {"train": {}, "val": {}, "test": {}})
        for where in {"train": ["train"], "test": ["val", "test"]}[split]:
            splits[where][video] = {"label": label, "frames": stored}
    path = tmp_path / "simswap_ff.json"
    path.write_text(json.dumps({"simswap_ff": content}))
    return path


def test_df40_names_methods_by_their_folders(forty, tmp_path):
    with pytest.warns(UserWarning, match="left out of validation: in test"):
        dataset = df40.Builder(manifest=forty, manual_dir=tmp_path, data_dir=tmp_path / "data")
    found = {
        split: {(item.label, item.method, item.video, item.identity) for item in items}
        for split, items in listed(dataset).items()
    }
    assert found == {
        "train": {("real", "original", "071", "071"), ("fake", "simswap", "071_054", "071")},
        "test": {
            ("real", "original", "953", "953"),
            ("fake", "simswap", "953_974", "953"),
            ("fake", "e4e", "953", "953"),
        },
    }


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_crops_are_built_without_what_is_damaged_and_trained_on(wild, forty, tmp_path):
    damaged = {
        "wild_deepfake": ("deepfake_in_the_wild/fake_train/1/fake/0/2.png", "fake_train/1/0", 2),
        "df40": ("DF40/e4e/ff/953/009.png", "953", 9),
    }
    (tmp_path / "DF40_train/simswap/frames/071_054/009.png").unlink()
    options = {"data_dir": tmp_path / "data", "max_skipped": 0.5}
    built = []
    for name, (path, video, frame) in damaged.items():
        (tmp_path / path).write_bytes((tmp_path / path).read_bytes()[:-30])
        listed = {"manual_dir": tmp_path, "manifest": forty} if name == "df40" else {}
        dataset = build.builder(name, **options, **{"manual_dir": wild, **listed})
        build.prepare(dataset)
        built.append(dataset)
        (reason,) = dataset.info.metadata["skipped"]
        assert f"{tmp_path / path}: " in reason
        found = read(dataset)
        records = list(itertools.chain(*found.values()))
        fakes = {(r["video"], int(r["frame"])) for r in records if r["label"] == 1}
        assert (video, 0) in fakes
        assert (video, frame) not in fakes
        assert len(records) + 1 == sum(map(len, dataset.clip_sources().values()))
        if name == "wild_deepfake":
            assert all(len(splits) == 1 for splits in check(found).values())
    logged = train(
        built, tmp_path / "run", qualities=("raw",), hsic={"weight": 0}, awp={"gamma": 0}
    )
    assert 0 <= logged["validation"]["auc"] <= 1


def test_the_doctor_says_where_df40_is(tmp_path, capsys):
    arguments = ["df40", "--manifest", str(tmp_path / "none.json"), "--manual_dir", str(tmp_path)]
    assert build.main([*arguments, "--doctor"]) == 1
    assert "page: https://github.com/YZY-stack/DF40" in capsys.readouterr().out


@pytest.mark.parametrize("module", [df40, wild_deepfake, celeb_df_v1, celeb_df_pp])
def test_cards(module):
    parent = module.Builder.__mro__[1].get_metadata()  # before, and whatever it leaves behind
    metadata = module.Builder.get_metadata()
    assert metadata.description != parent.description
    assert metadata.description
    assert metadata.citation.count("@") >= 1
    assert module.Builder.name == module.__name__.rpartition(".")[2]
