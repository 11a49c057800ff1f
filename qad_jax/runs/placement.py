"""Where arrays live: each leaf is one replicated array, the same on any number of devices."""

from __future__ import annotations

from typing import TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

#: Name of the axis over which `pmap` maps the devices.
AXIS = "batch"

T = TypeVar("T")


def sharding(*axes: str) -> NamedSharding:
    """A sharding over this process's devices: cut along `axes`, or replicated without any."""
    return NamedSharding(Mesh(np.asarray(jax.local_devices()), (AXIS,)), PartitionSpec(*axes))


def replicate(tree: T) -> T:
    """Places a pytree on all devices, as buffers that a step donates must be.

    Every process must give the same values.
    """
    return jax.device_put(tree, sharding())


def fetch(tree: T) -> T:
    """Copies a replicated pytree from one device of this process to numpy arrays.

    Checkpoints need it: orbax would let the devices share the saving of each array, and hundreds of
    small slices, more with each device, take longer than everything else.
    """
    own: T = jax.device_get(jax.tree.map(lambda leaf: leaf.addressable_data(0), tree))
    return own


def replicated_like(tree: T) -> T:
    """The shapes of a pytree to restore, replicated on all devices of this process."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding()), tree
    )
