"""Lists of files with a score for each: of the DFDC competition, and of GRIP-UNINA.

Neither holds the truth, which stands in a table of its own.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_builders.errors import UserError
from data_builders.files import csv_text
from qad_jax.evaluation import score_dialect, scores
from qad_jax.evaluation.formats.truth import Truth
from qad_jax.evaluation.label_table import Row as Known
from qad_jax.evaluation.scores import Scores

#: What is said of each form without a table of labels.
NO_LABELS = {
    "dfdc": "its column 'label' is a prediction, the probability of fake, and the truth is missing",
    "grip": "holds scores of files, and the truth is missing",
}
#: The tables of the truth that are written beside the scores.
LABELS_FILE, LIST_FILE = "labels.csv", "list.csv"
_NAME, _LABEL, _FUSION = "filename", "label", "fusion"
_TITLES = (_NAME, _LABEL, _FUSION)
_METHODS = "original", "fake"  # of files for which the table does not say it
# The largest number below 1: at 1 itself a logit is infinite.
_BELOW_ONE = float(np.nextafter(1.0, 0.0))
_SMALLEST = float(np.finfo(np.float64).tiny)


def recognised(path: Path) -> str:
    """Tells by the header which form a file has: 'dfdc', 'grip', or 'qad' for anything else."""
    try:
        with scores.opened(path) as lines:
            header = _header(score_dialect.rows(lines, _TITLES)[1])
    except UserError:
        return "qad"  # its reader says what is wrong
    if sorted(header) == [_NAME, _LABEL]:
        return "dfdc"
    known = {title for name, others in scores.COLUMNS.items() for title in (name, *others)}
    others = {name.lower() for name in header} - {_NAME, ""}
    return "grip" if _NAME in header and others and not others & known else "qad"


def read(path: Path, form: str, truth: Truth, column: str | None) -> Scores:
    """Reads a list.

    Args:
      path: The file.
      form: As `recognised` tells it.
      truth: Labels, methods, identities; videos and frames where the table has them.
      column: The detector whose scores are read; by default the only one, or the fusion of all.

    Raises:
      UserError: Naming the row.
    """
    used: list[Known] = []
    with scores.opened(path) as lines:
        made = scores.collect(path, _rows(path, form, truth, column, lines, used))
    truth.warn_of_others(path, used)
    return made._replace(score=_probabilities(made.score)) if form == "grip" else made


def _rows(
    path: Path,
    form: str,
    truth: Truth,
    column: str | None,
    lines: Iterator[str],
    used: list[Known],
) -> Iterator[scores.Row]:
    delimiter, rows = score_dialect.rows(lines, _TITLES)
    numbers, whole = score_dialect.Numbers(delimiter), score_dialect.Numbers("\t")
    header = _header(rows)
    name_at = header.index(_NAME)
    score_at = header.index(_LABEL) if form == "dfdc" else _detector(path, header, column)
    seen: dict[str, str] = {}
    frames: collections.Counter[tuple[str, str]] = collections.Counter()
    for number, row in score_dialect.whole_rows(path, rows, len(header)):
        where = f"{path}: row {number}"
        name = row[name_at].strip()
        known = truth.of(where, name)
        if known.where in seen:
            raise UserError(f"{where}: {name!r} has a score already, in {seen[known.where]}")
        seen[known.where] = f"row {number}"
        used.append(known)
        method, video = known.method or _METHODS[known.label], known.video or known.name
        if truth.has_frames:
            frame = scores.parsed_number(known.where, "frame", known.frame, whole.frame)
        else:
            frame = frames[method, video]
            frames[method, video] += 1
        score = scores.parsed_number(where, header[score_at], row[score_at], numbers.score)
        identity = known.identity or video
        yield scores.Row(where, method, video, identity, frame, "all", known.label, score)


def _header(rows: Iterator[tuple[int, list[str]]]) -> list[str]:
    names = [name.strip() for name in next(rows, (0, []))[1]]
    return [name.lower() if name.lower() in _TITLES else name for name in names]


def _detector(path: Path, header: Sequence[str], column: str | None) -> int:
    """Where the scores stand in a list with those of one detector or several."""
    detectors = [name for name in header if name and name != _NAME]
    if len(set(header)) < len(header):
        raise UserError(f"{path}: two columns have one name; give each its own")
    if column is None and len(detectors) > 1 and _FUSION not in detectors:
        raise UserError(f"{path}: has scores of {', '.join(detectors)}; choose by --column NAME")
    wanted = column or (_FUSION if _FUSION in detectors else detectors[0])
    if wanted not in detectors:
        raise UserError(f"--column: {path} has no {wanted!r}; it has {', '.join(detectors)}")
    return header.index(wanted)


def _probabilities(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Sigmoid of logits. A logit of 0 is a half, so the threshold of both forms is the same."""
    with np.errstate(invalid="ignore"):  # NaN, which stays one
        return np.asarray(np.exp(-np.logaddexp(0, -np.asarray(logits, np.float64))))


