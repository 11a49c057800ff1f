"""Several processes that train together: how they find each other, and who does what.

Every process makes the same steps on its own part of each batch; process 0 alone writes what people
read. A process that fails takes the others down with it rather than leave them waiting.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from data_builders import progress
from data_builders.errors import UserError
from data_builders.patches import exit_before_threads
from qad_jax.runs import writer

#: Seconds within which the processes must have found each other.
CONNECT_S = 300
#: Seconds of silence after which a process counts as dead, and the others end.
HEARTBEAT_S = 60
# Jobs of one cluster get ports of their own, as far as that can be: these are seldom taken.
_PORTS = (61440, 4096)


class Place(NamedTuple):
    """Where a process stands among the others.

    Attributes:
      coordinator: Where process 0 listens; '' where that is not known.
      processes: How many there are.
      rank: Which one this is.
      devices: Which of the machine's devices it takes; None: all it sees.
    """

    coordinator: str
    processes: int
    rank: int
    devices: list[int] | None


def connect(
    coordinator: str | None = None, processes: int | None = None, index: int | None = None
) -> None:
    """Joins the other processes, where there are any; must come before anything touches a device.

    What is not given is taken from Slurm's or Open MPI's environment. Where several processes share
    a machine there, each takes the device of its number on it, unless it is shown only one.

    Args:
      coordinator: HOST:PORT at which process 0 listens; the same for all.
      processes: How many there are.
      index: Which one this is, from 0.

    Raises:
      UserError: Where what is given is not enough or wrong, or not all have come within `CONNECT_S`
        seconds.
    """
    found = _cluster(os.environ)
    place = Place(
        coordinator or (found.coordinator if found else ""),
        processes if processes is not None else found.processes if found else 1,
        index if index is not None else found.rank if found else -1,
        found.devices if found else None,
    )
    if not found and (coordinator, processes, index) == (None, None, None):
        return
    for flag, missing in [
        ("--coordinator", not place.coordinator),
        ("--num_processes", not found and processes is None),
        ("--process_id", place.rank < 0),
    ]:
        if missing:
            raise UserError(
                f"{flag}: several processes need --coordinator=HOST:PORT, --num_processes and "
                "--process_id, all three"
            )
    if not re.fullmatch(r".+:\d+", place.coordinator):
        raise UserError(f"--coordinator: {place.coordinator!r} is not HOST:PORT")
    if not 0 <= place.rank < place.processes:
        raise UserError(
            f"--process_id: {place.rank} of {place.processes} processes; they count from 0"
        )
    if place.processes == 1:
        return
    _join(place)


def _join(place: Place) -> None:
    print(
        f"process {place.rank} of {place.processes}: waiting at {place.coordinator}",
        file=sys.stderr,
    )
    message = (
        f"--coordinator: not all of {place.processes} processes met at {place.coordinator} within "
        f"{CONNECT_S} s; start them all, and open that port"
    )

    def give_up() -> None:
        print(f"error: {message}", file=sys.stderr, flush=True)
        os._exit(1)

    # jax's own limit ends the process with a trace of C++.
    limit = threading.Timer(CONNECT_S, give_up)
    limit.daemon = True
    limit.start()
    try:
        jax.distributed.initialize(
            place.coordinator,
            place.processes,
            place.rank,
            place.devices,
            cluster_detection_method="deactivate",
            initialization_timeout=2 * CONNECT_S + 60,
            heartbeat_timeout_seconds=HEARTBEAT_S,
        )
    except RuntimeError as error:
        raise UserError(f"{message} ({error})") from error
    finally:
        limit.cancel()


def _cluster(env: Mapping[str, str]) -> Place | None:
    """Where Slurm or Open MPI has put this process, None where it is the only one.

    jax can tell as well, but gives each process one device even where it has a machine to itself.
    """
    if int(env.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and "SLURM_PROCID" in env:
        # node7 or node[07-09,12],other3: the first of them
        head, _, rest = re.split(r",(?![^\[]*\])", env["SLURM_STEP_NODELIST"])[0].partition("[")
        port = _PORTS[0] + int(env["SLURM_JOB_ID"]) % _PORTS[1]
        together = int(re.split(r"\D", env.get("SLURM_STEP_TASKS_PER_NODE", "1"))[0])
        return Place(
            f"{head}{re.split('[-,]', rest.rstrip(']'))[0]}:{port}",
            int(env["SLURM_STEP_NUM_TASKS"]),
            int(env["SLURM_PROCID"]),
            _share(env, together, env.get("SLURM_LOCALID", "0")),
        )
    if int(env.get("OMPI_COMM_WORLD_SIZE", 1)) > 1:
        # 1531576320.0;tcp://10.96.0.1,10.148.0.1:34911, by releases before 5
        uri = re.match(
            r"(\d+)\.\d+;tcp6?://\[?([^,\]]+?)[,\]:]", env.get("OMPI_MCA_orte_hnp_uri", "")
        )
        return Place(
            f"{uri[2]}:{_PORTS[0] + (int(uri[1]) >> 12) % _PORTS[1]}" if uri else "",
            int(env["OMPI_COMM_WORLD_SIZE"]),
            int(env["OMPI_COMM_WORLD_RANK"]),
            _share(
                env,
                int(env.get("OMPI_COMM_WORLD_LOCAL_SIZE", 1)),
                env.get("OMPI_COMM_WORLD_LOCAL_RANK", "0"),
            ),
        )
    return None


def _share(env: Mapping[str, str], together: int, rank: str) -> list[int] | None:
    bound = env.get("CUDA_VISIBLE_DEVICES", "")
    return [int(rank)] if together > 1 and (not bound or "," in bound) else None


def is_first() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def alone() -> bool:
    """Whether this is the only process."""
    return jax.process_count() == 1


def any_of_all(flag: bool) -> bool:
    """Whether any process says so; all have to ask."""
    return any(gather(flag))


def say(line: str, *, file: Any = None) -> None:
    """Prints, in the first process only."""
    if is_first():
        print(line, file=file)


@contextlib.contextmanager
def first_then_others(what: str) -> Iterator[None]:
    """The body runs in the first process, and only then in the others.

    Args:
      what: The body's name, of which there must not be two in a run.
    """
    if not is_first():
        multihost_utils.sync_global_devices(what)
    yield
    if is_first() and jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def gather(value: Any) -> list[Any]:
    """What each process has, for all: a list over the processes. `value` must be JSON's."""
    if jax.process_count() == 1:
        return [value]
    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(data.size))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: data.size] = data
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


