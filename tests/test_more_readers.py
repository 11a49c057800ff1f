"""More official trees, from folders to lists of videos and to clips."""

import json
import shutil

import pytest

from data_builders import (
    celeb_df_pp,
    celeb_df_v1,
    clips,
    deep_fake_detection,
    deeper_forensics,
    dfdc,
    dfdc_preview,
    uadfv,
)
from data_builders.errors import UserError
from tests import more_trees, trees
from tests.test_readers import assert_sound, disjoint, identities, names

READERS = {
    dfdc: "",
    dfdc_preview: "",
    deep_fake_detection: "whole",
    celeb_df_v1: "",
    celeb_df_pp: "",
    uadfv: "",
    deeper_forensics: "end_to_end",
}


def trees_of_all(place):
    """Makes the tree of each: its folder, and what is spoilt in it."""
    makers = {
        **{module: getattr(more_trees, module.Builder.name, None) for module in READERS},
        celeb_df_v1: trees.celeb_df_v2,  # whose folders v1 has
    }
    roots = {module: place / module.Builder.name for module in READERS}
    return {module: (root, makers[module](root, frames=4)) for module, root in roots.items()}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    return trees_of_all(tmp_path_factory.mktemp("trees"))


@pytest.fixture
def copy(roots, tmp_path):
    """Copies a tree, to change it."""

    def copied(module):
        root = tmp_path / "copy"
        shutil.copytree(roots[module][0], root)
        return root

    return copied


def find(module, root, config=None):
    return module.Builder.find(root, READERS[module] if config is None else config)


@pytest.mark.parametrize("module", READERS)
def test_what_holds_of_every_reader(module, roots):
    root, _ = roots[module]
    layout = find(module, root)
    assert_sound(layout)
    assert {video.label for video in layout.videos} == {"real", "fake"}
    assert find(module, root) == layout


@pytest.mark.parametrize("module", READERS)
def test_a_folder_without_the_dataset(module, tmp_path):
    for root, says in ((tmp_path / "typo", "there is no such folder"), (tmp_path, "expected")):
        with pytest.raises(UserError, match=says) as error:
            find(module, root)
        assert str(error.value).startswith(f"{root}: ")
        assert ".mp4" in str(error.value)


@pytest.mark.parametrize("module", READERS)
def test_cards(module):
    metadata = module.Builder.get_metadata()
    assert metadata.description
    assert metadata.citation.count("@") >= 1
    assert module.Builder.name == module.__name__.rpartition(".")[2]
    assert "mp4" in module.Builder.TREE


# DFDC


def test_dfdc_takes_labels_and_sources_from_the_lists(roots):
    root, known = roots[dfdc]
    layout = find(dfdc, root)
    found = {video.video: video for video in layout.videos}
    assert names(layout)["validation"] == {
        "original": {"dareal", known["shared"]},  # a source in one part, its fake in another
        "DFDC": {"dafake", "dbfake"},
    }
    assert names(layout)["test"] == {"original": {"ebtest"}, "DFDC": {"eatest"}}
    assert found["bafake"].identity == found["aareal"].identity == "aareal"
    assert layout.missing == [f"dfdc_train_part_0/{known['absent']}"]
    assert disjoint(*identities(layout).values())
    assert layout.notes == [
        "validation is parts of train: 7",
        "47 of the 50 parts are not there: 2 (and 46 more)",
    ]


def test_dfdc_with_its_validation_keeps_all_parts_for_train(copy):
    root = copy(dfdc)
    shutil.copytree(root / "test", root / "validation")
    for path in (root / "validation").glob("*.mp4"):
        path.rename(path.with_stem(f"v{path.stem}"))
    path = root / "validation" / "labels.csv"
    path.write_text('filename,label\r\n"veatest.mp4",1\r\nvebtest.mp4,0\r\n\r\n')
    layout = find(dfdc, root)
    assert names(layout)["validation"] == {"original": {"vebtest"}, "DFDC": {"veatest"}}
    assert names(layout)["train"]["DFDC"] == {"bafake", "bbfake", "cafake", "dafake", "dbfake"}
    assert layout.notes == ["47 of the 50 parts are not there: 2 (and 46 more)"]


def test_dfdc_a_video_that_is_listed_twice_is_one(copy):
    root = copy(dfdc)
    with (root / "test/labels.csv").open("a") as file:
        file.write("eatest.mp4,1\n")
    layout = find(dfdc, root)
    assert_sound(layout)
    assert names(layout)["test"] == {"original": {"ebtest"}, "DFDC": {"eatest"}}


