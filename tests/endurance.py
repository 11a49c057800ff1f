"""A thousand steps through the real loop, on data in memory; prints a line a step.

Run by test_endurance.py in a process of its own: what is measured belongs to the process.
"""

import ctypes
import gc
import json
import os
import pathlib
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
from jax._src.array import ArrayImpl

from configs import common
from qad_jax import configuration, train

SIZE, TUPLES = 16, 800

fetched, compiled, steps = [], [], []


def main(workdir):
    count_fetches()
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: name.endswith("backend_compile_duration") and compiled.append(name)
    )
    float(jax.jit(lambda x: x + 1)(jnp.ones(())))
    assert fetched and compiled, "nothing is counted"  # noqa: PT018

    train.TupleSource = Tuples
    make = train.train_step_of
    train.train_step_of = lambda *arguments: observed(make(*arguments))
    config = common.get_config()
    config.model.name = "resnet_tiny"
    config.image_size = SIZE
    config.qualities = ("raw", "c40")
    config.batch_size = 8
    config.num_steps = 1000  # of 100 to an epoch
    config.head_only_epochs = 1
    config.awp.warmup_epochs = 2
    config.hsic.warmup_epochs = 1
    config.ema_decay = 0.9
    config.log_every_steps = 25
    dataset = types.SimpleNamespace(
        info=types.SimpleNamespace(
            splits={"train": None, "validation": None}, full_name="memory", metadata=None
        )
    )
    train.train(configuration.check(config), workdir, dataset)
    print(json.dumps(steps))


def count_fetches():
    """Notes every copy of an array to the host; the guard itself sees none on a CPU."""
    value = ArrayImpl._value

    def counted(self):
        fetched.append(1)
        return value.fget(self)

    ArrayImpl._value = property(counted)


def observed(step):
    """The step, with a look at the process before and after it."""

    def looked_at(state, batch):
        before = len(fetched), len(compiled)
        result = step(state, batch)
        steps.append(
            {
                "guard": jax.config.jax_transfer_guard_device_to_host,
                "fetched": [before[0], len(fetched)],
                "compiled": [before[1], len(compiled)],
                "memory": memory(),
            }
        )
        return result

    return looked_at


def memory():
    """Resident bytes of this process, without what it has freed and the allocator keeps."""
    if len(steps) % 25:
        return None
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Tuples:
    """A split in memory."""

    def __init__(self, dataset, split, qualities, image_size, in_memory):
        count = TUPLES if split == "train" else 16
        rng = np.random.default_rng(count)
        shape = count, len(qualities), image_size, image_size, 3
        self.images = rng.integers(0, 256, shape, dtype=np.uint8)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {
            "image": self.images[index],
            "label": index % 2,
            "method": "m",
            "video": f"{index}",
            "identity": f"{index}",
            "frame": 0,
        }


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
