"""Converts weights and detectors between formats.

python -m qad_jax.models.pretrained FILE --out DIR
python -m qad_jax.models.pretrained DIR --average WEIGHTS --out DIR
python -m qad_jax.models.pretrained DIR --export FILE.safetensors
python -m qad_jax.models.pretrained SOURCE --export FILE.onnx|FILE.stablehlo
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence

from absl import logging

from data_builders import command_line
from data_builders.errors import UserError
from data_builders.files import check_writable
from data_builders.home import expanded
from qad_jax.models import NAMES
from qad_jax.weights import averaging, exports, model_file, pretrained


def _job(argv: Sequence[str], prog: str) -> str:
    parser = command_line.Parser(
        prog=prog,
        description="Converts weights to a run's folder, or a detector to another format.",
    )
    parser.add_argument(
        "source",
        type=expanded,
        help="weights, or with --average a run (with --out); a run, a model file or weights (with "
        "--export)",
    )
    to = parser.add_mutually_exclusive_group(required=True)
    to.add_argument("--out", type=expanded, metavar="DIR", help="the folder to make")
    to.add_argument(
        "--export",
        type=expanded,
        metavar="FILE",
        help="the file to make: .onnx, .stablehlo, or of a run .safetensors for torch",
    )
    parser.add_argument(
        "--average",
        type=expanded,
        metavar="WEIGHTS",
        help="of a run: other weights of its model, or a run; the mean of both is made",
    )
    parser.add_argument("--name", choices=NAMES, help="of weights: the model, if not to be guessed")
    parser.add_argument("--config", help="of weights: configuration to go with them")
    parser.add_argument("--step", type=int, help="of a run: checkpoint (the best)")
    args = parser.parse_args(argv)
    written = args.out.absolute() if args.out else args.export.absolute().parent
    check_writable(written, "--out" if args.out else "--export")
    # orbax logs every folder that it reads, and tracebacks of errors that it raises as well.
    logging.set_verbosity(logging.FATAL)
    if args.average:
        if not args.out or args.name or args.config:
            raise UserError("--average: goes with a run and --out, without --name and --config")
        return averaging.average(args.source, args.average, args.out, args.step)
    _check_flags(args)
    if args.out:
        imported = pretrained.convert(args.source, args.out, args.name, args.config)
        return f"{args.out}: {imported.summary}"
    if args.export.suffix not in exports.SUFFIXES:
        return pretrained.export(args.source, args.export, args.step)
    exports.check(args.export)
    source = exports.open_source(
        model_file.find(args.source), step=args.step, name=args.name, config_file=args.config
    )
    return exports.write(source, args.export)


def _check_flags(args: argparse.Namespace) -> None:
    """Refuses flags that change nothing, before somebody believes that they did."""
    source = model_file.find(args.source)
    if source.is_dir() or (args.export and args.export.suffix not in exports.SUFFIXES):
        used, what = {"step"}, "a run"
    elif args.export and model_file.is_one(source):
        used, what = set(), "a model file"
    else:
        used, what = {"name", "config"}, "a file"
    for flag in ("name", "config", "step"):
        if getattr(args, flag) is not None and flag not in used:
            raise UserError(f"--{flag}: does not go with {what}, {source}; leave it out")


def main(
    argv: Sequence[str] | None = None, *, prog: str = "python -m qad_jax.models.pretrained"
) -> int:
    """Entry point of the command; returns its exit status."""
    return command_line.run(functools.partial(_job, prog=prog), argv)
