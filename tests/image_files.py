"""Image files by the words of their specifications, for the tests of who reads them."""

import struct
import zlib

import cv2
import numpy as np
from PIL import Image

from tests.faces import astronaut

SIDE = 24
PHOTO = cv2.resize(astronaut(), (SIDE, SIDE + 8), interpolation=cv2.INTER_AREA)
SRGB = ((0.3127, 0.329), (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
P3 = ((0.3127, 0.329), (0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
ADOBE = ((0.3127, 0.329), (0.64, 0.33), (0.21, 0.71), (0.15, 0.06))


def chunk(name, data=b""):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(pixels, *, colour, depth=8, before=b"", size=None):
    """A PNG file by its specification: `colour` is its colour type, `before` chunks before IDAT."""
    height, width = size or pixels.shape[:2]
    rows = pixels.astype(">u2" if depth == 16 else np.uint8)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), before, chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def profile(points, gamma, *, space=b"RGB "):
    """An ICC profile of version 2, of three primaries and a gamma; `points` are x, y of W, R, G, B.

    Returns:
      Its bytes, and the matrix from its linear colours to XYZ at D50.
    """
    white, *primaries = [np.array((x / y, 1, (1 - x - y) / y)) for x, y in points]
    columns = np.stack(primaries, 1)
    to_xyz = columns * np.linalg.solve(columns, white)
    cone = np.array(
        [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
    )
    d50 = np.array((0.9642, 1, 0.8249))
    adapt = np.linalg.solve(cone, np.diag(cone @ d50 / (cone @ white)) @ cone)
    matrix = adapt @ to_xyz

    def xyz(values):
        return b"XYZ \0\0\0\0" + struct.pack(
            ">3i", *np.rint(np.asarray(values) * 65536).astype(int)
        )

    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(gamma * 256), 0)
    tags = {b"wtpt": xyz(d50)}
    if space == b"RGB ":
        for letter, column in zip((b"r", b"g", b"b"), matrix.T, strict=True):
            tags |= {letter + b"XYZ": xyz(column), letter + b"TRC": curve}
    else:
        tags[b"kTRC"] = curve
    tags[b"cprt"] = b"text\0\0\0\0none\0\0\0\0"
    tags[b"desc"] = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(79)
    table, body, at = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data
    head = bytearray(128)
    head[0:4] = struct.pack(">I", at + len(body))
    head[8:12], head[12:24] = b"\x02\x10\0\0", b"mntr" + space + b"XYZ "
    head[36:40], head[68:80] = b"acsp", struct.pack(">3i", *np.rint(d50 * 65536).astype(int))
    return bytes(head) + table + body, matrix


def saved(tmp_path, image, name, **options):
    path = tmp_path / name
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(path, **options)
    return path


def written(tmp_path, data, name="image.png"):
    path = tmp_path / name
    path.write_bytes(data)
    return path
