"""Follows faces through a clip and chooses the one that the clip is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from data_builders.mtcnn.boxes import area, overlap

if TYPE_CHECKING:
    from data_builders.mtcnn import Detections

# Boxes of one face in two frames, each grown to double size, share more than this part of their
# union. Alike in size, they are then less than 0.86 of their side apart: farther than a talking
# head moves, nearer than the head beside it.
_SAME_FACE = 0.4


class Track(NamedTuple):
    """One face through a clip.

    Attributes:
      boxes: `(n, 4)` its box in each frame.
      found: `(n,)` bool; where it is false the box was put between those before and after, or is
        the nearest one.
    """

    boxes: npt.NDArray[Any]
    found: npt.NDArray[np.bool_]


def choose_track(
    detections: Sequence[Detections],
    *,
    masks: Sequence[npt.NDArray[Any]] | None = None,
    times: Sequence[int] | None = None,
) -> Track | None:
    """Follows the faces through a clip and chooses the one that it is about.

    That is the face with the largest sum of area times score over the frames: a passer-by is large
    for a few of them at most. With masks it is the manipulated face, the one whose boxes agree best
    with the masks: the largest sum of the shared area as part of the union.

    Args:
      detections: Of each frame in turn.
      masks: For each frame `(height, width)` bool, or uint8 with manipulated pixels from 128 up
        (masks come as compressed videos, too). If they mark nothing at all, they are not heeded.
      times: Number of each frame in the video, where they are not evenly spread.

    Returns:
      The chosen face, or None: there is no face, or none where the masks are.
    """
    if masks is not None and len(masks) != len(detections):
        raise ValueError(f"{len(masks)} masks for {len(detections)} frames")
    tracks = _link(detections)
    if not tracks:
        return None
    agreements = None if masks is None else _agreements(detections, masks)
    worth = [
        sum(
            float(area(detections[i].boxes[k]) * detections[i].scores[k])
            if agreements is None
            else agreements[i][k]
            for i, k in track.items()
        )
        for track in tracks
    ]
    best = int(np.argmax(worth))
    if worth[best] <= 0:
        return None
    frames = sorted(tracks[best])
    boxes = np.array([detections[i].boxes[tracks[best][i]] for i in frames])
    every = np.arange(len(detections))
    numbers = every if times is None else np.asarray(times)
    return Track(between(numbers, numbers[frames], boxes), np.isin(every, frames))


def _link(detections: Sequence[Detections]) -> list[dict[int, int]]:
    """Joins detections of one face: for each track, frame -> which of the frame's detections."""
    tracks: list[dict[int, int]] = []
    last: list[npt.NDArray[Any]] = []  # where each track was seen last, however long ago
    for i, (boxes, _) in enumerate(detections):
        free = set(range(len(boxes)))
        shared = overlap(_doubled(np.array(last).reshape(-1, 4)), _doubled(boxes))
        open_tracks = set(range(len(tracks)))
        # The closest pair first: nobody takes over while the subject is there to be matched.
        for pair in np.argsort(-shared, axis=None):
            track, face = divmod(int(pair), len(boxes))
            if shared[track, face] <= _SAME_FACE:
                break
            if track in open_tracks and face in free:
                open_tracks.remove(track)
                free.remove(face)
                tracks[track][i] = face
                last[track] = boxes[face]
        for face in sorted(free):
            tracks.append({i: face})
            last.append(boxes[face])
    return tracks


def _doubled(boxes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, 2:] + half], axis=1)


def _agreements(
    detections: Sequence[Detections], masks: Sequence[npt.NDArray[Any]]
) -> list[list[float]] | None:
    """For each frame and face the mask's and the box's intersection over union; None: no mask."""
    marked = [mask if mask.dtype == bool else mask >= 128 for mask in masks]
    if not any(mask.any() for mask in marked):
        return None
    agreements = []
    for (boxes, _), mask in zip(detections, marked, strict=True):
        inside = [
            int(mask[max(0, y0) : y1, max(0, x0) : x1].sum())
            for x0, y0, x1, y1 in np.rint(boxes).astype(int)
        ]
        whole = int(mask.sum())
        agreements.append(
            [
                shared / max(1.0, float(size) + whole - shared)
                for shared, size in zip(inside, area(boxes), strict=True)
            ]
        )
    return agreements


def between(
    times: npt.ArrayLike, known: npt.ArrayLike, boxes: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """Fills in boxes between those that are known.

    Args:
      times: `(n,)` when boxes are wanted.
      known: `(k,)` when there are boxes, ascending, at least one.
      boxes: `(k, 4)` those boxes.

    Returns:
      `(n, 4)` boxes on straight lines between the known ones, the outer ones held beyond.
    """
    at, given = np.asarray(times, np.float64), np.asarray(known, np.float64)
    return np.stack([np.interp(at, given, edge) for edge in boxes.T], axis=1)
