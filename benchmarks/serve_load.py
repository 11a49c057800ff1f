"""What `qad-jax serve` does under load: is a job lost, is the order fair, does memory stay flat.

Writes JPEG images of a photographed face, and judges the first ones in this process, one after
another, as `qad-jax detect --out` does. Then it starts the service on this machine. First one
client sends one file at a time. Then many clients, each from an address of its own (Linux has all
of 127.0.0.0/8), send all their files at once and wait for the verdicts. Prints the times for a file
beside those of bare `detect`, how far clients got apart while all of them had files left, and the
resident memory of the service and of its workers at the beginning and at the end.

    python benchmarks/serve_load.py [--jobs 200] [--clients 20] [--workers 1] [--side 400]
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import measured
import numpy as np
from detect_rate import write_images
from measured import Measured, positive

from data_builders import compilation_cache
from data_builders.command_line import DONE, Parser, run
from data_builders.errors import UserError
from qad_jax import cpu
from qad_jax.detection.detector import Detector
from qad_jax.detection.pages import file_page
from qad_jax.detection.server.work import resident

#: States of a job: the service says the first two. LOST is one that does not end, or is gone.
JUDGED, FAILED, LOST = "done", "failed", "lost"

_POLL = 0.05  # seconds between two looks at a job
_PATIENCE = 3600.0
_MOST_CLIENTS = 254  # of which each has an address in one network


def bare(files: Sequence[str]) -> list[float]:
    """Seconds for each file in this process: verdict and page."""
    detector = Detector.from_pretrained()
    times = []
    for file in [files[0], *files]:  # the first one compiles
        start = time.perf_counter()
        file_page.render(detector.examine(file), "qad-jax detect", back=None)
        times.append(time.perf_counter() - start)
    return times[1:]


async def ended(client: httpx.AsyncClient, location: str) -> tuple[str, str]:
    """Waits for the end of a job.

    Returns:
      Its state, and the verdict or the reason why there is none.
    """
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        answer = await client.get(location)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return LOST, "it is not there"
        job = answer.raise_for_status().json()
        if job["state"] in (JUDGED, FAILED):
            return job["state"], job["verdict"] or job["reason"]
        await asyncio.sleep(_POLL)
    return LOST, "it does not end"


async def send(client: httpx.AsyncClient, file: str) -> str:
    """Sends a file; returns the address of its job."""
    content = {"file": (Path(file).name, Path(file).read_bytes())}
    answer = (await client.post("/v1/jobs", files=content)).raise_for_status()
    return answer.headers["location"]


async def one_by_one(url: str, files: Sequence[str]) -> list[float]:
    """Seconds from the start of sending to the verdict, of one client.

    Raises:
      UserError: There is no verdict.
    """
    times = []
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        for file in files:
            start = time.perf_counter()
            state, word = await ended(client, await send(client, file))
            if state != JUDGED:
                raise UserError(f"{file}: {state}: {word}")
            times.append(time.perf_counter() - start)
    return times


async def all_at_once(
    url: str, files: Sequence[str], clients: int
) -> tuple[list[tuple[float, float, int]], list[tuple[str, str]]]:
    """Sends all files.

    Returns:
      For each job that was judged when it was sent, when it ended, and its client; and for each of
      all jobs what `ended` returns.
    """
    ends, said = [], []

    async def client(number: int) -> None:
        transport = httpx.AsyncHTTPTransport(local_address=f"127.0.1.{number + 1}")
        async with httpx.AsyncClient(base_url=url, transport=transport, timeout=60) as one:
            sent = [(time.perf_counter(), await send(one, file)) for file in files[number::clients]]
            for start, location in sent:  # of one client, they end in this order
                said.append(await ended(one, location))
                if said[-1][0] == JUDGED:
                    ends.append((start, time.perf_counter(), number))

    await asyncio.gather(*map(client, range(clients)))
    return sorted(ends, key=lambda end: end[1]), said


def apart(ends: Sequence[tuple[float, float, int]], clients: int) -> int:
    """By how many finished jobs clients differ at most, while all of them still have some."""
    owned = np.bincount([client for *_, client in ends], minlength=clients)
    done, most = np.zeros(clients, int), 0
    for *_, client in ends:
        done[client] += 1
        if (done == owned).any():
            break
        most = max(most, int(np.ptp(done)))
    return most


def memory(pid: int) -> tuple[float, float]:
    """Resident MB of the service, and of its processes."""
    children: list[str] = []
    for task in Path(f"/proc/{pid}/task").iterdir():  # threads start the workers
        with contextlib.suppress(OSError):  # it has ended meanwhile
            children += (task / "children").read_text().split()
    return resident(pid) / 1e6, sum(resident(int(child)) for child in children) / 1e6


def watched(pid: int, stop: threading.Event) -> Iterator[tuple[float, float]]:
    """Memory, twice a second, until the end."""
    while not stop.wait(0.5):
        yield memory(pid)


def line(name: str, times: Sequence[float], results: Measured) -> str:
    """Median and 95th percentile of some times, which are added to the results."""
    p50, p95 = np.percentile(times, [50, 95])
    results.add("seconds for a file", name, "s", times, unit="s", digits=3)
    return f"{name:28} p50 {p50:7.3f} s   p95 {p95:7.3f} s   ({len(times)} files)"


def _job(argv: Sequence[str]) -> int:
    parser = Parser(prog="python benchmarks/serve_load.py", description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=positive, default=200)
    parser.add_argument("--clients", type=positive, default=20)
    parser.add_argument("--workers", type=positive, default=1)
    parser.add_argument("--side", type=positive, default=400, help="of an image, px")
    parser.add_argument("--alone", type=positive, default=20, help="files without load")
    measured.add_option(parser)
    args = parser.parse_args(argv)
    if args.clients > _MOST_CLIENTS:
        parser.error(f"--clients: is {args.clients}, must be at most {_MOST_CLIENTS}")
    results = Measured("serve_load")

    cpu.tune()
    compilation_cache.keep()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_images(folder, args.jobs, args.side)
        print(line("bare detect", bare(files[: args.alone]), results))
        words = ("--port", 0, "--folder", folder, "--workers", args.workers)
        words += ("--max_per_minute", args.jobs, "--max_queue", 2 * args.jobs)
        with subprocess.Popen(
            [sys.executable, "-m", "qad_jax.serve", *map(str, words)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        ) as service:
            try:
                measure(service, files, args, results)
            finally:
                service.terminate()
        left = [path.name for path in folder.iterdir() if str(path) not in files]
        print(f"left on the disk: {left}")
    results.write(args.json)
    return DONE


def measure(
    service: subprocess.Popen[str], files: list[str], args: argparse.Namespace, results: Measured
) -> None:
    """Sends files to a service that has been started, and prints what becomes of them."""
    assert service.stderr is not None
    url = service.stderr.readline().strip()
    if not url.startswith("http"):
        raise UserError(f"the service does not start: {url}")
    while httpx.get(f"{url}healthz").json()["workers"] < args.workers:
        time.sleep(0.2)
    asyncio.run(one_by_one(url, files[:1]))  # compiles for this size
    times = asyncio.run(one_by_one(url, files[: args.alone]))
    print(line("one client, one by one", times, results))

    stop, seen = threading.Event(), [memory(service.pid)]
    watcher = threading.Thread(target=lambda: seen.extend(watched(service.pid, stop)))
    watcher.start()
    start = time.perf_counter()
    try:
        ends, said = asyncio.run(all_at_once(url, files, args.clients))
        seconds = time.perf_counter() - start
    finally:
        stop.set()
        watcher.join()

    count = collections.Counter(state for state, _ in said)
    words = collections.Counter(word for _, word in sorted(said))
    print(f"lost: {count[LOST]}; failed: {count[FAILED]}; said: {dict(words)}")
    if not ends:
        raise UserError("no job was judged")
    times = [end - sent for sent, end, _ in ends]
    print(line(f"{args.clients} clients at once", times, results))
    rate = [len(ends) / seconds]
    results.add("under load", "all", "files/s", rate, unit="files/s", better="higher")
    print(f"{len(ends) / seconds:.2f} files a second")
    if gaps := [b[1] - a[1] for a, b in itertools.pairwise(ends)]:
        print(f"from one verdict to the next {statistics.median(gaps):.3f} s (median)")
    print(f"clients differ by at most {apart(ends, args.clients)} finished files")
    tenth = max(1, len(seen) // 10)
    for name, column in zip(("service", "workers"), zip(*seen, strict=True), strict=True):
        first, last = (statistics.median(part) for part in (column[:tenth], column[-tenth:]))
        most = max(column)
        results.add("memory", name, "MB at most", [most], unit="MB", digits=0)
        print(f"{name}: {first:.0f} MB at the beginning, {last:.0f} at the end, {most:.0f} at most")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
