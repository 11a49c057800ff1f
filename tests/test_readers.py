"""From official folder trees to lists of videos: splits, labels, people, and what is missing."""

import collections
import itertools
import json
import re
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from data_builders import celeb_df_v2, deepfakebench, face_forensics, faces, ffiw10k
from data_builders.errors import UserError
from tests import trees

READERS = [(face_forensics, "all"), (celeb_df_v2, ""), (ffiw10k, "")]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return tmp_path_factory.mktemp("trees")


@pytest.fixture(scope="module")
def ff(places):
    root = places / "ff"
    methods = "NeuralTextures", "Deepfakes"
    return root, trees.face_forensics(root, methods=methods, frames=4, masks=methods[1:])


@pytest.fixture(scope="module")
def celeb(places):
    root = places / "celeb"
    return root, trees.celeb_df_v2(root, frames=4)


@pytest.fixture(scope="module")
def ffiw(places):
    root = places / "ffiw"
    return root, trees.ffiw10k(root, frames=4)


def names(layout):
    """Names by split and method."""
    found = {}
    for split, videos in layout.splits.items():
        found[split] = collections.defaultdict(set)
        for video in videos:
            found[split][video.method].add(video.video)
    return found


def assert_sound(layout):
    """What holds for every dataset."""
    videos = [video for found in layout.splits.values() for video in found]
    assert set(layout.splits) == {"train", "validation", "test"}
    assert len({(video.method, video.video) for video in videos}) == len(videos)
    assert all((video.label == "real") == (video.method == "original") for video in videos)
    files = [path for video in videos for path in video.files.values()]
    assert all(path.is_file() for path in files)
    assert len(set(files)) == len(files)  # none is in two splits, or stands for two videos
    masks = [{video.mask for video in found} - {None} for found in layout.splits.values()]
    assert disjoint(*masks)
    assert all(video.mask is None or video.mask.is_file() for video in videos)
    assert all(note and "\n" not in note for note in layout.notes)


def identities(layout):
    return {split: {video.identity for video in found} for split, found in layout.splits.items()}


def disjoint(*sets):
    return not any(a & b for a, b in itertools.combinations(sets, 2))


# FaceForensics++


def test_face_forensics_follows_the_official_splits(ff):
    root, known = ff
    layout = face_forensics.Builder.find(root, "neural_textures")
    assert_sound(layout)
    absent = known["absent"][1]
    for split, methods in names(layout).items():
        expected = known["splits"][split]
        assert methods["original"] == set(expected["original"])
        assert methods["NeuralTextures"] == set(expected["NeuralTextures"]) - {absent}
        assert set(methods) == {"original", "NeuralTextures"}
    assert disjoint(*identities(layout).values())
    targets = {v.video: v.identity for found in layout.splits.values() for v in found}
    assert targets["071_054"] == targets["071"] == "071"
    assert targets["054_071"] == targets["054"] == "054"


def test_face_forensics_names_what_is_missing(ff):
    root, known = ff
    layout = face_forensics.Builder.find(root, "neural_textures")
    assert f"NeuralTextures/{known['absent'][1]}" in layout.missing
    assert "original/071" not in layout.missing
    assert len(layout.missing) + sum(map(len, layout.splits.values())) == 2000
    assert not layout.notes


def test_face_forensics_qualities_are_best_first(ff):
    root, known = ff
    layout = face_forensics.Builder.find(root, "neural_textures")
    files = {(v.method, v.video): list(v.files) for found in layout.splits.values() for v in found}
    assert files.pop(known["no_c40"]) == ["raw", "c23"]
    assert set(map(tuple, files.values())) == {("raw", "c23", "c40")}


