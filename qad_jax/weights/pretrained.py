"""Weights of other projects, number for number: torch and safetensors files in, safetensors out.

`convert` makes a folder for ``--mode evaluate``, `export` a state dict for torch; their command is
in `qad_jax.weights.command`. Training reads such a file: ``--config.model.pretrained=FILE``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
import numpy.typing as npt
import safetensors
import safetensors.numpy

from data_builders.errors import UserError
from data_builders.files import kind_of_no_file, write_whole
from data_builders.home import expanded
from qad_jax import configs
from qad_jax.models import create
from qad_jax.runs import configuration
from qad_jax.weights import conversion, imagenet, pickle_machine, state_dicts, torch_file
from qad_jax.weights.identification import DIGITS, PUBLISHED, hint, model_name

_LFS = b"version https://git-lfs"
# Each tensor that it lists takes some hundred bytes there and some thousand in memory.
_LONGEST_HEADER = 8 << 20
# In the metadata of an exported file: number of classes of the head that a new one replaced.
_NEW_HEAD = "new_head_instead_of"


class Imported(NamedTuple):
    """Weights of a file.

    Attributes:
      name: The model they are for.
      variables: ``{'params', 'batch_stats'}``, float32, and the localiser of a model file.
      dropped: Number of classes of the file's head where it was left out and a new one drawn.
      notes: What else there is to say of them.
      sha256: Of the file.
    """

    name: str
    variables: dict[str, Any]
    dropped: int | None
    notes: tuple[str, ...] = ()
    sha256: str = ""

    @property
    def summary(self) -> str:
        """What was taken, in some words."""
        head = ", head included"
        if self.dropped is not None:
            head = f"; its head of {self.dropped} classes was replaced by a new one"
        return "; ".join([f"weights of {self.name}{head}", *self.notes])


def load(path: str | Path, name: str, *, num_classes: int = 2, seed: int = 0) -> dict[str, Any]:
    """Reads weights for a model without running anything from the file.

    Args:
      path: A ``.pth``/``.pt`` of torch, or a ``.safetensors``; their content tells which.
      name: The model, see `qad_jax.models.create`.
      num_classes: Width of the head. A new head replaces one of another width.
      seed: Seed of a new head.

    Returns:
      ``{'params', 'batch_stats'}`` for ``create(name, num_classes)``, float32.

    Raises:
      UserError: Where the file cannot be read, would run code, does not fit the model, or
        gives no score (see `state_dicts.check_numbers`). Where it does not fit, the message names
        every key that is missing, unknown, or of another shape.
    """
    return read(path, name, num_classes=num_classes, seed=seed).variables


def of_config(config: ml_collections.ConfigDict) -> Imported:
    """Reads the weights that a configuration starts from.

    Raises:
      UserError: As `load`, naming the field.
    """
    given, name = config.model.pretrained, config.model.name
    try:
        path = expanded(imagenet.find(name) if given == imagenet.IMAGENET else given)
        return _taken_over(path, name) if path.is_dir() else read(path, name, seed=config.seed)
    except UserError as error:
        raise UserError(f"config.model.pretrained: {error}") from error


def _taken_over(folder: Path, name: str) -> Imported:
    """The best weights of a run, for another run that begins with them."""
    run = of_run(folder)
    if run.config.model.name != name:
        raise UserError(f"{folder}: is a run of {run.config.model.name}, not of {name}")
    return Imported(name, run.variables, run.dropped, (f"of step {run.step} of {folder}",))


def read(
    path: str | Path, name: str | None = None, *, num_classes: int = 2, seed: int = 0
) -> Imported:
    """Reads weights as `load` does, and also returns their model and what happened to the head.

    Args:
      path: As for `load`.
      name: The model; None: the ResNet-50 or EfficientNet-B1 that the file holds.
      num_classes: As for `load`.
      seed: As for `load`.
    """
    path = expanded(path)
    data = _content(path)
    sha256 = hashlib.sha256(data).hexdigest()
    digest = sha256[:DIGITS]
    said = re.search(r"-([0-9a-f]{8})\.", path.name)
    if said and said[1] in PUBLISHED and said[1] != digest:
        raise UserError(
            f"{path}: its name says that its sha256 begins with {said[1]}, but it begins with "
            f"{digest}; get the file again, or give what you changed another name"
        )
    file = _tensors(path, data)
    try:
        found = state_dicts.find(file.value)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if found is None:
        if (whole := state_dicts.why_none(file.value)) is not None:
            raise torch_file.refused(path, whole)
        raise UserError(f"{path}: holds no state dict, a mapping of names to tensors")
    for value in found.state.values():
        if (unknown := pickle_machine.named(value)) is not None:
            raise torch_file.refused(path, unknown)
    name = model_name(path, found.state, name, hint(path, file.metadata, digest))
    try:
        state, located = conversion.part_localiser(found.state, name, num_classes)
        converted = conversion.to_flax(state, name, num_classes, seed)
    except conversion.MismatchError as error:
        raise UserError(f"{path}: does not fit {name}: {error}") from error
    # Only now: before, any number of names could stand for one large tensor.
    state_dicts.check_numbers(path, found.state)
    notes = list(found.notes)
    if converted.one_logit:
        notes.insert(
            0, "its one logit z, which must be that of fake, became the two logits 0 and z"
        )
    if file.passed_over:
        notes.append(f"not read, and not run: {state_dicts.listed(file.passed_over)}")
    dropped = converted.dropped
    if dropped is None and re.fullmatch(r"\d{1,9}", file.metadata.get(_NEW_HEAD, "")):
        dropped = int(file.metadata[_NEW_HEAD])  # exported by us, and still without a training
    return Imported(name, {**converted.variables, **located}, dropped, tuple(notes), sha256)


def _content(path: Path) -> bytes:
    try:
        if (kind := kind_of_no_file(path)) is not None:  # it is read twice, which a pipe cannot be
            raise UserError(f"{path}: cannot be read: it is {kind} and no file; name a file")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    if not data:
        raise UserError(f"{path}: is empty; get the file again")
    if data.startswith(_LFS):
        raise UserError(f"{path}: is a pointer to a file in Git LFS; run `git lfs pull`")
    return data


class _File(NamedTuple):
    """The object in a file, names of what was passed over in it, and what it says of itself."""

    value: Any
    passed_over: list[str]
    metadata: Mapping[str, str]


def _tensors(path: Path, data: bytes) -> _File:
    if not is_safetensors(data):
        return _File(*torch_file.read(path, data), {})
    check_header(path, data)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return _File(file.get_tensors(), [], file.metadata() or {})
    except (AttributeError, TypeError, KeyError) as error:  # numpy's, whatever it lacks
        raise UserError(
            f"{path}: holds a tensor of a type that cannot be read here, such as float8; save it "
            "as float32"
        ) from error
    except Exception as error:
        raise UserError(
            f"{path}: a safetensors file that is damaged or cut off; get the file again"
        ) from error


def is_safetensors(start: bytes) -> bool:
    """Whether a file is one of safetensors, by its first 9 bytes; the others are torch's."""
    return start[8:9] == b"{" and not start.startswith(torch_file.ZIP_MAGIC)


