"""What the smaller commands share: a mistake is one line and exit status 1."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from data_builders.errors import UserError


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line, as every other mistake is."""

    def error(self, message: str) -> NoReturn:
        """Raises what `run` prints."""
        raise UserError(f"command line: {message}; --help has the options")


def run(job: Callable[[Sequence[str]], str], argv: Sequence[str] | None = None) -> int:
    """Does a job and prints what it says.

    Args:
      job: From the arguments to what is to be printed.
      argv: The arguments; those of the process if not given.

    Returns:
      The exit status.
    """
    try:
        print(job(sys.argv[1:] if argv is None else argv))
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"error: {error.filename or 'input/output'}: {error.strerror or error}",
            file=sys.stderr,
        )
        return 1
    return 0
