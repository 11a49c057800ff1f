"""What can be made from what is on disk, and what commands say where it cannot."""

import hashlib
import itertools
import json
import os
import shlex
import signal
from pathlib import Path

import pytest

from data_builders import beam, build, clips, faces, paired, qualities, staging, video_builder
from data_builders.command_line import DONE, FAILED, PARTLY
from data_builders.errors import UnavailableQualitiesError, UnusableClipError
from data_builders.records import FinishedClip
from tests import trees


@pytest.fixture(scope="module", autouse=True)
def in_this_process():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video_builder.VideoDatasetBuilder, "APART", False)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """FaceForensics++ as most people have it, in a folder whose name has a space."""
    root = tmp_path_factory.mktemp("my data")
    trees.face_forensics(root, qualities=("c23", "c40"), frames=4, pairs=(3, 1, 1))
    return root


def arguments(folder, data_dir, *more):
    where = ["--manual_dir", str(folder), "--data_dir", str(data_dir), "--frames_per_video=2"]
    return ["face_forensics/neural_textures", *where, "--faces", "none", *more]


@pytest.mark.parametrize(
    ("quality", "best", "possible"),
    [
        ("raw", "c23", False),
        ("c23", "c40", False),
        ("c40", "c23", True),
        ("c1", "raw", True),
        ("c23", "c23", True),
        ("random", "c40", True),
        ("random", "c46", False),
        ("messenger", "c46", True),
    ],
)
def test_compression_gives_nothing_back(quality, best, possible):
    assert qualities.can_be_made(quality, best) is possible


@pytest.mark.parametrize(
    ("real", "fake", "noted"),
    [
        ("c23", "c23 c40", ["c40 is made", "4 of 4 real and 0 of 4 fake"]),
        ("raw c23", "c23", ["c40 is made", "0 of 4 real and 4 of 4 fake"]),
        ("raw", "raw c23 c40", []),  # the recipe of the authors: once each
        ("c23", "c23", []),
        ("c23 c40", "c23 c40", []),
    ],
)
@pytest.mark.parametrize("name", ["face_forensics", "deep_fake_detection"])
def test_compression_that_goes_with_the_label_is_noted(tmp_path, name, real, fake, noted):
    """Compression is counted by hand: c40 on disk or of raw has gone through one, of c23 two."""
    videos = [
        clips.VideoFiles("m", f"{label}{i}", "a", label, {q: tmp_path / q for q in held.split()})
        for label, held in (("real", real), ("fake", fake))
        for i in range(4)
    ]
    dataset = build.builder(
        name,
        manual_dir=tmp_path,
        data_dir=tmp_path,
        qualities=("c23", "c40"),
        face_source=faces.Whole(),
    )
    notes = dataset.notes(clips.Layout({"train": videos}))
    assert len(notes) == bool(noted)
    assert all(text in notes[0] for text in noted)


def test_the_random_crf_is_never_better_than_the_file():
    drawn = {
        best: {qualities.drawn_crf(f"0/a/{i}", best) for i in range(999)}
        for best in ("raw", "c23", "c45")
    }
    assert drawn == {"raw": {*range(18, 46)}, "c23": {*range(23, 46)}, "c45": {45}}


def test_the_random_crf_is_drawn_from_the_seed_and_the_name():
    """By hand: the first four bytes of a SHA-256, among the 28 numbers from 18 to 45."""
    crfs = {}
    for seed, video in itertools.product((0, 1, 2), ("071", "072")):
        files = clips.VideoFiles("original", video, video, "real", {"raw": Path("a.mp4")})
        source = clips.ClipSource(files, clips.Recipe(("random",), seed=seed))
        digest = hashlib.sha256(f"{seed}/original/{video}".encode()).digest()
        crfs[seed, video] = source.crf("random")
        assert crfs[seed, video] == 18 + int.from_bytes(digest[:4], "big") % 28
    assert len({*crfs.values()}) > 3


