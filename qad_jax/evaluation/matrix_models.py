"""The models of a matrix: runs, and model files, whose results need a folder of their own."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import ml_collections

from data_builders.errors import UserError, describe
from data_builders.files import write_json
from qad_jax import configs
from qad_jax.evaluation.inference import Model, predict_step_of
from qad_jax.runs import checkpoints, placement, resumption
from qad_jax.weights import model_file

# Tuples at a time of a model file, which does not tell: scores do not depend on it but in the last
# digits.
_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Entry:
    """A model of the matrix.

    Attributes:
      name: What it is called there.
      folder: Where its results are: the folder of a run, or one that is made for a model file.
      config: The configuration that it was trained with, as far as it is known.
      step: Step of its checkpoint, 0 for weights from elsewhere.
      trained_on: Full names of the datasets that it was trained on, none where that is not known.
      file: The model file; None for a run.
    """

    name: str
    folder: Path
    config: ml_collections.ConfigDict
    step: int
    trained_on: tuple[str, ...]
    file: Path | None = None

    def excluded(self, dataset: str) -> tuple[str, ...]:
        """The methods of a dataset that it was trained without."""
        fields = self.fields_of(dataset)
        return () if fields is None else tuple(fields.exclude_methods)

    def fields_of(self, dataset: str) -> ml_collections.ConfigDict | None:
        """The fields of a dataset that it was trained on."""
        known = configs.datasets(self.config).values()
        return dict(zip(self.trained_on, known, strict=False)).get(dataset)

    def load(self) -> Model:
        """The model on all devices. What it was trained on counts only where it is known."""
        if self.file is not None:
            held = self.read_file().variables
            variables = {name: held[name] for name in ("params", "batch_stats")}
            step = predict_step_of(self.config)
            placed = placement.replicate(variables)
            return Model(self.config, self.step, self.trained_on, placed, step)
        if checkpoints.best_step(self.folder) is None:
            model = Model.imported(self.config, ())
        else:
            model = Model.restore(self.folder, (), self.step)
        return model._replace(datasets=self.trained_on)

    def read_file(self) -> model_file.ModelFile:
        """Reads the model file."""
        if self.file is None:
            raise ValueError(f"{self.name} is a run")
        return model_file.read(self.file)


def open_model(path: Path, name: str, out: Path | None) -> Entry | None:
    """Finds out what a path of the command line stands for.

    Args:
      path: A run, a model file, `detector`, or a folder of results.
      name: What it is called in the matrix.
      out: The folder of the matrix, where the results of model files go.

    Returns:
      None for a folder of results, which are shown as they are.

    Raises:
      UserError: There is nothing of these.
    """
    found = model_file.find(path)
    if found.is_file():
        if out is None:
            raise UserError(f"--out: name a folder; the results of the model file {path} go there")
        return _of_file(found, name, out)
    if (path / configs.STORED).is_file():
        config = configs.load(configs.of_run(path))
        configs.complete(config)
        step = checkpoints.best_step(path)
        if step is None and not config.model.pretrained:
            raise UserError(f"{path}: holds no whole checkpoint; train first")
        step = step or 0
        trained_on = checkpoints.datasets_of(path, step) if step else ()
        return Entry(name, path.absolute(), config, step, trained_on)
    if (path / "metrics.json").is_file():
        return None
    raise UserError(f"{path}: is no run, no model file and no folder of results; name one of these")


def _of_file(path: Path, name: str, out: Path) -> Entry:
    """A model file, and a folder for its results which tells of it what that of a run does."""
    read = model_file.read(path)
    described = read.description
    config = configs.load("common")
    config.model.name, config.image_size = described.network, described.image_size
    config.batch_size = _BATCH
    training = described.training
    step = training.get("step") if type(training.get("step")) is int else 0
    try:
        trained_on = resumption.names_of(training) if step else ()
        told = training["config"]["dataset"] if trained_on else []
        datasets = [
            {"name": str(each["name"]), "exclude_methods": tuple(map(str, each["exclude_methods"]))}
            for each in (told if isinstance(told, list) else [told])
        ]
        if datasets:
            config = configs.from_dict({**configs.to_dict(config), "dataset": datasets})
    except (LookupError, TypeError) as error:
        raise UserError(f"{path}: does not tell how it was trained: {describe(error)}") from error
    configs.complete(config)
    called = re.sub(r"[^\w.-]+", "-", name)
    folder = out / "models" / f"{called}-{read.sha256[:8]}"
    write_json(folder / "run.json", {"dataset": list(trained_on), "file": path.name})
    write_json(folder / configs.STORED, configs.to_dict(config))
    return Entry(name, folder.absolute(), config, step or 0, trained_on, path)
