"""The weights of the three networks, from the `mtcnn` wheel."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data_builders import packages
from data_builders.errors import UserError

VERSION = "1.0.0"  # of the wheel that has these files

_SHA256 = {
    "pnet.lz4": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet.lz4": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet.lz4": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}
_INSTALL = f"pip install mtcnn=={VERSION} lz4"


class Weights(NamedTuple):
    """Arrays of each network, by layer: kernel, bias, and the slope of the PReLU if it has one.

    Attributes:
      proposal: Weights of P-Net.
      refinement: Weights of R-Net.
      output: Weights of O-Net.
    """

    proposal: list[npt.NDArray[np.float32]]
    refinement: list[npt.NDArray[np.float32]]
    output: list[npt.NDArray[np.float32]]


def folder() -> Path:
    """Finds the folder of the weights in the installed wheel.

    The package is not imported: its first line is `import tensorflow`.

    Raises:
      UserError: The wheel is not installed.
    """
    place = packages.located("mtcnn", "mtcnn/assets/weights")
    if place is None:
        raise UserError(
            "the weights of the face detector are in the package 'mtcnn', which is not installed: "
            f"run `{_INSTALL}`, or give the boxes of the faces in a file"
        )
    return place


def load(source: Path | None = None) -> Weights:
    """Reads the weights, after a check that they are the expected ones.

    The files are pickles, and reading a pickle can run any code. No byte reaches the unpickler
    unless the digest of the file is the one written here.

    Args:
      source: Folder of the three files; None: that of the installed wheel.

    Returns:
      The arrays of the networks.

    Raises:
      UserError: A file is missing or is not the expected one.
    """
    # Here, because processes that detect no face do without them.
    import joblib  # type: ignore[import-untyped]
    import lz4.frame  # type: ignore[import-untyped]

    source = folder() if source is None else source
    networks = []
    for name, expected in _SHA256.items():
        data = packages.read(source / name, expected, of=f"mtcnn {VERSION}", install=_INSTALL)
        # These very bytes, not the path again. joblib would leave its own lz4 file open.
        networks.append(joblib.load(io.BytesIO(lz4.frame.decompress(data))))
    return Weights(*networks)
