"""Results in an SQLite file: in the private folder, or where they outlive the service.

Each method may be called by any thread. What is deleted is overwritten in the file, and
the journal beside the file is empty after each change.
"""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from data_builders.errors import UserError

# In the header of the file: "qadj" in ASCII, and the version of the table.
_APPLICATION, _VERSION = 0x7161646A, 1
_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, bytes INTEGER NOT NULL, created REAL NOT NULL,
  finished REAL, verdict TEXT, reason TEXT NOT NULL DEFAULT '', object BLOB, page BLOB)
"""


@dataclasses.dataclass(frozen=True)
class Row:
    """What is kept of a job beside its verdict and its page.

    Attributes:
      id: Its name in addresses.
      name: Of the file.
      bytes: Of the file.
      created: Seconds since 1970.
      finished: The same; None where it was not finished.
      verdict: None where there is none.
      reason: Why it failed; empty else.
    """

    id: str
    name: str
    bytes: int
    created: float
    finished: float | None = None
    verdict: str | None = None
    reason: str = ""


_COLUMNS = ", ".join(field.name for field in dataclasses.fields(Row))


class Store:
    """The table of jobs."""

    def __init__(self, path: Path) -> None:
        """Opens the file, which is made where there is none, for this process alone.

        Args:
          path: The file. Nobody else may read it.

        Raises:
          UserError: It holds something else, another process has it, or it cannot be written.
        """
        self._lock = threading.Lock()
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._database = sqlite3.connect(path, check_same_thread=False, timeout=1.0)
        except (OSError, sqlite3.Error) as error:
            raise UserError(f"--store: {path}: cannot be opened: {error}") from error
        try:
            self._prepare(path)
        except sqlite3.Error as error:
            self._database.close()
            raise UserError(
                f"--store: {path}: {error}; name a file that is new or that `qad-jax serve` has "
                "written, and that no other service uses"
            ) from error
        except UserError:
            self._database.close()
            raise

    def _prepare(self, path: Path) -> None:
        run = self._database.execute
        run("PRAGMA locking_mode = EXCLUSIVE")
        ours, version = (
            run(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        (tables,) = run("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and (ours, version) != (_APPLICATION, _VERSION):
            raise UserError(
                f"--store: {path}: is no file of this version of `qad-jax serve`; name another one"
            )
        run("PRAGMA secure_delete = ON")
        # Else what was deleted would go on lying in the journal, as long as the service runs.
        run("PRAGMA journal_mode = TRUNCATE")
        run("PRAGMA synchronous = NORMAL")
        with self._database:
            run(f"PRAGMA application_id = {_APPLICATION}")
            run(f"PRAGMA user_version = {_VERSION}")
            run(_TABLE)
            run("DELETE FROM jobs WHERE 0")  # takes the lock, which is then kept

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._database.close()

    def rows(self) -> Iterator[Row]:
        """All jobs, the oldest first."""
        with self._lock:
            rows = self._database.execute(
                f"SELECT {_COLUMNS} FROM jobs ORDER BY created"
            ).fetchall()
        return (Row(*row) for row in rows)

    def sizes(self) -> dict[str, int]:
        """Bytes of verdict and page of each job."""
        with self._lock:
            return dict(
                self._database.execute(
                    "SELECT id, coalesce(length(object), 0) + coalesce(length(page), 0) FROM jobs"
                )
            )

    def add(self, row: Row) -> None:
        """Adds a job that is not finished."""
        with self._lock, self._database:
            self._database.execute(
                "INSERT INTO jobs (id, name, bytes, created) VALUES (?, ?, ?, ?)",
                (row.id, row.name, row.bytes, row.created),
            )

    def finish(self, row: Row, verdict_object: bytes | None, page: bytes | None) -> None:
        """Keeps what became of a job.

        Args:
          row: The job, with the time at which it was finished.
          verdict_object: The JSON object; None where there is no verdict.
          page: HTML; None where there is no verdict.
        """
        with self._lock, self._database:
            self._database.execute(
                "UPDATE jobs SET finished = ?, verdict = ?, reason = ?, object = ?, page = ? "
                "WHERE id = ?",
                (row.finished, row.verdict, row.reason, verdict_object, page, row.id),
            )

    def verdict_object(self, job: str) -> bytes | None:
        """The JSON object of a job, None where there is none."""
        return self._blob("object", job)

    def page(self, job: str) -> bytes | None:
        """The page of a job, None where there is none."""
        return self._blob("page", job)

    def _blob(self, column: str, job: str) -> bytes | None:
        with self._lock:
            row = self._database.execute(
                f"SELECT {column} FROM jobs WHERE id = ?", (job,)
            ).fetchone()
        return None if row is None else row[0]

    def delete(self, job: str) -> None:
        """Removes a job, if it is there."""
        with self._lock, self._database:
            self._database.execute("DELETE FROM jobs WHERE id = ?", (job,))
