"""Several processes that train together: how they meet, and what each does.

Every process makes the same steps on its own part of each batch; only process 0 writes what people
read. Where a process fails, the others end too rather than wait for it.
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

#: Seconds within which all processes must have connected.
CONNECT_S = 300
#: Seconds of silence after which a process counts as dead and the others end.
HEARTBEAT_S = 60
# First port and number of ports: few programs use these, and most jobs of a cluster get their own.
_PORTS = (61440, 4096)


class Place(NamedTuple):
    """The place of a process among the others.

    Attributes:
      coordinator: HOST:PORT at which process 0 listens; '' where it is not known.
      num_processes: Number of processes.
      process_id: Number of this one, from 0.
      devices: The devices of the machine that it uses; None: all that it sees.
    """

    coordinator: str
    num_processes: int
    process_id: int
    devices: list[int] | None


def connect(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Connects to the other processes, if there are any, before anything uses a device.

    Arguments that are None come from the environment of Slurm or Open MPI. Where several processes
    share a machine there, each uses the device of its local number, unless it sees only one.

    Args:
      coordinator: HOST:PORT at which process 0 listens; the same for all processes.
      num_processes: Number of processes.
      process_id: Number of this one, from 0.

    Raises:
      UserError: Where an argument or the environment is missing or wrong, or not all processes have
        connected within `CONNECT_S` seconds.
    """
    cluster = _cluster(os.environ)
    if not cluster and (coordinator, num_processes, process_id) == (None, None, None):
        return
    place = Place(
        coordinator or (cluster.coordinator if cluster else ""),
        num_processes if num_processes is not None else cluster.num_processes if cluster else 1,
        process_id if process_id is not None else cluster.process_id if cluster else -1,
        cluster.devices if cluster else None,
    )
    for flag, missing in [
        ("--coordinator", not place.coordinator),
        ("--num_processes", not cluster and num_processes is None),
        ("--process_id", place.process_id < 0),
    ]:
        if missing:
            raise UserError(
                f"{flag}: several processes need --coordinator=HOST:PORT, --num_processes and "
                "--process_id, all three"
            )
    if not re.fullmatch(r".+:\d+", place.coordinator):
        raise UserError(f"--coordinator: {place.coordinator!r} is not HOST:PORT")
    if not 0 <= place.process_id < place.num_processes:
        raise UserError(
            f"--process_id: {place.process_id} of {place.num_processes} processes; "
            "they count from 0"
        )
    if place.num_processes == 1:
        return
    _join(place)


def _join(place: Place) -> None:
    print(
        f"process {place.process_id} of {place.num_processes}: waiting at {place.coordinator}",
        file=sys.stderr,
    )
    message = (
        f"--coordinator: not all of {place.num_processes} processes met at {place.coordinator} "
        f"within {CONNECT_S} s; start them all, and open that port"
    )

    def give_up() -> None:
        print(f"error: {message}", file=sys.stderr, flush=True)
        os._exit(1)

    # At its own limit, jax ends the process with a stack trace of C++.
    limit = threading.Timer(CONNECT_S, give_up)
    limit.daemon = True
    limit.start()
    try:
        jax.distributed.initialize(
            place.coordinator,
            place.num_processes,
            place.process_id,
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
    """The place that Slurm or Open MPI gave this process, None where it is the only one.

    jax detects it, too, but gives each process one device even where it has a machine to itself.

    Raises:
      UserError: A variable of theirs is missing, or is not as they write it.
    """
    try:
        return _place(env)
    except (KeyError, ValueError) as error:
        reason = f"has no {error.args[0]}" if isinstance(error, KeyError) else f"is wrong: {error}"
        raise UserError(
            f"the environment of Slurm or Open MPI {reason}; start the processes with srun or "
            "mpirun, and pass on all of its variables"
        ) from error


def _place(env: Mapping[str, str]) -> Place | None:
    """As `_cluster`, and raises KeyError and ValueError."""
    if int(env.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and "SLURM_PROCID" in env:
        # The first of a list such as node7 or node[07-09,12],other3.
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
        # Releases before 5 give 1531576320.0;tcp://10.96.0.1,10.148.0.1:34911.
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


def _share(env: Mapping[str, str], together: int, local_id: str) -> list[int] | None:
    """The device of one of several processes on a machine; None where it uses all that it sees."""
    visible = env.get("CUDA_VISIBLE_DEVICES", "")
    return [int(local_id)] if together > 1 and (not visible or "," in visible) else None


def is_first() -> bool:
    """Whether this is process 0, the one that writes."""
    return jax.process_index() == 0


def alone() -> bool:
    """Whether this is the only process."""
    return jax.process_count() == 1


def any_of_all(flag: bool) -> bool:
    """Whether the flag is set in any process; all processes must call this."""
    return any(gather(flag))


def say(line: str, *, file: Any = None) -> None:
    """Prints in process 0 only."""
    if is_first():
        print(line, file=file)


@contextlib.contextmanager
def first_then_others(what: str) -> Iterator[None]:
    """Runs the body in process 0, and after that in the others.

    Args:
      what: The body's name, which no other body of a run may have.
    """
    if not is_first():
        multihost_utils.sync_global_devices(what)
    yield
    if is_first() and jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def gather(value: Any) -> list[Any]:
    """The values of all processes, in their order; `value` must be JSON."""
    if jax.process_count() == 1:
        return [value]
    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(data.size))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: data.size] = data
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


def lost_another(error: BaseException) -> bool:
    """Whether an error means that another process is gone, not that this one has failed.

    Orbax raises a `TimeoutError` for errors of jax and of its own barriers. jax raises a
    `ValueError` where an exchange by gloo fails outside a step.
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
    """Makes this process exit without waiting for the others, after an error.

    At exit, jax waits for all processes to disconnect, perhaps forever. This cuts the connection
    instead, and the others notice within `HEARTBEAT_S` seconds. It does not wait for threads
    either: a thread that saves may be waiting for a process that is gone.

    Args:
      error: The error that ends the process; it decides the exit status.
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
    """A progress line, in process 0 only."""

    def __enter__(self) -> Progress:
        if is_first():
            super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if is_first():
            super().__exit__(*error)


class SilentWriter(writer.MetricsWriter):
    """A writer that writes nothing: for all processes but process 0."""

    def __init__(self) -> None:
        pass

    def write(self, step: int, split: str, numbers: Mapping[str, Any]) -> None:
        """Does nothing."""

    def write_tuples(self, step: int, images: Any) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def metrics_writer(workdir: Path, step: int) -> writer.MetricsWriter:
    """The run's log in process 0, a `SilentWriter` in the others."""
    return writer.MetricsWriter(workdir, step) if is_first() else SilentWriter()
