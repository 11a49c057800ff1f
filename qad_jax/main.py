"""Trains and evaluates.

python -m qad_jax.main --config configs/quickstart.py --workdir runs/quickstart
python -m qad_jax.main --workdir runs/quickstart --mode evaluate
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from data_builders import command_line
from data_builders.command_line import UsageError
from data_builders.errors import UserError
from data_builders.home import expanded
from qad_jax import configs, cpu

MODES = ("train", "evaluate")


def _parser(prog: str, mode: str | None) -> argparse.ArgumentParser:
    """The parser; `mode` is what a subcommand has settled."""
    parser = command_line.Parser(
        prog=prog,
        description={
            None: "Trains a detector and evaluates it, or only evaluates it.",
            "train": "Trains a detector, then evaluates its best checkpoint on the test split.",
            "evaluate": "Evaluates a checkpoint of a run.",
        }[mode],
        epilog="--config.FIELD=VALUE changes a field of the configuration.",
    )
    if mode == "evaluate":
        parser.add_argument("folder", nargs="?", metavar="WORKDIR", help="the folder of the run")
    parser.add_argument("--workdir", help="the folder of the run: checkpoints, logs, results")
    parser.add_argument(
        "--config",
        metavar="FILE[:ARGUMENT]|NAME|RUN",
        help=f"a file of configuration, the folder of a run, or one of {', '.join(configs.names())}"
        "; by default that of the run in the folder",
    )
    if mode is None:
        parser.add_argument("--mode", choices=MODES, default="train", help="by default train")
    if mode != "train":
        evaluation = parser.add_argument_group("evaluation")
        evaluation.add_argument("--split", choices=("train", "validation", "test"), default="test")
        evaluation.add_argument("--step", type=int, help="a checkpoint; by default the best")
        evaluation.add_argument(
            "--robustness",
            action="store_true",
            help="evaluate the best quality under JPEG, blur, noise and resizing, too",
        )
        evaluation.add_argument(
            "--against", metavar="RUN", help="with --robustness: a second run to draw beside it"
        )
    several = parser.add_argument_group("several processes")
    several.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    several.add_argument("--num_processes", type=int, help="how many processes there are")
    several.add_argument("--process_id", type=int, help="which one this is, from 0")
    return parser


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words that change fields of the configuration, and the others."""
    fields, others, words = [], [], list(argv)
    while words:
        word = words.pop(0)
        if not re.match(r"--?(no)?config\.", word):
            others.append(word)
            continue
        fields.append(word)
        if "=" not in word and words and not words[0].startswith("-") and not _is_switch(word):
            fields.append(words.pop(0))
    return fields, others


def _is_switch(word: str) -> bool:
    """Whether a field is true or false, which needs no value: `--config.remat`."""
    at: Any = configs.load("common")
    for name in re.sub(r"^--?(no)?config\.|\[\d+\]", "", word).split("."):
        at = at.get(name) if isinstance(at, Mapping | ml_collections.ConfigDict) else None
    return isinstance(at, bool)


def _configuration(path: str, fields: Sequence[str], *, one_dataset: bool, debug: bool) -> Any:
    """Loads a configuration and changes fields of it; a mistake in either is one line.

    Args:
      path: As for `configs.load`.
      fields: The words of the command line that change fields.
      one_dataset: Whether the name of a dataset takes the place of a mixture.
      debug: Whether to show the traceback of a mistake.
    """
    from absl import flags
    from ml_collections import config_flags

    words = ["qad-jax", *fields]
    try:
        config = configs.load(path)
        configs.complete(config)
        _check_dataset_fields(config, fields, one_dataset=one_dataset)
        values = flags.FlagValues()
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=words)
        values(words)
    except Exception as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, UserError):
            raise
        raise UsageError(f"command line: {_field_error(error)}") from error
    return config


def _check_dataset_fields(config: Any, fields: Sequence[str], *, one_dataset: bool) -> None:
    """Explains fields that are of one dataset where there are several, or the other way round."""
    known = configs.datasets(config)
    mixture = "config.dataset" not in known
    names = [word.lstrip("-").partition("=")[0] for word in fields]
    if mixture and one_dataset and "config.dataset.name" in names:
        configs.replace_mixture(config)
        return
    for name in names:
        dataset = re.match(r"config\.dataset(\[\d+\])?(?=\.)", name)
        if dataset is None or dataset[0] in known:
            continue
        if not mixture:
            reason = f"there is one dataset: name its field as {name.replace(dataset[1], '')}"
        else:
            reason = f"the datasets are {', '.join(known)}"
        raise UsageError(f"command line: {name}: {reason}")


def _field_error(error: Exception) -> str:
    """What ml_collections or absl say of a field, in the project's words where they are known."""
    if field := re.search(r'Did you mean "(.+?)" instead of "(.+?)"', str(error)):
        return f"the configuration has no field {field[2]!r}: did you mean {field[1]!r}?"
    if field := re.fullmatch(r"\W*'?(\w+)\W*", str(error)):
        return f"the configuration has no field {field[1]!r}"
    return str(error)


def _job(argv: Sequence[str], *, prog: str, mode: str | None) -> int:
    fields, others = _split(argv)
    given = vars(_parser(prog, mode).parse_args(others))
    folder = given.get("folder")
    workdir = given.pop("workdir") or folder
    if given.pop("folder", None) and workdir != folder:
        raise UsageError("--workdir: the folder of the run is given twice; name it once")
    if not workdir:
        raise UsageError("--workdir: name the folder of the run; it is made if there is none")
    given["mode"] = mode or given["mode"]
    name, debug = given.pop("config"), given.pop("debug", False)
    if name is None and not (expanded(workdir) / configs.STORED).is_file():
        if given["mode"] == "evaluate":
            raise UserError(
                f"{workdir}: holds no run; name the folder of a run, or train one there first"
            )
        raise UsageError(
            "--config: name a configuration: a file, the folder of a run, or one of "
            f"{', '.join(configs.names())}"
        )
    path = configs.of_run(workdir) if name is None else configs.find(name)
    evaluates = given["mode"] == "evaluate"
    config = _configuration(path, fields, one_dataset=evaluates, debug=debug)
    from qad_jax import run  # here, so that --help need not wait for JAX
    from qad_jax.training.preemption import Preempted

    try:
        run.run(config, workdir, **given)
    except Preempted as stopped:
        print(stopped, file=sys.stderr)
        return command_line.TERMINATED
    return command_line.DONE


def main(
    argv: Sequence[str] | None = None,
    *,
    mode: str | None = None,
    prog: str = "python -m qad_jax.main",
) -> int:
    """Trains or evaluates.

    Args:
      argv: The arguments; those of the process if not given.
      mode: 'train' or 'evaluate', where a subcommand has settled it.
      prog: What the command is called.

    Returns:
      The exit status.
    """
    return command_line.run(
        functools.partial(_job, prog=prog, mode=mode),
        argv,
        interrupted="interrupted; started again, a training goes on from the last checkpoint",
    )


if __name__ == "__main__":
    cpu.tune()
    sys.exit(main())