def test_dfdc_validation_is_of_parts_that_have_videos(copy):
    root = copy(dfdc)
    (root / "train/dfdc_train_part_7/metadata.json").unlink()  # and so its videos have no labels
    (root / "train/dfdc_train_part_8").mkdir()
    layout = find(dfdc, root)
    assert names(layout)["validation"] == {"original": {"careal", "shared"}, "DFDC": {"cafake"}}
    assert "validation is parts of train: 1" in layout.notes
    assert not any("no validation" in note for note in layout.notes)


def test_dfdc_a_video_of_the_test_set_is_in_no_other_split(copy):
    root = copy(dfdc)
    shutil.copy(root / "train/dfdc_train_part_1/cafake.mp4", root / "test/cafake.mp4")
    with (root / "test/labels.csv").open("a") as file:
        file.write("cafake.mp4,1\n")
    found = names(find(dfdc, root))
    assert [split for split in found if "cafake" in found[split]["DFDC"]] == ["test"]
    assert found["train"]["original"] == {"aareal", "careal"}


def test_dfdc_in_parts(copy):
    """As people have it: zips in folders of their own, samples, a part alone, lists that lack."""
    root = copy(dfdc)
    whole = find(dfdc, root)
    for number in (0, 1, 7):
        path = root / f"train/dfdc_train_part_{number}"
        path.rename(root / f"outer_{number}")
        path = root / f"dfdc_train_part_{number:02d}"
        path.mkdir()
        (root / f"outer_{number}").rename(path / f"dfdc_train_part_{number}")
    (root / "dfdc_train_part_08.zip").write_bytes(b"not unpacked")
    part = root / "dfdc_train_part_00" / "dfdc_train_part_0"
    shutil.copytree(part, root / "train_sample_videos")
    layout = find(dfdc, root)
    assert names(layout) == names(whole)
    shutil.rmtree(root / "train_sample_videos")
    shutil.rmtree(root / "test")
    (part / "metadata.json").unlink()
    layout = find(dfdc, root)
    assert "dfdc_train_part_0 has no metadata.json: its 3 videos have no labels" in layout.notes
    assert "there are no test videos" in layout.notes
    alone = find(dfdc, root / "dfdc_train_part_01" / "dfdc_train_part_1")
    assert names(alone)["train"]["DFDC"] == {"cafake"}
    assert not alone.splits["validation"]


@pytest.mark.parametrize(
    ("path", "text", "says"),
    [
        ("train/dfdc_train_part_0/metadata.json", '{"a.mp4": 1}', "'a.mp4': 1: must be an object"),
        ("train/dfdc_train_part_0/metadata.json", "[1]", "the metadata must be an object"),
        ("train/dfdc_train_part_0/metadata.json", "{", "not valid JSON"),
        ("train/dfdc_train_part_1/metadata.json", '{"a.mp4": {"label": "TRUE"}}', "REAL or FAKE"),
        ("train/dfdc_train_part_1/metadata.json", '{"a\\ud800.mp4": {"label": "REAL"}}', "name"),
        ("test/labels.csv", "filename,label\neatest.mp4,2\n", "'eatest.mp4'"),
        ("test/labels.csv", "filename,label\neatest.mp4,1\neatest.mp4,0\n", "as real and as fake"),
        ("test/labels.csv", "name,label\neatest.mp4,1\n", "has no column filename"),
        ("test/labels.csv", "filename,label\neatest.mp4\n", "must be a name and a label"),
    ],
)
def test_dfdc_a_list_with_a_mistake(copy, path, text, says):
    root = copy(dfdc)
    (root / path).write_text(text)
    with pytest.raises(UserError, match=says) as error:
        find(dfdc, root)
    assert str(error.value).startswith(str(root / path))


# The preview of DFDC


def test_dfdc_preview_splits_by_both_people(roots):
    root, known = roots[dfdc_preview]
    layout = find(dfdc_preview, root)
    assert layout.missing == [known["absent"]]
    assert set(names(layout)["test"]) == {"original", "method_A", "method_B"}
    assert identities(layout)["test"] == {str(a) for a in known["people"]["test"]}
    assert disjoint(*identities(layout).values())
    assert {video.label for video in layout.splits["validation"]} == {"real", "fake"}
    found = {(video.method, video.video): video for video in layout.videos}
    assert found["method_A", "13_12_A_001"].identity == "12"  # the target and not the donor
    assert len(found) == 3 * 14 - 1
    assert not layout.notes


