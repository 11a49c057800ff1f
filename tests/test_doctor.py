"""The doctor: how a dataset is got that is not there, and folders of very many files."""

import itertools
import json
import os
from fractions import Fraction

import numpy as np
import pytest

from data_builders import build, clips, dfdc, doctor, faces, h264
from data_builders.tracks import Track
from tests import more_trees

NAMES = [
    "celeb_df_pp",
    "celeb_df_v1",
    "celeb_df_v2",
    "deep_fake_detection",
    "deeper_forensics",
    "dfdc",
    "dfdc_preview",
    "face_forensics",
    "ffiw10k",
    "uadfv",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_doctor_says_how_a_dataset_is_got(name, tmp_path, capsys):
    assert build.main([name, "--manual_dir", str(tmp_path), "--doctor"]) == 1
    out, err = capsys.readouterr()
    lines = out.partition("how to get it:\n")[2].splitlines()
    told = dict(line.strip().split(": ", 1) for line in lines)
    assert list(told) == ["page", "form", "size", "scripts", "reported"]
    assert told["page"].startswith("https://")
    assert all(len(text) > 10 for text in told.values())
    assert err.count("\n") == 1


def test_a_dataset_that_is_there_needs_no_access(tmp_path, capsys, monkeypatch):
    more_trees.uadfv(tmp_path)
    monkeypatch.setattr(doctor, "_faces", lambda *_: [])
    assert build.main(["uadfv", "--manual_dir", str(tmp_path), "--doctor"]) == 0
    out = capsys.readouterr().out
    assert "how to get it" not in out
    assert "missing: 1\n  fake/0003" in out


def test_a_quality_that_ends_early_is_named(tmp_path, monkeypatch):
    files = {quality: tmp_path / f"{quality}.mp4" for quality in ("raw", "c40")}
    frames = {files["raw"]: 300, files["c40"]: 180}
    monkeypatch.setattr(h264, "probe", lambda path: h264.Facts(frames[path], Fraction(25)))
    video = clips.VideoFiles("original", "071", "071", "real", files)
    dataset = dfdc.Builder(
        manual_dir=tmp_path, data_dir=tmp_path / "data", face_source=faces.Whole()
    )
    report = doctor.report(dataset, clips.Layout({"train": [video]}, []))
    assert (
        "longer at one quality than at another, and cut to the shorter one: 1\n"
        "  original/071: 300 frames at raw, 180 at c40\n"
    ) in report


def test_files_of_qualities_that_are_not_wanted_are_not_opened(tmp_path, monkeypatch):
    """The build does not read them; the best is read, whatever is wanted."""
    files = {quality: tmp_path / f"{quality}.mp4" for quality in ("raw", "c23", "c40")}
    opened = []
    monkeypatch.setattr(
        h264, "probe", lambda path: opened.append(path) or h264.Facts(300, Fraction(25))
    )
    video = clips.VideoFiles("original", "071", "071", "real", files)
    dataset = dfdc.Builder(
        manual_dir=tmp_path,
        data_dir=tmp_path / "data",
        qualities=["c23"],
        face_source=faces.Whole(),
    )
    doctor.report(dataset, clips.Layout({"train": [video]}, []))
    assert opened == [files["raw"], files["c23"]]
    assert clips.ClipSource(video, dataset.recipe).inputs == opened


def test_of_videos_without_a_mask_some_show_several_faces(tmp_path, monkeypatch):
    videos = [
        clips.VideoFiles("a", f"{i}", "", "fake", {"raw": tmp_path / f"{i}.mp4"}, mask)
        for i, mask in enumerate([tmp_path / "mask.mp4"] * 3 + [None] * 2)
    ]
    monkeypatch.setattr(h264, "probe", lambda path: h264.Facts(1, Fraction(25)))
    one = np.ones(1, bool)
    monkeypatch.setattr(
        clips,
        "find_face",
        lambda source, frames: ([0], [], Track(one, one, one, int(str(source) == "a/4"))),
    )
    dataset = dfdc.Builder(manual_dir=tmp_path, data_dir=tmp_path / "data", qualities=["raw"])
    report = doctor.report(dataset, clips.Layout({"train": videos}, []))
    assert "1 of 2 (50 %) videos without a mask show several faces" in report


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["uadfv", "--qualities", "foo"], "--qualities: 'foo' is not a quality"),
        (["uadfv", "--families", "swap"], "--families: dataset 'uadfv' has no such option"),
        (["wild_deepfake", "--seed", "1"], "--seed: dataset 'wild_deepfake' is not made from"),
    ],
)
def test_how_data_is_got_is_no_answer_to_a_wrong_option(words, error, tmp_path, capsys):
    assert build.main([*words, "--manual_dir", str(tmp_path), "--doctor"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert error in err


def test_of_very_many_videos_few_are_opened(tmp_path, monkeypatch):
    """Folders are listed, and no file is asked for but by the list of its part."""
    part = tmp_path / "dfdc_train_part_3"
    part.mkdir()
    content = {f"v{i:06d}.mp4": {"label": ("REAL", "FAKE")[i % 2]} for i in range(25_000)}
    (part / "metadata.json").write_text(json.dumps(content))
    for name in content:
        os.mknod(part / name)
    looked = itertools.count()

    def probe(path):
        next(looked)
        return h264.Facts(100, Fraction(25))

    opened, asked = [], []
    monkeypatch.setattr(os, "stat", counting(os.stat, asked))
    monkeypatch.setattr("builtins.open", counting(open, opened))
    layout = dfdc.Builder.find(tmp_path)
    assert len(layout.videos) == 25_000
    assert len(asked) + len(opened) < 50
    monkeypatch.undo()
    monkeypatch.setattr(h264, "probe", probe)
    dataset = dfdc.Builder(
        manual_dir=tmp_path, data_dir=tmp_path / "data", face_source=faces.Whole()
    )
    report = doctor.report(dataset, layout)
    assert "opened: 5000 of 25000 videos, spread evenly" in report
    assert next(looked) == 5000
    hours = 25_000 * 100 * 3 / 414 + 25_000 * 32 / 44 + 100 * 2 * 25_000 / 97
    assert f"about {hours / 3600:.1f} core-hours" in report


def counting(function, calls):
    def counted(*args, **kwargs):
        calls.append(args)
        return function(*args, **kwargs)

    return counted
