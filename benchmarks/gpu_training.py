"""How long a whole training of the detector takes on this machine, with reading and validation.

`configs/detector.py` for its usual number of steps, on textures that are made here and stored as
the builders store crops: the times are those of a training on faces, and its scores mean nothing.
`--manifest data.json` trains on crops of faces instead, in pairs: their fakes need not have been
made of the real crops.

    python benchmarks/gpu_training.py
    python benchmarks/gpu_training.py --steps 5 --tuples 32 -- --config.batch_size=4
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import input_rate
import measured
from measured import Measured, positive

from data_builders.command_line import DONE, Parser, run
from data_builders.errors import UserError
from data_builders.png import encode_png

_ROOT = Path(__file__).resolve().parent.parent


def textures(folder: Path, tuples: int) -> Path:
    """Writes a manifest of textures: for each person a real and a fake tuple of one moment."""
    made = input_rate.crops(tuples + 4)  # each split has a person, however few there are
    content = {}
    for split, share in (("train", 0.75), ("val", 0.125), ("test", 0.125)):
        lists: dict[str, list[object]] = {
            name: [] for name in (*input_rate.QUALITIES, "labels", "video", "identity")
        }
        for number in range(2 * max(1, int(share * tuples / 2))):
            person = f"{split}{number // 2}"
            for quality, image in zip(input_rate.QUALITIES, next(made), strict=True):
                name = f"{split}_{number}_{quality}.png"
                (folder / name).write_bytes(encode_png(image[..., ::-1]))
                lists[quality].append(name)
            lists["labels"].append(number % 2)
            lists["video"].append(person)
            lists["identity"].append(person)
        content[split] = lists
    manifest = folder / "data.json"
    manifest.write_text(json.dumps(content))
    return manifest


def _job(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="python benchmarks/gpu_training.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--steps", type=positive, default=3000)
    parser.add_argument("--tuples", type=positive, default=512, help="of textures, in all (512)")
    parser.add_argument("--manifest", type=Path, help="crops of faces to train on")
    parser.add_argument("fields", nargs="*", metavar="-- --config.FIELD=VALUE")
    measured.add_option(parser)
    options = parser.parse_args(argv)
    results = Measured("gpu_training")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # The training is started in another folder.
        given = options.manifest and options.manifest.absolute()
        manifest = given or textures(folder, options.tuples)
        words = ["--config=configs/detector.py", f"--workdir={folder / 'run'}"]
        words += ["--config.dataset.name=manifest", f"--config.dataset.manifest={manifest}"]
        words += [f"--config.dataset.data_dir={folder / 'data'}"]
        if options.manifest:
            words += ["--config.sampling=pairs", "--config.localise.weight=0.0"]
        words += [f"--config.num_steps={options.steps}", *options.fields]
        begin = time.perf_counter()
        command = [sys.executable, "-m", "qad_jax.main", *words]
        done = subprocess.run(command, cwd=_ROOT, check=False, stdout=subprocess.DEVNULL)
        if done.returncode:
            raise UserError(f"the training ended with status {done.returncode}: its error is above")
        whole = time.perf_counter() - begin
        lines = (folder / "run/metrics.jsonl").read_text().splitlines()
        config = json.loads((folder / "run/config.json").read_text())
    logged = [json.loads(line) for line in lines]
    rates = [line["tuples_per_second"] for line in logged if "tuples_per_second" in line]
    rates = rates[1:] or rates  # the first one waits for the compiler
    seen = config["qualities_at_once"] or len(config["qualities"])
    images = [seen * rate for rate in rates]
    title = f"training of the detector, {options.steps} steps"
    results.add(title, "whole, with building, validation and test, s", "median", [whole], unit="s")
    more = {"unit": "images/s", "better": "higher", "digits": 0}
    results.add(title, "images/s", "median", images, **more)
    print(f"{title}: {whole:.0f} s; {statistics.median(images):.0f} images/s (median of the log)")
    results.write(options.json)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_job, argv)


if __name__ == "__main__":
    sys.exit(main())
