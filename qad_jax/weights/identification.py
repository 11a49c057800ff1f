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
from qad_jax.models.efficientnet import EfficientNet
from qad_jax.models.layers import HEAD
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
    "57934424": "efficientnet_lite0",
    "77cc7160": "efficientnet_lite1",
    "9656183e": "efficientnet_lite2",
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
    size = (
        re.sub(r"^(timm_|tf_)?efficientnet_", "", name or "") if "efficient" in str(name) else "b1"
    )
    names = {
        conversion.TORCHVISION: ["resnet50"],
        conversion.EFFICIENTNET_PYTORCH: [f"efficientnet_{size}"],
        conversion.TIMM: [f"timm_efficientnet_{size}", f"tf_efficientnet_{size}"],
    }[found]
    lite = None
    if found != conversion.TORCHVISION:
        lite = hinted if hinted in _lites() else _lite(state, found)
    if lite is not None:
        names, hinted = [lite], lite
    elif hinted is not None and found in conversion.layouts_of(create(hinted)):
        names = [hinted]
    if name is None:
        if len(names) == 1:
            return names[0]
        raise UserError(
            f"{path}: timm's efficientnet_b1 and tf_efficientnet_b1 have the same tensors; say "
            f"which it is with --name {' or --name '.join(names)}"
        )
    own = conversion.layouts_of(create(name))
    if found in own and (name in names or not (lite or found == conversion.TIMM)):
        return name
    if found in own:
        evidence = "its tensors" if lite else "its name or by what is stored with it"
        raise UserError(
            f"{path}: is of {hinted} by {evidence}, and {name} is another geometry; use the model "
            f"name {hinted}{'' if lite else ', or rename the file if it is mistaken'}"
        )
    raise UserError(
        f"{path}: has the tensors of {found}, {name} has those of {' or '.join(own)}; use the "
        f"model name {' or '.join(names)}"
    )


def _lites() -> list[str]:
    models = {name: create(name) for name in NAMES}
    return [n for n, m in models.items() if isinstance(m, EfficientNet) and not m.squeeze_excite]


def _lite(state: Mapping[str, Any], layout: str) -> str | None:
    """The EfficientNet-Lite whose tensors these are, whatever the head; None where it is none."""
    if any(re.search(r"\b_?se[._]", key) for key in state):
        return None
    shapes = {key: getattr(value, "shape", None) for key, value in state.items()}
    fitting = {}
    for name in _lites():
        body = {
            key: leaf.shape
            for key, leaf in conversion.table(name, 2, layout).items()
            if leaf.path[1] != HEAD
        }
        if body.items() <= shapes.items():
            fitting[name] = len(body)
    # The blocks of a smaller one may be among those of a larger one.
    return max(fitting, key=fitting.__getitem__, default=None)