def test_face_forensics_takes_c0_for_raw_and_any_other_crf(ff, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(ff[0] / "original_sequences", root / "original_sequences")
    shutil.copytree(ff[0] / "manipulated_sequences", root / "manipulated_sequences")
    for parent in (root / "original_sequences/youtube", root / "manipulated_sequences/Deepfakes"):
        (parent / "raw").rename(parent / "c0")
        (parent / "c23").rename(parent / "c9")
        (parent / "c23x").mkdir()
    layout = face_forensics.Builder.find(root, "deepfakes")
    files = [v.files for found in layout.splits.values() for v in found]
    assert {tuple(found) for found in files} == {("raw", "c9", "c40")}
    assert all("/c0/" in str(found["raw"]) for found in files)
    # A half-finished second copy does not hide the first.
    (root / "original_sequences/youtube/raw/videos").mkdir(parents=True)
    again = face_forensics.Builder.find(root, "deepfakes")
    assert [v.files for found in again.splits.values() for v in found] == files


def test_face_forensics_all_is_every_method_there_is(ff):
    root, _ = ff
    layout = face_forensics.Builder.find(root, "all")
    assert_sound(layout)
    assert set(names(layout)["test"]) == {"original", "NeuralTextures", "Deepfakes"}
    assert [note.rpartition(" ")[2] for note in layout.notes] == [
        "Face2Face",
        "FaceSwap",
        "FaceShifter",
    ]


def test_face_forensics_masks_go_with_the_fake_and_with_its_target(ff):
    root, known = ff
    folder = root / "manipulated_sequences/Deepfakes/masks/videos"
    for part in ("deepfakes", "all"):
        layout = face_forensics.Builder.find(root, part)
        masks = {(video.method, video.video): video.mask for video in layout.videos}
        for split in known["splits"].values():
            for name in split["Deepfakes"]:
                assert masks["Deepfakes", name] == folder / f"{name}.mp4"
                assert masks["original", name[:3]] == folder / f"{name}.mp4"
    # In `all`, a fake without a mask shows the face of its target, as the mask of another says.
    of_fakes = [
        (name, mask) for (method, name), mask in masks.items() if method == "NeuralTextures"
    ]
    assert of_fakes
    assert all(mask == folder / f"{name}.mp4" for name, mask in of_fakes)
    alone = face_forensics.Builder.find(root, "neural_textures")
    assert {video.mask for video in alone.videos} == {None}
    (folder / "071_054.mp4").rename(folder / "071_054.avi")
    layout = face_forensics.Builder.find(root, "deepfakes")
    assert {str(v) for v in layout.videos if v.mask is None} == {
        "original/071",
        "Deepfakes/071_054",
    }
    (folder / "071_054.avi").rename(folder / "071_054.mp4")


def test_face_forensics_has_the_official_lists():
    pairs = {split: trees.official_pairs(split, None) for split in ("train", "val", "test")}
    assert {split: len(found) for split, found in pairs.items()} == {
        "train": 720 // 2,
        "val": 140 // 2,
        "test": 140 // 2,
    }
    people = [person for found in pairs.values() for pair in found for person in pair]
    assert sorted(people) == [f"{i:03d}" for i in range(1000)]


# Celeb-DF (v2)


def test_celeb_df_keeps_the_official_test_list(celeb):
    root, known = celeb
    layout = celeb_df_v2.Builder.find(root)
    assert_sound(layout)
    assert names(layout)["test"] == {
        "original": {"YouTube-real_00000", "YouTube-real_00001", "Celeb-real_id0_0000"},
        "Celeb-synthesis": {"id0_id1_0000", "id0_id2_0000"},
    }
    assert layout.missing == ["/".join(known["absent"])]


def test_celeb_df_carves_validation_by_both_people(celeb):
    layout = celeb_df_v2.Builder.find(celeb[0])
    people = {}
    for split in ("train", "validation"):
        people[split] = set()
        for video in layout.splits[split]:
            fake = video.label == "fake"
            people[split] |= set(video.video.split("_")[:2]) if fake else {video.identity}
            assert video.identity == (video.video.split("_")[0] if fake else video.identity)
            assert list(video.files) == ["raw"]
        assert {video.label for video in layout.splits[split]} == {"real", "fake"}
    assert disjoint(people["train"], people["validation"])
    kept = {video.video for found in layout.splits.values() for video in found}
    fakes = {path.stem for path in celeb[0].glob("Celeb-synthesis/*.mp4")}
    assert len(kept - fakes) == 8 + 6
    dropped = len(fakes - kept)
    for fake in fakes - kept:
        assert len(set(fake.split("_")[:2]) & people["validation"]) == 1
    assert layout.notes[0].startswith(f"{dropped} videos of people")
    assert "people of the official test set are" in layout.notes[1]
    assert celeb_df_v2.Builder.find(celeb[0]) == layout


@pytest.mark.parametrize("spelling", ["YouTube-real", "Youtube-real"])
@pytest.mark.parametrize("level", ["", "videos"])
def test_celeb_df_as_seen_in_the_wild(celeb, tmp_path, spelling, level):
    root = tmp_path / "copy"
    shutil.copytree(celeb[0], root)
    if spelling != "YouTube-real":
        (root / "YouTube-real").rename(root / spelling)
    for folder in [path for path in root.iterdir() if path.is_dir() and level]:
        files = list(folder.iterdir())
        (folder / level).mkdir()
        for file in files:
            file.rename(folder / level / file.name)
    (root / "Celeb-real" / level / "._id0_0000.mp4").write_bytes(b"a Mac was here")
    layout, plain = celeb_df_v2.Builder.find(root), celeb_df_v2.Builder.find(celeb[0])
    assert names(layout) == names(plain)
    assert layout.notes == plain.notes
    assert layout.missing == plain.missing


@pytest.mark.parametrize(
    "line",
    [
        "0 Celeb-real/id1_0000.mp4",
        "0 YouTube-real/00003.mp4",
        "1 Celeb-synthesis/id1_id0_0000.mp4",
        "Celeb-real/id1_0000.mp4",
        "2 Celeb-real/id1_0000.mp4",
        "1 Celeb-rael/id1_0000.mp4",
        "1",
    ],
)
def test_celeb_df_a_list_that_contradicts_the_folders(celeb, tmp_path, line):
    root = tmp_path / "copy"
    shutil.copytree(celeb[0], root)
    path = root / celeb_df_v2.builder.LIST
    path.write_text(f"1 Celeb-real/id1_0001.mp4\n\n{line}\n")
    with pytest.raises(UserError, match=r"List_of_testing_videos.txt: line 3, .*1 for real") as e:
        celeb_df_v2.Builder.find(root)
    assert line in str(e.value)
    path.unlink()
    with pytest.raises(UserError, match=r"List_of_testing_videos\.txt: there is no such file"):
        celeb_df_v2.Builder.find(root)


# FFIW10K


def test_ffiw_pairs_and_splits(ffiw):
    root, known = ffiw
    layout = ffiw10k.Builder.find(root)
    assert_sound(layout)
    for split, methods in names(layout).items():
        stems = set(known["splits"][split])
        assert methods["original"] == stems
        assert methods["FFIW"] == stems - {known["absent"]}
    assert layout.missing == [f"target/train/{known['absent']}"]
    assert disjoint(*identities(layout).values())


def test_ffiw_masks_go_with_both_of_a_pair(ffiw):
    root, known = ffiw
    layout = ffiw10k.Builder.find(root)
    videos = [video for found in layout.splits.values() for video in found]
    masks = {(video.method, video.video): video.mask for video in videos}
    assert masks["FFIW", "0000"] == masks["original", "0000"]
    assert masks["FFIW", "0000"].name == "0000.mp4"
    assert masks["FFIW", "0001"].name == "0001_mask.mp4"
    assert masks["FFIW", known["unmasked"]] is None
    noted = ffiw10k.Builder(manual_dir=root).notes(layout)
    assert noted == [
        "original: 1 of 10 videos have no mask, their largest face is taken",
        "FFIW: 1 of 9 videos have no mask, their largest face is taken",
    ]
    assert not ffiw10k.Builder(manual_dir=root, face_source=faces.Whole()).notes(layout)


def test_ffiw_from_the_release_folder_and_without_the_test_archive(ffiw):
    root, known = ffiw
    layout = ffiw10k.Builder.find(root / "FFIW10K-v1-release")
    found = names(layout)
    assert found["train"]["original"] == set(known["splits"]["train"])
    assert found["validation"]["original"] == set(known["splits"]["validation"])
    assert not found["test"]
    assert "there are no test videos" in layout.notes


def test_ffiw_levels_seen_in_the_wild(ffiw, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(ffiw[0], root)
    folder = root / "FFIW10K-v1-release" / "source" / "val"
    folder.rename(root / "videos")
    folder.mkdir()
    (root / "videos").rename(folder / "videos")
    for kind in ("source", "target", "target_mask"):
        parent = root / "FFIW10K-v1-release-test" / kind
        for path in list((parent / "test").iterdir()):
            path.rename(parent / path.name)
        (parent / "test").rmdir()
    assert names(ffiw10k.Builder.find(root)) == names(ffiw10k.Builder.find(ffiw[0]))


@pytest.mark.parametrize("level", ["val", "test", "", "val/videos"])
def test_ffiw_the_archive_of_the_test_split_is_never_validation(tmp_path, level):
    """The files of both archives may have the same names, and lie in folders of the same name."""
    release, test = (tmp_path / f"FFIW10K-v1-release{name}" for name in ("", "-test"))
    kinds = ("source", "target", "target_mask")
    for kind in kinds:
        trees.write(release / kind / "train/0.mp4", b"")
        for stem in ("val_0", "val_1"):
            trees.write(release / kind / f"val/{stem}.mp4", b"")
        for stem in ("val_0", "val_2"):
            trees.write(test / kind / level / f"{stem}.mp4", b"")
    layout = ffiw10k.Builder.find(tmp_path)
    assert_sound(layout)
    for split, parent, numbers in (
        ("validation", release, {"val_0", "val_1"}),
        ("test", test, {"val_0", "val_2"}),
    ):
        files = {path for v in layout.splits[split] for path in (v.best, v.mask)}
        assert {path.stem for path in files} == numbers
        assert all(path.is_relative_to(parent) for path in files)
    alone = ffiw10k.Builder.find(test)
    assert {split for split, videos in alone.splits.items() if videos} == {"test"}


def test_ffiw_one_number_in_two_splits_is_two_videos(ffiw, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(ffiw[0], root)
    for kind in ("source", "target"):
        folder = root / "FFIW10K-v1-release" / kind
        (folder / "val" / "6000.mp4").rename(folder / "val" / "0000.mp4")
    layout = ffiw10k.Builder.find(root)
    assert_sound(layout)
    assert {"train_0000", "0001"} <= names(layout)["train"]["FFIW"]
    assert names(layout)["validation"]["FFIW"] == {"validation_0000", "6001"}
    assert disjoint(*identities(layout).values())


# All of them


@pytest.mark.parametrize(("dataset", "config"), READERS)
def test_a_folder_without_the_dataset(dataset, config, tmp_path):
    for root, says in ((tmp_path / "typo", "there is no such folder"), (tmp_path, "expected")):
        with pytest.raises(UserError, match=says) as error:
            dataset.Builder.find(root, config)
        assert str(error.value).startswith(f"{root}: ")
        assert "\n" not in str(error.value)
        assert "expected" in str(error.value)
        assert ".mp4" in str(error.value)


@pytest.mark.parametrize("half", ["original_sequences", "manipulated_sequences"])
def test_half_of_face_forensics_is_not_enough(ff, tmp_path, half):
    shutil.copytree(ff[0] / half, tmp_path / half)
    lacking = "NeuralTextures" if half.startswith("original") else "original"
    with pytest.raises(UserError, match=f"holds no videos of {lacking}"):
        face_forensics.Builder.find(tmp_path, "neural_textures")


@pytest.mark.parametrize(("dataset", "config"), READERS)
def test_cards(dataset, config):
    del config
    metadata = dataset.Builder.get_metadata()
    assert metadata.description
    assert metadata.citation.count("@") >= 1
    assert set(metadata.tags) <= set(tfds.core.dataset_metadata.valid_tags())
    assert dataset.Builder.name == dataset.__name__.rpartition(".")[2]
    assert "mp4" in dataset.Builder.TREE
    json.dumps(dataset.Builder.TREE)


# DeepfakeBench


@pytest.fixture
def bench(tmp_path):
    """Two compressions of FaceForensics++ crops; returns the file, and a function to rewrite it."""

    def entry(label, video, quality, numbers):
        folder = f"FF/{label}/{quality}/frames/{video}"
        frames = [f"{folder}/{number:03d}.png" for number in numbers]
        for frame in frames:
            path = tmp_path / frame
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), len(video), np.uint8)).save(path)
        return {video: {"label": label, "frames": frames}}

    def videos(label, names, numbers=(0, 9)):
        return {
            quality: dict(
                itertools.chain.from_iterable(
                    entry(label, name, quality, numbers).items() for name in names
                )
            )
            for quality in ("c40", "c23")
        }

    listing = {
        "FF-NT": {
            "FF-real": {
                "train": videos("FF-real", ["071", "953"]),
                "val": videos("FF-real", ["953"]),
                "test": videos("FF-real", ["953"]),
            },
            "FF-NT": {
                "train": videos("FF-NT", ["071_054"]),
                "val": videos("FF-NT", ["720_672"]),
                "test": videos("FF-NT", ["953_974"]),
            },
        }
    }
    frames = listing["FF-NT"]["FF-NT"]["train"]["c40"]["071_054"]["frames"]
    frames[0] = frames[0].replace("/", "\\")  # written on Windows
    path = tmp_path / "FF-NT.json"

    def write(change=lambda listing: None):
        change(listing)
        path.write_text(json.dumps(listing))
        return path

    return write


