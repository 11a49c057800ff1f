"""What single benchmarks count, choose and leave out."""

import asyncio
import importlib
import json

import httpx
import numpy as np
import pytest

from data_builders.clips import VideoFiles
from data_builders.errors import UserError
from data_builders.self_blended.builder import SelfBlended
from data_builders.self_blended.stills import NoFaceError
from qad_jax.detection.pixel_features import FEATURES
from qad_jax.training.sampling import Moment, ordered
from tests.commands import call
from tests.test_benchmarks import script

pytestmark = pytest.mark.checkout


def ended(monkeypatch, *answers):
    """What `serve_load.py` makes of the answers of a service, the last of them again and again."""
    load = script("serve_load")
    monkeypatch.setattr(load, "_PATIENCE", 0.05)
    monkeypatch.setattr(load, "_POLL", 0.01)
    left = list(answers)

    def handle(request):
        status, content = left.pop(0) if len(left) > 1 else left[0]
        return httpx.Response(status, json=content)

    async def ask():
        transport = httpx.MockTransport(handle)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await load.ended(client, "/v1/jobs/a")

    return asyncio.run(ask())


def test_a_job_is_lost_that_does_not_end_or_is_gone(monkeypatch):
    waits = 200, {"state": "queued", "verdict": None, "reason": ""}
    done = 200, {"state": "done", "verdict": "real", "reason": ""}
    failed = 200, {"state": "failed", "verdict": None, "reason": "it broke"}
    assert ended(monkeypatch, waits, done) == ("done", "real")
    assert ended(monkeypatch, waits, failed) == ("failed", "it broke")
    assert ended(monkeypatch, waits) == ("lost", "it does not end")
    assert ended(monkeypatch, waits, (404, {})) == ("lost", "it is not there")
    with pytest.raises(httpx.HTTPStatusError):
        ended(monkeypatch, (500, {}))


def test_only_jobs_with_a_verdict_have_a_time(monkeypatch):
    load = script("serve_load")

    async def send(client, file):
        return file

    async def said(client, file):
        return {"1": ("failed", "it broke"), "2": ("lost", "it does not end")}.get(
            file, ("done", "real")
        )

    monkeypatch.setattr(load, "send", send)
    monkeypatch.setattr(load, "ended", said)
    ends, words = asyncio.run(load.all_at_once("http://x", list("01234"), 2))
    assert sorted(client for *_, client in ends) == [0, 0, 1]
    assert sorted(words) == [
        ("done", "real"),
        ("done", "real"),
        ("done", "real"),
        ("failed", "it broke"),
        ("lost", "it does not end"),
    ]


def test_a_thread_that_ends_while_memory_is_read_is_passed_over(monkeypatch, tmp_path):
    load = script("serve_load")
    for thread, children in (("1", "7 8 "), ("2", None), ("3", "9 ")):
        folder = tmp_path / "proc/1/task" / thread
        folder.mkdir(parents=True)
        if children:
            (folder / "children").write_text(children)
    monkeypatch.setattr(load, "Path", lambda path: tmp_path / path.lstrip("/"))
    monkeypatch.setattr(load, "resident", lambda pid: pid * 10**6)
    assert load.memory(1) == (1, 7 + 8 + 9)


def test_bounds_are_those_of_the_card_that_is_named():
    bounds = importlib.import_module("benchmarks.gpu_step").bounds
    assert bounds(9.33e12, 170.1e9, "NVIDIA H100 80GB HBM3") == [
        "arithmetic: 9.33 TFLOP, at least 9.4 ms on NVIDIA H100 80GB HBM3",
        "traffic: 170.1 GB, at least 50.8 ms on NVIDIA H100 80GB HBM3",
    ]
    assert bounds(9.33e12, 170.1e9, "NVIDIA H200")[1].endswith("at least 35.4 ms on NVIDIA H200")
    assert bounds(9.33e12, 170.1e9, "cpu") == ["arithmetic: 9.33 TFLOP", "traffic: 170.1 GB"]


def test_float32_is_multiplied_in_full_precision_too(tmp_path):
    file = tmp_path / "out.json"
    words = ["--megabytes", 1, "--side", 8, "--rounds", 1, "--json", file]
    assert call(*words, main=script("gpu_ceilings").main).status == 0
    assert [row["row"] for row in json.loads(file.read_text())["rows"]] == [
        "memory, read and written",
        "product, bfloat16",
        "product, float32 (TF32 where XLA takes it)",
        "product, float32 at precision highest",
    ]


def test_the_first_step_is_timed_with_the_cache_of_commands(monkeypatch, tmp_path):
    start_up, measured = script("start_up"), script("measured")
    (tmp_path / "speed.py").write_text(
        "import os\n"
        "class cpu:\n"
        "    tune = staticmethod(lambda: None)\n"
        "class Ours:\n"
        "    def __init__(self, *given): pass\n"
        "    def seconds(self, what):\n"
        "        return os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS']\n"
    )
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    monkeypatch.setattr(start_up, "HERE", tmp_path)
    results = measured.Measured("start_up")
    start_up.step("resnet50", 4, results)
    assert {row["median"] for row in results.rows if "process" not in row["column"]} == {0.1}