def as_safetensors(state: Mapping[str, npt.NDArray[Any]], about: Mapping[str, str]) -> bytes:
    """The bytes of a safetensors file: the same for the same content.

    Args:
      state: The tensors by name.
      about: The metadata.
    """
    made = safetensors.numpy.save(dict(state), dict(about))
    # The library writes metadata in an order of chance.
    start = 8 + int.from_bytes(made[:8], "little")
    header = json.loads(made[8:start])
    header["__metadata__"] = dict(sorted(about.items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + made[start:]


def check_header(path: Path, data: bytes) -> None:
    """Refuses a safetensors file whose list of tensors would take too much memory.

    Args:
      path: The file, for the message.
      data: Its first bytes, at least 8.

    Raises:
      UserError: It would.
    """
    if int.from_bytes(data[:8], "little") > _LONGEST_HEADER:
        raise UserError(
            f"{path}: a safetensors file whose header takes more than {_LONGEST_HEADER:,} bytes, "
            "which no model needs: it is damaged; get the file again"
        )


def convert(
    path: Path, out: Path, name: str | None = None, config_file: str | Path | None = None
) -> Imported:
    """Writes the weights of a file as a folder that can be evaluated and restored.

    Args:
      path: The file.
      out: The folder, which must be empty or not exist. It is made in full or not at all.
      name: The model; None: the one that the file holds.
      config_file: Configuration to store; None: that of the original project for the model.

    Returns:
      What was read.

    Raises:
      UserError: As `load`, and where `out` is not empty.
    """
    from qad_jax.runs import checkpoints, new_folder  # import orbax, which no detector needs

    new_folder.check(out)
    imported = read(path, name)
    config = configuration_for(imported.name, config_file)
    config.model.name, config.model.pretrained = imported.name, str(path)
    config = configuration.check(config)
    with new_folder.made(out, config) as part:
        checkpoints.save_for_evaluation(
            part,
            imported.variables,
            config,
            origin={"file": path.name, "new_head_instead_of": imported.dropped},
        )
    return imported


def configuration_for(name: str, path: str | Path | None = None) -> ml_collections.ConfigDict:
    """The configuration that goes with weights: that of a path, or the original project's."""
    original = "hkrawp_effnet" if "efficientnet" in name else "hkrawp_resnet"
    return configs.load(path or original)


class Trained(NamedTuple):
    """The weights of a run.

    Attributes:
      variables: ``{'params', 'batch_stats'}``, float32.
      config: The configuration of the run.
      step: The step of the checkpoint.
      dropped: See `Imported`.
    """

    variables: dict[str, Any]
    config: ml_collections.ConfigDict
    step: int
    dropped: int | None

    def as_torch(self) -> dict[str, npt.NDArray[Any]]:
        """The state dict that torch has of it, see `conversion.to_torch`."""
        return conversion.to_torch(self.variables, self.config.model.name)


def of_run(directory: Path, step: int | None = None) -> Trained:
    """Reads the weights of a run.

    Args:
      directory: The run's folder.
      step: The step of the checkpoint; None: the best on validation.

    Raises:
      UserError: Where there is no such checkpoint, or it gives no score, see `load`.
    """
    from qad_jax.runs import checkpoints  # as above

    variables, config, step = checkpoints.restore_step(directory, step)
    trained = Trained(variables, config, step, checkpoints.new_head(directory, step))
    state = trained.as_torch() | conversion.located_to_torch(variables)
    state_dicts.check_numbers(f"{directory}: the checkpoint of step {step}", state)
    return trained


def export(directory: Path, file: Path, step: int | None = None) -> str:
    """Writes a trained model as a torch state dict, for ``load_state_dict(strict=True)``.

    Args:
      directory: The run's folder.
      file: The safetensors file to make.
      step: The step of the checkpoint; None: the best on validation.

    Returns:
      What was written, in a few words.

    Raises:
      UserError: As `of_run`, and where the file exists.
    """
    if file.suffix != ".safetensors":
        raise UserError(f"--export: {file}: must end in .safetensors, .onnx or .stablehlo")
    if file.exists():
        raise UserError(f"--export: {file} exists; name a new file")
    trained = of_run(directory, step)
    name = trained.config.model.name
    about = {"format": "pt", "model": name, "step": str(trained.step)}
    if trained.dropped is not None:
        about[_NEW_HEAD] = str(trained.dropped)
    state = trained.as_torch()
    write_whole(file, as_safetensors(state, about))
    layout, *_ = conversion.layouts_of(create(name))
    return f"{file}: {name} of step {trained.step}, {len(state)} tensors named as in {layout}"
