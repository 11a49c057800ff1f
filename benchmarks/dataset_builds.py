"""What a build of each dataset takes: videos, tuples, bytes and seconds, on rendered trees.

Renders a small official tree of each (clips of a few frames of 288x288 pixels, at the qualities the
dataset comes in), builds it by the default recipe, and prints a line. Real videos are longer and
larger: decoding and encoding scale with their frames, detection with the frames that are chosen,
the stored size with the area of the faces.

    python -m benchmarks.dataset_builds
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import logging

from data_builders import build
from tests import trees

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
}


def main() -> None:
    """Builds each and prints a line."""
    logging.set_verbosity(logging.ERROR)
    titles = ("videos", "tuples", "source MB", "built MB", "KB/tuple", "seconds")
    print(f"{'dataset':<32}" + "".join(f"{title:>11}" for title in titles))
    with tempfile.TemporaryDirectory() as folder:
        for name, render in TREES.items():
            root, out = Path(folder) / name / "tree", Path(folder) / name / "built"
            render(root)
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
            print(f"{name:<32}{row}{1e3 * built / tuples:>11.0f}{seconds:>11.1f}", flush=True)


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    main()
