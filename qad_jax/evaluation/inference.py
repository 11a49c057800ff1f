"""A restored model, and the scores that it gives to every frame of a split at every quality."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import numpy.typing as npt

from data_builders.errors import UserError
from data_builders.paired import PairedDatasetBuilder
from qad_jax import configs, models
from qad_jax.evaluation import protocol
from qad_jax.evaluation.scores import Scores
from qad_jax.runs import checkpoints, hosts, placement
from qad_jax.runs.hosts import Progress
from qad_jax.runs.weights_digest import weights_digest
from qad_jax.training import parallel
from qad_jax.training.input_pipeline import Frames, TupleSource, frames
from qad_jax.training.loop import Validate
from qad_jax.training.mixture import open_split
from qad_jax.training.step import make_predict_step
from qad_jax.weights import pretrained

_VALIDATION = "validation"


def predict_step_of(config: ml_collections.ConfigDict) -> Callable[..., Any]:
    """Compiles, on its first call, prediction over all devices."""
    model = models.create(config.model.name, dtype=jnp.dtype(config.model.dtype))
    return parallel.pmap_predict(make_predict_step(model))


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

    The last batch is filled up, so that every batch has one shape, and the scores of what fills it
    are cut off again: no frame is dropped, and none counts twice. Each process reads its own rows
    of every batch, and every process gets all scores.

    Args:
      step: From `parallel.pmap_predict`.
      variables: `{'params', 'batch_stats'}`, replicated.
      source: The split.
      qualities: Their names, as `source` decodes them.
      batch_size: Records at a time, rounded up to what the devices share evenly.
      label: Name of the progress line.

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
    """Joins what each process knows of its rows of each batch."""
    if jax.process_count() == 1:
        return batches
    gathered = hosts.gather(
        [(b.labels.tolist(), b.method, b.video, b.identity, b.frame.tolist()) for b in batches]
    )
    joined = []
    for parts in zip(*gathered, strict=True):
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


class Model(NamedTuple):
    """A checkpoint, ready to score.

    Attributes:
      config: The configuration it was trained with.
      step: Step of the checkpoint.
      datasets: Full names of the datasets it was trained on. Imported weights do not tell theirs,
        and count as trained on the datasets that they are evaluated on.
      variables: `{'params', 'batch_stats'}` on all devices.
      predict: See `predict_step_of`.
    """

    config: ml_collections.ConfigDict
    step: int
    datasets: tuple[str, ...]
    variables: Any
    predict: Any

    @classmethod
    def restore(cls, workdir: Path, tested: Sequence[str], step: int | None = None) -> Model:
        """Restores a checkpoint; by default the best on validation.

        Args:
          workdir: The run's folder.
          tested: Full names of the datasets that it is evaluated on.
          step: Step of the checkpoint.

        Raises:
          UserError: Where there is none, or its head was drawn and never trained.
        """
        variables, config, step = checkpoints.restore_step(workdir, step)
        if (classes := checkpoints.new_head(workdir, step)) is not None:
            raise UserError(
                f"{workdir}: converted from a file with a head of {classes} classes, not of real "
                "and fake; the head drawn in its place is not trained: train from that file "
                "(config.model.pretrained) before evaluating"
            )
        trained_on = checkpoints.datasets_of(workdir, step) or tuple(tested)
        return cls(config, step, trained_on, variables, predict_step_of(config))

    @classmethod
    def imported(cls, config: ml_collections.ConfigDict, tested: Sequence[str]) -> Model:
        """Takes the weights of `config.model.pretrained` as they are.

        Args:
          config: The configuration.
          tested: Full names of the datasets that they are evaluated on.

        Raises:
          UserError: Where they are not the weights of a detector.
        """
        imported = pretrained.of_config(config)
        if imported.dropped is not None:
            raise UserError(
                f"config.model.pretrained: {config.model.pretrained} has a head of "
                f"{imported.dropped} classes, not of real and fake: train from it before evaluating"
            )
        variables = placement.replicate(imported.variables)
        return cls(config, 0, tuple(tested), variables, predict_step_of(config))

    def digest(self) -> str:
        """Of its weights, which two checkpoints of one step do not share."""
        return weights_digest(self.variables)

    def score(self, source: TupleSource, *, batch_size: int, label: str) -> Scores:
        """Scores every record of a split at the qualities that its source decodes."""
        return predict(
            self.predict,
            self.variables,
            source,
            qualities=source.qualities,
            batch_size=batch_size,
            label=label,
        )


def validator(
    config: ml_collections.ConfigDict, datasets: Sequence[PairedDatasetBuilder]
) -> Validate | None:
    """Makes the function that training calls at the end of each epoch.

    Args:
      config: The configuration of the run.
      datasets: Builders whose datasets are built, in the order of the configuration. Those without
        a validation split, or of which the excluded methods leave one class, are left out.

    Returns:
      A function of the variables that gives the frame AUC of each quality, as '<quality>/auc', and
      as 'auc' their mean. Of a mixture, it gives both for each dataset, after '<dataset>/', and as
      'auc' the mean over the datasets, all of the same weight. An AUC that is not defined is None
      and in no mean. None where no dataset has a validation split.
    """
    sources: dict[str, TupleSource] = {}
    for number, (field, fields) in enumerate(configs.datasets(config).items()):
        dataset = datasets[number]
        name = dataset.info.full_name
        if _VALIDATION not in dataset.info.splits:
            reason = "it has no validation split"
        else:
            source = open_split(config, number, dataset, _VALIDATION)
            if not fields.exclude_methods or len(set(source.labels_and_identities()[0])) > 1:
                sources[name.rpartition("/")[0]] = source
                continue
            reason = f"{field}.exclude_methods leaves no reals or no fakes of its validation split"
        if len(datasets) > 1 or fields.exclude_methods:
            hosts.say(f"note: {name} takes no part in validation: {reason}", file=sys.stderr)
    if not sources:
        return None
    step = predict_step_of(config)

    def aucs_of(source: TupleSource, variables: Any, label: str) -> dict[str, float | None]:
        scores = predict(
            step,
            variables,
            source,
            qualities=config.qualities,
            batch_size=config.batch_size,
            label=label,
        )
        summary = protocol.summarise(scores, intervals=False)
        aucs = {f"{name}/auc": of.frame.auc.value for name, of in summary.qualities.items()}
        return {**aucs, "auc": summary.mean.auc.value}

    def validate(variables: Any) -> dict[str, float | None]:
        if len(datasets) == 1:
            (source,) = sources.values()
            return aucs_of(source, variables, _VALIDATION)
        numbers: dict[str, float | None] = {}
        means = []
        for name, source in sources.items():
            aucs = aucs_of(source, variables, f"{_VALIDATION} of {name}")
            numbers.update({f"{name}/{key}": value for key, value in aucs.items()})
            means.append(aucs["auc"])
        defined = [mean for mean in means if mean is not None]
        return {**numbers, "auc": float(np.mean(defined)) if defined else None}

    return validate