def test_deepfakebench_listing(bench, tmp_path):
    with pytest.warns(UserWarning, match="videos are left out of|no AUC") as warned:
        listing = deepfakebench.reader.read(bench(), tmp_path)
    assert sorted(listing.notes) == [
        "1 videos are left out of train: in test",
        "1 videos are left out of validation: in test",
        "all validation.labels are 'fake': there is no AUC of one class",
    ]
    assert [str(w.message).partition(".json: ")[2] for w in warned] == list(listing.notes)
    assert listing.qualities == ("c23", "c40")
    found = {
        split: [(item.method, item.label, item.video, item.identity, item.frame) for item in items]
        for split, items in listing.splits.items()
    }
    assert found == {
        split: [(*video, frame) for video in videos for frame in (0, 9)]
        for split, videos in {
            "train": [
                ("original", "real", "071", "071"),
                ("FF-NT", "fake", "071_054", "071"),
            ],
            "validation": [("FF-NT", "fake", "720_672", "720")],
            "test": [
                ("original", "real", "953", "953"),
                ("FF-NT", "fake", "953_974", "953"),
            ],
        }.items()
    }
    for items in listing.splits.values():
        for item in items:
            assert all(f"/{quality}/" in str(path) for quality, path in item.paths.items())
            assert len({path.name for path in item.paths.values()}) == 1


