"""What the service is told when it starts: addresses, limits, and where things are kept."""

from __future__ import annotations

import dataclasses
import ipaddress
from pathlib import Path

from data_builders.errors import UserError
from qad_jax.detection import media

MEGABYTE = 1_000_000
#: A token of fewer characters can be guessed.
LEAST_TOKEN = 16
# Settings that are numbers, of which 0 would let nothing pass, and what sets them.
_AT_LEAST_ONE = {
    "frames": "--frames",
    "workers": "--workers",
    "most_bytes": "--max_mb",
    "most_seconds": "--max_seconds",
    "most_memory": "--max_memory_mb",
    "most_queued": "--max_queue",
    "most_held": "--max_disk_mb",
    "most_kept": "most_kept",
    "kept_seconds": "--keep_seconds",
    "upload_seconds": "--upload_seconds",
    "uploads_per_minute": "--max_per_minute",
}
_LONGEST = 1_000_000_000  # seconds, of which a calendar can tell the end: 31 years


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of one service.

    Attributes:
      model: A model file, or a run that was evaluated; None for the detector of the package.
      frames: Frames of a video that are looked at.
      host: Address that the service listens at.
      port: Its port.
      names: Names, beside `localhost` and plain addresses, by which clients may call the host.
      proxy: Address or network of a reverse proxy whose X-Forwarded-For is believed; None where
        there is none.
      token: What clients must show; None where nobody must.
      workers: Processes that judge, side by side.
      most_bytes: Of one file.
      most_seconds: Of work on one file.
      most_memory: Bytes of resident memory of a worker.
      most_queued: Jobs that wait.
      most_held: Bytes of all files that wait or are being sent; of all results the same.
      most_kept: Finished jobs that are kept; the oldest go first.
      kept_seconds: Time after which the result of a job is removed.
      upload_seconds: Time that sending one file may take.
      uploads_per_minute: Of one client, in the long run and at once.
      store: SQLite file in which results outlive the service; None keeps them as long as it runs.
      folder: Where the private folder is made; None for the system's folder for temporary files.
    """

    model: str | None = None
    frames: int = media.FRAMES
    host: str = "127.0.0.1"
    port: int = 8000
    names: tuple[str, ...] = ()
    proxy: str | None = None
    token: str | None = dataclasses.field(default=None, repr=False)
    workers: int = 1
    most_bytes: int = 500 * MEGABYTE
    most_seconds: float = 300.0
    most_memory: int = 4000 * MEGABYTE
    most_queued: int = 200
    most_held: int = 5000 * MEGABYTE
    most_kept: int = 10_000
    kept_seconds: float = 3600.0
    upload_seconds: float = 300.0
    uploads_per_minute: int = 120
    store: Path | None = None
    folder: Path | None = None

    def __post_init__(self) -> None:
        """Checks what no command line has checked.

        Raises:
          UserError: A setting cannot be.
        """
        for name, flag in _AT_LEAST_ONE.items():
            value = getattr(self, name)
            unit = " bytes" if flag.endswith("_mb") else ""
            if not value >= 1:
                raise UserError(f"{flag}: is {value}{unit}, must be at least 1")
            if name.endswith("_seconds") and value > _LONGEST:
                raise UserError(f"{flag}: is {value}, must be at most {_LONGEST:,}")
        if not 0 <= self.port < 1 << 16:
            raise UserError(f"--port: is {self.port}, must be from 0 to 65535")
        if self.proxy is not None and not _is_network(self.proxy):
            raise UserError(
                f"--proxy {self.proxy}: is no address; give one such as 10.0.0.2, or a network such"
                " as 10.0.0.0/24"
            )
        if self.token is not None and (len(self.token) < LEAST_TOKEN or not _plain(self.token)):
            raise UserError(
                f"the token must be {LEAST_TOKEN} or more letters, digits and signs without spaces;"
                " make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )
        if self.token is None and not is_loopback(self.host):
            raise UserError(
                f"--host {self.host}: other machines reach this address, so a token is needed; "
                "write one into a file and name it with --token_file"
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)  # of an address: the network of it alone
    except ValueError:
        return False
    return True


def _plain(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token
