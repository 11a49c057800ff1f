"""Two processes against one: the same training, and each reads what the other has saved."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest

from data_builders.errors import UserError
from qad_jax.runs import hosts
from qad_jax.training.input_pipeline import TrainBatches, TupleSource, frames
from tests.commands import call, tiny
from tests.conftest import ROOT

STEPS, EPOCH, LIMIT_S = 10, 5, 240


def free_port():
    """A port below those that the system gives to others who ask for any."""
    first_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(first_given // 2, first_given)
        with socket.socket() as server, contextlib.suppress(OSError):
            server.bind(("localhost", port))
            return port


def start(processes, devices, arguments):
    """Starts the command, made smooth, for each process; one process needs no coordinator."""
    flags = re.sub(r"device_count=\d+", f"device_count={devices}", os.environ["XLA_FLAGS"])
    together = [f"--coordinator=localhost:{free_port()}", f"--num_processes={processes}"]
    return [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.smooth", *arguments),
                *([*together, f"--process_id={index}"] if processes > 1 else []),
            ],
            env={**os.environ, "XLA_FLAGS": flags},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(processes)
    ]


def finish(started, limit=LIMIT_S):
    """Waits for all; none outlives the limit."""
    until = time.monotonic() + limit
    try:
        outputs = [one.communicate(timeout=max(1, until - time.monotonic())) for one in started]
    finally:
        for one in started:
            one.kill()
    return [(one.returncode, out, err) for one, (out, err) in zip(started, outputs, strict=True)]


@pytest.fixture(scope="module")
def arguments(manifest, data_dir, dataset):
    """Two epochs, HSIC and AWP on all the time."""

    def of(workdir):
        return [
            *tiny("hkrawp_resnet", workdir, manifest, data_dir),
            f"--config.num_steps={STEPS}",
            "--config.head_only_epochs=0",
            "--config.awp.warmup_epochs=0",
            # Adam's first steps turn the sign of a rounding error into a whole step: with large
            # ones even two runs of the same processes part after a dozen.
            "--config.learning_rate=2e-5",
            "--config.log_every_steps=1",
            "--config.checkpoint_every_steps=0",
        ]

    return of


@pytest.fixture(scope="module")
def runs(tmp_path_factory, arguments):
    """The folders of the runs of one process and of two, and what the two printed."""
    folder = tmp_path_factory.mktemp("hosts")
    one, two = folder / "one", folder / "two"
    results = {}
    for workdir, processes, devices in ((one, 1, 4), (two, 2, 2)):
        results[workdir] = finish(start(processes, devices, arguments(workdir)))
        for status, _, err in results[workdir]:
            assert status == 0, err
    return one, two, results[two]


def logged(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_train_as_one(runs):
    one, two, _ = runs
    lines = {folder: logged(folder) for folder in (one, two)}
    assert [line["step"] for line in lines[one] if line["split"] == "train"] == [
        *range(1, STEPS + 1)
    ]
    for a, b in zip(lines[one], lines[two], strict=True):
        assert (a["step"], a["split"]) == (b["step"], b["split"])
        for name in a.keys() - {"step", "split", "tuples_per_second"}:
            assert b[name] == pytest.approx(a[name], rel=1e-5, abs=1e-5), (a["step"], name)
    assert all(abs(line["hsic"]) > 1e-3 for line in lines[one] if line["split"] == "train")


def test_only_the_first_process_speaks_and_writes(runs):
    _, two, ((_, out, err), (_, other_out, other_err)) = runs
    assert "mean" in out
    assert f"training: {STEPS}/{STEPS}" in err
    # Threads of gloo print there, at times into each other's lines.
    assert not [word for word in ("quality", "frame", "mean", "report") if word in other_out]
    assert "training" not in other_err
    assert len(list((two / "tensorboard").glob("events*"))) == 1
    assert len(logged(two)) == STEPS + STEPS // EPOCH  # a validation an epoch


def assert_same_scores(folders, split, count, tolerance):
    there, here = (
        (folder / f"evaluation/{split}/scores.csv").read_text().splitlines() for folder in folders
    )
    assert len(there) == 1 + count
    spread = np.ptp([float(line.rpartition(",")[2]) for line in there[1:]])
    assert spread > 100 * tolerance  # in another order they would not be the same
    for a, b in zip(there[1:], here[1:], strict=True):
        assert a.rpartition(",")[0] == b.rpartition(",")[0]
        found, expected = (float(line.rpartition(",")[2]) for line in (b, a))
        assert found == pytest.approx(expected, abs=tolerance)


def test_scores_are_the_same_and_in_the_order_of_the_records(runs):
    one, two, _ = runs
    assert_same_scores((one, two), "test", 14 * 3, tolerance=1e-4)


def test_each_evaluates_what_the_other_has_saved(runs, arguments, tmp_path, monkeypatch):
    """The same weights give all but the last bits, which depend on how many pictures a device has.

    Two processes evaluate a run of one on a split on which that was not evaluated. This process
    evaluates a run of two on the split on which they have evaluated it.
    """
    monkeypatch.setattr(nn, "relu", nn.silu)  # as in tests/smooth.py
    one, together, two = (tmp_path / name for name in ("one", "together", "two"))
    for folder, copy in ((runs[0], one), (runs[0], together), (runs[1], two)):
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("evaluation"))
    evaluate = ["--mode=evaluate", "--config.batch_size=5"]
    validate = [*evaluate, "--split=validation"]
    for status, _, err in finish(start(2, 2, [*arguments(together), *validate])):
        assert status == 0, err
    # In this process, over eight devices.
    assert call(*arguments(one), *validate).status == 0
    assert call(*arguments(two), *evaluate).status == 0
    for split, count, folders in (
        ("validation", 12 * 3, (one, together)),
        ("test", 14 * 3, (runs[1], two)),
    ):
        assert_same_scores(folders, split, count, tolerance=1e-6)
        expected, found = (
            json.loads((f / f"evaluation/{split}/metrics.json").read_text()) for f in folders
        )
        assert found["mean"]["auc"] == pytest.approx(expected["mean"]["auc"], abs=1e-6)
        assert found["qualities"].keys() == expected["qualities"].keys()


def test_a_process_that_dies_ends_the_other(arguments, tmp_path):
    """In the midst of training. Before the first step, 30 seconds pass until gloo gives up."""
    started = start(2, 2, arguments(tmp_path / "run"))
    until = time.monotonic() + LIMIT_S
    log = tmp_path / "run/metrics.jsonl"
    while not (log.exists() and log.read_text()):
        assert time.monotonic() < until
        assert started[0].poll() is None, started[0].communicate()
        time.sleep(0.01)
    started[1].send_signal(signal.SIGKILL)
    (status, _, err), _ = finish(started, hosts.HEARTBEAT_S + 30)
    assert status == 1
    assert err.splitlines()[-1].startswith("error: another process"), err


def wrapped(error):
    try:
        raise TimeoutError("waiting for the save") from error
    except TimeoutError as timeout:
        return timeout


LOST = jax.errors.JaxRuntimeError("UNAVAILABLE: Barrier failed: task 1 is unhealthy")


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (LOST, True),
        (wrapped(LOST), True),  # as orbax does
        (TimeoutError("Barrier timed out"), True),
        (wrapped(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")), False),
        (ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer"), True),
        (ValueError("UNKNOWN: Gloo context initialization failed: DEADLINE_EXCEEDED"), True),
        (wrapped(ValueError("barrier")), False),
    ],
)
def test_an_error_that_another_process_caused(error, lost, monkeypatch):
    assert not hosts.lost_another(error)  # there is no other
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert hosts.lost_another(error) is lost


def test_a_process_that_leaves_others_does_not_wait_for_its_threads():
    """One that saves waits for a process that is gone, until jax aborts."""
    code = (
        "import jax, threading\n"
        "from qad_jax.runs import hosts\n"
        "jax.distributed.is_initialized = lambda: True\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "hosts.abandon(error := SystemExit(3))\n"
        "raise error\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60)
    assert done.returncode == 3


def test_rows_of_all_processes_are_the_batch(dataset):
    source = TupleSource(dataset, "train", ("raw", "c40"), 16)
    whole = TrainBatches(source, 12, seed=3, start=2)
    parts = [TrainBatches(source, 12, seed=3, start=2, rows=slice(i, i + 4)) for i in (0, 4, 8)]
    for _ in range(5):  # over the end of an epoch of three
        expected, found = next(whole), [next(part) for part in parts]
        np.testing.assert_array_equal(expected.images, np.concatenate([b.images for b in found]))
        np.testing.assert_array_equal(expected.labels, np.concatenate([b.labels for b in found]))


def test_every_process_evaluates_as_many_batches(dataset):
    """14 records in batches of 12: the last process's part of the second batch is empty."""
    source = TupleSource(dataset, "test", ("raw", "c40"), 16)
    whole = list(frames(source, 12))
    parts = [list(frames(source, 12, rows=slice(i, i + 4))) for i in (0, 4, 8)]
    assert [len(part) for part in parts] == [2, 2, 2]
    for b, batch in enumerate(whole):
        images = np.concatenate([part[b].images for part in parts])
        np.testing.assert_array_equal(images, batch.images)
        assert [n for part in parts for n in part[b].video] == batch.video
        assert [n for part in parts for n in part[b].frame] == list(batch.frame)


