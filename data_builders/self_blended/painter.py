"""Networks that paint a face, as the generators of deepfakes do: what they are, and how they paint.

A painter is an autoencoder: it squeezes the square around a face into a code, and paints the
square anew from that. What is lost and what is added on the way are the traces of a generator: soft
detail, and the patterns of the layers that enlarge.

JAX and Flax are imported where a network is made: what reads other fakes does not load them.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from data_builders.errors import UserError, nearest
from data_builders.self_blended.face import Face, Map

if TYPE_CHECKING:
    import jax

#: Paints a batch of squares, `(n, side, side, 3)` in [-1, 1].
Paint: TypeAlias = Callable[[npt.NDArray[np.float32]], Any]

#: Side of the painted square, in distances of the eyes.
REACH = 3.3
_MIDDLE = 0.45  # of the square, below the eyes, in the distance from the eyes to the mouth
_BORDER = 1 / 32  # of the square, on each side, which is not used: it is badly painted
_LARGEST_FILE = 32 * 2**20  # bytes; the largest of `KINDS` has 7 MB


class Kind(NamedTuple):
    """What is built and how it learns.

    Attributes:
      side: Of the square in pixels, a multiple of 16.
      code: Channels of the code, which is a sixteenth as wide and as high as the square.
      enlarging: How it doubles its size: 'nearest', 'bilinear', or 'shuffle', in which a
        convolution makes four pixels of one, as a transposed convolution does.
      loss: 'absolute', 'squared' or 'edges', see `learning`.
    """

    side: int
    code: int
    enlarging: str
    loss: str


#: The painters that are learned, by the names of their files. The larger the code, the sharper.
KINDS = {
    "shuffle64": Kind(64, 192, "shuffle", "edges"),
    "shuffle96": Kind(96, 96, "shuffle", "squared"),
    "nearest96": Kind(96, 192, "nearest", "edges"),
    "bilinear128": Kind(128, 128, "bilinear", "absolute"),
}


def fold(x: jax.Array, by: int) -> jax.Array:
    """Turns the pixels of each square of `by` by `by` into channels of one pixel."""
    n, h, w, c = x.shape
    x = x.reshape(n, h // by, by, w // by, by, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h // by, w // by, by * by * c)


def unfold(x: jax.Array, by: int) -> jax.Array:
    """Undoes `fold`."""
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, by, by, c // by**2).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h * by, w * by, c // by**2)


@functools.cache
def block() -> Any:
    """The Flax module of a residual block, which begins as the identity."""
    import flax.linen as nn

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            width = x.shape[-1]
            y = nn.Conv(width, (3, 3))(nn.leaky_relu(x, 0.1))
            narrow = nn.Conv(width, (1, 1), kernel_init=nn.initializers.zeros)
            return x + narrow(nn.leaky_relu(y, 0.1))

    return Block


@functools.cache
def network(kind: Kind) -> Any:
    """The Flax module of a painter, which paints `(n, side, side, 3)` in about [-1, 1]."""
    import flax.linen as nn
    import jax

    Block = block()

    class Painter(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            for by, width in ((4, 48), (2, 96), (2, 192)):
                x = Block()(nn.Conv(width, (1, 1))(fold(x, by)))
            x = Block()(nn.Conv(128, (1, 1))(nn.Conv(kind.code, (1, 1))(x)))
            for width in (96, 64, 32):
                x = Block()(self._enlarged(x, width))
            return nn.Conv(3, (3, 3))(nn.leaky_relu(self._enlarged(x, 16), 0.1))

        def _enlarged(self, x: jax.Array, width: int) -> jax.Array:
            n, h, w, channels = x.shape
            if kind.enlarging == "shuffle":
                return unfold(nn.Conv(4 * width, (3, 3))(x), 2)
            larger = jax.image.resize(x, (n, 2 * h, 2 * w, channels), kind.enlarging)
            return nn.Conv(width, (3, 3))(larger)

    return Painter()


def square_of(face: Face, side: int, reach: float) -> npt.NDArray[np.float64]:
    """The affine map from pixels of an image to a square around a face.

    Args:
      face: The face.
      side: Of the square in pixels.
      reach: The same in distances of the eyes.

    Returns:
      `(2, 3)`.
    """
    matrix = face.coordinates()
    scale = side / reach
    middle = np.array([side / 2, side / 2]) - scale * np.array([0, _MIDDLE])
    return np.concatenate([scale * matrix[:, :2], (scale * matrix[:, 2] + middle)[:, None]], axis=1)


def cut(
    image: npt.NDArray[Any], face: Face, side: int, reach: float = REACH
) -> npt.NDArray[np.float32]:
    """Cuts out the square around a face, without aliasing.

    Args:
      image: `(height, width, 3)`, uint8 or float32 of 255.
      face: The face in it.
      side: Of the square in pixels.
      reach: The same in distances of the eyes.

    Returns:
      `(side, side, 3)` of 255.
    """
    matrix = square_of(face, side, reach)
    scale = min(1.0, float(np.sqrt(abs(np.linalg.det(matrix[:, :2])))))
    height, width = (max(1, round(scale * length)) for length in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    back = np.diag([image.shape[1] / width, image.shape[0] / height, 1])
    found = cv2.warpAffine(small, matrix @ back, (side, side), borderMode=cv2.BORDER_REFLECT)
    return np.asarray(found, np.float32)


def painted(image: npt.NDArray[Any], face: Face, paint: Paint, side: int) -> Map:
    """An image with a painted face.

    Args:
      image: `(height, width, 3)`, uint8 or float32 of 255.
      face: The face in it.
      paint: Paints squares.
      side: Of these squares.

    Returns:
      `(height, width, 3)` float32 of 255, painted in the square around the face.
    """
    size = image.shape[1], image.shape[0]
    square = cut(image, face, side) / np.float32(127.5) - 1
    made = np.clip(np.asarray(paint(square[None]), np.float32)[0] * 127.5 + 127.5, 0, 255)
    matrix, border = square_of(face, side, REACH), round(_BORDER * side)
    inside = np.zeros((side, side), np.float32)
    inside[border:-border, border:-border] = 1
    back = cv2.warpAffine(made, matrix, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
    where = cv2.warpAffine(inside, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return np.asarray(image + where[..., None] * (back - image), np.float32)


def save(params: Any, name: str, notes: dict[str, Any]) -> bytes:
    """The content of a painter's file.

    Args:
      params: Its parameters.
      name: Of its kind.
      notes: What it learned from, as JSON values.
    """
    from flax.traverse_util import flatten_dict

    flat = flatten_dict(params, sep="/")
    metadata = {"kind": name, "learned": json.dumps(notes)}
    return safetensors.numpy.save(
        {key: np.asarray(value, np.float32) for key, value in flat.items()}, metadata
    )


def notes_of(path: Path) -> dict[str, Any]:
    """What a painter learned from, see `save`; empty where the file does not say it."""
    try:
        with safetensors.safe_open(path, "numpy") as file:
            found = json.loads((file.metadata() or {}).get("learned", "{}"))
    except (OSError, ValueError, RecursionError, safetensors.SafetensorError):
        return {}
    return found if isinstance(found, dict) else {}


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A painter that is ready.

    Attributes:
      paint: Paints squares.
      side: Of these squares.
    """

    paint: Paint
    side: int

    def __call__(self, image: npt.NDArray[Any], face: Face) -> Map:
        """See `painted`."""
        return painted(image, face, self.paint, self.side)


