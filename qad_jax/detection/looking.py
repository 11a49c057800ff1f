"""What is found in a file before the network scores anything of it. Any process can do this part.

Decoding and the search for faces take longer than the network on most files, and nothing of them is
shared between files. So processes do it side by side, and the crops of many files come together in
the one process that has the network.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from data_builders import faces as face_source
from data_builders import h264
from data_builders.clips import spread
from data_builders.errors import UserError, describe, trace
from data_builders.qualities import crf_of
from data_builders.tracks import Track, all_tracks
from qad_jax.detection import credentials, media, quality, upright
from qad_jax.detection.conditions import Appearance, sharpness, tilt, turn
from qad_jax.detection.scoring import resized

Image = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]

# From one frame that is searched for faces of all sizes to the next, within a run of frames.
_EVERY = 8
# Whether a face lies is looked up in so many of its frames.
_UPRIGHT_IN = 3


class Task(NamedTuple):
    """A file to look at.

    Attributes:
      file: Its path as it was given.
      known: SHA-256 of the content that was judged before; nothing is done where it is the same.
    """

    file: str
    known: str | None = None


class Place(NamedTuple):
    """Where a face is in one frame; see `results.FrameScore`."""

    frame: int
    time: float | None
    box: Box


@dataclasses.dataclass(frozen=True)
class FoundFace:
    """One face through a scene.

    Attributes:
      places: Its n frames.
      crops: n crops, `(height, width, 3)` uint8 RGB each.
      weakened: n crops of the same after one more encoding; empty where no quality is weaker.
      appearance: How it looks.
    """

    places: tuple[Place, ...]
    crops: tuple[Image, ...]
    weakened: tuple[Image, ...]
    appearance: Appearance


@dataclasses.dataclass(frozen=True)
class Found:
    """What is found in a file.

    Attributes:
      file: Its path as it was given.
      sha256: Of its bytes; None where it cannot be read.
      known: Whether this content was judged before, so that nothing was looked at.
      error: Why it cannot be judged; empty where it can.
      trace: The traceback where the reason is no mistake of the file that is known.
      facts: What the file says of itself.
      frames: Number of frames that were looked at.
      lying: Whether faces are found when the picture is turned, and none as it is.
      faces: All faces, in the order of `tracks.all_tracks`.
      estimated: Its compression.
      nearest: The measured quality that is nearest.
      weaker: The quality that `FoundFace.weakened` is of.
    """

    file: str
    sha256: str | None = None
    known: bool = False
    error: str = ""
    trace: str = ""
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    frames: int = 0
    lying: bool = False
    faces: tuple[FoundFace, ...] = ()
    estimated: quality.Quality | None = None
    nearest: str = ""
    weaker: str | None = None

    def crops(self) -> list[Image]:
        """All crops that are to be scored: those of each face, and then the weakened ones."""
        return [
            *(crop for face in self.faces for crop in face.crops),
            *(crop for face in self.faces for crop in face.weakened),
        ]

    def parted(
        self, scores: npt.NDArray[np.floating]
    ) -> list[tuple[npt.NDArray[np.floating], float | None]]:
        """Parts the scores of `crops`.

        Args:
          scores: `(n,)`.

        Returns:
          For each face the scores of its crops, and the mean of the weakened ones if there are any.
        """
        counts = [len(face.crops) for face in self.faces]
        counts += [len(face.weakened) for face in self.faces]
        parts = np.split(scores, np.cumsum(counts)[:-1]) if counts else []
        own, weakened = parts[: len(self.faces)], parts[len(self.faces) :]
        return [
            (score, float(weak.mean()) if len(weak) else None)
            for score, weak in zip(own, weakened, strict=True)
        ]


@dataclasses.dataclass(frozen=True)
class Looker:
    """How files are looked at. It is small: other processes get it with each file.

    Attributes:
      frames: Number of frames of a video.
      faces: How faces are found and cut out.
      qualities: The measured qualities.
      side: Crops are resized to this side, as the network takes them; None keeps their pixels.
        So the memory that a file takes on its way does not depend on the size of its frames.
      smallest: Faces that are smaller, in pixels, are not judged: less is looked up of them, so
        that a crowd of them takes little time.
    """

    frames: int
    faces: face_source.Detected
    qualities: tuple[str, ...]
    side: int | None = None
    smallest: float = 0.0

    def __call__(self, task: Task, tell: Callable[[int, int], None] | None = None) -> Found:
        """Looks at a file. Whatever is wrong with it, or happens with it, is told and not raised.

        Args:
          task: The file.
          tell: See `media.read`.
        """
        before = _state(task.file)
        found = self._looked(task, tell)
        if _state(task.file) == before:
            return found
        # The digest may be of other bytes than the frames, and both of a part of the file.
        reason = "it changed while it was read; judge it again when it is complete"
        return Found(task.file, error=f"{task.file}: {reason}")

    def _looked(self, task: Task, tell: Callable[[int, int], None] | None) -> Found:
        digest: str | None = None
        told = ""
        try:
            digest = media.sha256(Path(task.file))
            if digest == task.known:
                return Found(task.file, digest, known=True)
            return self._found(task.file, digest, tell)
        except UserError as error:
            reason = str(error)
        except OSError as error:
            reason = f"{task.file}: cannot be read: {error.strerror or error}"
        except Exception as error:  # of any library, on bytes of a stranger; too little memory, too
            reason, told = f"{task.file}: {describe(error)}", trace(error)
        return Found(task.file, digest, error=reason, trace=told)

    def _found(self, file: str, digest: str, tell: Callable[[int, int], None] | None) -> Found:
        opened = media.read(Path(file), self.frames, tell=tell)
        held, frames = credentials.read(Path(file)), len(opened.frames)
        facts = {
            **dataclasses.asdict(opened.facts),
            "credentials": held and dataclasses.asdict(held),
        }
        tracks = self.tracks(opened.frames, opened.indices, opened.cuts)
        if not tracks:
            some = [opened.frames[i] for i in spread(frames, _UPRIGHT_IN)]
            detector = face_source.detector(self.faces.min_face, self.faces.max_side)
            lying = upright.found_when_turned(some, detector)
            return Found(file, digest, facts=facts, frames=frames, lying=lying)
        crops = [face_source.crops(opened.frames, track) for track in tracks]
        estimated = quality.estimate(crops[0], opened.numbers)
        nearest = quality.nearest(estimated, self.qualities)
        weaker = self._weaker(nearest)
        found = []
        check = media.deadline(Path(file), media.MAX_SECONDS, "look at its faces")
        for track, of_track in zip(tracks, crops, strict=True):
            check()
            kept = np.flatnonzero(track.kept)
            places = tuple(
                Place(opened.indices[i], opened.times[i], box_of(track.boxes[i])) for i in kept
            )
            side = float(np.median(track.boxes[kept, 2] - track.boxes[kept, 0]))
            side /= self.faces.scale
            judged = side >= self.smallest
            looks = Appearance(
                side,
                sharpness(of_track),
                turn(track.landmarks),
                estimated.crf,
                tilt(track.landmarks),
                self._quarters(opened.frames, track, kept) if judged else 0,
            )
            weakened = _weakened(of_track, weaker) if judged and weaker is not None else ()
            found.append(
                FoundFace(places, self._as_taken(of_track), self._as_taken(weakened), looks)
            )
        return Found(
            file,
            digest,
            facts=facts,
            frames=frames,
            faces=tuple(found),
            estimated=estimated,
            nearest=nearest,
            weaker=weaker,
        )

    def tracks(
        self, frames: Sequence[Image], indices: Sequence[int], cuts: Sequence[int]
    ) -> list[Track]:
        """All faces, with the square of each frame, as the builders cut them out.

        Args:
          frames: `(height, width, 3)` uint8 RGB each, of one size.
          indices: Index of each in the video.
          cuts: Positions in `frames` at which another scene begins.
        """
        detector = face_source.detector(self.faces.min_face, self.faces.max_side)
        gap = self.faces.max_gap
        found = detector.detect(frames, wholly=searched_wholly(indices, cuts, gap))
        tracks = all_tracks(found, times=indices, max_gap=gap, cuts=cuts)
        return [face_source.squares(track, frames, self.faces.scale) for track in tracks]

    def _quarters(self, frames: Sequence[Image], track: Track, kept: npt.NDArray[np.intp]) -> int:
        """By how many quarters the picture has to be turned, see `upright.quarters`."""
        some = kept[spread(len(kept), _UPRIGHT_IN)]
        # Faces of all sizes: these are shown at a size of their own.
        detector = face_source.detector(None, self.faces.max_side)
        middle = (track.boxes[some, :2] + track.boxes[some, 2:]) / 2
        half = (track.boxes[some, 2:] - track.boxes[some, :2]) / (2 * self.faces.scale)
        boxes = np.concatenate([middle - half, middle + half], axis=1)
        return upright.quarters([frames[i] for i in some], boxes, detector)

    def _weaker(self, name: str) -> str | None:
        """The next measured quality of more compression, if there is one.

        It is one with a CRF, at which crops can be encoded again: `messenger` shrinks whole frames.
        """
        own = quality.place_of(name)
        others = {q: crf for q in self.qualities if (crf := crf_of(q)) is not None}
        worse = [q for q, crf in others.items() if own is not None and crf > own]
        return min(worse, key=lambda q: others[q]) if worse else None

    def _as_taken(self, crops: Iterable[Image]) -> tuple[Image, ...]:
        return tuple(crop if self.side is None else resized(crop, self.side) for crop in crops)


def searched_wholly(indices: Sequence[int], cuts: Sequence[int], gap: int) -> list[int]:
    """Chooses the frames that are searched for faces of all sizes.

    They are the first and the last of each run of frames that follow each other closely, and every
    eighth within it.

    Args:
      indices: Index of each frame in the video, ascending.
      cuts: Positions among them at which another scene begins.
      gap: How far apart frames are at the most that follow each other closely.

    Returns:
      Positions among the frames, ascending.
    """
    apart = np.flatnonzero(np.diff(indices) > gap) + 1
    starts = sorted({0, *apart.tolist(), *cuts})
    runs = itertools.pairwise([*starts, len(indices)])
    return sorted({i for first, end in runs for i in (*range(first, end, _EVERY), end - 1)})


def _state(file: str) -> tuple[int, ...] | None:
    """What is another one where a file was written to, or replaced; None where there is no file."""
    try:
        about = os.stat(file)
    except (OSError, ValueError):  # no file can have such a name
        return None
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns


def _weakened(crops: Sequence[Image], name: str) -> list[Image]:
    """The crops after an encoding at a quality."""
    crf = crf_of(name)
    assert crf
    side = max(16, int(np.median([len(crop) for crop in crops])) // 2 * 2)
    return list(h264.decode(h264.encode([resized(crop, side) for crop in crops], crf=crf)))


def box_of(edges: npt.NDArray[Any]) -> Box:
    """The edges of a box as whole numbers."""
    x0, y0, x1, y1 = (int(edge) for edge in edges)
    return x0, y0, x1, y1
