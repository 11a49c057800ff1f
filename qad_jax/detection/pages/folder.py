"""The folder of the pages: what is written into it, and which folders are left alone."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from pathlib import Path
from typing import BinaryIO, NamedTuple

from data_builders.errors import UserError
from data_builders.files import check_writable, hold, write_whole
from data_builders.home import expanded
from qad_jax.detection.examination import Examination
from qad_jax.detection.pages import file_page, overview, words
from qad_jax.detection.pages.file_page import name_of
from qad_jax.detection.pages.parts import GENERATOR
from qad_jax.detection.results import Verdict
from qad_jax.weights.model_file import Description

INDEX, OBJECTS = "index.html", "verdicts.jsonl"
# Where a page names its program and its title.
_HEAD = 1000
_LONGEST_NAME = 80
# Names of `page_name`; and what a process that was killed leaves behind.
_PAGE = re.compile(r"[A-Za-z0-9._-]+-[0-9a-f]{16}\.html")
_PART = re.compile(
    rf"\.({_PAGE.pattern}|{re.escape(INDEX)}|{re.escape(OBJECTS)})\.[0-9a-f]{{32}}\.part"
)


class Made(NamedTuple):
    """What verdicts are made with.

    Attributes:
      model: SHA-256 of the model.
      frames: Number of frames of a video that are looked at.
    """

    model: str
    frames: int


class Pages:
    """Writes the pages of one run: that of each file at once, those over all at the end."""

    def __init__(self, folder: Path, command: str, model: Description, made: Made) -> None:
        """Looks at the folder; nothing is left there before the first page.

        Args:
          folder: New, empty, or with the pages of an earlier run, which are replaced.
          command: The command of this run.
          model: What the detector says of itself.
          made: What the verdicts of this run are made with.

        Raises:
          UserError: The folder holds something else, is a file, or cannot be written; or another
            process writes to it.
          OSError: It cannot be read.
        """
        self._folder, self._command = expanded(folder), command
        if self._folder.exists() and not self._folder.is_dir():
            raise UserError(f"--out: {folder} is a file; name a folder")
        self._rows: list[overview.Row] = []
        self._objects: BinaryIO | None = None
        self._model, self._made = model, made
        self._earlier: set[str] = set()
        self._lock: int | None = None
        try:
            if self._folder.exists():
                self._take()
            check_writable(self._folder.absolute(), "--out")
        except BaseException:
            self.close()
            raise

    def _take(self) -> None:
        """Takes the folder for this process alone, and looks at what is in it.

        The folder itself is locked: a file for that would lie among the pages.
        """
        self._lock = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        hold(
            self._lock,
            f"--out: {self._folder}: another process writes there; wait for its end, or name "
            "another folder",
        )
        self._earlier = _earlier(self._folder)

    def has(self, file: str, digest: str) -> bool:
        """Whether an earlier run has written the page of a file.

        Args:
          file: The path as it was given.
          digest: SHA-256 of the file.
        """
        return page_name(file, digest, self._made) in self._earlier

    def keep(self, verdict: Verdict) -> None:
        """Takes the page over that an earlier run has written, see `has`."""
        self._list(page_name(verdict.file, verdict.sha256, self._made), verdict)

    def add(self, examined: Examination, command: str) -> None:
        """Writes the page of a file.

        Args:
          examined: The verdict and what is shown with it.
          command: The command that writes this page alone.

        Raises:
          UserError: The folder was not there at the start, and another process has made it since
            and writes there.
          OSError: The page cannot be written.
        """
        if self._lock is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._take()
        verdict = examined.verdict
        name = page_name(verdict.file, verdict.sha256, self._made)
        page = file_page.render(examined, command, back=INDEX)
        write_whole(self._folder / name, page)
        self._list(name, verdict)

    def _list(self, name: str, verdict: Verdict) -> None:
        self._rows.append(overview.Row.of(name, verdict))
        if self._objects is None:
            # The objects of many files do not fit in memory. The name is one of `_PART`.
            self._objects = (self._folder / f".{OBJECTS}.{uuid.uuid4().hex}.part").open("wb")
        self._objects.write(verdict.as_json().encode() + b"\n")

    def close(self) -> None:
        """Ends the work. Without `finish`, the pages that are written stay, and nothing else."""
        if self._objects is not None:
            self._objects.close()
            Path(self._objects.name).unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def finish(self) -> Path:
        """Writes the page over all files and the JSON objects, and removes pages of earlier runs.

        Returns:
          The path of the page over all files.
        """
        assert self._objects is not None, "no file was judged"
        index = self._folder / INDEX
        write_whole(index, overview.render(self._rows, self._model, self._command))
        self._objects.close()
        os.replace(self._objects.name, self._folder / OBJECTS)
        for name in self._earlier - {INDEX, OBJECTS, *(row.page for row in self._rows)}:
            (self._folder / name).unlink(missing_ok=True)
        self.close()
        return index


def page_name(file: str, digest: str | None, made: Made) -> str:
    """The name of a file's page, safe on every system.

    It is another one for every path and content, and for every model and number of frames: a page
    that is there is kept by its name, see `Pages.has`, and must say what the others say.

    Args:
      file: The path as it was given; it may hold any character.
      digest: SHA-256 of the file; None where it cannot be read.
      made: What the verdict is made with.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name_of(file))[-_LONGEST_NAME:].lstrip(".-_")
    about = "\0".join([file, digest or "", made.model, str(made.frames)])
    told = hashlib.sha256(about.encode("utf-8", "backslashreplace"))
    return f"{plain or 'file'}-{told.hexdigest()[:16]}.html"


def _earlier(folder: Path) -> set[str]:
    """The names of what an earlier run has written. A page that was saved from elsewhere is none.

    Raises:
      UserError: There is something else.
    """
    paths = sorted(folder.iterdir())
    ours = {path.name for path in paths if _is_page(path) or _PART.fullmatch(path.name)}
    if INDEX in ours:
        ours.add(OBJECTS)
    for path in paths:
        if path.name not in ours:
            raise UserError(
                f"--out: {folder} holds {path.name}, which is no page of an earlier run; name a "
                "folder that is new or empty"
            )
    return ours


def _is_page(path: Path) -> bool:
    """Whether a run has written a page: by its name, as the service lets users save pages, too."""
    is_index = path.name == INDEX
    if not (is_index or _PAGE.fullmatch(path.name)) or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(_HEAD).decode(errors="replace")
    title = words.OVERVIEW.partition("{")[0] if is_index else ""
    return f'<meta name="generator" content="{GENERATOR}">' in head and f"<title>{title}" in head