def _logits(probabilities: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    p = np.clip(np.asarray(probabilities, np.float64), _SMALLEST, _BELOW_ONE)
    return np.asarray(np.log(p) - np.log1p(-p))


def video_names(videos: Scores) -> list[str]:
    """Names of files for videos: what follows the method, where no two have the same.

    Raises:
      UserError: Two names are the same with their methods, too.
    """
    return _distinct(
        [name if name.endswith(".mp4") else f"{name}.mp4" for name in videos.video], videos.method
    )


def frame_names(made: Scores) -> list[str]:
    """Names of images for frames: of the video, in a folder of the method, with the number.

    Raises:
      UserError: Two names are the same.
    """
    frames = zip(made.video, made.frame.tolist(), strict=True)
    names = [f"{video}/{frame:03d}.png" for video, frame in frames]
    return _distinct(names, made.method, always=True)


def _distinct(names: list[str], methods: list[str], always: bool = False) -> list[str]:
    if always or len(set(names)) < len(names):
        names = [f"{method}/{name}" for method, name in zip(methods, names, strict=True)]
    if len(set(names)) < len(names):
        twice = collections.Counter(names).most_common(1)[0][0]
        raise UserError(f"--export: two files would be called {twice!r}; call one otherwise")
    return names


def submission(videos: Scores, names: Sequence[str]) -> str:
    """The text of a submission: the probability of fake of each video, in a column 'label'.

    Args:
      videos: A row a video, one quality.
      names: Its files.
    """
    return _text((_NAME, _LABEL), names, map(_written, videos.score[:, 0]))


def labels_table(videos: Scores, names: Sequence[str]) -> str:
    """The text of the table of labels, 0 real and 1 fake, with what else is known of a video."""
    columns = (names, videos.label.tolist(), videos.method, videos.identity, videos.video)
    return _text((_NAME, _LABEL, "method", "identity", "video"), *columns)


def results(made: Scores, names: Sequence[str]) -> str:
    """The text of a list of results: the logit of fake of each image, in a column 'qad_jax'.

    Args:
      made: One quality.
      names: Its images.

    Raises:
      UserError: The scores are no probabilities.
    """
    if beyond := made.beyond_probabilities():
        raise UserError(
            f"--export grip: takes logits, made of probabilities, and the scores run {beyond}; "
            "make them probabilities first"
        )
    logits = map(_written, _logits(made.score[:, 0]))
    return _text((_NAME, "qad_jax"), names, logits)


def image_list(made: Scores, names: Sequence[str]) -> str:
    """The text of the list of images for a detector of GRIP: `typ` is 'real' or the maker."""
    pairs = zip(made.label, made.method, strict=True)
    # A maker whose name is 'real' would make a real of its fakes.
    types = [
        ("fake" if name.lower() == "real" else name) if fake else "real" for fake, name in pairs
    ]
    columns = (names, types, made.method, made.identity, made.video, made.frame.tolist())
    return _text((_NAME, "typ", "method", "identity", "video", "frame"), *columns)


def _written(score: float) -> str:
    """A number with all its digits; empty where there is none, as pandas writes it."""
    return "" if np.isnan(score) else repr(float(score))


def _text(header: Sequence[str], *columns: Iterable[object]) -> str:
    # Names as they are: other programs look for files by them.
    return csv_text(header, zip(*columns, strict=True), exact=True)
