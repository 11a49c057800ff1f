"""Trains and evaluates.

python -m qad_jax.main --config configs/quickstart.py --workdir runs/quickstart
python -m qad_jax.main --config configs/quickstart.py --workdir runs/quickstart --mode evaluate
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from absl import app, flags
from ml_collections import config_flags

from data_builders.errors import UserError
from qad_jax import configs, cpu
from qad_jax.training import preemption

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration file; --config.FIELD=VALUE changes a field.", lock_config=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder: checkpoints, logs, results.")
_MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "evaluate"], "Train and then evaluate, or only evaluate."
)
_SPLIT = flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "What to evaluate on.")
_STEP = flags.DEFINE_integer(
    "step", None, "Checkpoint to evaluate; by default the best on validation."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0, where several processes train together."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes there are.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which one this is, from 0.")
_ROBUSTNESS = flags.DEFINE_boolean(
    "robustness", False, "Evaluate the best quality under JPEG, blur, noise and resizing, too."
)
_AGAINST = flags.DEFINE_string(
    "against", None, "A second run's folder, whose robustness is drawn beside this one's."
)
_DEBUG = flags.DEFINE_boolean("debug", False, "Show the traceback of an error.")


def _fail(message: object) -> NoReturn:
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr)
    sys.exit(1)


def _explain(error: Exception, config: str) -> str:
    """What to say of a command line or a configuration file that could not be understood."""
    frames = traceback.extract_tb(error.__traceback__)
    in_file = config and any(Path(f.filename).name == Path(config).name for f in frames)
    if in_file or isinstance(error, SyntaxError | ImportError | OSError):
        return f"--config: {config}: {type(error).__name__}: {error}"
    if field := re.search(r'Did you mean "(.+?)" instead of "(.+?)"', str(error)):
        return f"the configuration has no field {field[2]!r}: did you mean {field[1]!r}?"
    if field := re.fullmatch(r"\W*'?(\w+)\W*", str(error)):
        return f"the configuration has no field {field[1]!r}"
    return str(error)


def _config_of(argv: Sequence[str]) -> str:
    """The configuration file that a command line names last, '' for none."""
    config = ""
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and name == "config":
            config = value if equals else following
    return config


def _with_found_config(argv: Sequence[str]) -> list[str]:
    """A command line in which the configuration is named by its path, whatever its place."""
    found, words = [], iter(argv)
    for word in words:
        name, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and name == "config":
            word = f"--config={configs.find(value if equals else next(words, ''))}"
        found.append(word)
    return found


def _parse(argv: Sequence[str]) -> list[str]:
    """Parses the flags; a mistake in them is one line, whoever finds it."""
    config = _config_of(argv)
    try:
        argv = _with_found_config(argv)
        rest: list[str] = flags.FLAGS(argv)
        if _CONFIG.value is not None:
            _CONFIG.value.to_dict()  # a file that could not be loaded says so only when used
    except Exception as error:  # a configuration file may fail in any way
        if "--debug" in argv:
            raise
        _fail(f"command line: {_explain(error, config)}")
    if rest[1:]:
        _fail(f"command line: unexpected {rest[1]!r}; options begin with --")
    return rest


def _main(argv: Sequence[str]) -> None:
    del argv
    try:
        if _CONFIG.value is None:
            raise UserError("--config: name a configuration file, such as configs/quickstart.py")
        if not _WORKDIR.value:
            raise UserError("--workdir: name the run's folder; it is made if there is none")
        from qad_jax import run  # here, so that --help need not wait for jax

        run.run(
            _CONFIG.value,
            _WORKDIR.value,
            mode=_MODE.value,
            split=_SPLIT.value,
            step=_STEP.value,
            coordinator=_COORDINATOR.value,
            num_processes=_NUM_PROCESSES.value,
            process_id=_PROCESS_ID.value,
            robustness=_ROBUSTNESS.value,
            against=_AGAINST.value,
        )
    except UserError as error:
        if _DEBUG.value:
            traceback.print_exc()
        _fail(error)
    except OSError as error:
        if _DEBUG.value:
            traceback.print_exc()
        _fail(f"{error.filename or 'input/output'}: {error.strerror or error}")
    except preemption.Preempted as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(preemption.EXIT_STATUS)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    cpu.tune()
    app.run(_main, flags_parser=_parse)
