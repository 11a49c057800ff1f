"""Workers that crash, hang, grow and lie; turns of clients; results that outlive the service."""

import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from data_builders.errors import UserError
from qad_jax.detection.server import work
from qad_jax.detection.server.folders import PrivateFolder
from qad_jax.detection.server.jobs import Job, Jobs
from qad_jax.detection.server.problems import Problem
from qad_jax.detection.server.settings import MEGABYTE, Settings
from qad_jax.detection.server.store import Row, Store
from qad_jax.detection.server.workers import resident
from tests.conftest import ROOT
from tests.serving import served, wait
from tests.serving_worker import never_ready


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    settings = Settings(
        port=0, folder=tmp_path_factory.mktemp("serve"), uploads_per_minute=1000, most_seconds=2
    )
    with served(settings) as one:
        yield one


def is_there(pid):
    """Whether a process runs; one that ended and that nobody has asked for does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


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
        ("sleep 600", "more than 2 s of work", "time"),
        ("raise", "ZeroDivisionError: nobody has thought of this", None),
        ("lie", "its verdict cannot be read: certainly fake is none", None),
        ("link /etc/passwd", "its verdict cannot be read: Too many levels", None),
    ],
)
def test_a_bad_file_costs_one_job(running, word, reason, metric):
    ends = f'qad_jax_worker_ends_total{{reason="{metric}"}}'
    before = number(running, ends)
    bad = running.send(word).json()["id"]
    good = running.send("fine").json()["id"]
    job = running.until(bad, "failed", "done")
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


def test_a_job_that_is_deleted_while_it_runs(running, tmp_path):
    """Its worker does not listen; the process that it has started ends with it."""
    pids = tmp_path / "pids"
    job = running.send(f"hang {pids}").json()
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
    first = running.send("sleep 0.5").json()["id"]
    second = running.send("fine").json()["id"]
    assert running.client.delete(f"/v1/jobs/{second}").status_code == 204
    assert running.client.delete(f"/v1/jobs/{second}").status_code == 404
    assert not (running.service.jobs.folder.path / second).exists()
    assert running.until(first, "done")["verdict"] == "real"


def test_a_worker_that_grows(tmp_path):
    most = 600 * MEGABYTE
    with served(Settings(port=0, folder=tmp_path, most_memory=most)) as running:
        assert running.judged("fine")["verdict"] == "real"
        (worker,) = running.service.pool.pids()
        assert 10 * MEGABYTE < resident(worker) < most
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


# Turns


@pytest.fixture
def jobs(tmp_path):
    folder = PrivateFolder(tmp_path)
    store = Store(folder.path / "results.sqlite")
    yield Jobs(
        Settings(most_queued=10, most_held=1000, kept_seconds=50, most_kept=3), store, folder
    )
    store.close()
    folder.close()


def add(jobs, name, client=None):
    job = Job(jobs.new_id(), name, 1, client or name[0], time.time())
    jobs.folder.make(job.id)
    jobs.hold(1)
    jobs.add(job)
    return job


def test_clients_take_turns(jobs):
    """One has sent five files before others came; theirs wait for one of them, not for five."""
    made = [add(jobs, name) for name in ("a1", "a2", "a3", "a4", "b1", "c1", "c2", "a5")]
    order = ["a1", "b1", "c1", "a2", "c2", "a3", "a4", "a5"]
    assert {job.name: jobs.position(job) for job in made} == {
        name: place for place, name in enumerate(order)
    }
    assert [jobs.take(0).name for _ in range(3)] == order[:3]
    late = add(jobs, "b2")
    assert jobs.position(late) == 2
    assert [jobs.take(0).name for _ in range(6)] == ["a2", "c2", "b2", "a3", "a4", "a5"]
    assert jobs.take(0) is None
    assert {jobs.position(job) for job in made} == {None}


def test_nobody_fills_the_queue(jobs):
    """Of 10 places the first client gets 5, and each one after it half of what is left."""

    def fill(client):
        for count in range(99):
            try:
                with jobs.place(client):
                    add(jobs, f"{client}{count}")
            except Problem:
                return count
        return None

    assert [fill(client) for client in "abcde"] == [5, 3, 1, 1, 0]
    with pytest.raises(Problem) as refused, jobs.place("f"):
        pass
    assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "10"})


def test_files_together_have_a_bound(jobs):
    jobs.hold(600)
    with pytest.raises(Problem) as refused:
        jobs.hold(401)
    assert refused.value.status == 429
    jobs.hold(400)
    jobs.hold(-1000)
    jobs.hold(1000)


def test_results_are_removed_at_their_time(jobs, monkeypatch):
    start = time.time()
    made = [add(jobs, name) for name in ("a1", "b1", "c1", "d1", "e1", "f1")]
    for number, job in enumerate(made[:5]):
        assert jobs.take(0) is job
        monkeypatch.setattr(time, "time", lambda at=start + number: at)
        jobs.finish(job, "real", b"{}", b"<p>")
    known = set(jobs._jobs)
    jobs.expire()
    assert known - set(jobs._jobs) == {made[0].id, made[1].id}  # three are kept
    monkeypatch.setattr(time, "time", lambda: start + 2 + 49.9)
    jobs.expire()
    assert made[2].id in jobs._jobs
    monkeypatch.setattr(time, "time", lambda: start + 2 + 50.1)
    jobs.expire()
    assert set(jobs._jobs) == {job.id for job in made[3:]}  # the last one waits, however long
    assert jobs._store.page(made[2].id) is None
    assert jobs._store.page(made[3].id) == b"<p>"
    assert jobs._held == 1


# Results that outlive the service


def test_a_service_that_is_killed_and_started_again(tmp_path):
    """Finished results are there, unfinished ones say so, and nothing else is left of it."""
    store, folder = tmp_path / "results.sqlite", tmp_path / "folder"
    folder.mkdir()
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from qad_jax.detection.server.settings import Settings\n"
        "from tests.serving import served\n"
        "if __name__ == '__main__':\n"
        "    store, folder = map(Path, sys.argv[1:])\n"
        "    with served(Settings(port=0, store=store, folder=folder)) as running:\n"
        "        print(running.port, running.judged('fine', 'one.gif')['id'],\n"
        "              running.send(f'hang {folder}/pids', 'two.gif').json()['id'],\n"
        "              running.send('fine', 'three.gif').json()['id'], flush=True)\n"
        "        time.sleep(600)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), str(store), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        _, *ids = process.stdout.readline().split()
        pids = folder / "pids"
        wait(lambda: pids.exists() and len(pids.read_text().split()) == 2)
        with pytest.raises(UserError, match="database is locked"):
            Store(store)
        process.kill()
    worker, child = pids.read_text().split()
    wait(lambda: not is_there(worker))
    os.kill(int(child), signal.SIGKILL)  # of a decoder that has started one; it is nobody's child
    assert len(list(folder.glob("qad-jax-serve-*/*/file"))) == 2
    assert store.stat().st_mode & 0o777 == 0o600

    with served(Settings(port=0, store=store, folder=folder)) as running:
        assert running.client.get("/v1/limits").json()["stored"] is True
        told = [running.client.get(f"/v1/jobs/{job}").json() for job in ids]
        assert [(job["name"], job["state"], job["verdict"]) for job in told] == [
            ("one.gif", "done", "real"),
            ("two.gif", "failed", None),
            ("three.gif", "failed", None),
        ]
        assert "the service was stopped before it was done" in told[1]["reason"]
        verdict = running.client.get(f"/v1/jobs/{ids[0]}/verdict")
        assert verdict.json() == {"file": "one.gif", "verdict": "real"}
        assert "<title>fine</title>" in running.client.get(f"/v1/jobs/{ids[0]}/page").text
        assert running.client.delete(f"/v1/jobs/{ids[0]}").status_code == 204
        assert list(folder.glob("qad-jax-serve-*/*/file")) == []
        assert len(list(folder.glob("qad-jax-serve-*"))) == 1
    assert list(folder.glob("qad-jax-serve-*")) == []
    assert b"one.gif" not in store.read_bytes()


def test_a_file_that_is_no_store(tmp_path):
    (tmp_path / "text").write_text("this is no database" * 100)
    with pytest.raises(UserError, match=r"--store: .*text: file is not a database; name a file"):
        Store(tmp_path / "text")
    with sqlite3.connect(tmp_path / "other") as other:
        other.execute("CREATE TABLE mine (a)")
    other.close()
    with pytest.raises(UserError, match="is no file of this version"):
        Store(tmp_path / "other")
    with pytest.raises(UserError, match="cannot be opened"):
        Store(tmp_path / "none" / "file")
    store = Store(tmp_path / "mine")
    store.add(Row("a", "b", 1, 2.0))
    assert list(store.rows()) == [Row("a", "b", 1, 2.0)]
    store.close()


def test_the_process_of_the_service_has_no_network_in_memory():
    """Only workers load JAX: the service is small, and starts at once."""
    code = (
        "import sys, qad_jax.detection.server.app\n"
        "heavy = {'jax', 'flax', 'tensorflow_datasets'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
