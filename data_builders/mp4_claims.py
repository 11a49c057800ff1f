"""What an MP4 file claims of itself, looked at before FFmpeg believes it.

FFmpeg makes an entry of 60 bytes for every sample that a table counts, while it opens the file. A
table can count a thousand million samples in twenty bytes. So the tables are found first, wherever
they lie, and their counts are bounded. This is no reader of MP4: it looks for the names of tables
in all that is not pixels and sound.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

#: Samples of one track: frames of a video. At 25 a second these are 22 hours.
MOST_SAMPLES = 2_000_000
_MOST_BYTES = 256 << 20  # of tables; those of a film take some
_STARTS = {
    *(b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"uuid", b"pnot"),
    *(b"sidx", b"udta", b"meta", b"emsg", b"pdin", b"junk", b"pict", b"PICT", b"hoov"),
}
_PICTURES = {b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis")}
# Old sound is in samples of a few bytes, of which FFmpeg puts 1024 into one entry.
_IN_ONE_ENTRY = 1024


def is_mp4(file: BinaryIO) -> bool:
    """Whether a file begins as MP4 and QuickTime do."""
    file.seek(0)
    return file.read(8)[4:] in _STARTS


def is_heic(file: BinaryIO) -> bool:
    """Whether a file says that it is a picture of HEVC, as telephones write it."""
    file.seek(4)
    return file.read(8) in _PICTURES


def holds_pictures(file: BinaryIO) -> bool:
    """Whether a file lists pictures beside its tracks; FFmpeg makes a video of each of their tiles.

    Its brand does not tell: a file of any brand can list them, and any listed one is read.

    Args:
      file: The file. Its position stays, for FFmpeg may read on from there.
    """
    place = file.tell()
    listed = any(b"iinf" in payload and b"iloc" in payload for payload in _tables(file))
    file.seek(place)
    return listed


def excess(file: BinaryIO) -> str | None:
    """Says what of an MP4 file is more than is read.

    Args:
      file: The file.

    Returns:
      In words, such as "an index of 1,000,000,000 frames"; None where all is within bounds.
    """
    scanned = fragments = 0
    for payload in _tables(file):
        scanned += len(payload)
        if scanned > _MOST_BYTES:
            return f"tables of more than {_MOST_BYTES:,} bytes"
        if b"cmov" in payload:
            return "a compressed index"
        fragments += sum(count for (count,) in _all(payload, b"trun", ">4x4xL"))
        for track in payload.split(b"trak"):
            if (entries := _entries(track)) > MOST_SAMPLES:
                return f"an index of {entries:,} frames"
    return f"an index of {fragments:,} frames" if fragments > MOST_SAMPLES else None


def _tables(file: BinaryIO) -> Iterator[bytes]:
    """All boxes of the highest level but those of pixels and sound."""
    place, end = 0, file.seek(0, os.SEEK_END)
    while place < end:  # the size of a box may be any number of 64 bits
        file.seek(place)
        head = file.read(16)
        if len(head) < 8:
            return
        size, kind = struct.unpack_from(">L4s", head)
        begin = 8
        if size == 1 and len(head) == 16:
            begin, (size,) = 16, struct.unpack_from(">8xQ", head)
        if size == 0:  # to the end of the file
            size = end - place
        if size < begin:
            return
        if kind != b"mdat":
            file.seek(place + begin)
            # One byte more than is allowed tells that it is too much.
            yield file.read(min(size - begin, end - place, _MOST_BYTES + 1))
        place += size


def _entries(track: bytes) -> int:
    """How many entries FFmpeg would make for one track, at most."""
    if b"soun" in track and b"vide" not in track:
        times = list(_all(track, b"stts", ">4x4xL4xL"))
        if times == [(1, 1)]:
            chunks = [n for box in (b"stco", b"co64") for (n,) in _all(track, box, ">4x4xL")]
            return sum(chunks) * (_longest_chunk(track) // _IN_ONE_ENTRY + 1)
    samples = [n for box in (b"stsz", b"stz2") for (n,) in _all(track, box, ">4x4x4xL")]
    # Each edit can show all of them again.
    return max(samples, default=0) * max(1, sum(n for (n,) in _all(track, b"elst", ">4x4xL")))


def _longest_chunk(track: bytes) -> int:
    place, longest = track.find(b"stsc"), 0
    while place >= 0:
        count = int.from_bytes(track[place + 8 : place + 12], "big")
        rows = track[place + 12 : place + 12 + 12 * count]
        rows = rows[: len(rows) // 12 * 12]
        longest = max([longest, *(samples for _, samples, _ in struct.iter_unpack(">3L", rows))])
        place = track.find(b"stsc", place + 1)
    return longest


def _all(payload: bytes, name: bytes, layout: str) -> Iterator[tuple[int, ...]]:
    """Numbers of every box of a name, wherever it lies; the layout begins with the name."""
    place = payload.find(name)
    while place >= 0:
        if len(payload) - place >= struct.calcsize(layout):
            yield struct.unpack_from(layout, payload, place)
        place = payload.find(name, place + 1)
