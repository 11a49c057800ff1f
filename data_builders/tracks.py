"""Follows faces through a clip and chooses the one that the clip is about."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from data_builders.mtcnn.boxes import area, overlap

if TYPE_CHECKING:
    from data_builders.mtcnn import Detections

# The least IoU of the boxes of one face in two frames, each box doubled in size. Two boxes of one
# size are then less than 0.86 of their side apart: a talking head moves less, and the next head is
# farther away.
_SAME_FACE = 0.4


# A mask marks a face if they share this part of the smaller one. It lies within the box of the
# swapped face, or that within the mask; the box of a neighbour covers a corner of it at most.
_MARKED = 0.3
# Another face that has this part of the worth of the chosen one might have been meant as well: one
# of a third of its side all the time, or one of its side for a tenth of the time.
_COMPARABLE = 0.1


class Track(NamedTuple):
    """One face through a clip.

    Attributes:
      boxes: `(n, 4)` box in each frame.
      found: `(n,)` bool, whether the face was found in the frame. Elsewhere the box is interpolated
        between those before and after, or is the nearest one.
      kept: `(n,)` bool, whether the frame is taken to show the face, and becomes a record.
      rivals: How many other faces might have been meant as well.
      landmarks: `(n, 5, 2)` as in `mtcnn.Detections`; NaN where the face was not found, or nobody
        has placed them.
    """

    boxes: npt.NDArray[Any]
    found: npt.NDArray[np.bool_]
    kept: npt.NDArray[np.bool_]
    rivals: int = 0
    landmarks: npt.NDArray[np.floating] | None = None


def choose_track(
    detections: Sequence[Detections],
    *,
    masks: Sequence[npt.NDArray[Any]] | None = None,
    times: Sequence[int] | None = None,
    max_gap: int = 0,
) -> Track | None:
    """Follows the faces through a clip and chooses the one that it is about.

    That is the face with the largest sum of area times score over the frames: a passer-by is large
    in a few frames at most. With masks it is the manipulated face, whose boxes have the largest sum
    of IoU with the masks.

    Args:
      detections: Detections of each frame, in order.
      masks: For each frame `(height, width)` bool, or uint8 with manipulated pixels from 128 up
        (masks may be compressed videos). Masks that mark no pixel in any frame are ignored.
      times: Index of each frame in the video, where they are not evenly spread.
      max_gap: A frame without the face is kept between two with it that are at most this far
        apart, counted as in `times`.

    Returns:
      The chosen face. None where there is no face, or none under the masks. With masks it has no
      rivals.
    """
    if masks is not None and len(masks) != len(detections):
        raise ValueError(f"{len(masks)} masks for {len(detections)} frames")
    tracks = _link(detections)
    if not tracks:
        return None
    agreements = None if masks is None else _agreements(detections, masks)
    worth = [_worth(track, detections, agreements) for track in tracks]
    best = int(np.argmax(worth))
    if worth[best] <= 0:
        return None
    others = sum(value >= _COMPARABLE * worth[best] for value in worth) - 1
    chosen = _track(tracks[best], detections, times, max_gap)
    return chosen._replace(rivals=others if agreements is None else 0)


def all_tracks(
    detections: Sequence[Detections],
    *,
    times: Sequence[int] | None = None,
    max_gap: int = 0,
    cuts: Collection[int] = (),
) -> list[Track]:
    """Follows all faces through a clip.

    Args:
      detections: As for `choose_track`.
      times: As for `choose_track`.
      max_gap: As for `choose_track`.
      cuts: Positions among the frames at which another scene begins. No face is followed from one
        scene to the next.

    Returns:
      The faces by the sum of area times score over the frames, the largest first: the first is the
      one that `choose_track` chooses.
    """
    tracks = _link(detections, frozenset(cuts))
    tracks.sort(key=lambda track: -_worth(track, detections, None))
    return [_track(track, detections, times, max_gap) for track in tracks]


def _worth(
    track: dict[int, int],
    detections: Sequence[Detections],
    agreements: list[list[float]] | None,
) -> float:
    return sum(
        float(area(detections[i].boxes[k]) * detections[i].scores[k])
        if agreements is None
        else agreements[i][k]
        for i, k in track.items()
    )


def _track(
    track: dict[int, int],
    detections: Sequence[Detections],
    times: Sequence[int] | None,
    max_gap: int,
) -> Track:
    frames = sorted(track)
    boxes = np.array([detections[i].boxes[track[i]] for i in frames])
    every = np.arange(len(detections))
    indices = every if times is None else np.asarray(times)
    landmarks = np.full((len(detections), 5, 2), np.nan, np.float32)
    for i in frames:
        placed = detections[i].landmarks
        if placed is not None:
            landmarks[i] = placed[track[i]]
    return Track(
        between(indices, indices[frames], boxes),
        np.isin(every, frames),
        _within_gaps(indices, indices[frames], max_gap),
        landmarks=landmarks,
    )


def _within_gaps(
    times: npt.NDArray[Any], known: npt.NDArray[Any], max_gap: int
) -> npt.NDArray[np.bool_]:
    """Whether each time is known, or lies between two known ones at most `max_gap` apart."""
    after = np.searchsorted(known, times)
    inside = (after > 0) & (after < len(known))
    low, high = known[after - 1], known[after.clip(max=len(known) - 1)]
    return np.isin(times, known) | (inside & (high - low <= max_gap))


def _link(
    detections: Sequence[Detections], cuts: frozenset[int] = frozenset()
) -> list[dict[int, int]]:
    """Joins detections of one face: for each track, frame -> index among the frame's detections."""
    tracks: list[dict[int, int]] = []
    last: list[npt.NDArray[Any]] = []  # the last box of each track, however long ago
    for i, boxes in enumerate(detection.boxes for detection in detections):
        if i in cuts:  # an empty box is near no face
            last = [np.zeros(4)] * len(tracks)
        free = set(range(len(boxes)))
        shared = overlap(_doubled(np.array(last).reshape(-1, 4)), _doubled(boxes))
        open_tracks = set(range(len(tracks)))
        # The closest pair comes first: no other face takes over a track whose face is there.
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
    """IoU of the mask and each box that it marks, for each frame. None: the masks mark nothing."""
    marked = [mask if mask.dtype == bool else mask >= 128 for mask in masks]
    if not any(mask.any() for mask in marked):
        return None
    agreements = []
    for detection, mask in zip(detections, marked, strict=True):
        inside = [
            int(mask[max(0, y0) : y1, max(0, x0) : x1].sum())
            for x0, y0, x1, y1 in np.rint(detection.boxes).astype(int)
        ]
        whole = int(mask.sum())
        agreements.append(
            [
                (shared >= _MARKED * min(float(size), whole))
                * (shared / max(1.0, float(size) + whole - shared))
                for shared, size in zip(inside, area(detection.boxes), strict=True)
            ]
        )
    return agreements


def between(
    times: npt.ArrayLike, known: npt.ArrayLike, boxes: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """Interpolates boxes between those that are known.

    Args:
      times: `(n,)` times of the wanted boxes.
      known: `(k,)` times of the known boxes, ascending, at least one.
      boxes: `(k, 4)` known boxes.

    Returns:
      `(n, 4)` boxes, interpolated linearly. Before the first known box and after the last, they
      are equal to it.
    """
    at, given = np.asarray(times, np.float64), np.asarray(known, np.float64)
    return np.stack([np.interp(at, given, edge) for edge in boxes.T], axis=1)
