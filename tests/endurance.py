"""Hundreds of steps through the real loop, on data in memory; prints what it saw of each.

Run by test_endurance.py in a process of its own: what is measured belongs to the process.
"""

import ctypes
import gc
import json
import os
import pathlib
import sys
import types
import weakref

import jax
import jax.numpy as jnp
import numpy as np
from jax._src.array import ArrayImpl

from qad_jax import configs, cpu
from qad_jax.evaluation import inference
from qad_jax.runs import checkpoints, configuration
from qad_jax.training import loop, mixture
from qad_jax.training.augmentation import PLAIN
from qad_jax.training.sampling import ordered

SIZE, TUPLES = 16, 800

fetched, compiled, steps, pictures, opened = [], [], [], set(), []


def main(workdir):
    cpu.tune()  # as the command does
    count_fetches()
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: name.endswith("backend_compile_duration") and compiled.append(name)
    )
    float(jax.jit(lambda x: x + 1)(jnp.ones(())))
    assert fetched and compiled, "nothing is counted"  # noqa: PT018

    mixture.TupleSource = Tuples
    loop.Checkpoints = Opened
    loop.TrainBatches = lambda *a, **k: watched(make_batches(*a, **k))
    inference.frames = lambda *a, **k: watched(make_frames(*a, **k))
    make = loop.train_step_of
    loop.train_step_of = lambda *arguments: observed(make(*arguments))
    config = configs.load("common")
    config.model.name = "resnet_least"
    config.image_size = SIZE
    config.qualities = ("raw", "c40")
    config.batch_size = 8
    config.num_steps = 800  # of 100 to an epoch
    config.head_only_epochs = 1
    config.awp.warmup_epochs = 2
    config.hsic.warmup_epochs = 1
    config.ema_decay = 0.9
    config.log_every_steps = 25
    gc.freeze()  # what was imported is not gone through each time that `memory` looks
    dataset = types.SimpleNamespace(
        info=types.SimpleNamespace(
            splits={"train": None, "validation": None}, full_name="memory", metadata=None
        )
    )
    config = configuration.check(config)
    loop.train(config, workdir, [dataset], inference.validator(config, [dataset]))
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
    last = []

    def looked_at(state, batch):
        before = len(fetched), len(compiled)
        ended = all(each.is_ready() for each in jax.tree.leaves(last))
        result = step(state, batch)
        steps.append(
            {
                "ended": ended,
                "guard": jax.config.jax_transfer_guard_device_to_host,
                "fetched": [before[0], len(fetched)],
                "compiled": [before[1], len(compiled)],
                "memory": memory(),
            }
        )
        last[:] = [result[1]]
        return result

    return looked_at


make_batches, make_frames = loop.TrainBatches, inference.frames


def watched(batches):
    """The batches; each is counted among `pictures` for as long as anything holds it."""
    for batch in batches:
        token = object()
        pictures.add(token)
        weakref.finalize(batch.images, pictures.discard, token)
        yield batch


class Opened(checkpoints.Checkpoints):
    """The run's checkpoints, within reach of `memory`."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        opened.append(self)


def memory():
    """What this process holds: resident bytes, arrays of jax, arrays of pictures on the host.

    The bytes are those without what has been freed and the allocator keeps, and without what a
    save under way needs. Looked at twice an epoch, from the third on.
    """
    if len(steps) < 200 or len(steps) % 100 not in (25, 75):
        return None
    opened[0].newest_whole()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return {
        "bytes": pages * os.sysconf("SC_PAGE_SIZE"),
        "arrays": len(jax.live_arrays()),
        "pictures": len(pictures),
    }


class Tuples:
    """A split in memory."""

    def __init__(self, dataset, split, qualities, image_size, in_memory):
        count = TUPLES if split == "train" else 16
        rng = np.random.default_rng(count)
        shape = count, len(qualities), image_size, image_size, 3
        self.images = rng.integers(0, 256, shape, dtype=np.uint8)

    @property
    def shape(self):
        return self.images.shape[1:]

    def __len__(self):
        return len(self.images)

    def ordered(self, sampling, seed):
        return ordered(self, sampling, seed)

    def fill(self, index, row, *, view=PLAIN):
        row[...] = self.images[index][:, :, ::-1] if view.mirrored else self.images[index]
        return {
            "label": index % 2,
            "method": "m",
            "video": f"{index}",
            "identity": f"{index}",
            "frame": 0,
        }


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
