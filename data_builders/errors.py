"""The exceptions for mistakes that the user can correct."""

from __future__ import annotations

import difflib
import os
import traceback
from collections.abc import Iterable

_LONGEST_MESSAGE = 20_000


class UserError(Exception):
    """A mistake in what the user gave. Its message is all that is shown.

    The message is one line that names the file, the field or the flag, says what is wrong with it
    and what to do. Commands print it without a traceback and exit with status 1.
    """

    def __init__(self, message: str) -> None:
        """Makes the error.

        Args:
          message: What is shown, as `one_line` makes it: it may hold names from strangers' files.
        """
        super().__init__(one_line(message))


#: What a reader of JSON raises where a value is not what it expects.
MISREAD = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


class UnusableClipError(UserError):
    """One clip cannot be used. A build names it, counts it and goes on without it."""


class BrokenBuildError(UserError):
    """What many clips need is gone or was changed: the build ends, and blames no clip."""


class UnavailableQualitiesError(UserError):
    """Qualities are wanted that are better than the files.

    Attributes:
      instead: Qualities that can be had.
    """

    def __init__(self, message: str, instead: tuple[str, ...]) -> None:
        super().__init__(message)
        self.instead = instead


def describe(error: BaseException) -> str:
    """Says in one line what went wrong, with the name of the file if the error has one."""
    if isinstance(error, UserError):
        text = str(error)
    elif isinstance(error, OSError):
        named = error.filename is not None and not isinstance(error.filename, int)
        name = os.fsdecode(error.filename) if named else "input/output"
        text = f"{name}: {error.strerror or str(error) or type(error).__name__}"
    elif isinstance(error, MemoryError):
        text = f"not enough memory: {error}" if str(error) else "not enough memory"
    else:
        text = f"{type(error).__name__}: {error}"
    return one_line(text)


def one_line(text: str) -> str:
    """Joins the lines of a text, and shows what is no printable character by its escape.

    So no name in a file can move the cursor of a terminal, or begin a line of its own. A text of
    more than 20 000 characters loses its middle.
    """
    if len(text) > _LONGEST_MESSAGE:
        half = _LONGEST_MESSAGE // 2
        text = f"{text[:half]} ... {text[-half:]}"
    return printable(" ".join(line.strip() for line in text.splitlines() if line.strip()))


def printable(text: str) -> str:
    """Shows what is no printable character by its escape, line ends too."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def unusable(clip: object, files: Iterable[object], error: Exception) -> UnusableClipError:
    """Makes the error of one clip from whatever was raised while it was read.

    A mistake in this program is no reason to lose a build of days: it is named as all else is. Its
    traceback goes along as a note, which is text and so comes back from another process; `--debug`
    shows it.

    Args:
      clip: Names the clip.
      files: Its files, best first. The first is named where the reason names none of them.
      error: What was raised.

    Returns:
      An error whose message names the clip, the file and the reason.
    """
    reason = describe(error)
    paths = [str(file) for file in files]
    names = [] if str(clip) in reason else [str(clip)]
    if not any(path in reason for path in paths):
        names += paths[:1]
    named = UnusableClipError(": ".join([*names, reason]))
    for note in getattr(error, "__notes__", ()):
        named.add_note(note)
    if not isinstance(error, UserError):
        named.add_note(trace(error))
    return named


def trace(error: BaseException) -> str:
    """The traceback of an error, as text."""
    return "".join(traceback.format_exception(error)).rstrip()


def nearest(word: str, known: Iterable[str]) -> str:
    """Makes the part of a message that helps after a misspelling.

    Args:
      word: The word that was written.
      known: The words that exist.

    Returns:
      "did you mean 'x'?" where a similar word exists, else the list of all words.
    """
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
