"""From official folder trees to datasets: every one of the seven, with what goes wrong in them."""

import collections
import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from data_builders import build, clips, h264
from data_builders.command_line import DONE, FAILED
from data_builders.errors import UserError
from data_builders.face_forensics.builder import METHODS
from data_builders.video_builder import VideoDatasetBuilder
from qad_jax import configs
from qad_jax.training.datasets import open_datasets
from qad_jax.training.input_pipeline import TupleSource
from tests import trees
from tests.commands import call
from tests.conftest import ROOT

FRAMES = 4


@pytest.fixture(autouse=True, scope="module")
def in_this_process():
    """Where a codec could end it; but a process of its own compiles the detector anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VideoDatasetBuilder, "APART", False)
        yield


def read(dataset):
    """All records by split; pictures decoded."""
    found = {}
    for split in dataset.info.splits:
        skip = dict.fromkeys(dataset.qualities, tfds.decode.SkipDecoding())
        found[split] = [
            {
                **{k: v.decode() if isinstance(v, bytes) else v for k, v in record.items()},
                "image": {
                    quality: np.asarray(Image.open(io.BytesIO(data)))
                    for quality, data in record["image"].items()
                },
            }
            for record in dataset.as_data_source(split, decoders={"image": skip})
        ]
    return found


def make(name, root, data_dir, **recipe):
    options = {"frames_per_video": FRAMES, "max_skipped": 0.5, **recipe}
    dataset = build.builder(name, data_dir=data_dir, manual_dir=root, **options)
    build.prepare(dataset)
    return dataset


def check(found):
    """What holds of every dataset."""
    people = collections.defaultdict(set)
    frames = collections.Counter()
    clips = collections.defaultdict(list)
    for split, records in found.items():
        for record in records:
            people[record["identity"]].add(split)
            frames[record["method"], record["video"], int(record["frame"])] += 1
            clips[record["method"], record["video"]].append(record)
            assert record["label"] == (record["method"] != "original")
            x0, y0, x1, y1 = record["box"]
            shapes = {image.shape for image in record["image"].values()}
            assert shapes == {(int(y1 - y0), int(x1 - x0), 3)}
    assert set(frames.values()) == {1}
    for records in clips.values():
        qualities = list(records[0]["image"])
        size = min(r["image"][qualities[0]].shape[0] for r in records)
        best, worst = (
            np.stack([r["image"][q][:size, :size].astype(np.float32) for r in records])
            for q in (qualities[0], qualities[-1])
        )
        distance = np.abs(best[:, None] - worst[None]).mean((2, 3, 4))
        np.testing.assert_array_equal(distance.argmin(0), range(len(records)))
    return people


def names_of(records):
    return {(record["method"], record["video"]) for record in records}


def train_on(dataset, data_dir, folder):
    """A training run of two steps, and its evaluation, by the name of what was built."""
    name = dataset.info.full_name.rpartition("/")[0]
    result = call(
        "--config=hkrawp_resnet",
        f"--workdir={folder / 'run'}",
        f"--config.dataset.name={name}",
        f"--config.dataset.data_dir={data_dir}",
        "--config.model.name=resnet_least",
        "--config.image_size=32",
        "--config.batch_size=8",
        "--config.num_steps=2",
        "--config.head_only_epochs=0",
        "--config.awp.warmup_epochs=0",
    )
    assert result.status == 0, result.err
    metrics = json.loads((folder / "run/evaluation/test/metrics.json").read_text())
    assert metrics["dataset"] == dataset.info.full_name
    assert set(metrics["qualities"]) == {"raw", "c23", "c40"}


@pytest.fixture(scope="module")
def face_forensics(tmp_path_factory):
    root = tmp_path_factory.mktemp("ffpp")
    return root, trees.face_forensics(root, methods=tuple(METHODS.values()), pairs=(3, 1, 1))


@pytest.fixture(scope="module")
def whole(face_forensics, tmp_path_factory):
    """An ordinary build, to which others are compared."""
    root, _ = face_forensics
    return make("face_forensics/face_shifter", root, tmp_path_factory.mktemp("whole"))


def arguments(root, data_dir, *, part="face_shifter", max_skipped=0.5):
    return [
        *(f"face_forensics/{part}", "--manual_dir", str(root), "--data_dir", str(data_dir)),
        *("--frames_per_video", str(FRAMES), "--max_skipped", str(max_skipped)),
    ]


def command_for(root, data_dir):
    return [sys.executable, "-m", "data_builders.build", *arguments(root, data_dir)]


@pytest.mark.parametrize("part", METHODS)
def test_face_forensics(part, face_forensics, whole, tmp_path):
    root, tree = face_forensics
    # Three parts differ from 'face_shifter' in the name of a folder alone: a frame is enough.
    frames = FRAMES if part in ("neural_textures", "face_shifter") else 1
    if part == "face_shifter":
        dataset = whole
    else:
        dataset = make(f"face_forensics/{part}", root, tmp_path, frames_per_video=frames)
    found = read(dataset)
    people = check(found)
    assert all(len(splits) == 1 for splits in people.values())
    spoilt = {tree["truncated"], tree["faceless"], tree["absent"]}
    for split, records in found.items():
        kinds = tree["splits"][split]
        listed = {(kind, n) for kind in ("original", METHODS[part]) for n in kinds[kind]}
        assert names_of(records) == listed - spoilt
    metadata = dataset.info.metadata
    if METHODS[part] == tree["truncated"][0]:
        reasons = " ".join(metadata["skipped"])
        assert len(metadata["skipped"]) == 2
        assert f"{tree['truncated'][1]}.mp4: cannot be decoded" in reasons
        assert f"{tree['faceless'][1]}.mp4: no face was found" in reasons
        assert "/".join(tree["absent"]) in metadata["missing"]
        assert metadata["reencoded"]["c40"] == 1
    else:
        assert metadata["skipped"] == []
    shorter = [r for r in found["train"] if (r["method"], r["video"]) == tree["shorter"]]
    # Of the four frames of the shorter file; the others have six.
    assert sorted(int(r["frame"]) for r in shorter) == clips.spread(4, frames)
    assert not dataset.staging.exists()
    if part == "neural_textures":
        train_on(dataset, tmp_path, tmp_path)
    else:  # the records are of one kind: what training opens by this name is this dataset
        config = configs.load("hkrawp_resnet")
        config.dataset.name = dataset.info.full_name.rpartition("/")[0]
        config.dataset.data_dir = str(dataset.data_dir_root)
        (opened,) = open_datasets(config, may_build=False)
        assert opened.info.full_name == dataset.info.full_name
        source = TupleSource(opened, "train", config.qualities, 32)
        assert len(source) == len(found["train"])
        assert source[0]["image"].shape == (3, 32, 32, 3)


def test_celeb_df_v2(tmp_path):
    tree = trees.celeb_df_v2(tmp_path / "celeb")
    dataset = make("celeb_df_v2", tmp_path / "celeb", tmp_path / "data", frames_per_video=2)
    found = read(dataset)
    people = check(found)
    assert not any({"train", "validation"} <= splits for splits in people.values())
    reals = {record["video"] for record in found["test"] if record["label"] == 0}
    fakes = {record["video"] for record in found["test"] if record["label"] == 1}
    expected = {pair for pair in tree["test"] if pair not in (tree["faceless"], tree["absent"])}
    assert fakes == {stem for kind, stem in expected if kind == "Celeb-synthesis"}
    why = "\n".join(dataset.info.metadata["skipped"])
    assert reals == {f"{kind}_{stem}" for kind, stem in expected if kind != "Celeb-synthesis"}, why
    assert dataset.info.metadata["reencoded"]["c23"] > 10
    assert any(
        "truncated" in r or "cannot be decoded" in r for r in dataset.info.metadata["skipped"]
    )
    train_on(dataset, tmp_path / "data", tmp_path)


def test_ffiw10k_looks_at_the_masked_face(tmp_path):
    tree = trees.ffiw10k(tmp_path / "ffiw")
    dataset = make("ffiw10k", tmp_path / "ffiw", tmp_path / "data", frames_per_video=2)
    found = read(dataset)
    people = check(found)
    assert all(len(splits) == 1 for splits in people.values())
    left, top, right, bottom = tree["small"]
    two_faces = [r for r in found["train"] if r["video"] == tree["two_faces"]]
    assert {r["label"] for r in two_faces} == {0, 1}
    for record in two_faces:
        x, y = (record["box"][:2] + record["box"][2:]) / 2
        assert left < x < right
        assert top < y < bottom
    for split, records in found.items():
        gone = {("FFIW", tree["truncated"]), ("FFIW", tree["absent"])}
        gone |= {(kind, tree["faceless"]) for kind in ("original", "FFIW")}
        listed = {(k, stem) for k in ("original", "FFIW") for stem in tree["splits"][split]}
        assert names_of(records) == listed - gone, "\n".join(dataset.info.metadata["skipped"])
    train_on(dataset, tmp_path / "data", tmp_path)


def test_a_quality_that_is_on_disk_is_the_file_and_not_made_anew(face_forensics, tmp_path):
    root, tree = face_forensics
    name = tree["splits"]["test"]["original"][0]
    dataset = make("face_forensics/face_swap", root, tmp_path, qualities=("c23", "c30", "random"))
    records = [r for r in read(dataset)["test"] if r["video"] == name]
    path = trees.face_forensics_path(root, "original", name, "c23")
    frames = list(h264.decode(path))
    for record in records:
        x0, y0, x1, y1 = record["box"].astype(int)
        stored = record["image"]["c23"]
        np.testing.assert_array_equal(stored, frames[int(record["frame"])][y0:y1, x0:x1])
    assert "face_swap-" in dataset.data_dir  # another recipe, another folder


def test_too_many_bad_videos_fail_the_build(face_forensics, tmp_path):
    root, _ = face_forensics
    with pytest.raises(UserError, match=r"2 of 19 videos are unusable, more than --max_skipped 0"):
        make("face_forensics/neural_textures", root, tmp_path, max_skipped=0.0)


def test_killed_and_started_again_it_equals_an_uninterrupted_build(
    face_forensics, whole, tmp_path, monkeypatch
):
    """The second build makes the clips that the first has not, and no other."""
    root, tree = face_forensics
    command = command_for(root, tmp_path / "killed")
    started = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "killed").rglob("*.npz"))) < 3:
        assert started.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    started.send_signal(signal.SIGKILL)
    started.wait()
    done = len(list((tmp_path / "killed").rglob("*.npz")))
    listed = sum(
        len(kinds[kind])
        for kinds in tree["splits"].values()
        for kind in ("original", "FaceShifter")
    )
    assert 3 <= done < listed
    made_anew, read_clip = [], clips.read
    monkeypatch.setattr(clips, "read", lambda source: made_anew.append(source) or read_clip(source))
    killed = make("face_forensics/face_shifter", root, tmp_path / "killed")
    assert len(made_anew) == listed - done
    resumed = tfds.builder_from_directory(killed.data_dir).info.metadata
    assert resumed["digest"] == dict(whole.info.metadata["digest"])
    assert not killed.staging.exists()
    assert os.listdir(killed.data_path.parent) == ["1.0.0"]


def test_a_beam_pipeline_makes_the_same_records(face_forensics, whole, tmp_path):
    root, _ = face_forensics
    command = [*command_for(root, tmp_path), "--beam", "--", "--direct_num_workers=2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == DONE, done.stderr
    assert "clip/s" in done.stderr
    name = whole.info.full_name.rpartition("/")[0]
    piped = build.builder(name, data_dir=tmp_path)
    assert piped.is_prepared()
    assert dict(piped.info.metadata["digest"]) == dict(whole.info.metadata["digest"])
    assert piped.info.metadata["recipe"] == whole.info.metadata["recipe"]
    for split in whole.info.splits:
        files = [
            sorted(built.data_path.glob(f"*-{split}.array_record*")) for built in (whole, piped)
        ]
        assert [path.name for path in files[0]] == [path.name for path in files[1]]
        for ours, theirs in zip(*files, strict=True):
            assert ours.read_bytes() == theirs.read_bytes()
    assert os.listdir(piped.data_path.parent) == ["1.0.0"]
    assert not list(piped.data_path.glob("clips-*"))


def test_a_beam_pipeline_names_what_it_could_not_use(face_forensics, tmp_path):
    root, tree = face_forensics
    given = arguments(root, tmp_path, part="neural_textures", max_skipped=0)  # has spoilt videos
    options = ("--beam", "--", "--direct_running_mode=in_memory")
    done = call(*given, *options, main=build.main)
    assert done.status == FAILED, done.err
    assert "error: 2 of 19 videos are unusable" in done.err
    assert f"{tree['truncated'][1]}.mp4" in done.err
    assert not list(tmp_path.glob("**/dataset_info.json"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--direct_num_workers=many"], "argument --direct_num_workers: invalid int value"),
        (["--runner=NoRunner"], "Unexpected pipeline runner: NoRunner"),
    ],
)
def test_bad_pipeline_options_are_one_line(options, message, face_forensics, tmp_path):
    given = arguments(face_forensics[0], tmp_path)
    done = call(*given, "--beam", "--", *options, main=build.main)
    assert done.status == FAILED
    assert done.err.startswith(f"error: --beam: pipeline options: {message}")
    assert done.err.count("\n") == 1


def test_the_doctor_looks_and_builds_nothing(face_forensics, tmp_path, capsys):
    root, tree = face_forensics
    arguments = ["face_forensics/neural_textures", "--manual_dir", str(root)]
    arguments += ["--data_dir", str(tmp_path / "data"), "--doctor"]
    assert build.main(arguments) == DONE
    out = capsys.readouterr().out
    assert "unreadable: 1" in out
    assert f"{tree['truncated'][1]}.mp4" in out
    assert "missing: " in out
    assert "to be re-encoded: 1 videos to c40" in out
    assert "note: NeuralTextures: 9 of 9 videos have no mask, their largest face is taken" in out
    assert re.search(r"in a sample of 16 of 18 videos:\n  [1-9]\d* of \d+ \(\d+ %\) frames", out)
    assert not (tmp_path / "data").exists()
    assert build.main(["celeb_df_v2", "--manual_dir", str(tmp_path / "none"), "--doctor"]) == 1
    captured = capsys.readouterr()
    assert "there is no such folder" in captured.err
    assert "Celeb-synthesis/idA_idB_NNNN.mp4" in captured.out  # the tree that was expected


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--qualities", "raw,c99"], "'c99' is not a quality"),
        (["--qualities", "raw,raw"], "must be different"),
        (["--frames_per_video", "0"], "must be at least 1"),
        (["--max_skipped=-0.1"], "--max_skipped: is -0.1, must be from 0 to 1"),
        (["--max_skipped=nan"], "--max_skipped: is nan, must be from 0 to 1"),
        (["--max_skipped=10"], "--max_skipped: is 10, must be from 0 to 1"),
        (["--faces", "dlib"], "no source of faces 'dlib'"),
        ([], "--manual_dir: name the folder"),
    ],
)
def test_mistakes_are_one_line(option, message, tmp_path, capsys):
    assert build.main(["celeb_df_v2", "--data_dir", str(tmp_path / "data"), *option]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    assert message in err
    assert not (tmp_path / "data").exists()


def test_frames_are_spread_evenly():
    assert clips.spread(100, 4) == [12, 37, 62, 87]
    assert clips.spread(3, 4) == [0, 1, 2]
    assert len(set(clips.spread(33, 32))) == 32


def test_a_file_that_was_replaced_is_read_again(tmp_path):
    """Also where the new one is as large as the old one: its clip is kept for a build to go on."""
    trees.celeb_df_v2(tmp_path / "celeb")
    dataset = build.builder(
        "celeb_df_v2", data_dir=tmp_path, manual_dir=tmp_path / "celeb", frames_per_video=1
    )
    reader = dataset.clip_reader()
    source = dataset.clip_sources()["test"][0]
    first, kept = (reader(source).examples[0][1]["image"]["raw"] for _ in range(2))
    assert kept == first
    path = source.files.best
    data = path.read_bytes()
    other = trees.rendered("1" if data == trees.rendered("2", 6) else "2", 6)
    longer = max(len(data), len(other))
    for content in (data, other):  # behind its boxes, a file may have zeros
        path.write_bytes(content.ljust(longer, b"\0"))
        again = reader(source).examples[0][1]["image"]["raw"]
    assert path.stat().st_size == longer
    assert again != first
