"""Which model a file of weights is of: by its digest, by what is written about it, by its names."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_builders.errors import UserError
from data_builders.files import read_json
from qad_jax.models import NAMES, create
from qad_jax.weights import conversion

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
DIGITS = 8


def hint(path: Path, metadata: Mapping[str, str], digest: str) -> str | None:
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
        texts.insert(1, str(read_json(path.parent / "config.json")["architecture"]))
    for text in texts:
        if found := re.search(
            r"(?<![a-z])(tf_|timm_)?(efficientnet_(?:b1|tiny))(?![a-z0-9])", text
        ):
            return f"{found[1] or 'timm_'}{found[2]}"
    return None


def model_name(path: Path, state: Mapping[str, Any], name: str | None, hinted: str | None) -> str:
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
    if hinted is not None and conversion.layout_of(create(hinted)) == found:
        names = [hinted]
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
            f"{path}: is of {hinted} by its name or by what is stored with it, and {name} is "
            f"another geometry; use the model name {hinted}, or rename the file if it is mistaken"
        )
    raise UserError(
        f"{path}: has the tensors of {found}, {name} has those of "
        f"{conversion.layout_of(create(name))}; use the model name {' or '.join(names)}"
    )
