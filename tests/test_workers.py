"""Counting cores, and a map over processes that keeps the order."""

import functools
import os
import select
import signal
import subprocess
import sys

import pytest

from data_builders import workers
from data_builders.errors import UserError
from tests.conftest import ROOT


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_cores_are_those_that_this_process_may_run_on():
    first = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, {{{first}}})\n"
        "from data_builders import workers; print(workers.available_cores())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"
    assert workers.available_cores() == len(os.sched_getaffinity(0))


def test_a_system_without_affinity(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    for count, expected in ((6, 6), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert workers.available_cores() == expected


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal on this system")
def test_a_worker_ends_when_its_parent_is_killed():
    code = (
        "from data_builders import workers\n"
        "if __name__ == '__main__':\n"
        "    with workers.parallel_map(2, apart=True) as ordered_map:\n"
        "        items = ['__import__(\"os\").getpid()', '__import__(\"time\").sleep(600)']\n"
        "        for result in ordered_map(eval, items):\n"
        "            print(result, flush=True)\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert int(parent.stdout.readline()) != parent.pid
        parent.kill()
        # The worker has the other end of this pipe, too: it is closed when both have ended.
        closed, _, _ = select.select([parent.stdout], [], [], 30)
        assert closed
        assert parent.stdout.read() == ""


def test_a_few_items_are_worked_on_here():
    with workers.parallel_map(3) as ordered_map:
        assert set(ordered_map(lambda _: os.getpid(), range(3))) == {os.getpid()}


def test_many_items_are_shared_among_processes_in_order(monkeypatch):
    monkeypatch.setattr(workers, "available_cores", lambda: 2)
    numbers = range(-30, 30)
    with workers.parallel_map(len(numbers)) as ordered_map:
        assert list(ordered_map(abs, numbers)) == [abs(number) for number in numbers]
        assert os.getpid() not in set(ordered_map(_process_id, numbers))
        assert set(ordered_map(_platform, numbers)) == {"cpu"}


def _process_id(_):
    return os.getpid()


def _platform(_):
    return os.environ["JAX_PLATFORMS"]


class Here(workers._Process):
    """Works when it is given something, and remembers it."""

    def submit(self, task):
        self.asked = [*getattr(self, "asked", []), task.item]
        task.future.set_result(task.function(task.item))
        self._tasks.append(task)


def test_no_more_is_done_than_is_taken_soon():
    process = Here()
    results = workers._in_order([process], None, abs, iter(range(100)))
    assert [next(results), next(results)] == [0, 1]
    assert process.asked == list(range(workers._AHEAD + 2))


# Processes that die


def _square(number, deadly):
    """Ends its process as a fault in a codec does, before any Python can run."""
    if number in deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(workers, "available_cores", lambda: 2)


def test_an_item_that_kills_its_process_costs_itself_alone(two_cores):
    deadly = {0, 11, 12, 29}
    function = functools.partial(_square, deadly=deadly)
    with workers.parallel_map(30, died=lambda item: f"died of {item}") as ordered_map:
        results = list(ordered_map(function, range(30)))
    assert results == [f"died of {n}" if n in deadly else n * n for n in range(30)]


def test_a_death_is_forgiven_once(two_cores, tmp_path):
    """Memory may run out because of what happens beside it."""
    with workers.parallel_map(3, apart=True) as ordered_map:
        assert list(ordered_map(_dies_once, [tmp_path / name for name in "abc"])) == [1, 1, 1]


def _dies_once(path):
    if path.name == "b" and not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 1


def test_an_item_that_kills_is_an_error_where_nobody_takes_it(two_cores):
    function = functools.partial(_square, deadly={2})
    with (
        pytest.raises(UserError, match=r"^2: the process that worked on it ended at once"),
        workers.parallel_map(3, apart=True) as ordered_map,
    ):
        list(ordered_map(function, range(3)))


def test_processes_that_all_die_end_the_work(two_cores):
    function = functools.partial(_square, deadly=range(100))
    with (
        pytest.raises(UserError, match="so did all others of 5; look at the memory"),
        workers.parallel_map(100, died=str) as ordered_map,
    ):
        list(ordered_map(function, range(100)))


def test_errors_come_back_as_they_are(two_cores):
    with (
        pytest.raises(ZeroDivisionError),
        workers.parallel_map(3, apart=True) as ordered_map,
    ):
        list(ordered_map(functools.partial(divmod, 1), [2, 0, 1]))
