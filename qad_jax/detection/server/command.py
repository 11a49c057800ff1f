"""The command `qad-jax serve`: a page and an interface over HTTP, on this machine."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import math
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_builders import command_line
from data_builders.command_line import Parser
from data_builders.errors import UserError
from data_builders.home import expanded
from qad_jax.detection.server.settings import MEGABYTE, Settings, is_loopback

if TYPE_CHECKING:  # they are of the extra `serve`
    import uvicorn
    from fastapi import FastAPI

_TOKEN = "QAD_JAX_TOKEN"
_DEFAULT = Settings()
# Bytes of the head of a request, connections at a time, and seconds that a client may take to
# receive its answer when the service ends.
_MOST_HEAD, _MOST_CONNECTIONS, _GRACE = 16 * 1024, 500, 3


def _parse(argv: Sequence[str], prog: str) -> argparse.Namespace:
    parser = Parser(
        prog=prog,
        description="Judges files that clients send over HTTP; a page for people is at /.",
    )

    def add(name: str, default: object, help: str, **options: object) -> None:
        parser.add_argument(name, default=default, help=help, **options)  # type: ignore[arg-type]

    add("--model", None, "a model file, or a run that was evaluated (the package's own detector)")
    add("--frames", _DEFAULT.frames, "frames of a video (%(default)s)", type=int)
    add("--host", _DEFAULT.host, "address to listen at (%(default)s)")
    add("--port", _DEFAULT.port, "port to listen at; 0 takes a free one (%(default)s)", type=int)
    add("--name", [], "a name by which clients call this host; may be repeated", action="append")
    add("--proxy", None, "address or network of a reverse proxy: its X-Forwarded-For is believed")
    add(
        "--token_file",
        None,
        f"a file with the token that clients must send; {_TOKEN} in the environment does it, too",
        type=expanded,
    )
    add("--workers", _DEFAULT.workers, "processes that judge (%(default)s)", type=int)
    megabytes = {"type": _megabytes, "metavar": "MB"}
    add("--max_mb", _DEFAULT.most_bytes / MEGABYTE, "size of a file (%(default)g)", **megabytes)
    add("--max_seconds", _DEFAULT.most_seconds, "work on a file (%(default)g)", type=float)
    add(
        "--max_memory_mb",
        _DEFAULT.most_memory / MEGABYTE,
        "resident memory of a worker (%(default)g)",
        **megabytes,
    )
    add("--max_queue", _DEFAULT.most_queued, "files that wait (%(default)s)", type=int)
    add(
        "--max_disk_mb",
        _DEFAULT.most_held / MEGABYTE,
        "size of all files that wait, and of all results (%(default)g)",
        **megabytes,
    )
    add(
        "--max_per_minute",
        _DEFAULT.uploads_per_minute,
        "files that a client may send (%(default)s)",
        type=int,
    )
    add(
        "--upload_seconds",
        _DEFAULT.upload_seconds,
        "time that sending a file may take (%(default)g)",
        type=float,
    )
    add(
        "--keep_seconds",
        _DEFAULT.kept_seconds,
        "time after which a result is removed (%(default)g)",
        type=float,
    )
    add("--store", None, "keep results in this SQLite file over a restart", type=expanded)
    add("--folder", None, "where the private folder for files is made", type=expanded)
    return parser.parse_args(argv)


def _megabytes(text: str) -> float:
    number = float(text)
    if not math.isfinite(number * MEGABYTE):
        raise argparse.ArgumentTypeError(f"{text} is no size")
    return number


def _settings(args: argparse.Namespace) -> Settings:
    return Settings(
        model=args.model,
        frames=args.frames,
        host=args.host,
        port=args.port,
        names=tuple(args.name),
        proxy=args.proxy,
        token=_token(args.token_file),
        workers=args.workers,
        most_bytes=int(args.max_mb * MEGABYTE),
        most_seconds=args.max_seconds,
        most_memory=int(args.max_memory_mb * MEGABYTE),
        most_queued=args.max_queue,
        most_held=int(args.max_disk_mb * MEGABYTE),
        kept_seconds=args.keep_seconds,
        upload_seconds=args.upload_seconds,
        uploads_per_minute=args.max_per_minute,
        store=args.store,
        folder=args.folder,
    )


def _token(path: Path | None) -> str | None:
    """The token, which is no argument: others on the machine see the arguments of a process."""
    if path is None:
        return os.environ.get(_TOKEN) or None
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(4096).strip()
    except (OSError, ValueError) as error:
        raise UserError(f"--token_file: {path}: cannot be read: {error}") from error


def _job(argv: Sequence[str], prog: str) -> int:
    args = _parse(argv, prog)
    settings = _settings(args)
    try:
        import uvicorn

        from qad_jax.detection.server import app as application
    except ImportError as error:
        raise UserError(
            f"the service needs more packages ({error}); pip install 'qad-jax[serve]'"
        ) from error
    if not is_loopback(settings.host):
        print(
            f"warning: other machines reach {settings.host}, and what they send is not encrypted; "
            "put a reverse proxy with TLS in front",
            file=sys.stderr,
        )
    servers: list[uvicorn.Server] = []

    def stop() -> None:
        for server in servers:
            server.should_exit = True

    app = application.create(settings, gave_up=stop)
    servers.append(uvicorn.Server(configuration(app, settings)))
    with _listening(settings) as listening, _signals(stop):
        shown = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"http://{shown}:{listening.getsockname()[1]}/"
        asyncio.run(_serve(app, servers[0], listening, address))
    if broken := app.state.service.pool.broken:
        raise UserError(broken)
    return command_line.DONE


async def _serve(
    app: FastAPI, server: uvicorn.Server, listening: socket.socket, address: str
) -> None:
    """Serves until a signal comes. What cannot be made at the start is raised, not logged."""
    async with app.router.lifespan_context(app):
        print(address, file=sys.stderr, flush=True)  # whoever waits for it can connect
        await server.serve(sockets=[listening])


def configuration(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How uvicorn serves the application: within bounds, and without a log of who asks what."""
    import uvicorn

    from qad_jax.detection.server.protocol import Impatient

    return uvicorn.Config(
        app,
        http=Impatient,
        ws="none",
        lifespan="off",  # see `_serve`
        log_config=None,
        log_level="error",  # a request that is none is nothing that an operator could mend
        access_log=False,
        server_header=False,
        proxy_headers=settings.proxy is not None,
        forwarded_allow_ips=settings.proxy,
        h11_max_incomplete_event_size=_MOST_HEAD,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE,
    )


def _listening(settings: Settings) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=_MOST_CONNECTIONS)
    except OSError as error:
        of_name = isinstance(error, socket.gaierror) or not error.errno
        reason = error.strerror if of_name else os.strerror(error.errno or 0)
        raise UserError(
            f"--host {settings.host} --port {settings.port}: cannot listen there: {reason}; name "
            "another port, or 0 for a free one"
        ) from error


@contextlib.contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    """Stops the service at a signal that comes before uvicorn listens to it, or after that.

    Uvicorn ends at a signal and then sends it again. It must not end this process: the files of
    strangers are removed first.
    """
    ours = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stop()) for number in ours]
    try:
        yield
    finally:
        for number, handler in zip(ours, before, strict=True):
            signal.signal(number, handler)


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m qad_jax.serve") -> int:
    """Entry point of the command; returns its exit status."""
    return command_line.run(functools.partial(_job, prog=prog), argv)
