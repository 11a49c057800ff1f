"""Two processes that are stopped and started again end as two that were never stopped.

One folder is stopped twice: by SIGTERM at one process, then by the death of one during a save.
"""

import signal

import pytest

from qad_jax.runs import hosts
from qad_jax.runs.checkpoints import Checkpoints
from qad_jax.training import loop
from tests.commands import call, tiny
from tests.stopping import assert_the_same, half_written, newest, rows, wait
from tests.test_hosts import finish, start

STEPS = 10


@pytest.fixture(scope="module")
def launch(manifest, data_dir, dataset):
    """Starts two processes of one device: one epoch of one phase, so one validation at its end."""

    def of(workdir):
        return start(
            2,
            1,
            [
                *tiny("hkrawp_resnet", workdir, manifest, data_dir),
                f"--config.num_steps={STEPS}",
                "--config.batch_size=4",
                "--config.qualities=raw,c40",
                "--config.head_only_epochs=0",
                "--config.awp.gamma=0",  # has no state, and half of what would be compiled
                "--config.log_every_steps=1",
                "--config.checkpoint_every_steps=2",
            ],
        )

    return of


@pytest.fixture(scope="module")
def whole(launch, tmp_path_factory):
    """The folder of a run that was never stopped."""
    workdir = tmp_path_factory.mktemp("hosts") / "whole"
    for status, _, err in finish(launch(workdir)):
        assert status == 0, err
    return workdir


def stop(processes, reached, number):
    """Signals the second process when something is there; none outlives its time."""
    try:
        wait(processes[1], reached)
        processes[1].send_signal(number)
    except BaseException:
        for process in processes:
            process.kill()
        print([process.communicate()[1] for process in processes])  # why, for pytest to show
        raise
    return finish(processes, limit=hosts.HEARTBEAT_S + 60)


@pytest.fixture(scope="module")
def stopped(launch, whole, tmp_path_factory):
    """The folder of a run that was stopped twice, what was said, and the newest step each time."""
    workdir = tmp_path_factory.mktemp("hosts") / "stopped"
    asked = stop(launch(workdir), lambda: newest(workdir), signal.SIGTERM)
    asked_at = newest(workdir)
    for _ in range(3):  # a save may end between the look at it and the signal
        lost = stop(launch(workdir), lambda: half_written(workdir), signal.SIGKILL)
        if half_written(workdir):
            break
    return workdir, (asked, asked_at), (lost, newest(workdir), half_written(workdir))


def test_sigterm_at_one_process_stops_both_at_the_same_step(stopped):
    _, (results, step), _ = stopped
    assert 2 <= step < STEPS
    message = f"SIGTERM: stopped and saved at step {step}; the same command goes on from there"
    for status, _, err in results:
        assert status == 143, err
        assert message in err


def test_a_process_that_dies_during_a_save_ends_the_other_with_one_line(stopped):
    _, _, (((status, _, err), (killed, _, _)), _, _) = stopped
    assert killed == -signal.SIGKILL
    assert status == 1, err
    assert err.splitlines()[-1].startswith("error: another process has ended"), err
    assert "Traceback" not in err


def test_started_again_they_end_as_if_never_stopped(stopped, whole, launch):
    """From the newest whole checkpoint: what was half written does not count, and goes."""
    workdir, (_, asked_at), (_, newest_whole, unfinished) = stopped
    assert asked_at <= newest_whole < STEPS
    assert unfinished
    logged = len(rows(workdir))
    for status, _, err in finish(launch(workdir)):
        assert status == 0, err
    assert logged < len(rows(workdir))
    assert_the_same(whole, workdir)


@pytest.mark.parametrize("lost", [True, False])
def test_a_save_that_another_cannot_join_is_not_waited_for(
    lost, tmp_path, manifest, data_dir, monkeypatch
):
    closed = []

    def fail(*_):
        raise ValueError("it ends")

    monkeypatch.setattr(loop, "_loop", fail)
    monkeypatch.setattr(hosts, "lost_another", lambda error: lost)
    monkeypatch.setattr(Checkpoints, "close", lambda self: closed.append(self))
    arguments = tiny("hkrawp_resnet", tmp_path / "run", manifest, data_dir)
    if lost:
        assert "error: another process has ended" in call(*arguments).err
    else:
        with pytest.raises(ValueError, match="it ends"):
            call(*arguments)
    assert len(closed) == (not lost)
