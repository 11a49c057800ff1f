"""Scoring: every frame of a split once, at every quality, on all devices."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from qad_jax import hosts, parallel
from qad_jax.hosts import Progress
from qad_jax.input_pipeline import Frames, TupleSource, frames
from qad_jax.scores import Scores


def predict(
    step: Callable[[Any, Any], Any],
    variables: Any,
    source: TupleSource,
    *,
    qualities: Sequence[str],
    batch_size: int,
    label: str,
) -> Scores:
    """Scores every record of a split, on all devices.

    The last batch is filled up so that every batch has one shape, and what was filled in is cut
    off again: no frame is dropped, none is counted twice. Each process reads its own rows of every
    batch, and every process gets all scores.

    Args:
      step: From `parallel.pmap_predict`.
      variables: `{'params', 'batch_stats'}`, replicated.
      source: The split.
      qualities: Their names, as `source` decodes them.
      batch_size: Records at a time, rounded up to what the devices share evenly.
      label: What the progress line is called.

    Returns:
      The scores in the order of the records.
    """
    devices = parallel.device_count()
    batch_size = -(-batch_size // devices) * devices
    batches: list[Frames] = []
    parts: list[npt.NDArray[np.float32]] = []

    def place(batch: Frames) -> tuple[Frames, Any]:
        return batch, parallel.shard(batch.images)

    pending: jax.Array | None = None
    with Progress(len(source), label, unit="frame") as progress:
        read = frames(source, batch_size, rows=parallel.rows(batch_size))
        for batch, images in parallel.prefetch(read, place):
            # Results are fetched one batch late, while the next one is computed.
            newer = step(variables, images)
            if pending is not None:
                parts.append(jax.device_get(pending))
            pending = newer
            batches.append(batch._replace(images=np.empty(0, np.uint8)))
            progress.advance(min(batch_size, len(source) - progress.done))
    parts.append(jax.device_get(pending))
    batches = _of_all_processes(batches)
    columns = len(qualities)
    return Scores(
        tuple(qualities),
        np.concatenate([batch.labels for batch in batches]),
        [name for batch in batches for name in batch.method],
        [name for batch in batches for name in batch.video],
        [name for batch in batches for name in batch.identity],
        np.concatenate([batch.frame for batch in batches]),
        np.concatenate(
            [
                part.reshape(-1, columns)[: len(batch.labels)]
                for batch, part in zip(batches, parts, strict=True)
            ]
        ),
    )


def _of_all_processes(batches: list[Frames]) -> list[Frames]:
    """Puts together what each process knows of its rows of each batch."""
    if jax.process_count() == 1:
        return batches
    told = hosts.gather(
        [(b.labels.tolist(), b.method, b.video, b.identity, b.frame.tolist()) for b in batches]
    )
    joined = []
    for parts in zip(*told, strict=True):
        label, method, video, identity, frame = (
            list(itertools.chain(*lists)) for lists in zip(*parts, strict=True)
        )
        joined.append(
            Frames(
                np.empty(0, np.uint8),
                np.asarray(label, np.int32),
                method,
                video,
                identity,
                np.asarray(frame, np.int32),
            )
        )
    return joined
