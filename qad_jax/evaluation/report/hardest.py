"""The clips that a detector judged worst."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data_builders.png import encode_png
from data_builders.records import LABELS
from qad_jax.evaluation.scores import Scores

#: How many are shown.
COUNT = 9


class HardClip(NamedTuple):
    """A video, and one of its frames.

    Attributes:
      method: Manipulation method.
      video: Name.
      truth: 'real' or 'fake'.
      frame: Index of the frame that is shown.
      qualities: The k qualities.
      scores: k scores of the whole video.
      images: k PNG files of the frame, or None where there are only scores.
    """

    method: str
    video: str
    truth: str
    frame: int
    qualities: tuple[str, ...]
    scores: tuple[float, ...]
    images: tuple[bytes, ...] | None


def choose(
    scores: Scores,
    images: Callable[[int], npt.NDArray[np.uint8]] | None = None,
    count: int = COUNT,
) -> list[HardClip]:
    """Finds the videos whose mean score over the qualities is furthest from the truth.

    A quality at which a video has no finite score does not count; a video without any is left out.

    Args:
      scores: The scores of the frames.
      images: Gives the `(k, H, W, 3)` RGB crops of a row of `scores`.
      count: Number of clips.

    Returns:
      The worst first, each with the middle one of its frames.
    """
    videos = scores.videos()
    known = np.isfinite(videos.score)
    errors = np.where(known, np.abs(videos.label[:, None] - videos.score), 0.0)
    judged = np.flatnonzero(known.any(axis=1))
    mean = errors[judged].sum(axis=1) / known[judged].sum(axis=1)
    worst = judged[np.argsort(-mean, kind="stable")[:count]]
    rows: dict[tuple[str, str], list[int]] = {
        (videos.method[i], videos.video[i]): [] for i in worst
    }
    for row, key in enumerate(zip(scores.method, scores.video, strict=True)):
        if key in rows:
            rows[key].append(row)
    clips = []
    for i in worst:
        frames = rows[videos.method[i], videos.video[i]]
        row = frames[len(frames) // 2]
        clips.append(
            HardClip(
                videos.method[i],
                videos.video[i],
                LABELS[videos.label[i]],
                int(scores.frame[row]),
                scores.qualities,
                tuple(float(score) for score in videos.score[i]),
                None if images is None else tuple(encode_png(image) for image in images(row)),
            )
        )
    return clips
