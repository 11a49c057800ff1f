"""Stopped at any instant and started again, a training ends as one that was never stopped."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import jax
import pytest

from data_builders.errors import UserError
from data_builders.progress import Progress
from qad_jax.runs import resumption
from qad_jax.training import preemption
from tests.commands import call, tiny
from tests.conftest import ROOT
from tests.stopping import DEADLINE_S, assert_the_same, half_written, newest, rows, wait

EPOCHS, EPOCH = 6, 5
STEPS = EPOCHS * EPOCH


def arguments(workdir, manifest, data_dir):
    return [
        *tiny("hkrawp_resnet", workdir, manifest, data_dir),
        f"--config.num_epochs={EPOCHS}",
        "--config.log_every_steps=4",
        "--config.checkpoint_every_steps=2",
        "--config.head_only_epochs=0",
        "--config.awp.warmup_epochs=0",
        "--config.qualities=raw,c40",
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, manifest, data_dir):
    """The folder of a run that was never stopped."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    result = call(*arguments(workdir, manifest, data_dir))
    assert result.status == 0, result.err
    assert len((workdir / "evaluation/test/scores.csv").read_text().splitlines()) == 1 + 14 * 2
    return workdir


def halt_while_saving(process, workdir):
    """Stands it still in the midst of a save, which may end between a look and a signal."""
    halted = False
    while not halted:
        wait(process, lambda: half_written(workdir))
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        halted = bool(half_written(workdir))
        if not halted:
            process.send_signal(signal.SIGCONT)


def test_killed_at_any_instant_it_ends_with_the_same_bits(whole, tmp_path, manifest, data_dir):
    workdir = tmp_path / "killed"
    command = [sys.executable, "-m", "qad_jax.main", *arguments(workdir, manifest, data_dir)]
    rng = random.Random(2)
    for moment in ("saving", "any", "saving"):
        start = newest(workdir)
        with open(os.devnull, "w") as null:
            process = subprocess.Popen(command, cwd=ROOT, stdout=null, stderr=null)
            try:
                wait(process, lambda start=start: newest(workdir) > start)
                if moment == "saving":
                    halt_while_saving(process, workdir)
                else:
                    time.sleep(rng.uniform(0, 0.1))
                process.kill()
                assert process.wait(DEADLINE_S) == -signal.SIGKILL
            finally:
                process.kill()
                process.wait()
        assert start < newest(workdir) < STEPS

    subprocess.run(command, cwd=ROOT, check=True, timeout=DEADLINE_S, capture_output=True)
    assert_the_same(whole, workdir)


def test_sigterm_between_two_lines_of_the_log(whole, tmp_path, manifest, data_dir, monkeypatch):
    workdir = tmp_path / "terminated"
    before = signal.getsignal(signal.SIGTERM)
    advance = Progress.advance

    def advance_and_terminate(self, count=1):
        advance(self, count)
        if self.done == 7:  # saved and logged at 6, to be logged at 8
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Progress, "advance", advance_and_terminate)
    stopped = call(*arguments(workdir, manifest, data_dir))
    assert stopped.status == 143
    message = "SIGTERM: stopped and saved at step 7; the same command goes on from there"
    assert message in stopped.err.splitlines()
    assert signal.getsignal(signal.SIGTERM) is before
    assert newest(workdir) == 7
    assert rows(workdir)[-1]["step"] == 6
    monkeypatch.undo()

    finished = call(*arguments(workdir, manifest, data_dir))
    assert finished.status == 0, finished.err
    assert "note: step 7" not in finished.err  # nothing was changed
    assert_the_same(whole, workdir)


def test_sigterm_is_left_alone_outside_of_the_main_thread():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def watch():
        with preemption.Watch() as sigterm:
            seen.extend([sigterm.asked, signal.getsignal(signal.SIGTERM)])

    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()
    assert seen == [False, before]


THERE = {
    "dataset": "faces/1.0.0",
    "digest": {"train": "ab", "test": "cd"},
    "versions": {"jax": "0.9.0", "grain": "0.2.18"},
    "commit": "1234",
    "devices": "8 x H200",
    "batches": 30,
}


def test_other_code_libraries_and_devices_are_named_in_one_line(tmp_path, capsys):
    here = {
        **THERE,
        "versions": {"jax": "0.10.2", "grain": "0.2.18", "optax": "0.2.8"},
        "commit": "5678",
        "devices": "4 x H200",
    }
    resumption.check(THERE, here, tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "note: step 30 was saved with jax 0.9.0, now 0.10.2; commit 1234, now 5678; "
        "devices 8 x H200, now 4 x H200: what follows may differ in the last bits from an "
        "uninterrupted run"
    )
    resumption.check(THERE, THERE, tmp_path)
    resumption.check({"dataset": "faces/1.0.0", "batches": 30}, here, tmp_path)  # of before
    assert not capsys.readouterr().err


def test_other_records_are_refused(tmp_path):
    here = {**THERE, "digest": {"train": "ab", "test": "ce", "validation": "ef"}}
    with pytest.raises(UserError, match=r"holds a run on faces/1.0.0 with .*\(digest of test\)"):
        resumption.check(THERE, here, tmp_path)
    resumption.check(THERE, {**THERE, "digest": {}}, tmp_path)


def test_circumstances_have_the_digest_and_are_json(dataset):
    found = resumption.circumstances([dataset])
    assert found["digest"] == dataset.info.metadata["digest"]
    assert set(found["digest"]) == {"train", "validation", "test"}
    assert found["devices"] == "8 x cpu"
    assert found["versions"]["jax"] == jax.__version__
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("workdir", ["/proc/nowhere/run", "/proc/nowhere"])
def test_a_folder_that_cannot_be_written_is_named_before_a_dataset_is_built(
    workdir, tmp_path, manifest
):
    data_dir = tmp_path / "tfds"
    result = call(*arguments(workdir, manifest, data_dir))
    assert result.status == 1
    (line,) = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: --workdir: cannot write to {workdir}: ")
    assert not data_dir.exists()


def test_the_folder_is_probed_without_a_trace(tmp_path):
    from qad_jax.runs import configuration

    workdir = tmp_path / "a" / "b"
    configuration.check_writable(workdir)
    assert list(tmp_path.iterdir()) == []
    workdir.mkdir(parents=True)
    configuration.check_writable(workdir)
    assert list(workdir.iterdir()) == []


def test_a_folder_in_which_checkpoints_would_be_lost_is_refused(tmp_path, manifest):
    workdir = tmp_path / "a [1]" / "run"
    result = call(*arguments(workdir, manifest, tmp_path / "tfds"))
    assert result.status == 1
    assert f"error: {workdir}: checkpoints cannot be in a folder with [" in result.err
    assert list(tmp_path.iterdir()) == []
