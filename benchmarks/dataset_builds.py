"""What a build of each dataset of videos takes: tuples, bytes and seconds, on rendered trees.

Renders a small official tree of each (clips of a few frames of 288x288 pixels, at the qualities the
dataset comes in), builds it by the default recipe, and prints a line. Real videos are longer and
larger: decoding and encoding scale with their frames, detection with the frames that are chosen,
the stored size with the area of the faces. The seconds are those of the whole build, which first
starts a process. The rate is that of clips alone, in this process, after the first ones.

    python -m benchmarks.dataset_builds [NAME ...]
"""

from __future__ import annotations

import contextlib
import io
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from data_builders import build
from data_builders.command_line import DONE, Parser, run
from data_builders.errors import UnusableClipError
from data_builders.video_builder import VideoDatasetBuilder
from tests import more_trees, trees

_FRAMES = 6  # of a video
_CLIPS = 12  # whose rate is measured
TREES: dict[str, Callable[[Path], Any]] = {
    **{
        f"face_forensics/{part}": lambda root, method=method: trees.face_forensics(
            root, methods=(method,), pairs=(3, 1, 1)
        )
        for part, method in (
            ("neural_textures", "NeuralTextures"),
            ("deepfakes", "Deepfakes"),
            ("face2face", "Face2Face"),
            ("face_swap", "FaceSwap"),
            ("face_shifter", "FaceShifter"),
        )
    },
    "celeb_df_v2": trees.celeb_df_v2,
    "ffiw10k": trees.ffiw10k,
    "celeb_df_v1": trees.celeb_df_v2,  # whose folders v1 has
    **{
        name: lambda root, name=name: getattr(more_trees, name.partition("/")[0])(root, _FRAMES)
        for name in (
            "dfdc",
            "dfdc_preview",
            "deep_fake_detection/whole",
            "celeb_df_pp",
            "uadfv",
            "deeper_forensics/end_to_end",
        )
    },
}


def _job(argv: Sequence[str]) -> int:
    logging.set_verbosity(logging.ERROR)
    parser = Parser(
        prog="python -m benchmarks.dataset_builds", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("names", nargs="*", choices=[[], *TREES], help="default: all")
    chosen = parser.parse_args(argv).names or [*TREES]
    titles = ("videos", "tuples", "source MB", "built MB", "KB/tuple", "seconds", "tuples/s")
    print(f"{'dataset':<32}" + "".join(f"{title:>11}" for title in titles))
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            root, out = Path(folder) / name / "tree", Path(folder) / name / "built"
            TREES[name](root)
            dataset = build.builder(name, data_dir=out, manual_dir=root, max_skipped=0.5)
            videos = sum(map(len, dataset.clip_sources().values()))
            start = time.perf_counter()
            with contextlib.redirect_stderr(io.StringIO()):
                build.prepare(dataset)
            seconds = time.perf_counter() - start
            tuples = sum(split.num_examples for split in dataset.info.splits.values())
            source = _megabytes(root)
            built = _megabytes(Path(dataset.data_dir))
            row = f"{videos:>11}{tuples:>11}{source:>11.1f}{built:>11.1f}"
            row += f"{1e3 * built / tuples:>11.0f}{seconds:>11.1f}{_rate(dataset):>11.1f}"
            print(f"{name:<32}{row}", flush=True)
    return DONE


def _rate(dataset: VideoDatasetBuilder) -> float:
    """Tuples that clips become in a second of one process, which first compiles and reads all."""
    sources = list(itertools.chain(*dataset.clip_sources().values()))[:_CLIPS]
    for _ in range(2):
        tuples, start = 0, time.process_time()
        for source in sources:
            with contextlib.suppress(UnusableClipError):
                tuples += len(dataset.read_clip(source).finished().examples)
        rate = tuples / (time.process_time() - start)
    return rate


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
