"""Batches over devices, and `pmap` over all of them.

State and variables are replicated: each leaf is one array, which looks the same on any number of
devices. Batches are cut along their first axis. Each process holds its own copy of the state and
its own rows of the batch; `pmap` maps over the devices of all processes, in their order.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import ml_collections

from data_builders.errors import UserError
from qad_jax.runs.placement import AXIS, sharding

T = TypeVar("T")
# Batches on the devices or being copied there, besides the one that is in use.
_IN_FLIGHT = 2


def device_count() -> int:
    """Number of devices of all processes."""
    return jax.device_count()


def rows(batch_size: int) -> slice:
    """This process's rows of every batch; the devices must share the batch evenly."""
    own = batch_size // jax.process_count()
    return slice(jax.process_index() * own, (jax.process_index() + 1) * own)


def check(config: ml_collections.ConfigDict) -> None:
    """As `check_divides`, of the batches of a training."""
    # The localiser compares a fake and its neighbour, and qualities that are drawn are of both.
    some = 0 < config.qualities_at_once < len(config.qualities)
    together = 2 if config.localise.weight or (some and config.sampling != "natural") else 1
    check_divides(
        config.batch_size,
        config.accumulate_steps,
        together=together,
        multiple=1 if config.sampling == "natural" else 2,
    )


def check_divides(batch_size: int, parts: int = 1, *, together: int = 1, multiple: int = 1) -> None:
    """Checks that the devices share each part of a batch evenly.

    Args:
      batch_size: Tuples in a batch.
      parts: Parts that each device's share is cut into.
      together: Tuples in a row that no cut may come between.
      multiple: What else the batch is a multiple of, for the number that is advised.

    Raises:
      UserError: They do not.
    """
    devices = device_count()
    if devices != jax.local_device_count() * jax.process_count():
        raise UserError(
            f"{jax.local_device_count()} devices in process {jax.process_index()} of "
            f"{jax.process_count()}, {devices} in all: give every process the same number"
        )
    unit = devices * parts * together
    if batch_size % unit:
        step = math.lcm(unit, multiple)
        near = max(step, round(batch_size / step) * step)
        times = f" in {parts} parts (config.accumulate_steps)" if parts > 1 else ""
        times += ", a fake and the real image beside it on the same one" if together > 1 else ""
        raise UserError(
            f"config.batch_size: {batch_size} tuples cannot be shared evenly by {devices} devices"
            f"{times}; {near} can"
        )


def shard(tree: T) -> T:
    """Cuts every leaf along its first axis, a part for each device: `(n, ...)` to `(d, n/d, ...)`.

    The n rows and the d devices are those of this process. The copies are asynchronous.
    """
    devices = jax.local_device_count()
    return jax.tree.map(
        lambda leaf: jax.device_put(
            leaf.reshape(devices, len(leaf) // devices, *leaf.shape[1:]), sharding(AXIS)
        ),
        tree,
    )


def prefetch(batches: Iterable[T], place: Callable[[T], Any] = shard) -> Iterator[Any]:
    """Copies the next batches to the devices while one is in use."""
    queue: collections.deque[Any] = collections.deque()
    for batch in batches:
        queue.append(place(batch))
        if len(queue) > _IN_FLIGHT:
            yield queue.popleft()
    yield from queue


def pmap_train(step: Callable[..., Any]) -> Callable[..., Any]:
    """Maps a train step over the devices; the replicated state is donated.

    Outputs are declared replicated, and JAX does not check it: the step must average everything
    that it returns over `AXIS`.
    """
    return jax.pmap(
        step, axis_name=AXIS, in_axes=(None, 0), out_axes=(None, None), donate_argnums=(0,)
    )


def pmap_predict(step: Callable[..., Any]) -> Callable[..., Any]:
    """Maps a predict step over the devices: replicated variables, `(d, n, ...)` images.

    The result, which is small beside the images, is gathered: every process gets that of all
    devices.
    """

    def gathered(variables: Any, images: jax.Array) -> Any:
        return jax.lax.all_gather(step(variables, images), AXIS)

    return jax.pmap(gathered, axis_name=AXIS, in_axes=(None, 0), out_axes=None)
