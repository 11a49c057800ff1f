"""PNG files: how images are stored in the records."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Image: TypeAlias = npt.NDArray[np.uint8]


def encode_png(image: Image) -> bytes:
    """Encodes an RGB image without loss.

    Args:
      image: `(height, width, 3)` uint8, RGB.

    Returns:
      The bytes of a PNG file that is fast to read: as large as OpenCV's level 1, decoded and
      encoded twice as fast (`benchmarks/input_rate.py`).
    """
    import cv2  # here, so that whoever needs only the type does not wait for it

    # Filters are undone on whole vectors. Runs take the place of a search for repetitions, which
    # photographs do not have.
    fast_to_read = (
        *(cv2.IMWRITE_PNG_COMPRESSION, 1),
        *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
        *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FAST_FILTERS),
    )
    done, data = cv2.imencode(".png", image[..., ::-1], fast_to_read)
    if not done:
        raise ValueError(f"cannot encode an image of shape {image.shape}, {image.dtype}, as PNG")
    return data.tobytes()
