"""Networks that paint a face, as the generators of deepfakes do: what they are, how they paint.

A painter is an autoencoder: it squeezes the square around a face into a code, and paints the
square anew from that. What is lost and what is added on the way are the traces of a generator: soft
detail, and the patterns of the layers that enlarge.

JAX and Flax are imported where a network is made: what reads other fakes does not load them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from data_builders.self_blended.face import Face, Map

if TYPE_CHECKING:
    import jax

#: Paints a batch of squares, `(n, side, side, 3)` in [-1, 1].
Paint: TypeAlias = Callable[[npt.NDArray[np.float32]], Any]

#: Side of the painted square, in distances of the eyes.
REACH = 3.3
_MIDDLE = 0.45  # of the square, below the eyes, in the distance from the eyes to the mouth
_BORDER = 1 / 32  # of the square, on each side, which is not used: it is badly painted


class Kind(NamedTuple):
    """What is built and how it learns.

    Attributes:
      side: Of the square that it learns in pixels, a multiple of 16.
      code: Channels of the code.
      enlarging: How it doubles its size: 'nearest' repeats pixels; in 'shuffle' a convolution
        makes four pixels of one, as a transposed convolution does.
      loss: 'squared', 'edges' or 'judged', see `learning`.
      halvings: How often the square is halved to the code, 4 or 3. Four leave the shape of a face
        and lose its detail, as the autoencoders of the first deepfakes do. Three leave nearly all,
        and what is wrong is the texture, as where later generators paint.
    """

    side: int
    code: int
    enlarging: str
    loss: str
    halvings: int = 4

    @property
    def sides(self) -> tuple[int, ...]:
        """Of the squares that it paints: texture can be painted at other sizes than it learned."""
        return (96, 128, 192, 256) if self.halvings == 3 else (self.side,)


#: The painters that are learned, by the names of their files. The larger the code, the sharper.
KINDS = {
    "shuffle64": Kind(64, 192, "shuffle", "edges"),
    "shuffle96": Kind(96, 96, "shuffle", "squared"),
    "nearest96": Kind(96, 192, "nearest", "edges"),
    "shuffle128": Kind(128, 24, "shuffle", "judged", 3),
    "nearest128": Kind(128, 16, "nearest", "judged", 3),
}
#: Widths of the layers that make the square smaller, and larger, by the number of halvings. The
#: first halves it twice; a last layer of 16 channels comes after those that make it larger.
_WIDTHS = {4: ((48, 96, 192), (96, 64, 32)), 3: ((48, 128), (64, 32))}


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
            smaller, larger = _WIDTHS[kind.halvings]
            for i, width in enumerate(smaller):
                x = Block()(nn.Conv(width, (1, 1))(fold(x, 2 if i else 4)))
            x = Block()(nn.Conv(128, (1, 1))(nn.Conv(kind.code, (1, 1))(x)))
            for width in larger:
                x = Block()(self._enlarged(x, width))
            return nn.Conv(3, (3, 3))(nn.leaky_relu(self._enlarged(x, 16), 0.1))

        def _enlarged(self, x: jax.Array, width: int) -> jax.Array:
            n, h, w, channels = x.shape
            if kind.enlarging == "shuffle":
                return unfold(nn.Conv(4 * width, (3, 3))(x), 2)
            larger = jax.image.resize(x, (n, 2 * h, 2 * w, channels), "nearest")
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
    scale = min(1.0, _scale(matrix))
    height, width = (max(1, round(scale * length)) for length in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    back = _scaling(image.shape[1] / width, image.shape[0] / height)
    found = cv2.warpAffine(small, _then(back, matrix), (side, side), borderMode=cv2.BORDER_REFLECT)
    return np.asarray(found, np.float32)


def _scale(matrix: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def _scaling(across: float, down: float) -> npt.NDArray[np.float64]:
    """The map of pixels of an image that is scaled. They have their places in their middles."""
    return np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2]])


def _then(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """One affine map after another."""
    return np.asarray(second @ np.concatenate([first, [[0, 0, 1]]]))


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
    inside = np.zeros((side, side), np.float32)
    border = round(_BORDER * side)
    inside[border:-border, border:-border] = 1
    matrix = square_of(face, side, REACH)
    if (scale := _scale(matrix)) > 1:  # of a small face a warp would skip painted pixels
        small = max(1, round(side / scale))
        made, inside = (
            cv2.resize(one, (small, small), interpolation=cv2.INTER_AREA) for one in (made, inside)
        )
        matrix = _then(matrix, _scaling(small / side, small / side))
    back = cv2.warpAffine(made, matrix, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
    where = cv2.warpAffine(inside, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return np.asarray(image + where[..., None] * (back - image), np.float32)


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A painter that is ready.

    Attributes:
      paint: Paints squares.
      side: Of these squares, in pixels.
    """

    paint: Paint
    side: int

    def __call__(self, image: npt.NDArray[Any], face: Face) -> Map:
        """See `painted`."""
        return painted(image, face, self.paint, self.side)
