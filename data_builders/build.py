"""Finds, opens and builds datasets by name; as a command, builds one.

python -m data_builders.build synthetic_faces
python -m data_builders.build manifest --manifest data.json --data_dir OUT
python -m data_builders.build face_forensics/neural_textures --manual_dir DIR --data_dir OUT
python -m data_builders.build celeb_df_v2 --manual_dir DIR --doctor
python -m data_builders.build ffiw10k --manual_dir DIR --beam -- --runner=FlinkRunner ...
"""

from __future__ import annotations

import argparse
import functools
import importlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import logging

from data_builders import buckets, compilation_cache
from data_builders.access import shown_on_error
from data_builders.built import check_records, flag_of, open_built, versions_of
from data_builders.command_line import (
    DONE,
    FAILED,
    PARTLY,
    USAGE,
    Parser,
    command,
    run,
)
from data_builders.errors import UnavailableQualitiesError, UserError, nearest, one_line
from data_builders.home import datasets_folder, expanded
from data_builders.preparing import prepare

if TYPE_CHECKING:
    from data_builders.paired import PairedDatasetBuilder

_HERE = Path(__file__).parent
# Of the recipe: name, type, help.
_NUMBERS: dict[str, tuple[type, str]] = {
    "frames_per_video": (int, "frames, spread evenly over a video (default: 32; self_blended: 1)"),
    "seed": (int, "seed of what is drawn (default: 0)"),
    "variants": (int, "self_blended: pairs from each file (default: 8)"),
    "degraded": (float, "self_blended: share of the pairs that are degraded (default: 0.5)"),
}


def names() -> list[str]:
    """The datasets that have a builder: each is a folder beside this file."""
    return sorted(folder.parent.name for folder in _HERE.glob("*/builder.py"))


def builder(
    name: str,
    *,
    data_dir: str | Path = "",
    manual_dir: str | Path = "",
    manifest: str | Path = "",
    **recipe: Any,
) -> PairedDatasetBuilder:
    """Makes the builder of a dataset, which reads nothing yet but the manifest.

    Args:
      name: A dataset, 'dataset/config', or 'dataset/config-digest' for one that another recipe or
        list has built already.
      data_dir: Where built datasets are. Empty: the folder of TFDS (`$TFDS_DATA_DIR`, or
        `~/tensorflow_datasets`). In a bucket: one that is built there is copied, see `buckets`.
      manual_dir: Folder downloaded by hand, for datasets that are made from one.
      manifest: Path of the JSON file, for the dataset 'manifest'.
      **recipe: For datasets made from videos, see `video_builder.VideoDatasetBuilder`.

    Returns:
      The builder. `is_prepared()` tells whether the dataset is built.

    Raises:
      UserError: For an unknown dataset or configuration, or a manifest with a mistake.
    """
    base, _, config = name.partition("/")
    dataset_class = _class_of(name)
    given = {"manual_dir": manual_dir, "manifest": manifest}
    needed: dict[str, Any] = {source: given[source] for source in dataset_class.NEEDS}
    _check_options(dataset_class, recipe)
    data_dir = datasets_folder(data_dir)
    if not buckets.is_bucket(data_dir):
        place = expanded(data_dir).absolute()
        return open_built(dataset_class, config, place, needed, recipe)

    def opened(root: Path) -> PairedDatasetBuilder:
        return open_built(dataset_class, config, root, needed, recipe)

    copies = buckets.copies(data_dir)
    if config:
        places = [f"{base}/{config}/{version}" for version in versions_of(dataset_class, config)]
    else:
        places = [str(Path(opened(copies).data_dir).relative_to(copies))]
    buckets.fetch(data_dir, places, lambda root: check_records(opened(root)))
    return opened(copies)


def _check_options(dataset_class: type[PairedDatasetBuilder], recipe: Iterable[str]) -> None:
    """Raises a UserError where a dataset has no such option."""
    for field in sorted(set(recipe) - dataset_class.OPTIONS):
        reason = "has no such option" if _of_videos(dataset_class) else "is not made from videos"
        raise UserError(f"{flag_of(field)}: dataset {dataset_class.name!r} {reason}")


def _of_videos(dataset_class: type[PairedDatasetBuilder]) -> bool:
    return "qualities" in dataset_class.OPTIONS


def _class_of(name: str) -> type[PairedDatasetBuilder]:
    """Imports the builder of a dataset, or raises UserError where there is none."""
    base = name.partition("/")[0]
    if base not in names():
        raise UserError(f"there is no builder for dataset {name!r}: {nearest(base, names())}")
    found: type[PairedDatasetBuilder] = importlib.import_module(f"data_builders.{base}").Builder
    return found


