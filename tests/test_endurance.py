"""800 steps: no memory is lost, nothing is compiled twice, nothing waits for the devices."""

import itertools
import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

STEPS, EPOCH, LOG = 800, 100, 25
PHASES = (0, 100, 200)  # head only, whole, with perturbation
MEGABYTE = 1e6


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    done = subprocess.run(
        [sys.executable, "-m", "tests.endurance", str(tmp_path_factory.mktemp("runs") / "long")],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def at_the_end_of_each_epoch(steps):
    """What the process holds, from the third epoch on: all has been through once by then."""
    assert len(steps) == STEPS
    return [steps[i]["memory"] for i in range(PHASES[-1] + 3 * LOG, STEPS, EPOCH)]


def test_no_batch_and_no_state_is_kept(steps):
    """Counted, as both are small beside what comes and goes.

    A batch kept in each epoch would be one of pictures and two arrays; a state 297. One batch more
    or less may be on its way when it is counted.
    """
    held = at_the_end_of_each_epoch(steps)
    assert held[0]["arrays"] > 0
    assert held[0]["pictures"] > 0
    epochs = len(held) - 1
    assert held[-1]["arrays"] - held[0]["arrays"] < epochs, held
    assert held[-1]["pictures"] - held[0]["pictures"] < epochs / 2, held


def test_a_step_begins_when_the_last_one_has_ended(steps):
    """On a processor, each step that only waits has memory of its own."""
    assert all(step["ended"] for step in steps)


def test_steps_take_no_memory_of_the_host(steps):
    """Growth within epochs, 300 steps in all: keeping their batches would cost 3.7 MB."""
    growth = sum(
        steps[epoch + 3 * LOG]["memory"]["bytes"] - steps[epoch + LOG]["memory"]["bytes"]
        for epoch in range(PHASES[-1], STEPS, EPOCH)
    )
    assert growth < MEGABYTE, growth


def test_epochs_take_little_memory_of_the_host(steps):
    """Steps, validations and checkpoints; a net for what is neither a batch nor an array of jax.

    The first ten saves take half a megabyte each until the allocator's pieces are in their places.
    """
    held = at_the_end_of_each_epoch(steps)
    growth = (held[-1]["bytes"] - held[0]["bytes"]) / (len(held) - 1)
    assert growth < MEGABYTE, growth


def test_each_phase_is_compiled_once(steps):
    compiles = [i for i, step in enumerate(steps) if step["compiled"][1] > step["compiled"][0]]
    assert compiles == list(PHASES)


def test_nothing_else_is_compiled_behind_the_first_epoch(steps):
    """Validation and saving have been through by then."""
    counts = [step["compiled"] for step in steps]
    between = {i: b[0] - a[1] for i, (a, b) in enumerate(itertools.pairwise(counts), 1)}
    assert {i for i, count in between.items() if count} <= {EPOCH}


def test_nothing_is_copied_to_the_host_but_what_is_logged_and_saved(steps):
    assert {step["guard"] for step in steps} == {"disallow"}
    assert all(step["fetched"][0] == step["fetched"][1] for step in steps)
    fetched = [step["fetched"] for step in steps]
    between = {i for i in range(1, STEPS) if fetched[i][0] > fetched[i - 1][1]}
    assert between <= set(range(LOG, STEPS, LOG))
    assert between