def test_deepfakebench_says_who_is_in_two_splits(bench, tmp_path):
    def again(listing):
        for videos in listing["FF-NT"]["FF-NT"]["test"].values():
            videos["071_974"] = videos.pop("953_974")

    note = "1 identities are in more than one split ('071' is in test, train); results on them"
    with pytest.warns(UserWarning, match=f"{re.escape(note)}|left out of|no AUC"):
        listing = deepfakebench.reader.read(bench(again), tmp_path)
    assert [each for each in listing.notes if each.startswith(note)]


def test_deepfakebench_takes_frames_that_every_compression_has(bench, tmp_path):
    def shorten(listing):
        for kind in ("train", "val"):
            for quality in ("c23", "c40"):
                listing["FF-NT"]["FF-real"][kind][quality].pop("953", None)
        listing["FF-NT"]["FF-NT"]["test"]["c23"]["953_974"]["frames"].pop(0)

    path = bench(shorten)
    (tmp_path / "FF/FF-NT/c40/frames/071_054/009.png").unlink()
    with pytest.warns(UserWarning, match="not under|no AUC|every compression"):
        listing = deepfakebench.reader.read(path, tmp_path)
    assert "2 frames are left out: not there at every compression" in listing.notes
    frames = {(item.video, item.frame) for items in listing.splits.values() for item in items}
    assert ("071_054", 0) in frames
    assert ("071_054", 9) not in frames
    assert ("953_974", 0) not in frames
    assert ("953_974", 9) in frames


