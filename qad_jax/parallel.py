"""Devices: where arrays live, and `pmap` over all of them.

State and variables are one replicated array a leaf, which looks the same from outside on any
number of devices; batches are cut along their first axis.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from data_builders.errors import UserError

#: Name of the mapped axis.
AXIS = "batch"

T = TypeVar("T")
# Batches on the device or on their way: one that is worked on, one that arrives meanwhile.
_IN_FLIGHT = 2


def device_count() -> int:
    """Number of devices of this process."""
    return jax.local_device_count()


def check_divides(batch_size: int) -> None:
    """Raises a `UserError` unless the devices share the batch evenly."""
    devices = device_count()
    if batch_size % devices:
        near = max(devices, round(batch_size / devices) * devices)
        raise UserError(
            f"config.batch_size: {batch_size} tuples cannot be shared evenly by {devices} devices; "
            f"{near} can"
        )


def _sharding(*axes: str) -> NamedSharding:
    return NamedSharding(Mesh(np.asarray(jax.local_devices()), (AXIS,)), PartitionSpec(*axes))


def replicate(tree: T) -> T:
    """Places a pytree on all devices. Donated buffers must be placed so before the first step."""
    return jax.device_put(tree, _sharding())


def replicated_like(tree: T) -> T:
    """The shapes of a pytree as they are to be restored: on all devices of this process."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=_sharding()), tree
    )


def shard(tree: T) -> T:
    """Cuts every leaf along its first axis, a part to each device: `(n, ...)` to `(d, n/d, ...)`.

    The copies are asynchronous.
    """
    devices = device_count()
    return jax.tree.map(
        lambda leaf: jax.device_put(
            leaf.reshape(devices, len(leaf) // devices, *leaf.shape[1:]), _sharding(AXIS)
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
    """Maps a predict step over the devices: replicated variables, `(d, n, ...)` pictures."""
    return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0))
