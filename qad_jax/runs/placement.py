"""Where arrays live: one replicated array a leaf, which looks the same on any number of devices."""

from __future__ import annotations

from typing import TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

#: Name of the axis over which `pmap` maps the devices.
AXIS = "batch"

T = TypeVar("T")


def sharding(*axes: str) -> NamedSharding:
    """Over the devices of this process: cut along `axes`, or replicated where there are none."""
    return NamedSharding(Mesh(np.asarray(jax.local_devices()), (AXIS,)), PartitionSpec(*axes))


def replicate(tree: T) -> T:
    """Places a pytree on all devices. Donated buffers must be placed so before the first step.

    With several processes, each brings the same values.
    """
    return jax.device_put(tree, sharding())


def fetch(tree: T) -> T:
    """A replicated pytree as numpy arrays, copied from one device of this process.

    For checkpoints: orbax would have the devices share the saving of each array, whose hundreds of
    small slices take longer than all else, and more with each device.
    """
    own: T = jax.device_get(jax.tree.map(lambda leaf: leaf.addressable_data(0), tree))
    return own


def replicated_like(tree: T) -> T:
    """The shapes of a pytree as they are to be restored: on all devices of this process."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding()), tree
    )