@pytest.mark.parametrize(
    ("wanted", "bests", "spared", "expected"),
    [
        (["raw", "c23", "c40"], ["c23"] * 9, 0, ("c23", "c40")),
        (["raw", "c23", "c40"], ["c40"] * 9, 0, ("c40",)),
        (["raw", "c40", "messenger"], ["c23"] * 9, 0, ("c23", "c40", "messenger")),
        (["raw", "c40"], ["raw"] * 5 + ["c23"] * 4, 3, ("c23", "c40")),
        (["raw", "c40"], ["raw"] * 5 + ["c23"] * 4, 4, ("raw", "c40")),
    ],
)
def test_what_can_be_had_instead(wanted, bests, spared, expected):
    assert qualities.instead(wanted, bests, spared) == expected


@pytest.mark.parametrize("flag", [[], ["--qualities", "raw,c40"], ["--qualities=raw,c23,c40"]])
def test_the_doctor_and_the_build_name_the_command_that_works(
    folder, tmp_path, capsys, flag, monkeypatch
):
    monkeypatch.setattr(clips, "read", None)  # no clip is read before this is said
    given = arguments(folder, tmp_path, *flag)
    assert build.main(given) == FAILED
    err = capsys.readouterr().err
    assert err.startswith("error: --qualities: raw cannot be made for 19 of 19 videos, such as ")
    assert "the best quality on disk is c23; " in err
    assert err.count("\n") == 1
    assert build.main([*given, "--doctor"]) == FAILED
    out = capsys.readouterr().out
    assert f"cannot be built: {err.removeprefix('error: ')}" in out
    assert "videos to raw" not in out
    assert "too poor for raw: 19" in out
    monkeypatch.undo()
    words = shlex.split(err.partition(": python ")[2])
    assert words[:2] == ["-m", "data_builders.build"]
    assert words[-2:] == ["--qualities", "c23,c40"]
    assert str(folder) in words
    assert words.count("--qualities") == 1
    assert not list(tmp_path.rglob("dataset_info.json"))
    assert build.main(words[2:]) in (DONE, PARTLY)


def test_pipeline_options_stay_at_the_end():
    error = UnavailableQualitiesError("x", ("c23",))
    argv = ["ffiw10k", "--doctor", "--qualities", "raw", "--beam", "--", "--qualities", "b c"]
    assert build._with_command(error, argv, "qad-jax build") == (
        "x: qad-jax build ffiw10k --beam --qualities c23 -- --qualities 'b c'"
    )


def test_a_video_without_the_better_file_is_left_out_by_name(tmp_path):
    tree = trees.face_forensics(tmp_path / "tree", frames=4, pairs=(3, 1, 1))
    name = tree["splits"]["test"]["NeuralTextures"][0]
    trees.face_forensics_path(tmp_path / "tree", "NeuralTextures", name, "raw").unlink()
    options = {"face_source": faces.Whole(), "frames_per_video": 1, "max_skipped": 0.2}
    dataset = build.builder(
        "face_forensics/neural_textures",
        data_dir=tmp_path / "data",
        manual_dir=tmp_path / "tree",
        **options,
    )
    build.prepare(dataset)
    skipped = [line for line in dataset.info.metadata["skipped"] if name in line]
    assert len(skipped) == 1
    assert "raw cannot be made of c23, which is the best quality on disk" in skipped[0]


# What is noted of a clip reaches the dataset's information


def test_notes_outlive_a_build_that_was_killed(tmp_path):
    clip = FinishedClip("original/071", [], {"frames_without_face": 3})
    assert staging.staged(tmp_path, "a", lambda: clip) == clip
    assert staging.staged(tmp_path, "a", lambda: pytest.fail("is on disk")) == clip


def test_notes_come_out_of_a_pipeline(tmp_path):
    told = {}
    results = {
        "a": FinishedClip("original/a", [("key", {})], {"faces": 2}),
        "b": FinishedClip("original/b", [("other", {})]),
        "c": UnusableClipError("c"),
    }
    for index, source in enumerate(results):
        for out in beam._ReadClip(results.get).process((index, source)):
            told.setdefault(getattr(out, "tag", "examples"), []).append(getattr(out, "value", out))
    assert told["examples"] == [("key", {}), ("other", {})]
    beam._write(told["noted"], str(tmp_path / "clips.noted"))
    assert beam.noted(tmp_path / "clips") == [("original/a", {"faces": 2})]
    assert not any(tmp_path.iterdir())