def lost_another(error: BaseException) -> bool:
    """Whether an error says that another process is gone, and not that this one has failed.

    Orbax makes a `TimeoutError` of what jax raises, and of its barriers; jax a `ValueError` of what
    gloo says of an exchange outside of a step.
    """
    words = ("gloo", "nccl", "connection", "coordination", "heartbeat", "barrier")
    if jax.process_count() == 1:
        return False
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, jax.errors.JaxRuntimeError | TimeoutError) and any(
            word in str(cause).lower() for word in words
        ):
            return True
        if isinstance(cause, ValueError) and re.match(r"[A-Z_]+: (Gloo|NCCL) ", str(cause)):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def abandon(error: BaseException) -> None:
    """Ends this process without a farewell to the others, who may be waiting for it forever.

    jax says goodbye at exit and waits for an answer. Called where an error is about to end the
    process, this cuts the connection instead; the others notice within `HEARTBEAT_S` seconds.
    Threads are not waited for: one that saves may itself be waiting for a process that is gone.
    """
    if not jax.distributed.is_initialized():
        return
    status = 130 if isinstance(error, KeyboardInterrupt) else 1
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else 1

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    exit_before_threads.register(leave)


class Progress(progress.Progress):
    """A progress line, in the first process only."""

    def __enter__(self) -> Progress:
        if is_first():
            super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if is_first():
            super().__exit__(*error)


class SilentWriter(writer.MetricsWriter):
    """Takes numbers and writes nothing: for the processes that are not the first."""

    def __init__(self) -> None:
        pass

    def write(self, step: int, split: str, numbers: Mapping[str, Any]) -> None:
        """Does nothing."""

    def write_tuples(self, step: int, images: Any) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def metrics_writer(workdir: Path, step: int) -> writer.MetricsWriter:
    """The run's log in the first process, nothing in the others."""
    return writer.MetricsWriter(workdir, step) if is_first() else SilentWriter()
