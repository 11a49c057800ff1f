"""Lists of DeepfakeBench of which files are missing, there twice, or of both labels."""

import json
import re

import pytest

from data_builders import deepfakebench
from data_builders.errors import UserError


@pytest.fixture
def bench(tmp_path):
    """Writes a listing of real and fake videos of two frames, and the files but for `missing`."""

    def write(change=lambda listing: None, missing=()):
        def videos(label, name):
            frames = [f"{label}/frames/{name}/{number:03d}.png" for number in (0, 9)]
            for frame in frames:
                path = tmp_path / frame
                path.parent.mkdir(parents=True, exist_ok=True)
                if label not in missing:
                    path.touch()
            return {name: {"frames": frames}}

        listing = {
            label: {
                split: videos(label, f"{number:03d}")
                for number, split in enumerate(("train", "val", "test"))
            }
            for label in ("D_real", "D_F")
        }
        change(listing)
        path = tmp_path / "D.json"
        path.write_text(json.dumps({"D": listing}))
        return path

    return write


def test_a_class_of_which_nothing_is_there_is_refused(bench, tmp_path):
    with pytest.raises(UserError, match=r"D\.json: test lists 2 files of fake videos, and none is"):
        deepfakebench.reader.read(bench(missing=["D_F"]), tmp_path)

    def reals_of_test(listing):
        del listing["D_F"], listing["D_real"]["train"], listing["D_real"]["val"]

    with pytest.warns(UserWarning, match="all test.labels are 'real'"):  # the list says so
        deepfakebench.reader.read(bench(reals_of_test), tmp_path)

    def no_fakes_to_train_on(listing):
        del listing["D_F"]["train"]

    with pytest.raises(UserError, match=r"D\.json: all train.labels are 'real'; both are needed"):
        deepfakebench.reader.read(bench(no_fakes_to_train_on), tmp_path)


def test_what_is_missing_is_counted(bench, tmp_path):
    path = bench()
    (tmp_path / "D_F/frames/000/009.png").unlink()
    with pytest.warns(UserWarning, match=r"D\.json: 1 of 12 listed files are not under "):
        listing = deepfakebench.reader.read(path, tmp_path)
    assert len(listing.splits["train"]) == 3
    assert len(listing.notes) == 1


def test_names_that_give_no_frame_or_one_that_is_there(bench, tmp_path):
    def change(listing):
        listing["D_F"]["test"]["002"]["frames"] += [
            "D_F/frames/002/009.png",
            "D_F/frames/002/9.png",
            "D_F/frames/002/mask.png",
        ]

    path = bench(change)
    for name in ("9", "mask"):
        (tmp_path / f"D_F/frames/002/{name}.png").touch()
    with pytest.warns(UserWarning, match="of 15 listed files") as warned:
        listing = deepfakebench.reader.read(path, tmp_path)
    assert len(listing.splits["test"]) == 4
    said = "\n".join(str(w.message) for w in warned)
    assert re.search(r"2 of 15 listed files name a frame that .*/002/009.png \(and 1 more\)", said)
    assert re.search(r"1 of 15 listed files have no number in their name: .*mask.png", said)


def test_a_file_that_deepfakebench_lists_with_both_labels(bench, tmp_path):
    def change(listing):
        listing["D_F"]["test"]["002"]["frames"].append("D_real/frames/000/009.png")

    with pytest.raises(
        UserError, match=r"D\.json: .*000/009\.png is listed as 'real' and as 'fake'"
    ):
        deepfakebench.reader.read(bench(change), tmp_path)


def test_frames_that_are_no_paths(bench, tmp_path):
    def change(listing):
        listing["D_F"]["test"]["002"]["frames"] = "D_F/frames/002"

    with pytest.raises(UserError, match=r"D\.json: not a JSON file of .*must be a list of paths"):
        deepfakebench.reader.read(bench(change), tmp_path)
