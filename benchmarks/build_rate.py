"""How fast a clip is made, and where the time goes: decoding, detecting, encoding, the rest.

Renders one video of 640x480 and makes a clip of it: once with every quality on disk, as downloads
have them, once with raw alone, from which c23 and c40 are made. Times the parts alone, and prints
frames a second for each and the rate of the clip as a share of the rate of its parts.

    python benchmarks/build_rate.py
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import measured
from measured import Measured

from data_builders import clips, faces, h264
from data_builders.command_line import DONE, Parser, run
from data_builders.synthetic_faces.builder import SyntheticVideo, film

FRAMES, CHOSEN, REPEATS = 96, 32, 3


def seconds(work: Callable[[], Any]) -> float:
    """The best of a few runs, after one that compiles."""
    work()
    return min(measured.seconds(work) for _ in range(REPEATS))


def _job(argv: Sequence[str]) -> int:
    parser = Parser(prog="python benchmarks/build_rate.py", description=__doc__)
    measured.add_option(parser)
    options = parser.parse_args(argv)
    results = Measured("build_rate")

    def add(row: str, rate: float) -> None:
        row = f"{row}, frames/s"
        results.add("building", row, "best", [rate], unit="frames/s", better="higher", digits=0)

    rendered = film(SyntheticVideo(0, 6, "original", 0, 1))
    rendered = (rendered + rendered[::-1]) * (FRAMES // 12)  # to and fro
    frames = [
        cv2.copyMakeBorder(cv2.resize(f, (480, 480)), 0, 0, 80, 80, cv2.BORDER_REPLICATE)
        for f in rendered
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "000.mp4"
        path.write_bytes(h264.encode(frames, crf=0))
        files = {"raw": path}
        for quality, crf in (("c23", 23), ("c40", 40)):
            files[quality] = path.with_name(f"{quality}.mp4")
            files[quality].write_bytes(h264.encode(frames, crf=crf))
        recipe = clips.Recipe(("raw", "c23", "c40"), CHOSEN)
        indices = clips.spread(FRAMES, CHOSEN)
        chosen = [frames[i] for i in indices]
        decode = [seconds(lambda p=p: sum(1 for _ in h264.decode(p))) for p in files.values()]
        detect = seconds(lambda: faces.Detected()("original/000", indices, chosen))
        encode = sum(seconds(lambda c=crf: h264.encode(frames, crf=c)) for crf in (23, 40))
        add("decoding", 3 * FRAMES / sum(decode))
        add("finding faces", CHOSEN / detect)
        add("encoding", 2 * FRAMES / encode)
        print(f"decode  {3 * FRAMES / sum(decode):7.0f} frames a second, raw, c23 and c40")
        print(f"detect  {CHOSEN / detect:7.0f} frames a second")
        print(f"encode  {2 * FRAMES / encode:7.0f} frames a second, CRF 23 and 40")
        for held, parts in (
            (files, sum(decode) + detect),
            # The source is decoded once for all; what is made of it is decoded, too.
            ({"raw": path}, sum(decode) + encode + detect),
        ):
            of = clips.VideoFiles("original", "000", "000", "real", held)
            whole = seconds(lambda of=of: clips.read(clips.ClipSource(of, recipe)))
            on_disk = f"a clip with {', '.join(held)} on disk"
            add(on_disk, FRAMES / whole)
            share = f"{on_disk}, as a share of its parts"
            results.add("building", share, "best", [parts / whole], unit="times", better="higher")
            print(
                f"clip    {FRAMES / whole:7.0f} source frames a second with {', '.join(held)} on "
                f"disk: {parts / whole:.2f} of the rate of its parts"
            )
    results.write(options.json)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
