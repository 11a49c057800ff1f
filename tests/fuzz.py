"""Reads files that are damaged at random, for as long as wanted: the targets of test_fuzz.py.

    python -m tests.fuzz --minutes 60 [--target NAME ...] [--seed N] [--out FOLDER]

Each target runs in a process of its own, which has 2 GiB of memory more than it begins with. A
process that crashes, or that takes 60 seconds for one input, is a finding like a broken promise. An
input that was found is kept in the folder. Prints a line for each target: its number of runs, its
rate, and what was found. The exit status is 1 where anything was.
"""

import argparse
import hashlib
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time

_HANGS = 60
_MEMORY = 2 << 30
_BATCH = 500


def main():
    args = _arguments()
    if args.worker:
        return _work(args.target[0], args.seed, args.worker)
    from tests import fuzz_targets

    names = args.target or list(fuzz_targets.TARGETS)
    if unknown := {*names} - {*fuzz_targets.TARGETS}:
        known = ", ".join(sorted(fuzz_targets.TARGETS))
        raise SystemExit(f"--target: there is no {', '.join(sorted(unknown))}; one of: {known}")
    args.out.mkdir(parents=True, exist_ok=True)
    findings = 0
    for name in names:
        runs, seconds, finding = _watch(name, args.seed, 60 * args.minutes / len(names), args.out)
        rate = runs / seconds
        print(f"{name}: {runs} runs, {rate:.0f} a second, {finding or 'no finding'}", flush=True)
        findings += bool(finding)
    return int(bool(findings))


def _arguments():
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5, help="for all targets together")
    parser.add_argument("--target", action="append", help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("build/fuzz"))
    parser.add_argument("--worker", type=pathlib.Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _watch(name, seed, seconds, out):
    """Runs a target in another process; returns its runs, its seconds, and what was found."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as said:
        folder = pathlib.Path(folder)
        command = [sys.executable, "-X", "faulthandler", "-m", "tests.fuzz", f"--target={name}"]
        process = subprocess.Popen(
            [*command, f"--seed={seed}", f"--worker={folder}"], stdout=said, stderr=said
        )
        begun = None
        runs, since, finding = 0, time.monotonic(), None
        while finding is None and (begun is None or time.monotonic() - begun < seconds):
            time.sleep(0.2)
            now = _runs(folder)
            if now != runs:
                begun = begun or time.monotonic()
                runs, since = now, time.monotonic()
            if process.poll() is not None:
                said.seek(0)
                errors = re.findall(r"^[ |]*([\w.]*(?:Error|Exception|Fatal).*)", said.read(), re.M)
                finding = f"ended with status {process.returncode}: {errors[-1] if errors else ''}"
            elif time.monotonic() - since > _HANGS:
                finding = f"takes more than {_HANGS} seconds"
        process.kill()
        process.wait()
        if finding:
            data = (folder / "input").read_bytes()
            kept = out / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
            kept.write_bytes(data)
            finding += f" ({kept})"
        return _runs(folder), time.monotonic() - (begun or since), finding


def _runs(folder):
    path = folder / "runs"
    return int.from_bytes(path.read_bytes(), "little") if path.exists() else 0


def _work(name, start, folder):
    """Makes and reads inputs until it is killed, or one breaks the promise."""
    from hypothesis import HealthCheck, Phase, given, seed, settings

    from tests import fuzz_targets

    inputs, read = fuzz_targets.TARGETS[name]
    scratch = folder / "scratch"
    scratch.mkdir()
    runs = os.open(folder / "runs", os.O_CREAT | os.O_RDWR)
    kept = os.open(folder / "input", os.O_CREAT | os.O_RDWR)
    count = 0

    def once(data):
        nonlocal count
        os.pwrite(kept, data, 0)  # before it is read: who crashes cannot tell
        os.truncate(kept, len(data))
        fuzz_targets.check(read, data, scratch)
        count += 1
        os.pwrite(runs, count.to_bytes(8, "little"), 0)

    bounds = settings(
        max_examples=_BATCH,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    strategy = inputs()
    for batch in range(start * 1_000_000, (start + 1) * 1_000_000):
        seed(batch)(bounds(given(strategy)(lambda data: once(data))))()
        if batch % 1_000_000 == 0:  # everything is loaded by now
            pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
            limit = pages * os.sysconf("SC_PAGE_SIZE") + _MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return 0


if __name__ == "__main__":
    sys.exit(main())
