"""A detector in one file: weights, and what must be known to use and to trust them.

The file is a `.safetensors`. Its tensors are a state dict as torch has it (`pretrained.export`
writes the same), so that `config.model.pretrained` and torch can read it. Its metadata hold one
JSON text under the key `qad_jax`: how faces are cut out and normalised, the thresholds of each
quality and the error rates that were measured with them, the data and their licences.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import safetensors

from data_builders.errors import MISREAD, UserError
from data_builders.files import is_number, kind_of_no_file, parse_json, refuse_constant, write_whole
from data_builders.home import expanded
from qad_jax import models
from qad_jax.weights import conversion, crops, pretrained

KEY = "qad_jax"
FORMAT = 1
#: The detector that comes with the package.
SHIPPED = Path(__file__).with_name("detector.safetensors")
# Of the description. That of the shipped model has some ten thousand bytes.
_LONGEST, _MOST_VALUES = 1 << 20, 50_000
_SIDES = range(32, 1025)


@dataclasses.dataclass(frozen=True)
class Description:
    """What a model file says of its weights.

    Attributes:
      name: Name of the detector.
      version: Its own version, which is not that of the package.
      network: See `qad_jax.models.create`.
      image_size: Side of the square that each crop is resized to, in pixels.
      crop: How a face becomes a crop: the recipe of the dataset that it was trained on.
      normalisation: `mean` and `std` of each colour, for values from 0 to 1.
      qualities: For each measured quality, best first, its `thresholds` and its `rates`; the
        classes of `qad_jax.evaluation.verdicts` read them.
      training: Configuration, datasets, step, command, commit and versions of the training.
      measured: The split that the rates are of, and the numbers by method and by group of people.
      sources: Of the data and of the weights that training began with: `title`, `licence`, and
        more.
    """

    name: str
    version: str
    network: str
    image_size: int
    crop: Mapping[str, Any]
    normalisation: Mapping[str, Any]
    qualities: Mapping[str, Mapping[str, Any]]
    training: Mapping[str, Any]
    measured: Mapping[str, Any]
    sources: tuple[Mapping[str, Any], ...]

    @property
    def dtype(self) -> str:
        """The arithmetic in which the scores were measured: 'float32' or 'bfloat16'.

        Raises:
          ValueError: The configuration says something else.
        """
        try:
            told = self.training["config"]["model"]["dtype"]
        except (KeyError, TypeError):
            return "float32"
        if told not in ("float32", "bfloat16"):
            raise ValueError(f"config.model.dtype is {told!r}, must be float32 or bfloat16")
        return str(told)

    def as_text(self) -> str:
        """The JSON in the metadata."""
        told = {"format": FORMAT, **dataclasses.asdict(self)}
        return json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


@dataclasses.dataclass(frozen=True)
class ModelFile:
    """A detector as it was read.

    Attributes:
      description: What the file says of it.
      variables: `{'params', 'batch_stats'}`, float32.
      sha256: Of the file.
    """

    description: Description
    variables: dict[str, Any]
    sha256: str


def find(name_or_path: str | Path | None = None) -> Path:
    """Where a detector lies.

    Args:
      name_or_path: A file or a folder; None, or the name `detector` where there is no such file,
        for the detector of the package.

    Returns:
      An absolute path, at which there may be nothing.
    """
    path = expanded(SHIPPED if name_or_path is None else name_or_path).absolute()
    return SHIPPED if str(name_or_path) == SHIPPED.stem and not path.exists() else path


def write(path: Path, variables: Mapping[str, Any], description: Description) -> None:
    """Writes a model file, in full or not at all.

    Args:
      path: The file, whose name ends in `.safetensors`.
      variables: `{'params', 'batch_stats'}`.
      description: What to say of them.

    Raises:
      UserError: `read` would refuse the description; nothing is written.
    """
    write_whole(path, content(variables, description))


def content(variables: Mapping[str, Any], description: Description) -> bytes:
    """The bytes of a model file, see `write`."""
    state = conversion.to_torch(variables, description.network)
    state |= conversion.located_to_torch(variables)
    try:
        text = description.as_text()
        _parsed(text)
    except MISREAD as error:
        raise UserError(
            f"{description.name}: no model file can be made of it: {_reason(error)}"
        ) from error
    about = {"format": "pt", "model": description.network, KEY: text}
    return pretrained.as_safetensors(state, about)


def read(path: Path) -> ModelFile:
    """Reads a model file, which may come from a stranger; nothing in it is run.

    Raises:
      UserError: It cannot be read, it is not a model file, or what it says is not possible.
    """
    description = describe(path)
    imported = pretrained.read(path, description.network)
    if imported.dropped is not None:
        raise UserError(f"{path}: its head has {imported.dropped} classes, not real and fake")
    return ModelFile(description, imported.variables, imported.sha256)


def describe(path: Path) -> Description:
    """Reads what a model file says of its weights, without the weights.

    Raises:
      UserError: As `read`.
    """
    text = _text(path)
    if text is None:
        raise UserError(
            f"{path}: holds weights alone, without the thresholds of a detector; give the run's "
            "folder, or make a model file from it with `python -m qad_jax.release`"
        )
    try:
        return _parsed(text)
    except MISREAD as error:
        raise UserError(
            f"{path}: is not a model file that can be used: {_reason(error)}"
        ) from error


def is_one(path: Path) -> bool:
    """Whether a file is a safetensors file that describes itself as a detector.

    Raises:
      UserError: It cannot be read, or is a safetensors file that is damaged.
    """
    try:
        with _opened(path) as file:
            start = file.read(9)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    return pretrained.is_safetensors(start) and _text(path) is not None


def _text(path: Path) -> str | None:
    """The description in a safetensors file, None where it has none."""
    try:
        with _opened(path) as start:
            pretrained.check_header(path, start.read(8))
        with safetensors.safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get(KEY)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except safetensors.SafetensorError as error:
        raise UserError(f"{path}: is no safetensors file, or is cut off; get it again") from error


def _opened(path: Path) -> BinaryIO:
    """Opens a file that is read more than once, which a pipe cannot be: it would wait for ever."""
    if (kind := kind_of_no_file(path)) is not None:
        raise UserError(f"{path}: cannot be read: it is {kind} and no file; name a model file")
    return path.open("rb")


def _parsed(text: str) -> Description:
    if len(text) > _LONGEST:
        raise ValueError(
            f"its description is longer than {_LONGEST:,} characters; it has a number for each "
            "clip of validation"
        )
    return _checked(parse_json(text.encode(), most=_MOST_VALUES, parse_constant=refuse_constant))


def _reason(error: BaseException) -> object:
    return f"{error} is missing" if isinstance(error, KeyError) else error


def _checked(told: Any) -> Description:
    if told["format"] != FORMAT:
        raise ValueError(
            f"its format is {told['format']!r}, and this version of qad-jax knows {FORMAT}"
        )
    fields = {field.name: told[field.name] for field in dataclasses.fields(Description)}
    sources = tuple(fields["sources"])
    described = Description(**{**fields, "sources": sources})
    for name in ("name", "version", "network"):
        if not isinstance(fields[name], str):
            raise TypeError(f"{name} is no text")
    for name in ("crop", "normalisation", "qualities", "training", "measured"):
        if not isinstance(fields[name], dict):
            raise TypeError(f"{name} is no object")
    if not (isinstance(fields["sources"], list) and all(isinstance(of, dict) for of in sources)):
        raise TypeError("sources is no list of objects")
    if described.network not in models.NAMES:
        raise ValueError(f"network {described.network!r} is not known")
    if type(described.image_size) is not int or described.image_size not in _SIDES:
        raise ValueError(
            f"image_size is {described.image_size!r}, must be a whole number from "
            f"{_SIDES[0]} to {_SIDES[-1]}"
        )
    crops.search_of(described.crop)
    _ = described.dtype  # raises where it is none
    constants = models.create(described.network).normalisation._asdict()
    for name, values in constants.items():
        given = described.normalisation[name]
        if len(given) != len(values) or not all(
            is_number(a) and math.isclose(a, b, rel_tol=1e-6)
            for a, b in zip(given, values, strict=True)
        ):
            raise ValueError(f"normalisation is not that of {described.network}")
    if not described.qualities:
        raise ValueError("it has no measured quality")
    for quality, of in described.qualities.items():
        _check_numbers(f"{quality}: thresholds", of["thresholds"])
        _check_numbers(f"{quality}: rates", of["rates"], unknown=True)
        _check_rates(f"{quality}: rates", of["rates"])
    json.dumps(told, ensure_ascii=False).encode()  # half of a character could be shown nowhere
    return described


def _check_numbers(what: str, told: Mapping[str, Any], *, unknown: bool = False) -> None:
    """Refuses what `float` would take for a number, such as the text 'nan'.

    Args:
      what: For the message.
      told: Numbers, and lists of numbers, by name.
      unknown: Whether a number may be missing.
    """
    for name, values in told.items():
        for value in values if isinstance(values, list) else [values]:
            if not (is_number(value) or (unknown and value is None)):
                raise ValueError(f"{what}: {name} is {value!r}, no finite number")


def _check_rates(what: str, told: Mapping[str, Any]) -> None:
    """Refuses numbers of clips that are none, and shares and ends of intervals out of their range.

    Args:
      what: For the message.
      told: Numbers or None, by name; a share `s` has its interval from `s_low` to `s_high`.
    """
    for name, value in told.items():
        if name.endswith("_clips"):
            if type(value) is not int or value < 0:
                raise ValueError(f"{what}: {name} is {value!r}, no number of clips")
        elif isinstance(value, list) or not (value is None or 0 <= value <= 1):
            raise ValueError(f"{what}: {name} is {value!r}, no share from 0 to 1")
    for name in told:
        low, high = told.get(f"{name}_low"), told.get(f"{name}_high")
        if low is not None and high is not None and low > high:
            raise ValueError(f"{what}: the interval of {name} is from {low!r} to {high!r}")