def digest_of(path: Path) -> str:
    """The first eight digits of the sha256 of a painter's file.

    Raises:
      UserError: It cannot be read, or is too large to be one.
    """
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise UserError(f"{path}: is no painter: it has more than {_LARGEST_FILE >> 20} MB")
        return hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error


@functools.lru_cache(maxsize=len(KINDS) + 3)
def load(path: Path, digest: str) -> Loaded:
    """Reads a painter's file.

    Args:
      path: The file.
      digest: Of its content: a file that was replaced is read again.

    Raises:
      UserError: It is none, or its tensors are not those of its kind.
    """
    import jax
    import jax.numpy as jnp
    from flax.traverse_util import flatten_dict, unflatten_dict

    del digest
    try:
        with safetensors.safe_open(path, "numpy") as file:
            name = (file.metadata() or {}).get("kind", "")
            if name not in KINDS:
                raise UserError(f"{path}: is no painter: {name!r}: {nearest(name, KINDS)}")
            kind = KINDS[name]
            model = network(kind)
            # Nothing is computed: the process that only checks files starts no device.
            wanted = jax.eval_shape(
                lambda: model.init(jax.random.key(0), jnp.zeros((1, kind.side, kind.side, 3)))
            )
            flat_shapes = flatten_dict(wanted, sep="/")
            shapes = {key: value.shape for key, value in flat_shapes.items()}
            has = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
            if has != shapes:
                raise UserError(f"{path}: its tensors are not those of a painter {name!r}")
            flat = {key: file.get_tensor(key) for key in shapes}
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: cannot be read as a painter: {error}") from error
    if not all(v.dtype == np.float32 and np.isfinite(v).all() for v in flat.values()):
        raise UserError(f"{path}: has tensors that are no finite float32 numbers")
    params = unflatten_dict(flat, sep="/")
    return Loaded(jax.jit(functools.partial(model.apply, params)), kind.side)
