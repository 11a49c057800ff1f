"""Turns of clients, bounds of what is kept, results that outlive the service, and its folder."""

import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from data_builders.errors import UserError
from qad_jax.detection.server import folders
from qad_jax.detection.server.folders import PrivateFolder
from qad_jax.detection.server.jobs import Job, Jobs
from qad_jax.detection.server.problems import Problem
from qad_jax.detection.server.service import Service
from qad_jax.detection.server.settings import Settings
from qad_jax.detection.server.store import Row, Store
from tests.conftest import ROOT
from tests.serving import is_there, served, wait
from tests.serving_worker import never_ready


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


def test_a_job_that_is_put_back_is_next_again(jobs):
    made = [add(jobs, name) for name in ("a1", "b1", "a2")]
    assert jobs.take(0) is made[0]
    jobs.put_back(made[0])
    assert [jobs.position(job) for job in made] == [0, 1, 2]
    assert [jobs.take(0) for _ in made] == made
    jobs.delete(made[2].id)
    jobs.put_back(made[2])
    assert jobs.take(0) is None
    assert not (jobs.folder.path / made[2].id).exists()
    assert jobs._held == 2


def test_results_together_have_a_bound(jobs):
    """Of 1000 bytes three results of 400 are too many, and the oldest one goes."""
    made = [add(jobs, name) for name in ("a1", "b1", "c1")]
    for job in made:
        assert jobs.take(0) is job
        jobs.finish(job, "real", b"v" * 100, b"p" * 300)
    jobs.expire()
    assert list(jobs._jobs) == [job.id for job in made[1:]]
    again = Jobs(Settings(most_held=700), jobs._store, jobs.folder)  # after a restart
    again.expire()
    assert list(again._jobs) == [made[2].id]


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


def test_nothing_of_a_deleted_result_is_on_the_disk(tmp_path):
    """Neither in the file nor in its journal, while the service still has it."""
    store = Store(tmp_path / "mine")
    for name in ("one", "two"):
        store.add(Row(name, name, 1, 2.0))
        store.finish(Row(name, name, 1, 2.0, 3.0, "real"), b"{}", f"page {name}".encode() * 2000)
    store.delete("one")
    left = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"page two" in left
    assert b"page one" not in left
    store.close()


def test_a_store_that_is_damaged(tmp_path):
    path = tmp_path / "mine"
    store = Store(path)
    for number in range(100):
        store.add(Row(str(number), "name" * 100, 1, 2.0))
    store.close()
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"--store: .*mine: .* is malformed; name a file that is"):
        Service(Settings(store=path, folder=tmp_path / "folder"), never_ready, print)
    assert list((tmp_path / "folder").iterdir()) == []


# The disk


def test_links_are_not_followed(tmp_path):
    target = tmp_path / "target"
    target.write_text("a secret")
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(OSError, match="exists"):
        folders.create(tmp_path / "link")
    with pytest.raises(OSError, match="symbolic"):
        folders.content(tmp_path / "link", 100)
    with pytest.raises(OSError, match="at most 3 bytes"):
        folders.content(target, 3)
    with pytest.raises(OSError, match="no plain file"):
        folders.content(tmp_path, 100)
    assert folders.content(target, 100) == b"a secret"
    private = folders.PrivateFolder(tmp_path)
    assert private.path.stat().st_mode & 0o777 == 0o700
    job = private.make("job")
    (job / "out").symlink_to(tmp_path)
    private.remove("job")
    private.close()
    assert target.read_text() == "a secret"
    assert not private.path.exists()


def test_a_folder_of_a_service_that_was_killed_is_removed_and_no_other(tmp_path):
    living = folders.PrivateFolder(tmp_path)
    dead = folders.PrivateFolder(tmp_path)
    (dead.make("job") / "file").write_text("a file of a stranger")
    folders.os.close(dead._lock)  # as its end does
    kept = tmp_path / "qad-jax-serve-of-mine"
    kept.mkdir()
    (tmp_path / "qad-jax-serve-link").symlink_to(living.path)
    folders.PrivateFolder(tmp_path).close()
    assert not dead.path.exists()
    assert living.path.exists()
    assert kept.exists()
    living.close()