def test_deepfakebench_is_built(bench, tmp_path):
    def flatten(listing):
        for splits in listing["FF-NT"].values():
            for split in splits:
                splits[split] = splits[split]["c23"]
        listing["FF-NT"]["FF-real"]["train"].pop("953")
        listing["FF-NT"]["FF-real"]["val"].clear()

    with pytest.warns(UserWarning, match="all validation.labels are 'fake'"):
        made = deepfakebench.Builder(
            manifest=bench(flatten), manual_dir=tmp_path, data_dir=tmp_path / "out"
        )
    made.download_and_prepare()
    assert {name: split.num_examples for name, split in made.info.splits.items()} == {
        "train": 4,
        "validation": 2,
        "test": 4,
    }
    assert set(made.info.features["image"]) == {"raw"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not valid JSON"),
        ('{"train": {"raw": []}}', "not a JSON file of DeepfakeBench"),
        ('{"D": {"D_real": {"dev": {"v": {"frames": []}}}}}', "'dev'"),
        ('{"D": {"D_real": {"test": {"v": {"frames": ["a/0.png"]}}}}}', "no crop that it lists"),
    ],
)
def test_deepfakebench_mistakes(tmp_path, text, says):
    path = tmp_path / "listing.json"
    with pytest.raises(UserError, match="cannot read the listing"):
        deepfakebench.reader.read(path, tmp_path)
    path.write_text(text)
    with pytest.raises(UserError, match=says) as error:
        deepfakebench.reader.read(path, tmp_path)
    assert "\n" not in str(error.value)
