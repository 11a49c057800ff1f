"""Workers that crash, hang, grow and lie: each costs one job at most."""

import ctypes
import dataclasses
import json
import multiprocessing
import os
import resource
import signal
from types import SimpleNamespace

import pytest

from qad_jax.detection.server import work, workers
from qad_jax.detection.server.problems import Problem
from qad_jax.detection.server.settings import MEGABYTE, Settings
from tests.commands import loaded
from tests.serving import is_there, served, wait
from tests.serving_worker import never_ready


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    settings = Settings(
        port=0, folder=tmp_path_factory.mktemp("serve"), uploads_per_minute=1000, most_seconds=60
    )
    with served(settings) as one:
        yield one


def number(running, line):
    """A number of the metrics."""
    for one in running.client.get("/metrics").text.splitlines():
        if one.startswith(f"{line} "):
            return float(one.rpartition(" ")[2])
    return 0.0


@pytest.mark.parametrize(
    ("word", "reason", "metric"),
    [
        ("die", "ended at once (SIGSEGV)", "crash"),
        ("sleep 600", "more than 1 s of work", "time"),
        ("half", "ended at once (it stopped talking)", "crash"),
        ("raise", "ZeroDivisionError: nobody has thought of this", None),
        ("lie", "its verdict cannot be read: certainly fake is none", None),
        ("link /etc/passwd", "its verdict cannot be read: Too many levels", None),
    ],
)
def test_a_bad_file_costs_one_job(running, monkeypatch, word, reason, metric):
    if metric == "time":
        pool = running.service.pool
        monkeypatch.setattr(pool, "settings", dataclasses.replace(pool.settings, most_seconds=1))
    ends = f'qad_jax_worker_ends_total{{reason="{metric}"}}'
    before = number(running, ends)
    bad = running.send(word).json()["id"]
    good = running.send("fine").json()["id"]
    job = running.until(bad, "failed", "done")
    monkeypatch.undo()  # the good one may take its time
    assert (job["state"], job["verdict"]) == ("failed", None)
    assert reason in job["reason"]
    for of in ("verdict", "page"):
        answer = running.client.get(f"/v1/jobs/{bad}/{of}")
        assert answer.status_code == 409
        assert reason in answer.json()["detail"]
    assert running.until(good, "failed", "done")["verdict"] == "real"
    assert number(running, ends) - before == (metric is not None)


def test_a_worker_that_is_killed_in_mid_job(running, tmp_path):
    """By the system, which has no memory left: the job says so, and the next one runs."""
    job = running.send(f"hang {tmp_path / 'pids'}").json()["id"]
    wait((tmp_path / "pids").exists)
    (worker,) = running.service.pool.pids()
    os.kill(worker, signal.SIGKILL)
    assert "ended at once (SIGKILL)" in running.until(job, "failed")["reason"]
    assert running.judged("fine")["verdict"] == "real"
    assert running.service.pool.pids() != [worker]


def test_a_worker_that_is_killed_while_it_has_nothing_to_do(running):
    """The next file is not to blame."""
    wait(running.service.pool.alive)
    (worker,) = running.service.pool.pids()
    os.kill(worker, signal.SIGKILL)
    assert running.judged("fine")["verdict"] == "real"


def test_a_process_that_cannot_be_made(running, monkeypatch):
    """The system has too many for a moment: the next try makes it."""
    start, tries = multiprocessing.process.BaseProcess.start, []

    def start_later(process):
        tries.append(process)
        if len(tries) < 3:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        start(process)

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", start_later)
    assert running.judged("die")["state"] == "failed"
    assert running.judged("fine")["verdict"] == "real"
    assert len(tries) == 3