def test_an_empty_name_in_dfdc_preview_is_nobody(copy):
    root = copy(dfdc_preview)
    path = root / "dataset.json"
    plain = names(find(dfdc_preview, root))
    about = json.loads(path.read_text())
    for entry in about.values():
        if entry["label"] == "real":
            entry["swapped_id"] = ""
    path.write_text(json.dumps(about))
    assert names(find(dfdc_preview, root)) == plain


def test_dfdc_preview_without_its_deep_folders(copy):
    root = copy(dfdc_preview)
    plain = names(find(dfdc_preview, root))
    for method in ("original_videos", "method_A", "method_B"):
        (root / method / "videos").mkdir()
        for path in list((root / method).glob("*/**/*.mp4")):
            path.rename(root / method / "videos" / path.name)
    assert names(find(dfdc_preview, root)) == plain
    inner = root / "dfdc_preview_set"
    inner.mkdir()
    for path in list(root.iterdir()):
        if path != inner:
            path.rename(inner / path.name)
    assert names(find(dfdc_preview, root)) == plain


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"method_A/1.mp4": {"label": "real", "set": "train"}}, "must be a path"),
        ({"method_C/1.mp4": {"set": "train"}}, "must be a path"),
        ({"method_A/1.mp4": {"label": "fake", "set": "val"}}, "'train' or 'test'"),
        ({"method_A/1.mp4": ["fake"]}, "must be an object"),
        (["a"], "the list must be an object"),
        ({"method_A/1.mp4": {"label": "fake", "set": "test"}}, "none of the 1 videos"),
    ],
)
def test_dfdc_preview_a_list_with_a_mistake(tmp_path, entry, says):
    (tmp_path / "dataset.json").write_text(json.dumps(entry))
    with pytest.raises(UserError, match=says):
        find(dfdc_preview, tmp_path)


# DeepFakeDetection


def test_deep_fake_detection_is_all_test_or_split_by_actors(roots):
    root, known = roots[deep_fake_detection]
    whole = find(deep_fake_detection, root)
    assert not whole.splits["train"]
    assert not whole.splits["validation"]
    assert len(whole.videos) == 12 + 13
    layout = find(deep_fake_detection, root, "by_actor")
    assert_sound(layout)
    people = {
        split: {person for v in videos for person in v.video.split("__")[0].split("_")}
        for split, videos in layout.splits.items()
    }
    assert disjoint(*people.values())
    assert set.union(*people.values()) == {f"{number:02d}" for number in range(1, 13)}
    for videos in layout.splits.values():
        assert {video.label for video in videos} == {"real", "fake"}
    kept = {(video.method, video.video) for video in layout.videos}
    left_out = {(video.method, video.video) for video in whole.videos} - kept
    assert left_out <= {known["between"]}
    assert len(layout.notes) == len(left_out)


def test_deep_fake_detection_qualities_and_masks(roots):
    root, known = roots[deep_fake_detection]
    found = {(v.method, v.video): v for v in find(deep_fake_detection, root).videos}
    assert list(found[known["no_raw"]].files) == ["c23"]
    assert list(found[known["masked"]].files) == ["raw", "c23"]
    assert [which for which, video in found.items() if video.mask] == [known["masked"]]
    assert found[known["masked"]].identity == known["masked"][1][:2]
    assert all(video.identity == name[:2] for (_, name), video in found.items())


def test_deep_fake_detection_takes_no_link_to_what_was_not_fetched(copy, roots):
    """As git-annex and DVC leave them; only where no other file is there, it says what is wrong."""
    root, known = copy(deep_fake_detection), roots[deep_fake_detection][1]
    method, name = known["masked"]
    for place in ("raw/videos", "masks/videos"):
        path = root / "manipulated_sequences" / method / place / f"{name}.mp4"
        path.unlink()
        path.symlink_to(root / "not fetched")
    video = {(v.method, v.video): v for v in find(deep_fake_detection, root).videos}[method, name]
    assert list(video.files) == ["c23"]
    assert video.mask is None
    path = root / "manipulated_sequences" / method / "c23/videos" / f"{name}.mp4"
    path.unlink()
    path.symlink_to(root / "not fetched")
    video = {(v.method, v.video): v for v in find(deep_fake_detection, root).videos}[method, name]
    assert list(video.files) == ["raw", "c23"]


