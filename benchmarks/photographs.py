"""Photographs of a folder, one after another: those of which nothing can be made are left out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from data_builders.clips import VideoFiles
from data_builders.errors import UserError, unusable
from data_builders.progress import Progress
from data_builders.self_blended.stills import is_of_file

Made = TypeVar("Made")


def used(
    files: Sequence[VideoFiles], make: Callable[[VideoFiles], Made], done: str
) -> Iterator[tuple[VideoFiles, Made]]:
    """Makes something of each file. Where that fails, as there is no face, the file is left out.

    In the end a line on stderr counts those that were left out.

    Args:
      files: The files.
      make: Makes it of one file.
      done: What is done with the files, such as "judged", for the progress.

    Yields:
      Each of the other files with what was made of it.

    Raises:
      UserError: No file is left.
    """
    left_out = []
    with Progress(len(files), done, unit="file") as progress:
        for listed in files:
            try:
                made = make(listed)
            except Exception as error:
                if not is_of_file(error, listed.best):
                    raise
                left_out.append(unusable(listed.best, [listed.best], error))
            else:
                yield listed, made
            progress.advance()
    example = f"; the first: {left_out[0]}" if left_out else ""
    if len(left_out) == len(files):
        raise UserError(f"none of {len(files)} files can be {done}{example}")
    if left_out:
        print(f"left out: {len(left_out)} of {len(files)} files{example}", file=sys.stderr)