def _parse(argv: Sequence[str], prog: str) -> argparse.Namespace:
    ours = argv[: argv.index("--")] if "--" in argv else argv
    parser = Parser(
        prog=prog,
        usage="%(prog)s NAME [options] [-- pipeline options of Apache Beam]",
        description="Builds a dataset of crops at several qualities.",
        epilog=f"Exit status: {DONE} built; {FAILED} not built; {USAGE} the command line is wrong; "
        f"{PARTLY} built, but some videos or images were skipped, which are named.",
    )
    parser.add_argument("name", help=f"DATASET or DATASET/CONFIG; datasets: {', '.join(names())}")
    parser.add_argument(
        "--data_dir", default="", help="where to put it (default: the folder of TFDS)"
    )
    parser.add_argument("--manual_dir", default="", help="the folder you downloaded")
    parser.add_argument("--manifest", default="", help="the list of a manifest or of DeepfakeBench")
    parser.add_argument(
        "--beam",
        action="store_true",
        help="build as an Apache Beam pipeline: here with one process for each core, elsewhere by "
        "the options after --, such as --runner=FlinkRunner",
    )
    recipe = parser.add_argument_group("datasets made from videos")
    recipe.add_argument("--doctor", action="store_true", help="look at the folder, build nothing")
    recipe.add_argument(
        "--qualities",
        help="separated by commas: raw, cNN (H.264 at CRF NN), random, messenger "
        "(default: raw,c23,c40)",
    )
    recipe.add_argument(
        "--faces",
        help="where boxes come from: mtcnn, none (the images are crops), or a JSON file of boxes "
        "(default: mtcnn)",
    )
    for name, (kind, text) in _NUMBERS.items():
        recipe.add_argument(f"--{name}", type=kind, help=text)
    recipe.add_argument(
        "--families", help="self_blended: families of fakes, separated by commas (default: all)"
    )
    recipe.add_argument(
        "--painters", help="self_blended: folder of the networks that paint faces (default: none)"
    )
    recipe.add_argument(
        "--max_skipped", type=float, help="share of the clips that may be skipped (default: 0.1)"
    )
    args = parser.parse_args(ours)
    args.pipeline_options = argv[len(ours) + 1 :]
    if args.pipeline_options and not args.beam:
        parser.error(f"{args.pipeline_options[0]}: pipeline options need --beam")
    return args


def _recipe(args: argparse.Namespace) -> dict[str, Any]:
    recipe = {
        name: getattr(args, name)
        for name in (*_NUMBERS, "max_skipped")
        if getattr(args, name) is not None
    }
    if args.qualities:
        recipe["qualities"] = [quality.strip() for quality in args.qualities.split(",")]
    if args.families:
        recipe["families"] = [family.strip() for family in args.families.split(",")]
    if args.painters:
        recipe["painters"] = args.painters
    if args.faces:
        from data_builders import faces

        is_file = args.faces.endswith(".json")
        named = [name for name in faces.SOURCES if name != "file"]
        if not is_file and args.faces not in named:
            raise UserError(
                f"--faces: there is no source of faces {args.faces!r}: "
                f"{nearest(args.faces, named)} (a file of boxes has a name that ends in .json)"
            )
        recipe["face_source"] = faces.source(
            "file" if is_file else args.faces, path=args.faces if is_file else ""
        )
    return recipe


def _job(argv: Sequence[str], prog: str) -> int:
    args = _parse(argv, prog)
    buckets.check_local(datasets_folder(args.data_dir), "--data_dir")
    compilation_cache.keep()  # the processes that look for faces compile the same programs
    logging.set_verbosity(logging.ERROR)  # TFDS logs every folder that it looks at
    places = {place: getattr(args, place) for place in ("data_dir", "manual_dir", "manifest")}
    dataset_class, recipe = _class_of(args.name), _recipe(args)
    _check_options(dataset_class, recipe)
    # Crops are looked for when the builder is made, and videos by the doctor.
    crops = args.doctor and not _of_videos(dataset_class)
    with shown_on_error(dataset_class.ACCESS if crops else None):
        dataset = builder(args.name, **places, **recipe)
    if args.doctor:
        return _doctor(dataset, argv, prog)
    was_built = dataset.is_prepared()
    try:
        prepare(dataset, beam=args.pipeline_options if args.beam else None)
    except UnavailableQualitiesError as error:
        raise UserError(_with_command(error, argv, prog)) from error
    except KeyboardInterrupt:
        if dataset.clips_done():
            print(
                "clips that are done are kept; the same command goes on from them", file=sys.stderr
            )
        raise
    if was_built:
        print(f"{dataset.data_dir}: is built already; remove it to build it anew", file=sys.stderr)
    for split, info in dataset.info.splits.items():
        print(f"{split}: {info.num_examples} tuples at {', '.join(dataset.qualities)}")
    print(dataset.data_dir)
    if _of_videos(type(dataset)):
        options = [f"--config.dataset.name={dataset.info.full_name.rpartition('/')[0]}"]
        options += [f"--config.dataset.data_dir={args.data_dir}"] if args.data_dir else []
        print(f"to train on it: {command(*options)}")
    skipped = (dataset.info.metadata or {}).get("skipped", [])
    for reason in skipped:
        if getattr(args, "debug", False) and reason in dataset.traces:
            print(dataset.traces[reason], file=sys.stderr)
        # Of a dataset that was imported, anybody may have written it.
        print(f"skipped: {one_line(str(reason))}", file=sys.stderr)
    return PARTLY if skipped else DONE


def _doctor(dataset: PairedDatasetBuilder, argv: Sequence[str], prog: str) -> int:
    from data_builders import doctor

    try:
        doctor.look(dataset)
    except UnavailableQualitiesError as error:
        print(f"cannot be built: {_with_command(error, argv, prog)}")
        return FAILED
    return DONE


def _with_command(error: UnavailableQualitiesError, argv: Sequence[str], prog: str) -> str:
    """Adds the command that works: as it was given, with other qualities."""
    ours = list(argv[: argv.index("--")] if "--" in argv else argv)
    rest = argv[len(ours) :]
    words: list[str] = []
    for previous, word in zip(["", *ours], ours, strict=False):
        given = word.partition("=")[0] in ("--qualities", "--doctor")
        if not given and previous != "--qualities":
            words.append(word)
    qualities = ["--qualities", ",".join(error.instead)]
    return f"{error}: {command(*prog.split(), *words, *qualities, *rest)}"


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m data_builders.build") -> int:
    """Entry point of the command; returns its exit status."""
    return run(functools.partial(_job, prog=prog), argv)


if __name__ == "__main__":
    sys.exit(main())
