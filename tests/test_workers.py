"""Counting cores, and a map over processes that keeps the order."""

import os
import subprocess
import sys

import pytest

from data_builders import workers
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


def test_no_more_is_done_than_is_taken_soon():
    asked = []

    class Pool:
        def submit(self, function, item):
            asked.append(item)
            return Done(function(item))

    class Done:
        def __init__(self, value):
            self.value = value

        def result(self):
            return self.value

    results = workers._in_order(Pool(), 3, abs, iter(range(100)))
    assert [next(results), next(results)] == [0, 1]
    assert asked == [0, 1, 2, 3, 4]