def test_a_job_that_is_deleted_while_it_runs(running, tmp_path):
    """Its worker does not listen; the process that it has started ends with it."""
    pids = tmp_path / "pids"
    job = running.send(f"hang {pids}").json()
    wait(lambda: running.until(job["id"], "running")["progress"])
    assert running.until(job["id"], "running")["progress"] == {
        "stage": "reading",
        "done": 0,
        "total": None,
        "remaining_seconds": None,
    }
    wait(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    folder = running.service.jobs.folder.path / job["id"]
    assert folder.is_dir()
    assert running.client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert running.client.get(f"/v1/jobs/{job['id']}").status_code == 404
    wait(lambda: not any(is_there(pid) for pid in pids.read_text().split()))
    wait(lambda: not folder.exists())
    assert running.judged("fine")["verdict"] == "real"


def test_a_job_that_is_deleted_while_it_waits(running):
    first = running.send("sleep 600").json()["id"]
    second = running.send("fine").json()["id"]
    assert running.client.delete(f"/v1/jobs/{second}").status_code == 204
    assert running.client.delete(f"/v1/jobs/{second}").status_code == 404
    assert not (running.service.jobs.folder.path / second).exists()
    assert running.client.delete(f"/v1/jobs/{first}").status_code == 204


def test_a_result_that_is_deleted_while_it_is_read(running):
    job = running.judged("fine")["id"]
    with pytest.raises(Problem) as refused:
        running.service.result(job, lambda _: None)
    assert refused.value.status == 404


def test_a_worker_that_grows(tmp_path):
    most = 600 * MEGABYTE
    with served(Settings(port=0, folder=tmp_path, most_memory=most)) as running:
        assert running.judged("fine")["verdict"] == "real"
        (worker,) = running.service.pool.pids()
        assert 10 * MEGABYTE < work.resident(worker) < most
        assert "more than 600 MB of memory" in running.judged("grow")["reason"]
        assert running.judged("fine")["verdict"] == "real"


def test_no_worker_can_start(tmp_path):
    settings = Settings(port=0, folder=tmp_path)
    with served(settings, never_ready) as running:
        pool = running.service.pool
        wait(lambda: pool.broken)
        assert pool.broken == "no worker can start: status 7"
        answer = running.client.get("/healthz")
        assert (answer.status_code, answer.json()["status"]) == (503, "broken")


@pytest.mark.parametrize("error", [ValueError("min_face is 5"), TypeError("min_face is a text")])
def test_a_model_that_cannot_compute_is_told_once(monkeypatch, error):
    """Not by three processes with a traceback each."""
    said = []
    connection = SimpleNamespace(send_bytes=lambda line: said.append(json.loads(line)))

    def faces(images):
        raise error

    monkeypatch.setattr(work, "prepare", lambda: None)
    detector = SimpleNamespace(scores=len, faces=faces)
    monkeypatch.setattr(work, "load", lambda model, frames: detector)
    work.serve(connection, None, 8)
    assert said == [{"broken": f"{type(error).__name__}: {error}"}]


def test_a_bound_of_the_system_is_left_as_it_is(monkeypatch):
    """Such as `ulimit -f`, which nobody but root may raise."""
    system, ours = {resource.RLIMIT_FSIZE: 1 << 20, resource.RLIMIT_CORE: -1}, {}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (0, system[kind]))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: ours.update({kind: pair}))
    for module, name in ((os, "setsid"), (signal, "signal"), (ctypes, "CDLL")):
        monkeypatch.setattr(module, name, lambda *_: SimpleNamespace(prctl=lambda *_: None))
    work.prepare()
    assert ours == {resource.RLIMIT_FSIZE: (1 << 20,) * 2, resource.RLIMIT_CORE: (0, 0)}


def test_a_client_is_not_told_where_files_are(running, monkeypatch):
    monkeypatch.setattr(workers, "_LARGEST_PAGE", 3)
    lost = "its verdict cannot be read: page.html: is no plain file of at most 3 bytes"
    assert running.judged("fine")["reason"] == lost
    assert running.judged("disk")["reason"] == "page.html: No space left on device"


def test_progress_by_hand():
    """40 of 100 frames in 2 s: the other 60 take 3 s. What comes too soon is not told."""
    now, told = [10.0], []
    stage = work.Stage(lambda **said: told.append(said), "reading", clock=lambda: now[0])
    stage(1, 100)
    now[0] = 12.0
    stage(40, 100)
    now[0] = 12.1
    stage(42, 100)
    now[0] = 14.0
    stage(100, 100)
    assert told == [
        {"stage": "reading", "done": 40, "total": 100, "remaining_seconds": 3.0},
        {"stage": "reading", "done": 100, "total": 100, "remaining_seconds": 0.0},
    ]


def test_memory_that_no_worker_can_live_in(tmp_path):
    with served(Settings(port=0, folder=tmp_path, most_memory=MEGABYTE)) as running:
        wait(lambda: running.service.pool.broken)
        assert "--max_memory_mb: a worker takes" in running.service.pool.broken


def test_the_process_of_the_service_has_no_network_in_memory():
    """Only workers load JAX: the service is small, and starts at once."""
    assert not {"jax", "flax", "tensorflow_datasets"} & loaded("qad_jax.detection.server.app")
