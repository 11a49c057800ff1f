"""Measurements in steps, on a machine that may be taken away: what is done is not done again."""

import importlib
import json
import shlex
import sys
import time

import pytest

from tests.commands import call
from tests.conftest import ROOT

pytestmark = pytest.mark.checkout


@pytest.fixture
def session(monkeypatch):
    """The script, with steps that measure nothing."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module = importlib.import_module("gpu_session")
    monkeypatch.delenv("OUT", raising=False)
    return module


ROW = {"name": "r50: step, here", "unit": "ms", "median": 2.5, "low": 2.0, "high": 1234.5}
WRITES = f"import sys; open(sys.argv[1], 'w').write({json.dumps(json.dumps({'rows': [ROW]}))})"


def fakes(module, tmp_path):
    """One that works and says so in a file, one that measures, one that fails, one that hangs."""
    log = tmp_path / "log"
    hangs = f"echo hangs >> {log}; sleep 600 & echo $! > {tmp_path / 'child'}; wait"
    return [
        module.Step("works", ("sh", "-c", f"echo works | tee -a {log}"), 20),
        module.Step("measures", (module.PYTHON, "-c", WRITES, module.JSON), 20),
        module.Step("fails", ("sh", "-c", f"echo fails >> {log}; echo why >&2; exit 7"), 20),
        module.Step("hangs", ("sh", "-c", hangs), 1),
    ]


def ends(pid):
    """Whether a process ends soon; one that is a zombie has ended."""
    for _ in range(100):
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc on this system")
def test_steps_are_run_once_and_failures_once_more(session, monkeypatch, tmp_path):
    steps = fakes(session, tmp_path)
    monkeypatch.setattr(session, "steps", lambda: steps)
    out = tmp_path / "out"
    first = call("--out", out, main=session.main)
    assert first.status == 3, first.err
    table = first.out[first.out.index("| step |") :]
    assert table.startswith("| step | state | s |\n|---|---|---|\n")
    assert [line.rpartition(" | ")[0] for line in table.splitlines()[2:6]] == [
        "| works | done",
        "| measures | done",
        "| fails | failed (status 7)",
        "| hangs | failed (over its limit)",
    ]
    assert table.endswith(
        "\n\n| measured | median | low | high | unit |\n|---|---|---|---|---|\n"
        "| r50: step, here | 2.5 | 2 | 1234 | ms |\n\n"
        "not all is measured: the same command goes on\n"
    )
    assert "== works\nworks\n" in first.out
    assert "== fails\nwhy\n" in first.out
    assert ends(int((tmp_path / "child").read_text()))
    assert (tmp_path / "log").read_text() == "works\nfails\nhangs\n"

    # $OUT is empty at the next call; the file that came back is carried there.
    before, out = out, tmp_path / "next"
    second = call("--out", out, "--before", before, main=session.main)
    assert (tmp_path / "log").read_text() == "works\nfails\nhangs\nfails\nhangs\n"
    assert second.status == 1
    third = call("--out", out, main=session.main)
    assert (tmp_path / "log").read_text().count("\n") == 5
    assert third.out[third.out.index("| step |") :] == second.out[second.out.index("| step |") :]

    extracted = call("--out", out, "--extract", tmp_path / "files", main=session.main)
    file = tmp_path / "files/gpu_measures.json"
    assert extracted.out == f"{file}\n"
    assert json.loads(file.read_text()) == {"rows": [ROW]}


def test_behind_the_budget_no_step_begins_and_one_that_runs_is_cut(session, monkeypatch, tmp_path):
    log = tmp_path / "log"
    steps = [
        session.Step("one", ("sh", "-c", f"echo one >> {log}; exec sleep 600"), 60),
        session.Step("two", ("sh", "-c", f"echo two >> {log}"), 60),
    ]
    monkeypatch.setattr(session, "steps", lambda: steps)
    monkeypatch.setattr(session, "GRACE", 1.0)
    nothing = call("--out", tmp_path, "--budget", 0, main=session.main)
    assert "| one | to do | |\n| two | to do | |\n" in nothing.out
    assert (nothing.status, log.exists()) == (3, False)
    cut = call("--out", tmp_path, "--budget", 1, main=session.main)
    assert "| one | cut | " in cut.out
    assert "| two | to do | |" in cut.out
    assert (cut.status, log.read_text()) == (3, "one\n")
    # Being cut is no failure: it comes first again.
    steps[0] = steps[0]._replace(command=("sh", "-c", f"echo again >> {log}"))
    done = call("--out", tmp_path, main=session.main)
    assert (done.status, log.read_text()) == (0, "one\nagain\ntwo\n")
    assert "not all is measured" not in done.out


def test_one_step_can_be_chosen(session, monkeypatch, tmp_path):
    steps = fakes(session, tmp_path)
    monkeypatch.setattr(session, "steps", lambda: steps)
    told = call("--out", tmp_path, "--only", "works", main=session.main)
    assert told.status == 0
    assert "fails" not in told.out
    told = call("--out", tmp_path, "--only", "work", main=session.main)
    assert told.status == 2
    assert "no step is called 'work'" in told.err


def test_a_command_that_is_not_there_and_a_damaged_file(session, monkeypatch, tmp_path):
    monkeypatch.setattr(session, "steps", lambda: [session.Step("no", ("no-such-program",), 9)])
    told = call("--out", tmp_path, main=session.main)
    assert "| no | failed (status 127) |" in told.out
    assert "== no\nno-such-program: No such file or directory\n" in told.out
    file = tmp_path / session.FILE
    for text in ("{", "[]", '{"steps": {"no": {"state": "done"}}}', '{"steps": []}'):
        file.write_text(text)
        told = call("--out", tmp_path, main=session.main)
        assert told.err.startswith(f"error: {file}: damaged: ")
        assert (told.status, told.out, told.err.count("\n")) == (1, "", 1)
    assert call(main=session.main).err == (
        "error: command line: --out: name a folder, as $OUT is not set; --help has the options\n"
    )


def test_the_real_steps_are_listed_and_call_benchmarks_that_are_there(session):
    told = call("--list", main=session.main)
    steps = session.steps()
    assert told.status == 0
    assert told.out.splitlines() == [
        f"{step.name} ({step.limit:.0f} s): {shlex.join(step.command)}" for step in steps
    ]
    assert len({step.name for step in steps}) == len(steps)
    for step in steps:
        words = [word for word in step.command if word.startswith("benchmarks")]
        for word in words:
            path = word if word.endswith(".py") else f"{word.replace('.', '/')}.py"
            assert (ROOT / path).is_file()
        assert words or step.command == ("nvidia-smi",)
        assert step.limit <= 300
