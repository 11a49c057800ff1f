"""What `--doctor` takes for a folder of very many files: seconds, and memory at its peak.

Makes the official tree of each dataset that has so many files, of hard links to one short video or
one small image, and runs the command as a user does. Where the disk has to be read, it is slower.

    python -m benchmarks.doctor_cost [--files 100000] [dfdc celeb_df_pp wild_deepfake df40]
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.measured import positive
from data_builders.celeb_df_v2.builder import LIST
from data_builders.command_line import DONE, Parser, run
from data_builders.dfdc.builder import METADATA, PARTS
from data_builders.png import encode_png
from tests import trees

CROP = np.zeros((8, 8, 3), np.uint8)
_MOST_LINKS = 30_000  # to one file; some file systems allow few more
_METHODS, _PEOPLE = 22, 59  # of Celeb-DF++
_SEQUENCES, _FRAMES = 10, 160  # of an archive of WildDeepfake, and of a sequence, about
_LISTED_FRAMES = 32  # of a video of DF40


class Links:
    """Puts one content under very many names."""

    def __init__(self, folder: Path, data: bytes) -> None:
        """Keeps the content in a folder of the same file system as the names."""
        folder.mkdir()
        self._folder, self._data, self._count = folder, data, 0

    def add(self, path: Path) -> None:
        """Makes a file of a folder that is there."""
        number, of_file = divmod(self._count, _MOST_LINKS)
        first = self._folder / str(number)
        if of_file == 0:
            first.write_bytes(self._data)
        os.link(first, path)
        self._count += 1

    def fill(self, folder: Path, names: Sequence[str]) -> None:
        """Makes a folder of files."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            self.add(folder / name)


def dfdc(root: Path, links: Links, files: int) -> list[str]:
    """The parts of train: a real video and its fakes in turn."""
    for part in range(PARTS):
        names = [f"v{part:02d}{number:06d}.mp4" for number in range(files // PARTS)]
        folder = root / f"train/dfdc_train_part_{part}"
        links.fill(folder, names)
        content = {
            name: {"label": "FAKE", "split": "train", "original": names[i // 6 * 6]}
            if i % 6
            else {"label": "REAL", "split": "train"}
            for i, name in enumerate(names)
        }
        (folder / METADATA).write_text(json.dumps(content))
    return []


def celeb_df_pp(root: Path, links: Links, files: int) -> list[str]:
    """The real videos, and the same swaps by each method."""
    people = [f"id{number}" for number in range(_PEOPLE)]
    reals = [f"{person}_{take:04d}.mp4" for person in people for take in range(10)]
    links.fill(root / "Celeb-real", reals)
    links.fill(root / "YouTube-real", [f"{number:05d}.mp4" for number in range(300)])
    pairs = list(itertools.permutations(people, 2))
    swaps = (f"{a}_{b}_{take:04d}.mp4" for take in itertools.count() for a, b in pairs)
    names = list(itertools.islice(swaps, files // _METHODS))
    for method in range(_METHODS):
        links.fill(root / f"Celeb-synthesis/FaceSwap/M{method:02d}", names)
    lines = [f"1 Celeb-real/{reals[0]}", f"0 Celeb-synthesis/FaceSwap/M00/{names[0]}"]
    (root / LIST).write_text("\n".join(lines) + "\n")
    return []


def wild_deepfake(root: Path, links: Links, files: int) -> list[str]:
    """Archives of sequences, a quarter of them in each folder."""
    frames = [f"{frame}.png" for frame in range(_FRAMES)]
    archives = range(-(-files // (4 * _SEQUENCES * _FRAMES)))
    for part, label in itertools.product(("train", "test"), ("real", "fake")):
        for archive, sequence in itertools.product(archives, range(_SEQUENCES)):
            links.fill(root / f"{label}_{part}/{archive}/{label}/{sequence}", frames)
    return []


def df40(root: Path, links: Links, files: int) -> list[str]:
    """The crops that one list names."""
    content: dict[str, dict[str, dict[str, object]]] = {}
    frames = [f"{frame:03d}.png" for frame in range(_LISTED_FRAMES)]
    for video in range(files // _LISTED_FRAMES):
        fake, split = video % 2, ("train", "train", "test", "test")[video % 4]
        where = "DF40/simswap/ff" if fake else "FaceForensics++/original_sequences/c23"
        links.fill(root / f"{where}/{video:06d}", frames)
        label = "simswap_Fake" if fake else "simswap_Real"
        listed = [f"deepfakes_detection_datasets/{where}/{video:06d}/{name}" for name in frames]
        videos = content.setdefault(label, {"train": {}, "val": {}, "test": {}})[split]
        videos[f"{video:06d}"] = {"label": label, "frames": listed}
    path = root / "simswap_ff.json"
    path.write_text(json.dumps({"simswap_ff": content}))
    return ["--manifest", str(path)]


MAKERS: dict[str, Callable[[Path, Links, int], list[str]]] = {
    "dfdc": dfdc,
    "celeb_df_pp": celeb_df_pp,
    "wild_deepfake": wild_deepfake,
    "df40": df40,
}


def doctor(name: str, root: Path, options: Sequence[str]) -> tuple[float, float]:
    """Runs the command; gives seconds and megabytes."""
    command = [sys.executable, "-m", "data_builders.build", name, "--doctor"]
    command += ["--manual_dir", str(root), "--data_dir", str(root.parent / "built"), *options]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return seconds, usage.ru_maxrss * 1024 / 1e6


def _job(argv: Sequence[str]) -> int:
    parser = Parser(prog="python -m benchmarks.doctor_cost", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", choices=[[], *MAKERS], help="default: all")
    parser.add_argument("--files", type=positive, default=100_000)
    parser.add_argument("--folder", type=Path, help="where the trees go for the time")
    options = parser.parse_args(argv)
    print(f"{'dataset':<16}{'files':>10}{'seconds':>10}{'MB':>8}")
    for name in options.names or MAKERS:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            crops = name in ("wild_deepfake", "df40")
            content = encode_png(CROP) if crops else trees.rendered("0", 4)
            links = Links(Path(folder) / "content", content)
            root = Path(folder) / "tree"
            root.mkdir()
            more = MAKERS[name](root, links, options.files)
            files = sum(len(names) for _, _, names in os.walk(root))
            seconds, megabytes = doctor(name, root, more)
        print(f"{name:<16}{files:>10}{seconds:>10.1f}{megabytes:>8.0f}", flush=True)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
