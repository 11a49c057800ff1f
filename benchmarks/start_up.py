"""Seconds until the first step, without and with the cache of compiled programs; and of `--help`.

`speed.py` prints the tables, or alone, for the command of the README and `qad-jax --help` only:

    python benchmarks/start_up.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import measured
from measured import Measured, positive

from data_builders.command_line import DONE, Parser, run

HERE = Path(__file__).resolve().parent
_A_LOOK = 0.02  # seconds between two looks at the log


def _environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}


def step(name: str, tuples: int, results: Measured) -> None:
    """Tells compile and first-step time of a model's step, in a process of its own."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]; from data_builders import compilation_cache; "
        "compilation_cache.keep(); import speed; speed.cpu.tune(); "  # as the commands do
        f"ours = speed.Ours({name!r}, 'float32', {tuples}); "
        "print(ours.seconds('step'), ours.seconds('step'))"
    )
    print(f"\n{name}: the first step, compiling or reading the cache, and the second\n")
    print("| cache | first step, s | second step, s | whole process, s |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as cache:
        for state in ("cold", "warm"):
            begin = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", code, str(HERE), str(HERE.parent)],
                env=_environment(Path(cache)),
                capture_output=True,
                text=True,
                check=True,
            )
            first, second = (float(word) for word in done.stdout.split())
            whole = time.perf_counter() - begin
            title = f"first step, {name}, {tuples} tuples"
            results.add(title, state, "first step, s", [first], unit="s", digits=1)
            results.add(title, state, "second step, s", [second], unit="s")
            results.add(title, state, "whole process, s", [whole], unit="s", digits=1)
            print(f"| {state} | {first:.1f} | {second:.2f} | {whole:.1f} |", flush=True)


def help_text(rounds: int, results: Measured) -> None:
    """Tells how long `qad-jax --help` takes."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        words = [sys.executable, "-m", "qad_jax.cli", "--help"]
        subprocess.run(words, cwd=HERE.parent, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - begin)
    results.add("commands", "qad-jax --help", "s", times, unit="s")
    print(f"\nqad-jax --help: {min(times):.2f} to {max(times):.2f} s")


def quickstart(results: Measured) -> None:
    """Tells the time from the quickstart's command to its first step.

    Raises:
      RuntimeError: If the command ends before.
    """
    print("\nquickstart, from the command to its first step\n\n| | s |\n|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for state in ("dataset not built, cold cache", "cold cache", "warm cache"):
            if state == "cold cache":
                (folder / "cache").rename(folder / "cache of before")
            seconds = _until_first_step(folder, folder / state)
            results.add("quickstart", state, "s", [seconds], unit="s", digits=1)
            print(f"| {state} | {seconds:.1f} |", flush=True)


def _until_first_step(folder: Path, workdir: Path) -> float:
    command = [
        *(sys.executable, "-m", "qad_jax.main", "--config", "configs/quickstart.py"),
        *("--workdir", str(workdir), f"--config.dataset.data_dir={folder / 'data'}"),
        "--config.log_every_steps=1",
    ]
    log = workdir / "metrics.jsonl"
    begin = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=HERE.parent, env=_environment(folder / "cache"), stderr=subprocess.DEVNULL
    )
    try:
        while not (log.exists() and "\n" in log.read_text()):
            if process.poll() is not None:
                raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
            time.sleep(_A_LOOK)
        return time.perf_counter() - begin
    finally:
        process.kill()
        process.wait()


def _job(argv: Sequence[str]) -> int:
    parser = Parser(prog="python benchmarks/start_up.py", description=__doc__)
    parser.add_argument("--rounds", type=positive, default=3, help="of --help (3)")
    parser.add_argument("--help_only", action="store_true", help="leave the quickstart out")
    measured.add_option(parser)
    options = parser.parse_args(argv)
    results = Measured("start_up")
    with results.written(options.json):
        help_text(options.rounds, results)
        if not options.help_only:
            quickstart(results)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
