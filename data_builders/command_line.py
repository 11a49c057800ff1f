"""The frame of all commands: one line for a mistake, one meaning for each exit status.

A command is a job, from its arguments to an exit status or to text that is printed:

    def _job(argv: Sequence[str]) -> str:
        parser = Parser(prog="python -m package.command", description="...")
        ...

    def main(argv: Sequence[str] | None = None) -> int:
        return run(_job, argv)

Importing this module loads neither JAX nor TFDS: `--help` must not wait for them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import select
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TypeAlias

from data_builders.errors import UserError, describe, one_line

#: Exit statuses. FAILED is what the user can mend; PARTLY is done but for what was named; the last
#: two are those that shells give to a process which a signal ended.
DONE, FAILED, USAGE, PARTLY = 0, 1, 2, 3
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
_NOBODY_READS = 128 + 13  # of SIGPIPE, which not every system has

#: What a job returns: an exit status, text to print, or both.
Outcome: TypeAlias = int | str | tuple[str, int]


class UsageError(UserError):
    """The command line cannot be understood."""


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line, as every other mistake is, and that knows --debug."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # A script that relies on the beginning of an option breaks with the next option.
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})
        # Suppressed: the parser of a subcommand would reset what was given before it.
        self.add_argument(
            "--debug",
            action="store_true",
            default=argparse.SUPPRESS,
            help="show the traceback of an error",
        )

    def error(self, message: str) -> NoReturn:
        """Raises what `run` prints.

        Raises:
          UsageError: Always.
        """
        raise UsageError(f"command line: {message}; --help has the options")


def run(
    job: Callable[[Sequence[str]], Outcome],
    argv: Sequence[str] | None = None,
    *,
    interrupted: str = "interrupted",
) -> int:
    """Does a job and prints what it returns, or one line that says why there is nothing.

    Args:
      job: From the arguments to an `Outcome`. It parses them with a `Parser`.
      argv: The arguments; those of the process if not given.
      interrupted: What is said after Ctrl-C, such as how to go on.

    Returns:
      The exit status.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    ours = argv[: argv.index("--")] if "--" in argv else argv
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # A name that the encoding of the output does not have is no reason to end in a traceback.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with _warnings_of_one_line():
            outcome = job(argv)
        if isinstance(outcome, int):
            text, status = None, outcome
        else:
            text, status = (outcome, DONE) if isinstance(outcome, str) else outcome
        if text is not None:
            print(text)
        sys.stdout.flush()  # what cannot be written is said here and not at the end of the process
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return INTERRUPTED
    except (UserError, OSError, MemoryError) as error:
        status = _NOBODY_READS if _nobody_reads(error) else fail(error, debug="--debug" in ours)
        if isinstance(error, OSError):
            _drop_what_is_left()
    return status


def fail(error: BaseException, *, debug: bool = False) -> int:
    """Prints what went wrong as one line on standard error.

    Args:
      error: What was raised.
      debug: Whether to show its traceback first.

    Returns:
      The exit status that goes with it.
    """
    if debug:
        traceback.print_exception(error)
    print(f"error: {describe(error)}", file=sys.stderr)
    return USAGE if isinstance(error, UsageError) else FAILED


def quoted(word: str | os.PathLike[str]) -> str:
    """A path or another word as a shell reads it: in quotes where it needs them.

    What is no printable character, such as the end of a line, comes as an escape. Bash, Zsh and
    whatever knows POSIX of 2024 read it.
    """
    text = os.fspath(word)
    return shlex.quote(text) if text.isprintable() else f"$'{''.join(map(_escaped, text))}'"


def _escaped(character: str) -> str:
    if character.isprintable():
        return f"\\{character}" if character in "\\'" else character
    byte_of_a_name = 0xDC80 <= ord(character) <= 0xDCFF  # see `os.fsdecode`
    encoded = character.encode(errors="surrogateescape" if byte_of_a_name else "surrogatepass")
    return "".join(f"\\{byte:03o}" for byte in encoded)


def command(*words: object) -> str:
    """A command for a message: can be copied into a shell whatever is in its words."""
    return " ".join(
        quoted(word if isinstance(word, str | os.PathLike) else str(word)) for word in words
    )


@contextlib.contextmanager
def _warnings_of_one_line() -> Iterator[None]:
    """Leaves out where in this program a warning for the user comes from."""
    original = warnings.formatwarning

    def formatted(message: Warning | str, category: type[Warning], *where: Any, **line: Any) -> str:
        if category is UserWarning:
            return f"warning: {one_line(str(message))}\n"
        return original(message, category, *where, **line)

    warnings.formatwarning = formatted
    try:
        yield
    finally:
        warnings.formatwarning = original


def _nobody_reads(error: BaseException) -> bool:
    """Whether standard output is a pipe whose reader has ended, as `| head` does."""
    if not isinstance(error, BrokenPipeError):
        return False
    with contextlib.suppress(AttributeError, OSError, ValueError):  # no poll, or no file
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return bool(poll.poll(0))
    return False


def _drop_what_is_left() -> None:
    """Keeps the end of the process from failing on output that cannot be written."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def beam_options(arguments: Sequence[str]) -> Any:
    """Parses pipeline options, see `data_builders.beam.options`.

    Raises:
      UserError: Apache Beam is not installed, or as there.
    """
    try:
        from data_builders import beam
    except ImportError as error:
        raise UserError(
            f"--beam: Apache Beam is not installed ({error}); pip install 'qad-jax[beam]'"
        ) from error
    return beam.options(arguments)
