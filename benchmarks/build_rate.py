"""How fast a clip is made, and where the time goes: decoding, detecting, encoding, the rest.

Renders one video of 640x480, makes a clip of it (raw on disk, c23 and c40 made here) and times the
parts alone. Prints frames a second for each, and the share of the whole that the parts explain.

    python benchmarks/build_rate.py
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2

from data_builders import faces, video, videos
from data_builders.synthetic_faces.builder import Source, film

FRAMES, CHOSEN, REPEATS = 96, 32, 3


def seconds(work: Callable[[], Any]) -> float:
    """The best of a few runs, after one that compiles."""
    work()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Measures and prints."""
    rendered = film(Source(0, 6, "original", 0, 1))
    rendered = (rendered + rendered[::-1]) * (FRAMES // 12)  # to and fro
    frames = [
        cv2.copyMakeBorder(cv2.resize(f, (480, 480)), 0, 0, 80, 80, cv2.BORDER_REPLICATE)
        for f in rendered
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "000.mp4"
        path.write_bytes(video.encode_h264(frames, crf=0))
        files = videos.VideoFiles("original", "000", "000", "real", {"raw": path})
        recipe = videos.Recipe(("raw", "c23", "c40"), CHOSEN)
        chosen = [frames[i] for i in videos.spread(FRAMES, CHOSEN)]
        indices = videos.spread(FRAMES, CHOSEN)
        whole = seconds(lambda: videos.read(videos.VideoSource(files, recipe)))
        decode = seconds(lambda: sum(1 for _ in video.decode(path)))
        detect = seconds(lambda: faces.Detected()("original/000", indices, chosen))
        encode = sum(seconds(lambda c=crf: video.encode_h264(frames, crf=c)) for crf in (23, 40))
    print(f"decode  {FRAMES / decode:7.0f} frames a second, CRF 0")
    print(f"detect  {CHOSEN / detect:7.0f} frames a second")
    print(f"encode  {2 * FRAMES / encode:7.0f} frames a second, CRF 23 and 40")
    print(f"clip    {FRAMES / whole:7.0f} source frames a second, {whole:.2f} s a clip")
    # The source is decoded once for itself and once for each quality that is made of it.
    print(f"parts   {(3 * decode + detect + encode) / whole:7.2f} of the whole")


if __name__ == "__main__":
    main()
