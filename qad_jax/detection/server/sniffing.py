"""Whether a file can be an image or a video, by its first bytes alone.

No decoder runs here: this is the process that must not die. The names of files and what a client
says of them count for nothing. What passes is opened by a worker, which looks closely.
"""

from __future__ import annotations

import io

from data_builders import mp4_claims
from qad_jax.detection import codec_numbers

#: Bytes at the start of a file that tell.
HEAD = 1024
# Of the formats that `data_builders.video_file` opens, beside MP4.
_BEGINNINGS = (
    b"\x1a\x45\xdf\xa3",  # Matroska and WebM
    b"FLV\x01",
    b"OggS",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF: WMV
    b"\x00\x00\x01",  # MPEG, and bare H.264 and HEVC, which begin with a start code
    b"\x00\x00\x00\x01",
    b"\x12\x00",  # bare AV1
    b"DKIF",  # IVF
    b"\x06\x0e\x2b\x34",  # MXF
    b"nut/multimedia container\x00",
    b".RMF",
    b"\xb7\xd8\x00\x20\x37\x49\xda\x11",  # WTV
    b"\x1f\x07\x00",  # DV
    b"YUV4MPEG2 ",
)
# A transport stream has this byte at the start of each packet; cameras put 4 bytes before it.
_SYNC, _PACKETS = 0x47, ((0, 188), (4, 192))


def may_be_media(head: bytes) -> bool:
    """Whether a file may be one that is judged.

    Args:
      head: The first `HEAD` bytes of the file, or all where it has fewer.
    """
    if codec_numbers.image_format(head[: codec_numbers.HEAD]) or head.startswith(_BEGINNINGS):
        return True
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return True
    return mp4_claims.is_mp4(io.BytesIO(head)) or _is_transport_stream(head)


def _is_transport_stream(head: bytes) -> bool:
    return any(
        len(head) > start + size and all(byte == _SYNC for byte in head[start::size])
        for start, size in _PACKETS
    )
