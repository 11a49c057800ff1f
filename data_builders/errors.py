"""The exceptions for mistakes that the user can correct."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave. Its message is all that is shown.

    The message is one line that names the file, the field or the flag, says what is wrong with it
    and what to do. Commands print it without a traceback and exit with status 1.
    """


class UnusableClipError(UserError):
    """One clip cannot be used. A build names it, counts it and goes on without it."""


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
