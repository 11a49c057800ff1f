"""Files of scores as other projects write them: recognised, read, and written.

What is known of each form, and from where, is in docs/evaluation.md.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from data_builders.errors import UserError
from data_builders.files import check_kept, kind_of_no_file, write_whole
from qad_jax.evaluation import scores
from qad_jax.evaluation.formats import deepfakebench, listed, truth
from qad_jax.evaluation.scores import Scores

#: The files of a form: their names in its folder, and what is in each.
Files: TypeAlias = dict[str, str | bytes]


def read(path: Path, *, labels: Path | None = None, column: str | None = None) -> Scores:
    """Reads a file of scores, which is of this project or in a form that is known here.

    Args:
      path: The file, or a folder of DeepfakeBench with its two files.
      labels: A table of the truth, for forms whose files do not hold it. See `truth.Truth`.
      column: Which score is read, where a file has those of several detectors.

    Raises:
      UserError: Naming the row, or what is missing.
    """
    named = deepfakebench.metrics_file(path)
    # A pipe would be waited for, and has nothing left when its form is known.
    with contextlib.suppress(OSError):  # whoever reads it says what is wrong
        if named is None and (kind := kind_of_no_file(path)) and not path.is_dir():
            raise UserError(f"{path}: is {kind}; it is read several times: save it as a file")
    form = "deepfakebench" if named else listed.recognised(path)
    if column is not None and form != "grip":
        raise UserError(f"--column: {path} has one score for each row; leave it out")
    if form in ("dfdc", "grip"):
        if labels is None:
            raise UserError(f"{path}: {listed.NO_LABELS[form]}; give it with --labels FILE")
        return listed.read(path, form, truth.Truth(labels), column)
    made = deepfakebench.read(named) if named else scores.read(path)
    if labels is not None:
        raise UserError(f"--labels: {path} has the labels of its scores; leave it out")
    return made


def sources(*given: Path | None) -> tuple[Path, ...]:
    """The files that are read where these are given: of a test in DeepfakeBench there are two.

    Args:
      *given: Files or folders, see `read`; None stands for what is not given.
    """
    files: list[Path] = []
    for path in given:
        if path is not None:
            named = deepfakebench.metrics_file(path)
            files += deepfakebench.both_files(named) if named else (path,)
    return tuple(files)


def _ours(made: Scores) -> Iterator[tuple[str, Files]]:
    yield "", {"scores.csv": scores.to_csv(made)}


def _deepfakebench(made: Scores) -> Iterator[tuple[str, Files]]:
    for quality in made.qualities:
        yield quality, deepfakebench.files(made.of((quality,)))


def _dfdc(made: Scores) -> Iterator[tuple[str, Files]]:
    videos = made.videos()
    names = listed.video_names(videos)
    yield "", {listed.LABELS_FILE: listed.labels_table(videos, names)}
    for quality in made.qualities:
        yield quality, {"submission.csv": listed.submission(videos.of((quality,)), names)}


def _grip(made: Scores) -> Iterator[tuple[str, Files]]:
    names = listed.frame_names(made)
    yield "", {listed.LIST_FILE: listed.image_list(made, names)}
    for quality in made.qualities:
        yield quality, {"results.csv": listed.results(made.of((quality,)), names)}


#: The forms that `write` knows: each gives its files by the quality that they are of.
FORMS: dict[str, Callable[[Scores], Iterator[tuple[str, Files]]]] = {
    "deepfakebench": _deepfakebench,
    "dfdc": _dfdc,
    "grip": _grip,
    "qad": _ours,
}


def write(folder: Path, form: str, made: Scores, sources: tuple[Path, ...] = ()) -> list[Path]:
    """Writes scores in a form of another project, a folder for each quality.

    Args:
      folder: Where they go. Files in it with the same names are replaced.
      form: One of `FORMS`.
      made: The scores.
      sources: Files that must not be replaced: those that were read.

    Returns:
      The files.

    Raises:
      UserError: The form cannot hold these scores, or a file is in the way; nothing is written.
    """
    files = {
        folder / _named(quality) / name: content
        for quality, group in FORMS[form](made)
        for name, content in group.items()
    }
    check_kept(sources, files, "--out")
    for path, content in files.items():
        write_whole(path, content)
    return list(files)


def _named(quality: str) -> str:
    """The folder of a quality, whose name may be a stranger's; '' for files of all qualities."""
    if quality and not re.fullmatch(r"\w[\w.+-]{0,99}", quality):
        raise UserError(
            f"--export: quality {quality!r} cannot be the name of a folder; call it otherwise"
        )
    return quality
