"""Weights of other projects, number for number: torch and safetensors files in, safetensors out.

    python -m qad_jax.models.pretrained FILE --out DIR
    python -m qad_jax.models.pretrained DIR --export FILE.safetensors

The first makes a folder that ``--mode evaluate`` takes, the second a state dict for torch's own
tools. Training reads a file itself: ``--config.model.pretrained=FILE``.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
import safetensors
import safetensors.numpy
from absl import logging

from data_builders import command_line
from data_builders.errors import UserError
from data_builders.files import write_whole
from qad_jax import configs
from qad_jax.models import NAMES, create
from qad_jax.runs import checkpoints, configuration
from qad_jax.weights import conversion, torch_file

# Published files by the first digits of their sha256, which are part of their names.
PUBLISHED: dict[str, str] = {
    "0676ba61": "resnet50",  # torchvision, IMAGENET1K_V1
    "11ad3fa6": "resnet50",  # torchvision, IMAGENET1K_V2
    "14fe96d1": "resnet50",  # timm, a1_in1k
    "001a1197": "resnet50",  # timm, a1h_in1k
    "a26f946b": "resnet50",  # timm, ram_in1k
    "f1951068": "efficientnet_b1",  # efficientnet_pytorch
    "0f3ce85a": "efficientnet_b1",  # efficientnet_pytorch, AdvProp
    "533bc792": "timm_efficientnet_b1",  # ft_in1k
    "5c1377c4": "tf_efficientnet_b1",  # in1k
    "ea7a6ee0": "tf_efficientnet_b1",  # aa_in1k
    "44ef0a3d": "tf_efficientnet_b1",  # ap_in1k
    "99dd0c41": "tf_efficientnet_b1",  # ns_jft_in1k
}
_DIGITS = 8
_LFS = b"version https://git-lfs"


class Imported(NamedTuple):
    """Weights of a file.

    Attributes:
      name: The model they are for.
      variables: ``{'params', 'batch_stats'}``, float32.
      dropped: Number of classes of the file's head where it was left out and a new one drawn.
    """

    name: str
    variables: dict[str, Any]
    dropped: int | None

    @property
    def summary(self) -> str:
        """What was taken, in some words."""
        if self.dropped is None:
            return f"weights of {self.name}, head included"
        return (
            f"weights of {self.name}; its head of {self.dropped} classes was replaced by a new one"
        )


def load(path: str | Path, name: str, *, num_classes: int = 2, seed: int = 0) -> dict[str, Any]:
    """Reads weights for a model; nothing in the file is run.

    Args:
      path: A ``.pth``/``.pt`` of torch, or ``.safetensors``, told apart by their content.
      name: The model, see `qad_jax.models.create`.
      num_classes: Width of the head. One of another width is left out, and a new one drawn.
      seed: Of a new head.

    Returns:
      ``{'params', 'batch_stats'}`` for ``create(name, num_classes)``, float32.

    Raises:
      UserError: If the file cannot be read, would run code, or does not fit the model; in the last
        case the message names every key that is missing, too many, or of another shape.
    """
    return read(path, name, num_classes=num_classes, seed=seed).variables


def of_config(config: ml_collections.ConfigDict) -> Imported:
    """Reads the weights that a configuration starts from.

    Raises:
      UserError: As `load`, naming the field.
    """
    try:
        return read(config.model.pretrained, config.model.name, seed=config.seed)
    except UserError as error:
        raise UserError(f"config.model.pretrained: {error}") from error


def read(
    path: str | Path, name: str | None = None, *, num_classes: int = 2, seed: int = 0
) -> Imported:
    """As `load`, and also returns what the file was found to hold.

    Args:
      path: As for `load`.
      name: The model; None: ResNet-50 or the EfficientNet-B1 that the file is of.
      num_classes: As for `load`.
      seed: As for `load`.
    """
    path = Path(path).expanduser()
    data = _content(path)
    digest = hashlib.sha256(data).hexdigest()[:_DIGITS]
    said = re.search(r"-([0-9a-f]{8})\.", path.name)
    if said and said[1] in PUBLISHED and said[1] != digest:
        raise UserError(
            f"{path}: its name says that its sha256 begins with {said[1]}, but it begins with "
            f"{digest}; get the file again, or give what you changed another name"
        )
    content, metadata = _tensors(path, data)
    state = conversion.unwrap(content)
    if not state:
        raise UserError(f"{path}: holds no state dict, a mapping of names to tensors")
    hint = _hint(path, metadata, digest)
    name = _name(path, state, name, hint)
    try:
        converted = conversion.to_flax(state, name, num_classes, seed)
    except conversion.MismatchError as error:
        raise UserError(f"{path}: does not fit {name}: {error}") from error
    return Imported(name, converted.variables, converted.dropped)


def _content(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    if not data:
        raise UserError(f"{path}: is empty; get the file again")
    if data.startswith(_LFS):
        raise UserError(f"{path}: is a pointer to a file in Git LFS; run `git lfs pull`")
    return data


def _tensors(path: Path, data: bytes) -> tuple[Any, Mapping[str, str]]:
    """The object in a file, and what a safetensors file says of itself."""
    if data[8:9] != b"{" or data.startswith(torch_file.ZIP_MAGIC):
        return torch_file.read(path, data), {}
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return file.get_tensors(), file.metadata() or {}
    except Exception as error:  # its own type, or one of numpy's for a type that numpy has not
        raise UserError(
            f"{path}: a safetensors file that is damaged or cut off; get the file again"
        ) from error


def _hint(path: Path, metadata: Mapping[str, str], digest: str) -> str | None:
    """Which model the file is of, by what is known or written about it.

    timm's two EfficientNets have the same tensors: only this tells them apart.
    """
    if metadata.get("model") in NAMES:
        return metadata["model"]
    if digest in PUBLISHED:
        return PUBLISHED[digest]
    texts = [metadata.get("architecture", ""), path.name, path.absolute().parent.name]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        # Beside the files of timm on the hub, all of which have the same name.
        texts.insert(1, str(json.loads((path.parent / "config.json").read_text())["architecture"]))
    for text in texts:
        if found := re.search(
            r"(?<![a-z])(tf_|timm_)?(efficientnet_(?:b1|tiny))(?![a-z0-9])", text
        ):
            return f"{found[1] or 'timm_'}{found[2]}"
    return None


def _name(path: Path, state: Mapping[str, Any], name: str | None, hint: str | None) -> str:
    """Settles the model, or says by which name it has to be asked for.

    Raises:
      UserError: If file and name do not belong together, or no name follows from the file.
    """
    found = conversion.layout_of_names(state)
    if found is None:
        raise UserError(
            f"{path}: none of its tensors is named as in torchvision, efficientnet_pytorch or timm "
            f"(the first is {next(iter(state))!a})"
        )
    size = name.rpartition("_")[2] if name and "efficientnet" in name else "b1"
    names = {
        conversion.TORCHVISION: ["resnet50"],
        conversion.EFFICIENTNET_PYTORCH: [f"efficientnet_{size}"],
        conversion.TIMM: [f"timm_efficientnet_{size}", f"tf_efficientnet_{size}"],
    }[found]
    if hint is not None and conversion.layout_of(create(hint)) == found:
        names = [hint]
    if name is None:
        if len(names) == 1:
            return names[0]
        raise UserError(
            f"{path}: timm's efficientnet_b1 and tf_efficientnet_b1 have the same tensors; say "
            f"which it is with --name {' or --name '.join(names)}"
        )
    fits = conversion.layout_of(create(name)) == found
    if fits and (found != conversion.TIMM or name in names):
        return name
    if fits:
        raise UserError(
            f"{path}: is of {hint} by its name or by what is stored with it, and {name} is another "
            f"geometry; use the model name {hint}, or rename the file if it is mistaken"
        )
    raise UserError(
        f"{path}: has the tensors of {found}, {name} has those of "
        f"{conversion.layout_of(create(name))}; use the model name {' or '.join(names)}"
    )


def convert(
    path: Path, out: Path, name: str | None = None, config_file: str | Path | None = None
) -> Imported:
    """Writes the weights of a file as a folder that can be evaluated and restored from.

    Args:
      path: The file.
      out: The folder; must not exist, or be empty. It is there in full or not at all.
      name: The model; None: what the file is of.
      config_file: Configuration to store with it; None: the original project's for the model.

    Returns:
      What was read.

    Raises:
      UserError: As `load`, and where there is something in `out`.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out: {out} exists; name a new folder")
    imported = read(path, name)
    config = _configuration(config_file, imported.name)
    config.model.name, config.model.pretrained = imported.name, str(path)
    config = configuration.check(config)
    part = out.absolute().with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        configuration.claim_workdir(config, part)
        checkpoints.save_for_evaluation(part, imported.variables, config)
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return imported


