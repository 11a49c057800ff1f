"""Lists as people have them: encodings, separators, accents, what is there twice, bounds."""

import codecs
import json
import os
import shutil
import unicodedata

import cv2
import numpy as np
import pytest

from data_builders import build, celeb_df_v2, deepfakebench, faces, lists
from data_builders.errors import UserError
from data_builders.manifest import reader
from data_builders.self_blended import builder
from qad_jax.detection.labels import Labels
from qad_jax.evaluation import scores
from tests import trees

NFC, NFD = (unicodedata.normalize(form, "crêpe à la façon") for form in ("NFC", "NFD"))


@pytest.fixture
def write(tmp_path):
    """Writes a manifest, and an image for each path that it lists."""

    def write(content, encoding="utf-8", images=True):
        for number, (names, label) in enumerate(
            pair for s in content.values() for pair in zip(s["raw"], s["labels"], strict=True)
        ):
            path = tmp_path / names.replace("\\", "/")
            if images and not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), np.full((8, 8, 3), 10 * number + label, np.uint8))
        path = tmp_path / "own.json"
        path.write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))
        return path

    return write


def split(*names, labels=(0, 1), **more):
    return {"raw": list(names), "labels": list(labels), **more}


# How lists are written


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_encodings_of_windows(write, encoding):
    path = write({"train": split(f"a/{NFC}/0.png", "b/0.png", video=["ä", "ö"])}, encoding)
    assert [item.video for item in reader.read(path).splits["train"]] == ["ä", "ö"]
    text = "1 YouTube-real/0.mp4\r\n"
    path.write_bytes(text.encode(encoding))
    assert lists.read_text(path, "list").splitlines() == ["1 YouTube-real/0.mp4"]


def test_backslashes(write, tmp_path):
    names = "raw\\a\\0.png", "raw\\b\\0.png", "raw/b/1.png", "raw\\c\\0.png"
    path = write({"train": split(*names, labels=(0, 1, 1, 1))})
    items = reader.read(path).splits["train"]
    assert [item.paths["raw"] for item in items][:2] == [
        tmp_path / "raw/a/0.png",
        tmp_path / "raw/b/0.png",
    ]
    assert [(item.video, item.frame) for item in items][1:] == [
        ("raw/b", 0),
        ("raw/b", 1),
        ("raw/c", 0),
    ]
    # A file that is really called so is that file.
    (tmp_path / "raw\\a\\0.png").write_bytes((tmp_path / "raw/a/0.png").read_bytes())
    assert reader.read(path).splits["train"][0].paths["raw"].name == "raw\\a\\0.png"


@pytest.mark.parametrize(("listed", "there"), [(NFC, NFD), (NFD, NFC)])
def test_letters_with_accents_in_either_form(write, tmp_path, listed, there):
    names = f"{there}/{there}/0.png", f"{listed}/b/0.png", "c/1.png"
    write({"train": split(*names, labels=(0, 0, 1))})
    names = f"{listed}/{listed}/0.png", f"{listed}/b/0.png", "c/1.png"
    path = write({"train": split(*names, labels=(0, 0, 1))}, images=False)
    shutil.copytree(tmp_path / there / there, tmp_path / listed / there)
    shutil.rmtree(tmp_path / there)
    items = reader.read(path).splits["train"]
    assert all(item.paths["raw"].is_file() for item in items)
    assert items[0].video == f"{NFC}/{NFC}"


def in_two_forms(split_of):
    """A name whose two forms would be drawn into train and into test."""
    names = (f"Zoë {i}" for i in range(1000))
    forms = ((unicodedata.normalize(form, name) for form in ("NFC", "NFD")) for name in names)
    return next((a, b) for a, b in forms if (split_of(a), split_of(b)) == ("train", "test"))


