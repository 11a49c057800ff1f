"""Where another scene begins: a frame is suddenly another than the one before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

#: Width and height of the grey images that cuts are found in.
SIZE = 32, 18
# Another scene begins where a frame differs from the one before by this much (mean over pixels, of
# 255), and by this many times more than frames around differ.
_CUT, _SUDDEN, _AROUND = 22.0, 4.0, 8


class Glimpses:
    """Small grey images of all frames, of which only the differences are kept."""

    def __init__(self) -> None:
        """Begins with no image."""
        self.clear()

    def clear(self) -> None:
        """Begins anew."""
        self.count = 0
        self._last: npt.NDArray[np.float32] | None = None
        self._steps: list[float] = []  # from the frame before to each frame

    def add(self, image: npt.NDArray[Any]) -> None:
        """Takes the image of the next frame.

        Args:
          image: Grey, of `SIZE`, with levels from 0 to 255.
        """
        grey = image.astype(np.float32)
        self._steps.append(0.0 if self._last is None else float(np.abs(grey - self._last).mean()))
        self._last, self.count = grey, self.count + 1

    def cuts(self, indices: Sequence[int]) -> list[int]:
        """Positions in ascending `indices` before which, since the last one, a scene has begun."""
        steps = np.array(self._steps)

        def usual(at: int) -> float:
            around = np.r_[steps[max(1, at - _AROUND) : at], steps[at + 1 : at + 1 + _AROUND]]
            return float(np.median(around)) if len(around) else 0.0

        begins = [i for i in np.flatnonzero(steps > _CUT) if steps[i] > _SUDDEN * usual(int(i))]
        places = np.searchsorted(np.asarray(indices), begins)
        return sorted({int(place) for place in places if 0 < place < len(indices)})