def test_deep_fake_detection_clips(roots):
    """A quality with fewer frames ends the clip; a mask says which face is cut out."""
    root, known = roots[deep_fake_detection]
    found = {(v.method, v.video): v for v in find(deep_fake_detection, root).videos}
    recipe = clips.Recipe(("raw", "c23"), frames_per_video=9)
    shorter = clips.read(clips.ClipSource(found[known["shorter"]], recipe))
    assert list(shorter.frames) == [0, 1, 2]
    masked = clips.read(clips.ClipSource(found[known["masked"]], recipe))
    assert list(masked.frames) == [0, 1, 2, 3]
    assert all(box[0] < trees.SIZE / 2 < box[2] for box in masked.boxes)


# Celeb-DF, v1 and ++


def test_celeb_df_v1_follows_its_list_and_draws_along_the_fakes(roots):
    root, known = roots[celeb_df_v1]
    layout = find(celeb_df_v1, root)
    listed = {("original" if "real" in kind else kind, stem) for kind, stem in known["test"]}
    tested = {(v.method, v.video.rpartition("real_")[2]) for v in layout.splits["test"]}
    assert tested == listed - {("Celeb-synthesis", known["absent"][1])}
    assert {video.label for video in layout.splits["validation"]} == {"real", "fake"}
    assert disjoint(identities(layout)["train"], identities(layout)["validation"])


def test_celeb_df_pp_has_a_method_for_each_folder(roots):
    root, known = roots[celeb_df_pp]
    layout = find(celeb_df_pp, root)
    methods = {video.method for video in layout.videos}
    assert methods == {"original", "Celeb-DF", "BlendFace", "LIA", "FLOAT"}
    tested = {video.best.relative_to(root).with_suffix("") for video in layout.splits["test"]}
    assert {str(path) for path in tested} == set(known["test"])
    assert {video.label for video in layout.splits["validation"]} == {"real", "fake"}
    assert disjoint(identities(layout)["train"], identities(layout)["validation"])
    assert not layout.missing


def test_celeb_df_pp_one_name_in_two_scenarios_is_two_methods(copy):
    root = copy(celeb_df_pp)
    shutil.copytree(
        root / "Celeb-synthesis/FaceSwap/BlendFace", root / "Celeb-synthesis/FaceReenact/BlendFace"
    )
    layout = find(celeb_df_pp, root)
    assert_sound(layout)
    methods = {video.method for video in layout.videos if video.label == "fake"}
    assert methods == {"Celeb-DF", "FaceSwap_BlendFace", "FaceReenact_BlendFace", "LIA", "FLOAT"}


def test_celeb_df_pp_in_part(copy):
    root = copy(celeb_df_pp)
    shutil.rmtree(root / "Celeb-synthesis/FaceReenact")
    layout = find(celeb_df_pp, root)
    assert layout.missing == ["Celeb-synthesis/FaceReenact/LIA/id1_id0_0000"]
    assert {video.method for video in layout.videos} == {
        "original",
        "Celeb-DF",
        "BlendFace",
        "FLOAT",
    }


# UADFV and DeeperForensics-1.0


def test_uadfv_pairs(roots):
    root, known = roots[uadfv]
    layout = find(uadfv, root)
    assert layout.missing == [known["absent"]]
    assert names(layout)["test"]["UADFV"] == {"0000", "0001", "0002"}
    assert names(layout)["test"]["original"] == {"0000", "0001", "0002", "0003"}


def test_deeper_forensics_follows_its_lists(roots):
    root, known = roots[deeper_forensics]
    layout = find(deeper_forensics, root)
    assert layout.missing == ["end_to_end/001_M101", "original/002"]
    for split, listed in known["splits"].items():
        found = names(layout)["validation" if split == "val" else split]
        assert found["end_to_end"] == set(listed) - {known["absent"]}
        targets = {name[:3] for name in listed if name != known["no_target"]}
        assert found["original"] == targets
    level = find(deeper_forensics, root, "end_to_end_level_3")
    assert known["absent"] in names(level)["train"]["end_to_end_level_3"]
    assert len(deeper_forensics.builder.VARIANTS) == 11
    (root / "lists/splits/val.txt").rename(root / "val.txt")
    with pytest.raises(UserError, match=r"val\.txt: cannot read the list of a split"):
        find(deeper_forensics, root)
    (root / "val.txt").rename(root / "lists/splits/val.txt")
