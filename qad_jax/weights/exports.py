"""Detectors for other runtimes: ONNX, and StableHLO as `jax.export` stores it.

Both take crops in bytes and give the probability of fake, and both say of themselves what must be
known to use them. They hold the network alone: faces are found and cut out by the program that
runs them (see docs/deployment.md).
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import safetensors.numpy
from jax import export

from data_builders.errors import UserError
from data_builders.files import write_json, write_whole
from qad_jax import __version__
from qad_jax.models import create, onednn
from qad_jax.models.layers import normalise
from qad_jax.runs import checkpoints, configuration
from qad_jax.runs.weights_digest import OF_THE_SCORE
from qad_jax.weights import model_file, pretrained

SUFFIXES = ONNX, STABLEHLO = ".onnx", ".stablehlo"
FORMAT = 1
_PLATFORMS = ("cpu", "cuda", "tpu")
# How the detector itself resizes, see `qad_jax.training.resizing.resize_into`.
_RESIZE = {
    "shorter_side_is_larger_than_the_input": "INTER_AREA",
    "otherwise": "INTER_CUBIC",
}


@dataclasses.dataclass(frozen=True)
class Source:
    """A detector that is to be written.

    Attributes:
      network: See `qad_jax.models.create`.
      image_size: Side of the crops, in pixels.
      variables: `{'params', 'batch_stats'}`, float32, and the localiser where there is one.
      known: What its file or its run says of it, see docs/deployment.md.
    """

    network: str
    image_size: int
    variables: Mapping[str, Any]
    known: Mapping[str, Any]

    def about(self) -> dict[str, Any]:
        """What the metadata say."""
        return {
            "format": FORMAT,
            "network": self.network,
            "image_size": self.image_size,
            "outputs": {"probability": "of fake", "logits": ["real", "fake"]},
            "resize": _RESIZE,
            "made_by": f"qad-jax {__version__}",
            **self.known,
        }


def open_source(
    path: Path,
    *,
    step: int | None = None,
    name: str | None = None,
    config_file: str | Path | None = None,
) -> Source:
    """Reads a run, a model file, or a file of weights.

    Args:
      path: The run's folder, or the file.
      step: Of a run, the step of the checkpoint; None: the best on validation.
      name: Of weights, the model; None: the one that the file holds.
      config_file: Of weights, the configuration that tells the size of crops; None: that of the
        original project for the model.

    Raises:
      UserError: It cannot be read, or its head is not trained.
    """
    if path.is_dir():
        return _of_run(path, step)
    if model_file.is_one(path):
        return _of_model_file(path)
    imported = pretrained.read(path, name)
    _check_head(path, imported.dropped)
    config = configuration.check(pretrained.configuration_for(imported.name, config_file))
    source = {"file": path.name, "sha256": imported.sha256}
    return Source(imported.name, config.image_size, imported.variables, {"source": source})


def _of_run(path: Path, step: int | None) -> Source:
    run = pretrained.of_run(path, step)
    _check_head(path, run.dropped)
    # Of the tensors alone.
    digest = hashlib.sha256(safetensors.numpy.save(run.as_torch())).hexdigest()
    datasets = list(checkpoints.datasets_of(path, run.step))
    known = {
        "source": {"run": path.absolute().name, "step": run.step, "sha256": digest},
        "training": {"step": run.step, "datasets": datasets},
    }
    return Source(run.config.model.name, run.config.image_size, run.variables, known)


def _of_model_file(path: Path) -> Source:
    read = model_file.read(path)
    described = dataclasses.asdict(read.description)
    network, image_size = described.pop("network"), described.pop("image_size")
    known = {"source": {"file": path.name, "sha256": read.sha256}, **described}
    return Source(network, image_size, read.variables, known)


def _check_head(path: Path, dropped: int | None) -> None:
    if dropped is not None:
        raise UserError(
            f"{path}: its head has {dropped} classes, not real and fake; train it first"
        )


def check(file: Path) -> None:
    """Checks before all the work that a file can be written.

    Raises:
      UserError: It, or its description, exists; or the package that writes it is not installed.
    """
    for one in (file, description_of(file)) if file.suffix == STABLEHLO else (file,):
        if one.exists():
            raise UserError(f"--export: {one} exists; name a new file")
    package, extra = ("onnx", "onnx") if file.suffix == ONNX else ("flatbuffers", "stablehlo")
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise UserError(
            f"--export: {file}: {package} is not installed; "
            f"pip install 'qad-jax[{extra}]' brings it"
        ) from error


def write(source: Source, file: Path) -> str:
    """Writes a detector in the format that the name of the file asks for, see `check`.

    Args:
      source: The detector.
      file: Its name ends in `.onnx` or `.stablehlo`. Beside the latter, which has no place for it,
        the description is written as a file that is called as it is, with `.json` at its end.

    Returns:
      What was written, in a few words.
    """
    side, about = source.image_size, source.about()
    model = create(source.network)
    variables = jax.device_get({name: source.variables[name] for name in OF_THE_SCORE})
    what = f"{source.network}, crops of {side} x {side} px"
    if file.suffix == ONNX:
        from qad_jax.weights import onnx_graph

        text = json.dumps(about, ensure_ascii=False, allow_nan=False)
        write_whole(file, onnx_graph.build(model, variables, (side, side), {model_file.KEY: text}))
        return f"{file}: {what}, ONNX opset {onnx_graph.OPSET}"
    data = _stablehlo(model, variables, side)
    about |= {"jax": jax.__version__, "platforms": list(_PLATFORMS)}
    # First the description: the other file is then never without it.
    beside = description_of(file)
    write_json(beside, about, ensure_ascii=False, allow_nan=False)
    try:
        write_whole(file, data)
    except BaseException:
        beside.unlink()
        raise
    return f"{file}: {what}, StableHLO of jax {jax.__version__}; {beside}"


def description_of(file: Path) -> Path:
    """The file with the description of a file of StableHLO."""
    return file.with_name(f"{file.name}.json")


def _stablehlo(model: nn.Module, variables: Mapping[str, Any], side: int) -> bytes:
    """A function of `(n, side, side, 3)` uint8 images: probability `(n,)` and logits `(n, 2)`."""

    def detector(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        crops = normalise(images, model.normalisation)
        output: Any = model.apply(variables, crops, train=False)
        return jax.nn.softmax(output.logits, axis=-1)[:, 1], output.logits

    (batch,) = export.symbolic_shape("n")
    images = jax.ShapeDtypeStruct((batch, side, side, 3), jnp.uint8)
    with onednn.unused():
        exported = export.export(jax.jit(detector), platforms=_PLATFORMS)(images)
    return bytes(exported.serialize(vjp_order=0))
