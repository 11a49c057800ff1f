"""Every model against every dataset: evaluates what is missing, and looks for leakage.

Nothing is trained. An evaluation that is there already, of the same checkpoint and records, is
kept. So the same command goes on after a stop, and one more dataset costs one more evaluation.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
from absl import logging

from data_builders import build, compilation_cache
from data_builders.errors import UserError
from data_builders.paired import PairedDatasetBuilder
from qad_jax import configs
from qad_jax.evaluation import leakage, protocol
from qad_jax.evaluation.evaluate_run import evaluate_model, folder_of
from qad_jax.evaluation.fingerprints import Fingerprints
from qad_jax.evaluation.leakage import Leakage
from qad_jax.evaluation.matrix_models import Entry, open_model
from qad_jax.evaluation.results import Report
from qad_jax.training import datasets as training_datasets
from qad_jax.training.input_pipeline import check_qualities

_TRAIN = "train"


@dataclasses.dataclass(frozen=True)
class Tested:
    """A dataset that models are evaluated on.

    Attributes:
      fields: Those of the dataset in a configuration.
      dataset: Its builder, which is built.
      qualities: The qualities to evaluate.
    """

    fields: Mapping[str, Any]
    dataset: PairedDatasetBuilder
    qualities: tuple[str, ...]

    @property
    def name(self) -> str:
        """Full name of the dataset."""
        return str(self.dataset.info.full_name)


def open_tested(given: Sequence[str], qualities: Sequence[str] | None) -> list[Tested]:
    """Opens the datasets that a command names.

    Args:
      given: `NAME[:LIST][@DATA_DIR]` each.
      qualities: What to evaluate; None: all that each dataset holds.

    Raises:
      UserError: Naming the dataset that is not known or not built, or lacks a quality.
    """
    tested: dict[str, Tested] = {}
    for word in given:
        name, _, data_dir = word.partition("@")
        name, _, listed = name.partition(":")
        fields = {
            **configs.load("common").dataset.to_dict(),
            **{"name": name, "data_dir": data_dir, "manifest": listed},
        }
        try:
            dataset = build.builder(name, data_dir=data_dir, manifest=listed)
        except UserError as error:
            raise UserError(f"--datasets: {error}") from error
        if not dataset.is_prepared():
            place = ml_collections.ConfigDict(fields)
            raise UserError(training_datasets.how_to_build("--datasets", place, dataset))
        if qualities is not None:
            # One that is named twice would be scored twice, in a file that nothing reads again.
            qualities = list(dict.fromkeys(qualities))
            check_qualities(dataset, qualities)
        one = Tested(fields, dataset, tuple(qualities or dataset.qualities))
        if one.name in tested:
            raise UserError(f"--datasets: {one.name} is named twice; name each dataset once")
        tested[one.name] = one
    return list(tested.values())


def evaluate_missing(entry: Entry, tested: Sequence[Tested], split: str) -> None:
    """Evaluates a model on the datasets on which it has not been evaluated.

    Args:
      entry: The model.
      tested: The datasets.
      split: Name of the split.

    Raises:
      UserError: As `evaluate_model`.
    """
    load = functools.cache(entry.load)
    missing: dict[tuple[str, ...], list[Tested]] = {}
    # Its own data come first: what validation chooses there is used for the others.
    for one in sorted(tested, key=lambda one: one.name not in entry.trained_on):
        held = _held(entry, one, split, lambda: load().digest())
        if not set(one.qualities) <= held:
            # Those that are there are scored again: the results of all are one file.
            known = [q for q in one.dataset.qualities if q in held and q not in one.qualities]
            missing.setdefault((*one.qualities, *known), []).append(one)
    if not missing:
        return
    model = load()
    for qualities, each in missing.items():
        datasets = [{**one.fields, "exclude_methods": entry.excluded(one.name)} for one in each]
        values = {**configs.to_dict(entry.config), "dataset": datasets, "qualities": qualities}
        config = configs.from_dict(values)
        configs.complete(config)
        evaluate_model(model, config, entry.folder, [one.dataset for one in each], split=split)


def _held(entry: Entry, one: Tested, split: str, weights: Callable[[], str]) -> set[str]:
    """The qualities at which there are results of this checkpoint on these records.

    Args:
      entry: The model.
      one: The dataset.
      split: Name of the split.
      weights: Gives the digest of its weights. They are read where results tell theirs, and not of
        a model file, whose digest is in the name of the folder.
    """
    folder = entry.folder / "evaluation" / folder_of(one.name, entry.trained_on) / split
    try:
        report: Report = protocol.read(folder)
        frames = {quality: of.frames for quality, of in report.summary.qualities.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return set()
    digest = one.dataset.digests.get(split)
    known = one.dataset.info.splits
    if (
        (report.dataset, report.split, report.step) != (one.name, split, entry.step)
        or (None not in (report.digest, digest) and report.digest != digest)
        or split not in known
        or not (folder / "scores.csv").is_file()
        or (report.weights and entry.file is None and report.weights != weights())
    ):
        return set()
    return {name for name, count in frames.items() if count == known[split].num_examples}


def look_for_leakage(entries: Sequence[Entry], tested: Sequence[Tested], split: str) -> Leakage:
    """Compares the training split of each model with each test split.

    Args:
      entries: The models.
      tested: The datasets, which have the split.
      split: Name of the split that is tested.
    """
    found = Leakage()
    builders = {(one.name, split): one.dataset for one in tested}
    builders |= {(one.name, _TRAIN): one.dataset for one in tested if _shows_training(one.dataset)}
    hashes = functools.cache(lambda name, of: Fingerprints(builders[name, of], of))
    search = functools.cache(
        lambda test, training: leakage.search(hashes(test, split), hashes(training, _TRAIN))
    )
    for entry in entries:
        if not entry.trained_on:
            found.unknown(entry.name, "it is not known what it was trained on")
        for name in entry.trained_on:
            dataset = builders.get((name, _TRAIN)) or _training_data(entry, name)
            if dataset is None:
                called = name.rpartition("/")[0]  # without its version
                found.unknown(
                    entry.name,
                    f"the train split of {name} is not here; name a folder that holds it with "
                    f"--datasets {called}@DATA_DIR",
                )
                continue
            builders[name, _TRAIN] = dataset
            for one in tested:
                matches = search(one.name, name)
                pair = hashes(one.name, split), hashes(name, _TRAIN)
                found.add(entry.name, *pair, matches, entry.excluded(name))
    return found


def _shows_training(dataset: PairedDatasetBuilder) -> bool:
    # One that was imported may have the test split alone.
    return dataset.is_prepared() and _TRAIN in dataset.info.splits


def _training_data(entry: Entry, name: str) -> PairedDatasetBuilder | None:
    """The dataset that a run was trained on, where its configuration still finds it."""
    fields = entry.fields_of(name)
    if fields is None or entry.file is not None:
        return None
    try:
        dataset = build.builder(
            fields.name,
            data_dir=fields.data_dir,
            manual_dir=fields.manual_dir,
            manifest=fields.manifest,
        )
    except UserError:
        return None
    return dataset if dataset.info.full_name == name and _shows_training(dataset) else None


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """What is to be shown after all models were evaluated.

    Attributes:
      folders: The folder of results of each model.
      shown: For each folder, the qualities of the datasets to show; None: all that it holds.
      leakage: What was found of test videos in the training data; None where nobody looked.
    """

    folders: list[Path]
    shown: list[Mapping[str, Sequence[str]] | None]
    leakage: Leakage | None


def evaluate(
    paths: Sequence[Path],
    names: Sequence[str],
    datasets: Sequence[str],
    *,
    split: str,
    qualities: Sequence[str] | None,
    out: Path | None,
    with_leakage: bool,
) -> Evaluated:
    """Evaluates each model on each dataset, where that was not done before.

    Args:
      paths: Runs, model files and folders of results.
      names: What each is called.
      datasets: See `open_tested`.
      split: Name of the split.
      qualities: What to evaluate; None: all that each dataset holds.
      out: The folder of the matrix.
      with_leakage: Whether to look for test videos in the training data.

    Raises:
      UserError: Naming what cannot be opened or evaluated.
    """
    logging.set_verbosity(logging.ERROR)  # the libraries tell of every folder they look at
    compilation_cache.keep()
    tested = open_tested(datasets, qualities)
    for one in tested:
        if split not in one.dataset.info.splits:
            raise UserError(
                f"--datasets: {one.name} has no {split} split, only "
                f"{', '.join(one.dataset.info.splits)}"
            )
    models = [open_model(path, name, out) for path, name in zip(paths, names, strict=True)]
    entries = [entry for entry in models if entry is not None]
    for entry in entries:
        evaluate_missing(entry, tested, split)
    shown = {one.name: one.qualities for one in tested}
    return Evaluated(
        [path if of is None else of.folder for path, of in zip(paths, models, strict=True)],
        [None if of is None else shown for of in models],
        look_for_leakage(entries, tested, split) if with_leakage else None,
    )