def test_the_information_has_what_was_noted(tmp_path):
    dataset = build.builder(
        "face_forensics/neural_textures", data_dir=tmp_path, qualities=["c23", "c40"]
    )
    dataset.noted = {
        "original/b": {"frames_without_face": 2},
        "original/a": {"frames_without_face": 3, "faces": 2},
    }
    dataset.check_skipped(9)
    known = dataset.info.metadata
    assert known["frames_without_face"] == {"original/a": 3, "original/b": 2}
    assert known["frames_without_face_count"] == 5
    assert known["faces"] == {"original/a": 2}


class Deadly(faces.Whole):
    """Ends the process that reads one of the videos, as a fault in a codec does."""

    def __call__(self, video, indices, frames, *, masks=None):
        if video == "original/054":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(video, indices, frames, masks=masks)


def test_a_video_that_kills_its_process_does_not_end_the_build(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(video_builder.VideoDatasetBuilder, "APART", True)
    dataset = build.builder(
        "face_forensics/neural_textures",
        data_dir=tmp_path,
        manual_dir=folder,
        qualities=["c23", "c40"],
        frames_per_video=1,
        face_source=Deadly(),
    )
    build.prepare(dataset)
    (reason,) = dataset.info.metadata["skipped"]
    assert reason.startswith("original/054: ")
    assert "054.mp4: the process that read it ended at once" in reason
    assert sum(split.num_examples for split in dataset.info.splits.values()) == 18


def test_a_clip_that_kills_its_process_is_named(folder):
    path = folder / "a.mp4"
    source = clips.ClipSource(
        clips.VideoFiles("original", "071", "071", "real", {"c23": path}), clips.Recipe(("c23",))
    )
    error = paired._died(source)
    assert isinstance(error, UnusableClipError)
    assert str(error).startswith(f"original/071: {path}: the process that read it ended at once")


# Files of other recipes


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b"\xff",
        b"null",
        b'{"recipe": 3}',
        b'{"recipe": {"qualities": 3}}',
        b'{"recipe": {"qualities": [3]}}',
        b'{"recipe": {"qualities": ["c99"]}}',
        b"[" * 100_000,
    ],
    ids=range(9),
)
def test_a_damaged_file_of_another_recipe_ends_no_command(tmp_path, content, capsys):
    for name, text in (("0000aaaa", content), ("0000bbbb", None)):
        path = tmp_path / "celeb_df_v2" / name / "1.0.0" / "metadata.json"
        path.parent.mkdir(parents=True)
        whole = json.dumps({"recipe": {"qualities": ["c23", "c40"]}}).encode()
        path.write_bytes(whole if text is None else text)
    assert build.builder("celeb_df_v2/0000bbbb", data_dir=tmp_path).qualities == ("c23", "c40")
    assert build.main(["celeb_df_v2/0000aaaa", "--data_dir", str(tmp_path)]) == FAILED
    assert "celeb_df_v2/0000aaaa: its metadata.json is damaged; " in capsys.readouterr().err
    assert build.main(["celeb_df_v2/0000cccc", "--data_dir", str(tmp_path)]) == FAILED
    assert "has no configuration '0000cccc'" in capsys.readouterr().err


def test_what_an_earlier_version_has_built_is_opened(tmp_path):
    """By the name of its recipe; where both versions have built it, the present one is taken."""

    def built(recipe, version):
        path = tmp_path / "self_blended" / recipe / version / "metadata.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"recipe": {"qualities": ["c23", "c40"]}}))

    for recipe, version in (("0000aaaa", "1.0.0"), ("0000bbbb", "1.0.0"), ("0000bbbb", "2.0.0")):
        built(recipe, version)
    opened = [build.builder(f"self_blended/0000{x * 4}", data_dir=tmp_path) for x in "ab"]
    assert [str(one.version) for one in opened] == ["1.0.0", "2.0.0"]
    assert opened[0].qualities == ("c23", "c40")
    built("0000cccc", "0.9.0")  # nobody knows it any more
    assert build.main(["self_blended/0000cccc", "--data_dir", str(tmp_path)]) == FAILED
