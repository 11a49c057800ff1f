"""Datasets in a bucket, `gs://` or `s3://`: copied to this machine once, and read there.

Records are read by index, a few hundred kilobytes each and in random order: over a network this
would wait at every step, and array_record reads files alone. So the folder of the dataset is
copied whole, with what is there checked against the bucket each time that it is opened.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_builders.errors import UserError, describe
from data_builders.files import alone, write_json
from data_builders.home import cache_folder
from data_builders.progress import Progress

#: The library that each kind of bucket needs, which the extra `buckets` installs.
LIBRARIES = {"gs": "gcsfs", "s3": "s3fs"}
#: Written into a copy: which files of the bucket it is made of.
_STATE = ".bucket.json"
_BUCKET = re.compile(rf"({'|'.join(LIBRARIES)})://(?!\.)[A-Za-z0-9_.-]+(/[^/]+)*/?")
_FILE = re.compile(r"(?!\.)[A-Za-z0-9_.+-]{1,255}")
_PART = 4 * 2**20
# A megabyte as people count it; the unit of the progress.
_MB = 10**6
# How the stores name what changes with the content of an object.
_TAGS = ("ETag", "etag", "md5Hash", "generation")


@dataclasses.dataclass(frozen=True)
class _Object:
    """A file in a bucket: its path for fsspec, its size in bytes, and what names its content."""

    path: str
    size: int
    tag: str


def is_bucket(place: str | os.PathLike[str]) -> bool:
    """Whether a place is in a bucket."""
    return os.fspath(place).partition("://")[0] in LIBRARIES and "://" in os.fspath(place)


def check_local(place: str | os.PathLike[str], flag: str) -> None:
    """Raises a UserError where a place that is written to is in a bucket."""
    if is_bucket(place):
        raise UserError(
            f"{flag}: {place}: datasets are written to a folder of this machine; name one, and "
            "copy it to the bucket with the program of its owner"
        )


def copies(data_dir: str) -> Path:
    """Where datasets of a bucket are copied to: `$XDG_CACHE_HOME/qad_jax/buckets`, and its name.

    Raises:
      UserError: The place is no path in a bucket.
    """
    if not _BUCKET.fullmatch(data_dir) or {".", ".."} & set(data_dir.split("/")):
        raise UserError(f"--data_dir: {data_dir}: is no path in a bucket, such as s3://name/folder")
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", data_dir.rstrip("/"))[:100]
    digest = hashlib.sha256(data_dir.rstrip("/").encode()).hexdigest()[:8]
    return cache_folder() / "buckets" / f"{readable}-{digest}"


def fetch(data_dir: str, places: Sequence[str], verify: Callable[[Path], None]) -> None:
    """Copies a dataset from a bucket, unless the copy is there and the bucket has not changed.

    The copy appears when all of it is there and verified. A copy that was interrupted goes on in
    the middle of a file.

    Args:
      data_dir: The place of all datasets in the bucket.
      places: The dataset: its name, configuration and version. Of several the first that is there.
      verify: Is given a folder of datasets that holds the new copy, and raises a UserError where
        that is not what it should be.

    Raises:
      UserError: The bucket cannot be read, has no such dataset, or there is no room for it.
    """
    root = copies(data_dir)
    files = _system(data_dir)
    for place in places:
        url = f"{data_dir.rstrip('/')}/{place}"
        with _told(url):
            objects = _listed(files, url)
        if "dataset_info.json" in objects:
            break
    else:
        raise UserError(
            f"{data_dir.rstrip('/')}/{places[0]}: there is no dataset; build it into a folder of "
            "this machine, and copy it there"
        )
    state = {name: [found.size, found.tag] for name, found in sorted(objects.items())}
    copy = root / place
    with alone(root / ".lock"):  # the other processes of this machine wait
        if _state_of(copy) == state:
            return
        fresh = root / ".fetched"
        part = fresh / place
        if _state_of(part) != state:  # of another dataset, or of one that has changed
            shutil.rmtree(fresh, ignore_errors=True)
        write_json(part / _STATE, state)
        _check_room(url, part, objects)
        _copy(files, url, objects, part)
        try:
            verify(fresh)
        except UserError:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(copy, ignore_errors=True)
        os.replace(part, copy)
        shutil.rmtree(fresh, ignore_errors=True)


def _system(data_dir: str) -> Any:
    scheme = data_dir.partition("://")[0]
    try:
        import fsspec

        kind = fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise UserError(
            f"--data_dir: {data_dir}: needs {LIBRARIES[scheme]}; pip install 'qad-jax[buckets]'"
        ) from error
    with _told(data_dir):
        # What was listed for another command of this process may have changed.
        return kind(use_listings_cache=False, skip_instance_cache=True)


def _listed(files: Any, url: str) -> Mapping[str, _Object]:
    """The files of a folder by their names; other folders in it, and odd names, are left out."""
    found: dict[str, _Object] = {}
    try:
        entries = files.ls(url, detail=True)
    except FileNotFoundError:
        return found
    for entry in entries:
        name = entry["name"].rpartition("/")[2]
        if entry["type"] == "file" and _FILE.fullmatch(name):
            tag = next((str(entry[tag]) for tag in _TAGS if entry.get(tag)), "")
            found[name] = _Object(entry["name"], int(entry["size"]), tag)
    return found


def _copy(files: Any, url: str, objects: Mapping[str, _Object], part: Path) -> None:
    total = sum(found.size for found in objects.values())
    with Progress(-(-total // _MB), url, unit="MB") as progress:
        done = 0
        for name, found in sorted(objects.items()):
            path, unfinished = part / name, part / f".{name}.part"
            if not path.exists():
                with unfinished.open("ab") as target:
                    for size in _append(files, f"{url}/{name}", found, target):
                        progress.advance((done + size) // _MB - progress.done)
                size = unfinished.stat().st_size
                if size != found.size:
                    unfinished.unlink()
                    raise UserError(
                        f"{url}/{name}: {size:,} bytes came, and not {found.size:,}; try again"
                    )
                os.replace(unfinished, path)
            done += found.size
            progress.advance(-(-done // _MB) - progress.done)


def _append(files: Any, url: str, found: _Object, target: Any) -> Iterator[int]:
    """Appends to a file what it lacks of an object, and yields its size again and again."""
    size = target.tell()
    while size < found.size:
        with _told(url):
            data = files.cat_file(found.path, start=size, end=min(size + _PART, found.size))
        if not data:
            return
        target.write(data)
        size += len(data)
        yield size


def _check_room(url: str, part: Path, objects: Mapping[str, _Object]) -> None:
    there = sum(file.stat().st_size for file in part.iterdir())
    needed = sum(found.size for found in objects.values()) - there
    free = shutil.disk_usage(part).free
    if needed > free:
        raise UserError(
            f"{url}: needs {needed / 1e9:.1f} GB more in {part.parent}, which has {free / 1e9:.1f} "
            "GB; make room, or set XDG_CACHE_HOME to another disk"
        )


def _state_of(folder: Path) -> Any:
    try:
        return json.loads((folder / _STATE).read_bytes())
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def _told(url: str) -> Iterator[None]:
    """Makes one line of what libraries of a bucket raise, which is of many kinds."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = describe(error)
        raise UserError(
            f"{url}: cannot be read: {reason}; look at the name, the credentials and the network"
        ) from error
