"""The private folder of a service: files of strangers lie there, and nobody else reads them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path

from data_builders.errors import UserError

_PREFIX, _LOCK = "qad-jax-serve-", "lock"
# Without following a link, and never an existing file.
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class PrivateFolder:
    """A folder of mode 0700 with a folder for each job; it is gone when it is closed."""

    def __init__(self, parent: Path | None) -> None:
        """Makes the folder, and removes those of services that were killed.

        Args:
          parent: Where it is made; None for the system's folder for temporary files.

        Raises:
          UserError: It cannot be made there.
        """
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        try:
            _remove_those_left_behind(parent)
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            self._lock = os.open(self.path / f".{_LOCK}", _NEW, 0o600)
            with contextlib.suppress(OSError):  # some file systems over a network have no locks
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Now it has its name: a service that starts beside this one never sees it free.
            os.rename(self.path / f".{_LOCK}", self.path / _LOCK)
        except OSError as error:
            raise UserError(
                f"{parent}: no folder for the files can be made there ({error.strerror}); name "
                "another one with --folder"
            ) from error

    def make(self, job: str) -> Path:
        """Makes the folder of a job, whose name this program has drawn."""
        folder = self.path / job
        folder.mkdir(0o700)
        return folder

    def remove(self, job: str) -> None:
        """Removes the folder of a job, if it is there; links in it are removed, not followed."""
        shutil.rmtree(self.path / job, ignore_errors=True)

    def close(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def create(path: Path) -> int:
    """Creates a file for one's own eyes, and opens it to write.

    Raises:
      OSError: There is something of that name, such as a link.
    """
    return os.open(path, _NEW, 0o600)


def content(path: Path, most: int) -> bytes:
    """Reads a file that a process has written which strangers' bytes may have taken over.

    Raises:
      OSError: It is a link, no plain file, or too large. Its words name no folder, as clients read
        them.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode) or about.st_size > most:
        os.close(descriptor)
        raise OSError(f"{path.name}: is no plain file of at most {most:,} bytes")
    with os.fdopen(descriptor, "rb") as file:
        return file.read(most)


def _remove_those_left_behind(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or a link
            about = folder.lstat()
            if stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and _is_left(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_left(folder: Path) -> bool:
    """Whether the service is gone that has made a folder: nobody holds its lock."""
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
