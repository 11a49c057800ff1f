"""Devices: where arrays live, and `pmap` over all of them.

State and variables are one replicated array a leaf, which looks the same from outside on any
number of devices; batches are cut along their first axis. Each process holds its own copy of the
state and its own rows of the batch; `pmap` maps over the devices of all processes, in their order.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax

from data_builders.errors import UserError
from qad_jax.runs.placement import AXIS, sharding

T = TypeVar("T")
# Batches on the device or on their way: one that is worked on, one that arrives meanwhile.
_IN_FLIGHT = 2


def device_count() -> int:
    """Number of devices, those of other processes included."""
    return jax.device_count()


def rows(batch_size: int) -> slice:
    """Which rows of every batch, of a size that the devices share evenly, are this process's."""
    own = batch_size // jax.process_count()
    return slice(jax.process_index() * own, (jax.process_index() + 1) * own)


def check_divides(batch_size: int, parts: int = 1) -> None:
    """Raises a `UserError` unless the devices share each of the batch's parts evenly."""
    devices = device_count()
    if devices != jax.local_device_count() * jax.process_count():
        raise UserError(
            f"{jax.local_device_count()} devices in process {jax.process_index()} of "
            f"{jax.process_count()}, {devices} in all: give every process the same number"
        )
    unit = devices * parts
    if batch_size % unit:
        near = max(unit, round(batch_size / unit) * unit)
        times = f" in {parts} parts (config.accumulate_steps)" if parts > 1 else ""
        raise UserError(
            f"config.batch_size: {batch_size} tuples cannot be shared evenly by {devices} devices"
            f"{times}; {near} can"
        )


def shard(tree: T) -> T:
    """Cuts every leaf along its first axis, a part to each device: `(n, ...)` to `(d, n/d, ...)`.

    The n rows and the d devices are this process's. The copies are asynchronous.
    """
    devices = jax.local_device_count()
    return jax.tree.map(
        lambda leaf: jax.device_put(
            leaf.reshape(devices, len(leaf) // devices, *leaf.shape[1:]), sharding(AXIS)
        ),
        tree,
    )


def prefetch(batches: Iterable[T], place: Callable[[T], Any] = shard) -> Iterator[Any]:
    """Keeps the next batch on its way to the devices while one is worked on."""
    queue: collections.deque[Any] = collections.deque()
    for batch in batches:
        queue.append(place(batch))
        if len(queue) > _IN_FLIGHT:
            yield queue.popleft()
    yield from queue


def pmap_train(step: Callable[..., Any]) -> Callable[..., Any]:
    """Maps a train step over the devices; the replicated state is donated.

    Outputs are declared replicated, which nothing checks: the step must average over `AXIS` all
    that it returns.
    """
    return jax.pmap(
        step, axis_name=AXIS, in_axes=(None, 0), out_axes=(None, None), donate_argnums=(0,)
    )


def pmap_predict(step: Callable[..., Any]) -> Callable[..., Any]:
    """Maps a predict step over the devices: replicated variables, `(d, n, ...)` pictures.

    The result, small beside the pictures, is gathered: every process has that of all devices.
    """

    def gathered(variables: Any, images: jax.Array) -> Any:
        return jax.lax.all_gather(step(variables, images), AXIS)

    return jax.pmap(gathered, axis_name=AXIS, in_axes=(None, 0), out_axes=None)