def _configuration(path: str | Path | None, name: str) -> ml_collections.ConfigDict:
    original = "hkrawp_effnet" if "efficientnet" in name else "hkrawp_resnet"
    return configs.load(path or original)


def export(directory: Path, file: Path, step: int | None = None) -> str:
    """Writes a trained model as a torch state dict, for ``load_state_dict(strict=True)``.

    Args:
      directory: The run's folder.
      file: The safetensors file to make.
      step: Which checkpoint; None: the best on validation.

    Returns:
      What was written, in some words.

    Raises:
      UserError: If there is no such checkpoint, or the file exists.
    """
    if file.suffix != ".safetensors":
        raise UserError(f"--export: {file}: must end in .safetensors")
    if file.exists():
        raise UserError(f"--export: {file} exists; name a new file")
    variables, config, step = checkpoints.restore_step(directory, step)
    name = config.model.name
    state = conversion.to_torch(variables, name)
    about = {"format": "pt", "model": name, "step": str(step)}
    write_whole(file, safetensors.numpy.save(state, about))
    layout = conversion.layout_of(create(name))
    return f"{file}: {name} of step {step}, {len(state)} tensors named as in {layout}"


def _job(argv: Sequence[str], prog: str) -> str:
    parser = command_line.Parser(
        prog=prog,
        description="Converts torch weights to a run's folder, or a run to torch weights.",
    )
    parser.add_argument("source", type=Path, help="weights (with --out) or a run (with --export)")
    to = parser.add_mutually_exclusive_group(required=True)
    to.add_argument("--out", type=Path, metavar="DIR", help="the folder to make")
    to.add_argument("--export", type=Path, metavar="FILE", help="the .safetensors file to make")
    parser.add_argument("--name", choices=NAMES, help="with --out: the model, if not to be guessed")
    parser.add_argument("--config", help="with --out: configuration to go with it")
    parser.add_argument("--step", type=int, help="with --export: checkpoint (the best)")
    args = parser.parse_args(argv)
    logging.set_verbosity(logging.ERROR)  # orbax tells of every folder it looks at
    if args.export:
        return export(args.source, args.export, args.step)
    imported = convert(args.source, args.out, args.name, args.config)
    return f"{args.out}: {imported.summary}"


def main(
    argv: Sequence[str] | None = None, *, prog: str = "python -m qad_jax.models.pretrained"
) -> int:
    """Entry point of the command; returns its exit status."""
    return command_line.run(functools.partial(_job, prog=prog), argv)
