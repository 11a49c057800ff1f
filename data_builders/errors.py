"""The one exception that means: the person in front of the screen can mend this."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave: its message is the whole of what is shown.

    The message is a single line that names the file, the field or the flag, says what is wrong
    with it and what to do. Commands print it without a traceback and exit with status 1.
    """


class UnusableClipError(UserError):
    """One clip cannot be used: a build names it, counts it, and goes on without it."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The part of a message that helps after a misspelling.

    Args:
      word: What was written.
      known: What could have been written.

    Returns:
      "did you mean 'x'?" where something near exists, else the list of all that is known.
    """
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