class Fakes:
    """Two reals, a fake of each, and one whose original is not there."""

    def __len__(self):
        return 5

    def labels_and_identities(self):
        return np.int32([0, 0, 1, 1, 1]), ["a", "b", "a", "b", "c"]

    def moments(self):
        return [Moment(video, 0, (0.0, 0.0, 1.0, 1.0)) for video in ("a", "b", "a", "b_a", "c")]


def test_a_fake_without_an_original_is_in_no_pair():
    order = ordered(Fakes(), "twins", 0)
    assert script("localisation").pairs_of(order, 3) == 2


def test_the_largest_face_is_not_the_one_that_is_seen_longest():
    small, large = ([np.zeros((side, side, 3), np.uint8)] * n for side, n in ((50, 12), (90, 3)))
    assert script("bent_faces").largest([small, large]) is large
    assert script("bent_faces").largest([large, small]) is large


def test_draws_that_have_no_interval_make_no_difference_clear():
    ranks, ablation = script("ranks"), script("detector_ablation")
    none = np.full(100, np.nan)
    cell = ranks.Cell(auc=0.8, drawn=none, seeds=[0.01, 0.02], differences=none)
    assert not cell.clear
    assert ablation._text(ablation.BASE, cell) == "80.0 (no interval)"
    assert ablation._text(ablation.START, cell) == "+1.5"
    known = cell._replace(drawn=np.linspace(0.7, 0.8, 101))
    assert ablation._text(ablation.BASE, known) == "80.0 (70.2 to 79.8)"


def test_a_run_that_was_resumed_has_no_seconds(monkeypatch, tmp_path):
    module = script("detector_ablation")
    ablation = module.Ablation(tmp_path, None)
    monkeypatch.setattr(module.loop, "train", lambda *given: None)
    for name in ("_start", "_config", "_trained_on"):
        monkeypatch.setattr(ablation, name, lambda *given, **more: None)
    monkeypatch.setattr(ablation, "_test", lambda *given: {})
    (tmp_path / "runs/00-0/checkpoints/5").mkdir(parents=True)
    ablation.run(module.START, 0)
    ablation.run(module.BASE, 0)
    assert ablation.runs == [
        {"row": module.START, "seed": 0, "seconds": None},
        {"row": module.BASE, "seed": 0, "seconds": 0},
    ]
    none = {(part, "raw"): {} for part in module.PARTS}
    end = "1 of 3 seeds, 0.0 hours of training in the 1 that were not interrupted.\n"
    assert module.table(ablation.runs, none).endswith(f"\n2 runs with {end}")
    whole = [{**run, "seconds": 3600} for run in ablation.runs]
    assert module.table(whole, none).endswith("1 of 3 seeds, 2.0 hours of training.\n")
    # A process was killed between the two: the run is known, and its checkpoints are there.
    (tmp_path / "runs/01-0/checkpoints/5").mkdir(parents=True)
    ablation.run(module.BASE, 0)
    assert len(ablation.runs) == 2
    assert not list((tmp_path / "runs").iterdir())


def test_files_without_a_face_are_left_out_and_counted(capsys, tmp_path):
    used = script("photographs").used
    files = [
        VideoFiles("original", name, name, "real", {"raw": tmp_path / f"{name}.png"})
        for name in "abcd"
    ]

    def make(one):
        if one.video in "bc":
            raise NoFaceError(f"{one.best}: no face was found")
        return one.video.upper()

    assert [(one.video, made) for one, made in used(files, make, "judged")] == [
        ("a", "A"),
        ("d", "D"),
    ]
    reason = f"{tmp_path / 'b.png'}: no face was found"
    told = capsys.readouterr().err.splitlines()
    assert told[-1] == f"left out: 2 of 4 files; the first: {reason}"
    with pytest.raises(UserError, match="none of 2 files can be judged; the first: /"):
        list(used(files[1:3], make, "judged"))
    with pytest.raises(UserError, match="none of 0 files can be judged"):
        list(used([], make, "judged"))

    def fails(one):
        raise UserError("the weights are damaged")  # no fault of the file

    with pytest.raises(UserError, match="the weights"):
        list(used(files, fails, "judged"))


def test_clips_are_encoded_again_only_of_files_that_were_left_out(monkeypatch, capsys, tmp_path):
    quality = script("quality")
    faces = tmp_path / "faces"
    faces.mkdir()
    for number in range(40):
        (faces / f"{number}.png").touch()
    without = SelfBlended.find(faces).splits["train"][0].best
    asked = []

    def rows(path, *, tested):
        asked.append(path)
        if path == without:
            raise NoFaceError(f"{path}: no face was found")
        yield quality.Row("raw", "", 10.0, np.zeros((1, FEATURES)), None)

    monkeypatch.setattr(quality.quality_clips, "rows", rows)
    made = quality.collect(faces, tmp_path / "clips")
    assert sum(map(len, made.values())) == 39
    assert len(asked) == 40
    assert "left out: 1 of 40 files; the first: " in capsys.readouterr().err
    assert {split: len(of) for split, of in made.items()} == {
        split: len(of) for split, of in quality.collect(faces, tmp_path / "clips").items()
    }
    assert asked[40:] == [without]