@pytest.mark.parametrize("folders", [False, True])
def test_a_person_in_two_forms_of_letters_is_in_one_split(tmp_path, folders):
    one, other = in_two_forms(builder._split_of)
    names = [f"{one}/1.jpg", f"{other}/2.jpg"] if folders else ["1.jpg", "2.jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    if not folders:
        rows = f"file,identity\n1.jpg,{one}\n2.jpg,{other}\n"
        (tmp_path / builder.LIST).write_text(rows, encoding="utf-8")
    splits = builder.SelfBlended.find(tmp_path).splits
    assert [len(splits[split]) for split in ("train", "validation", "test")] == [2, 0, 0]


@pytest.mark.parametrize("second", ["./3.jpg", "b/../3.jpg", ".\\3.jpg", "b/up/3.jpg", "3.jpg"])
def test_a_file_of_two_names_has_one_identity(tmp_path, second):
    (tmp_path / "b").mkdir()
    (tmp_path / "b/up").symlink_to(tmp_path)
    (tmp_path / "3.jpg").write_bytes(b"x")
    table = tmp_path / builder.LIST
    table.write_text(f"file,identity\n{second},x\n3.jpg,x\n")
    layout = builder.SelfBlended.find(tmp_path)
    assert [files.identity for files in layout.videos] == ["x"]
    assert (layout.missing, layout.notes) == ([], [])
    table.write_text(f"file,identity\n3.jpg,x\n{second},y\n")
    with pytest.raises(UserError) as error:
        builder.SelfBlended.find(tmp_path)
    told = f"line 3 gives {second} a second identity, 'y' after 'x'; keep one"
    assert str(error.value) == f"{table}: {told}"


def test_a_link_to_a_listed_file_is_a_file_of_its_own(tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"x")
    (tmp_path / "2.jpg").symlink_to("1.jpg")
    (tmp_path / builder.LIST).write_text("file,identity\n2.jpg,x\n")
    layout = builder.SelfBlended.find(tmp_path)
    assert [files.best.name for files in layout.videos] == ["2.jpg"]
    assert layout.notes == ["1 files are not in identities.csv and are left out"]


@pytest.mark.parametrize("name", ["identity", "video"])
def test_a_manifest_sees_a_person_of_two_forms_in_two_splits(write, name):
    def lists_of(value, folder):
        return split(f"{folder}/0.png", f"{folder}/1.png") | {name: [value, f"other {folder}"]}

    path = write({"train": lists_of(NFC, "a"), "test": lists_of(NFD, "b")})
    with pytest.warns(UserWarning, match="1 identities are in more than one split"):
        listing = reader.read(path)
    assert all(items[0].identity == NFC for items in listing.splits.values())


def test_scores_and_labels_count_a_person_of_two_forms_once(tmp_path):
    """Intervals would be too narrow: their people are drawn, and count as independent."""
    table = tmp_path / "scores.csv"
    head = "method,video,identity,frame,label,score\n"
    rows = (f"original,v{i},{who},0,0,0.5\n" for i, who in enumerate((NFC, NFD)))
    table.write_text(head + "".join(rows), encoding="utf-8")
    assert scores.read(table).identity == [NFC, NFC]
    table.write_text(f"file,label,identity\na.mp4,real,{NFC}\nb.mp4,fake,{NFD}\n", "utf-8")
    assert [one.identity for one in Labels(table).files()] == [NFC, NFC]


def test_a_file_whose_name_is_not_utf_8(write, tmp_path):
    path = write({"train": split("a/0.png", "b/0.png")})
    os.rename(tmp_path / "a/0.png", os.path.join(os.fsencode(tmp_path), b"a/caf\xe9.png"))
    path.write_text(json.dumps({"train": split("a/caf\udce9.png", "b/0.png")}))
    dataset = build.builder("manifest", manifest=path, data_dir=tmp_path / "out")
    build.prepare(dataset)
    videos = {record["video"] for record in dataset.as_data_source("train")}
    assert videos == {rb"a/caf\xe9.png", b"b/0.png"}


def test_names_that_no_file_can_have_are_missing(write):
    for name in ("a\0b.png", "x" * 300, ""):
        path = write({"train": split(name, "b.png")}, images=False)
        with pytest.raises(UserError, match=r"own\.json: image .* does not exist") as error:
            reader.read(path)
        assert "2 images are listed" in str(error.value)


def test_paths_may_lead_out_of_the_folder(write, tmp_path):
    write({"train": split("here/0.png", "there/0.png")})
    lists_of = split("../here/0.png", str(tmp_path / "there/0.png"))
    path = tmp_path / "in" / "own.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"train": lists_of}))
    assert len(reader.read(path).splits["train"]) == 2


# Bounds


def test_json_that_is_nested_too_deeply(tmp_path):
    path = tmp_path / "deep.json"
    path.write_text("[" * 100_000 + "]" * 100_000)
    for read in (reader.read, lambda p: deepfakebench.reader.read(p, tmp_path), boxes):
        with pytest.raises(UserError, match=r"deep\.json: .*lie too deep in each other") as error:
            read(path)
        assert "\n" not in str(error.value)


def boxes(path):
    return faces.source("file", path=path)


def test_lists_that_are_too_large(write, tmp_path, monkeypatch):
    path = write({"train": split("a/0.png", "b/0.png")})
    for bound, says in (
        ("MAX_IMAGES", "lists 2 images, more than 1; split it"),
        ("MAX_VALUES", "it has more than 1 values"),
        ("MAX_BYTES", "more than 0; split it"),
    ):
        monkeypatch.setattr(lists, bound, 1)
        with pytest.raises(UserError, match=rf"own\.json: .*{says}"):
            reader.read(path)


def test_a_list_of_gigabytes_is_not_read(tmp_path):
    path = tmp_path / "own.json"
    path.touch()
    os.truncate(path, 10**12)  # takes no room
    for read in (reader.read, lambda p: deepfakebench.reader.read(p, tmp_path), boxes):
        with pytest.raises(UserError, match=r"own\.json: the .* has 953674 MiB, more than 256"):
            read(path)


def test_a_key_that_is_there_twice(tmp_path):
    path = tmp_path / "own.json"
    path.write_text('{"train": {}, "test": {}, "train": {}}')
    with pytest.raises(UserError, match=r"own\.json: .*the key 'train' is there twice"):
        reader.read(path)


# What lists say


@pytest.mark.parametrize("blank", [None, "", "  ", float("nan")])
def test_a_blank_value_is_absent(write, blank):
    names = "a/0.png", "b/0.png", "a/1.png"
    more = {
        "identity": ["x", blank, blank],
        "method": [blank, "F", blank],
        "video": [blank, 7, "w"],
    }
    items = reader.read(write({"train": split(*names, labels=(0, 1, 0), **more)})).splits["train"]
    assert [(i.method, i.video, i.identity) for i in items] == [
        ("original", items[0].video, "x"),
        ("F", "7", "7"),
        ("original", "w", "w"),
    ]
    assert items[0].video.startswith("a")


@pytest.mark.parametrize("value", [True, ["x"], {}])
def test_a_value_that_is_no_text(write, value):
    path = write({"train": split("a/0.png", "b/0.png", identity=["x", value])})
    with pytest.raises(UserError, match=r"own\.json: train.identity\[1\] is .*; must be text"):
        reader.read(path)


def test_half_of_a_letter_is_no_text(write, tmp_path):
    path = write({"train": split("a/0.png", "b/0.png", video=["x", "HALF"])})
    path.write_text(path.read_text().replace("HALF", "\\ud83d"))
    with pytest.raises(UserError, match=r"train.video\[1\] is .*not valid Unicode"):
        reader.read(path)


def test_a_file_that_is_listed_twice_is_kept_once(write):
    names = "a/0.png", "b/0.png", "./a/0.png", "a/1.png", "b/1.png"
    content = {
        "train": split(*names, labels=(0, 1, 0, 0, 1), video=list("ababb")),
        "test": split("c/0.png", "c/../b/0.png", video=["c", "d"]),
    }
    says = r"own\.json: listed again, and left out there: .*/b/0\.png in train \(and 1 more\)"
    with pytest.warns(UserWarning, match=says):
        listing = reader.read(write(content))
    paths = {s: [str(i.paths["raw"])[-7:] for i in items] for s, items in listing.splits.items()}
    assert paths == {"train": ["a/0.png", "a/1.png", "b/1.png"], "test": ["c/0.png", "b/0.png"]}


def test_a_file_with_both_labels(write):
    for content in (
        {"train": split("a/0.png", "b/0.png", "a/./0.png", labels=(0, 1, 1))},
        {"train": split("a/0.png", "b/0.png"), "val": split("a/0.png", labels=(1,))},
    ):
        with pytest.raises(UserError, match=r"own\.json: .*a/0\.png is listed as 'real' and as"):
            reader.read(write(content))


def test_a_video_with_both_labels(write):
    path = write({"train": split("a/0.png", "b/0.png", video=["v", "v"], method=["m", "m"])})
    with pytest.raises(
        UserError, match=r"own\.json: video 'v' of method 'm' is listed as 'real' a"
    ):
        reader.read(path)


def test_a_split_of_one_class_is_pointed_out(write):
    content = {"train": split("a/0.png", "b/0.png"), "val": split("c/0.png", labels=(1,))}
    with pytest.warns(UserWarning, match=r"own\.json: all validation.labels are 'fake'.*no AUC"):
        assert len(reader.read(write(content)).splits["validation"]) == 1


def test_a_folder_in_two_splits_is_pointed_out(write):
    content = {
        "train": split("raw/a/0.png", "raw/b/0.png"),
        "test": split("raw/a/1.png", "raw/c/0.png"),
    }
    says = r"own\.json: 1 folders are in more than one split \('raw/a' is in test, train\).*'video'"
    with pytest.warns(UserWarning, match=says):
        reader.read(write(content))
    content["train"]["video"] = [None, " "]  # is as if it were not there
    with pytest.warns(UserWarning, match=says):
        reader.read(write(content))
    content["train"]["video"], content["test"]["video"] = ["v", "w"], ["x", "y"]
    reader.read(write(content))  # the user has said which images are of one video


def test_what_is_said_stays_with_the_dataset(write, tmp_path):
    path = write({"train": split("a/0.png", "b/0.png"), "test": split("c/0.png", labels=(1,))})
    with pytest.warns(UserWarning, match="no AUC") as warned:
        dataset = build.builder("manifest", manifest=path, data_dir=tmp_path / "out")
    build.prepare(dataset)
    (note,) = dataset.info.metadata["notes"]
    assert str(warned[0].message) == f"{path}: {note}"


# Celeb-DF and boxes


def test_the_test_list_of_celeb_df_from_windows(tmp_path):
    known = trees.celeb_df_v2(tmp_path, frames=2)
    path = tmp_path / celeb_df_v2.builder.LIST
    plain = celeb_df_v2.Builder.find(tmp_path)
    lines = path.read_text().replace("/", "\\").replace(" ", "\t ").splitlines()
    path.write_bytes(codecs.BOM_UTF8 + "\r\n".join([*lines, "", lines[0], lines[0]]).encode())
    layout = celeb_df_v2.Builder.find(tmp_path)
    assert (layout.splits, layout.missing) == (plain.splits, plain.missing)
    first = "/".join(known["test"][0])
    assert layout.notes == [f"listed more than once for test, kept once: {first}", *plain.notes]


def test_boxes_from_windows(tmp_path):
    path = tmp_path / "boxes.json"
    path.write_bytes(codecs.BOM_UTF8 + b'{"original/000": {"0": [1, 2, 30, 40]}}')
    frame = np.zeros((60, 60, 3), np.uint8)
    assert boxes(path)("original/000", [0], [frame]) is not None
    path = tmp_path / "twice" / "boxes.json"
    path.parent.mkdir()
    path.write_text('{"a": {"0": [1, 2, 30, 40]}, "a": {}}')
    with pytest.raises(UserError, match=r"boxes\.json: .*the key 'a' is there twice"):
        boxes(path)