SLURM = {
    "SLURM_JOB_ID": "5000",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "gpu[07-09,12],other3",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "3",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "1",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
}


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, None),
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "1"}, None),
        (SLURM, ("gpu07:62344", 4, 2, [1])),
        ({**SLURM, "CUDA_VISIBLE_DEVICES": "3"}, ("gpu07:62344", 4, 2, None)),
        ({**SLURM, "SLURM_STEP_TASKS_PER_NODE": "1(x4)"}, ("gpu07:62344", 4, 2, None)),
        ({**SLURM, "SLURM_STEP_NODELIST": "a-1,b[2-3]"}, ("a-1:62344", 4, 2, [1])),
        (OPEN_MPI, ("10.96.0.1:62624", 3, 1, None)),
        (
            {**OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "3", "OMPI_MCA_orte_hnp_uri": ""},
            ("", 3, 1, [0]),
        ),
    ],
)
def test_what_clusters_say(env, expected):
    assert hosts._cluster(env) == expected


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({n: v for n, v in SLURM.items() if n != "SLURM_STEP_NODELIST"}, "no SLURM_STEP_NODELIST"),
        ({n: v for n, v in SLURM.items() if n != "SLURM_JOB_ID"}, "has no SLURM_JOB_ID"),
        ({**SLURM, "SLURM_JOB_ID": "x"}, "is wrong: .*'x'"),
        ({**SLURM, "SLURM_STEP_TASKS_PER_NODE": ""}, "is wrong"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "has no OMPI_COMM_WORLD_RANK"),
    ],
)
def test_what_clusters_do_not_say(env, reason):
    with pytest.raises(UserError, match=f"environment of Slurm or Open MPI .*{reason}"):
        hosts._cluster(env)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("localhost:1", None, None), "--num_processes: several processes need"),
        (("localhost:1", 2, None), "--process_id: several processes need"),
        ((None, 2, 0), "--coordinator: several processes need"),
        (("localhost", 2, 0), "--coordinator: 'localhost' is not HOST:PORT"),
        (("localhost:1", 2, 2), "--process_id: 2 of 2 processes"),
    ],
)
def test_flags_that_do_not_fit(given, message):
    with pytest.raises(UserError, match=message):
        hosts.connect(*given)


@pytest.mark.parametrize("index", [0, 1])
def test_nobody_there_is_one_line(index):
    code = (
        "from qad_jax.runs import hosts\n"
        "hosts.CONNECT_S = 2\n"
        f"hosts.connect('localhost:{free_port()}', 2, {index})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: --coordinator: not all of 2 processes")
    assert "stack trace" not in done.stderr
