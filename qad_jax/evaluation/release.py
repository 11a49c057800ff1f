"""Makes a model file of a run, with the thresholds and the error rates of a detector, and its card.

python -m qad_jax.release runs/detector --validation V --test T --about about.json --out FILE

V and T are folders of results of the run (or their `scores.csv`): the thresholds are chosen on the
clips of V and measured on those of T.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_builders import command_line
from data_builders.errors import UserError
from data_builders.files import check_writable, read_json, write_whole
from data_builders.home import expanded
from data_builders.lists import one_form
from data_builders.paired import PairedDatasetBuilder
from qad_jax import configs, models
from qad_jax.evaluation import release_inputs, verdicts
from qad_jax.evaluation.evaluate_run import folder_of
from qad_jax.evaluation.matrix_rows import mixture
from qad_jax.evaluation.rates import Rates, by_group, measure
from qad_jax.evaluation.report import card, model_card
from qad_jax.evaluation.scores import Scores
from qad_jax.runs.weights_digest import weights_digest
from qad_jax.training.datasets import open_datasets
from qad_jax.weights import averaging, model_file, pretrained

_FEWEST, _OTHERS = 10, "groups of fewer than 10 people"
# How faces are found and cut out, see `data_builders.faces.Detected`.
_CROP = ("faces", "min_face", "max_side", "scale", "max_gap")


def release(
    run: Path,
    out: Path,
    *,
    validation: Path,
    test: Path,
    about: Path,
    people: Path | None = None,
    clips: Path | None = None,
    hold_in: str | None = None,
    step: int | None = None,
) -> model_file.Description:
    """Makes the model file and, beside it, its card.

    Args:
      run: The run's folder.
      out: The file, whose name ends in `.safetensors`.
      validation: Results on a validation split, see `compare.find`.
      test: Results on a test split of other people.
      about: JSON with `name`, `version` and `sources`, see `model_file.Description`; and, if
        there are any, the `conditions` outside of which nothing was measured, and what
        `benchmarks/localisation.py` prints, as `localisation`.
      people: CSV of identities and their groups, see `release_inputs.groups_of`.
      clips: CSV of videos and their groups.
      hold_in: Column of `people` in each of whose groups no more real clips are to be called fake
        than in all; see `verdicts.choose`.
      step: The checkpoint; None: the best on validation.

    Raises:
      UserError: Something of this is missing, or does not fit together.
    """
    if out.suffix != ".safetensors":
        raise UserError(f"--out: {out}: must end in .safetensors")
    known = release_inputs.groups_of(people, "identity") if people else {}
    if hold_in is not None and hold_in not in known:
        raise UserError(f"--hold_in: --people has no column {hold_in!r}")
    described, variables = _described(
        run,
        release_inputs.about(about),
        validation=validation,
        test=test,
        people=known,
        hold_in=hold_in,
        clips=release_inputs.groups_of(clips, "video") if clips else None,
        step=step,
    )
    rendered = model_card.render(described)  # first: a mistake in it leaves nothing behind
    model_file.write(out, variables, described)
    write_whole(out.with_suffix(".md"), rendered)
    return described


def of_run(run: Path) -> model_file.ModelFile:
    """Makes a detector of a run that was evaluated on its validation and its test split.

    Its conditions are not known, and its digest is that of the weights and of the thresholds.

    Args:
      run: The run's folder.

    Raises:
      UserError: It is no run; it was not evaluated on both, so nothing is known of its errors; or
        as `release`.
    """
    if not (run / configs.STORED).is_file():
        raise UserError(f"{run}: holds no run; name the folder of a run, or a model file")
    for split in ("validation", "test"):
        if not (run / "evaluation" / split / "scores.csv").is_file():
            if len(names := mixture(run)) > 1:
                raise UserError(_of_one(run, names[0]))
            command = command_line.command("qad-jax", "evaluate", run, "--split", split)
            raise UserError(
                f"{run}: was not evaluated on its {split} split, so its error rates are not known; "
                f"run: {command}"
            )
    told = {"name": run.name, "version": "unreleased", "sources": ()}
    described, variables = _described(run, told, validation=run, test=run)
    content = model_file.content(variables, described)
    return model_file.ModelFile(described, variables, hashlib.sha256(content).hexdigest())


def _of_one(run: Path, dataset: str) -> str:
    """What is said of a run on several datasets, which has results on each and none of its own."""
    results = run / "evaluation" / folder_of(dataset, ())
    evaluate = command_line.command("qad-jax", "evaluate", run, "--split", "validation")
    parts = (f"--{split}={results / split}" for split in ("validation", "test"))
    options = (*parts, "--about=about.json", "--out=detector.safetensors")
    return (
        f"{run}: was trained on several datasets, and a detector has the thresholds and rates of "
        f"one: evaluate both splits ({evaluate}, and test), make a model file of the results on "
        f"one dataset ({command_line.command('qad-jax', 'release', run, *options)}), and name "
        "that file"
    )


def _described(
    run: Path,
    told: Mapping[str, Any],
    *,
    validation: Path,
    test: Path,
    people: Mapping[str, Mapping[str, str]] | None = None,
    clips: Mapping[str, Mapping[str, str]] | None = None,
    hold_in: str | None = None,
    step: int | None = None,
) -> tuple[model_file.Description, dict[str, Any]]:
    """What is said of a run, and its variables."""
    variables, config, step, dropped = pretrained.of_run(run, step)
    if dropped is not None:
        raise UserError(f"{run}: its head was drawn anew and is not trained")
    digest = weights_digest(variables)
    (chosen_on, dataset), (tested_on, _) = (
        release_inputs.results(path, split, run=run, step=step, weights=digest)
        for path, split in ((validation, "validation"), (test, "test"))
    )
    if shared := set(chosen_on.identity) & set(tested_on.identity):
        raise UserError(
            f"--test: {len(shared)} identities are in --validation, too, {min(shared)} among them"
        )
    # As `evaluate` does it: what the training has not seen decides on nothing.
    chosen_on = release_inputs.without_excluded(
        chosen_on, dataset, run=run, step=step, config=config
    )
    try:
        chosen = verdicts.choose(chosen_on, (people or {}).get(hold_in or ""))
    except ValueError as error:
        raise UserError(f"--validation: {validation}: {error}") from error
    if missing := set(tested_on.qualities) - set(chosen):
        raise UserError(
            f"--validation: {validation}: has no scores at {', '.join(sorted(missing))}"
        )
    datasets = open_datasets(config, may_build=False)
    tested = tested_on.videos()
    rates = measure(tested, chosen)
    groups = {
        column: [of.get(one_form(name), "") for name in names]
        for names, columns in ((tested.identity, people), (tested.video, clips))
        for column, of in (columns or {}).items()
    }
    described = model_file.Description(
        name=told["name"],
        version=told["version"],
        network=config.model.name,
        image_size=config.image_size,
        crop=_crop(datasets),
        normalisation={
            name: list(values)
            for name, values in models.create(config.model.name).normalisation._asdict().items()
        },
        qualities={
            quality: {
                "thresholds": dataclasses.asdict(chosen[quality]),
                "rates": rates[quality].as_dict(),
            }
            for quality in tested.qualities
        },
        training=_training(run, configs.to_dict(config), step),
        measured={
            "clips": len(tested.label),
            "frames": len(tested_on.label),
            "identities": len(set(tested.identity)),
            "real_error": verdicts.REAL_ERROR,
            "fake_error": verdicts.FAKE_ERROR,
            "hold_in": hold_in,
            "conditions": told.get("conditions", {}),
            "localisation": told.get("localisation", {}),
            "methods": _by_method(tested, chosen),
            "groups": {
                column: _as_dicts(by_group(tested, chosen, _large(of, tested)))
                for column, of in groups.items()
            },
        },
        sources=tuple(told["sources"]),
    )
    return described, variables


def _crop(datasets: Sequence[PairedDatasetBuilder]) -> dict[str, Any]:
    """The recipe of the crops, which must be one for all that the run was trained on."""
    recipes = [dict((d.info.metadata or {}).get("recipe") or {}) for d in datasets]
    crops = [{name: recipe.get(name) for name in _CROP} for recipe in recipes]
    for dataset, crop in zip(datasets, crops, strict=True):
        if crop != crops[0]:
            raise UserError(
                f"{dataset.info.full_name} cuts its crops in another way than "
                f"{datasets[0].info.full_name}: a detector can have one way"
            )
    return {name: value for name, value in crops[0].items() if value is not None}


def _large(groups: Sequence[str], clips: Scores) -> list[str]:
    """The groups, with those of few people put together: of one of them alone nothing is known."""
    people = {(group, who) for group, who in zip(groups, clips.identity, strict=True) if group}
    counts = collections.Counter(group for group, _ in people)
    return [group if not group or counts[group] >= _FEWEST else _OTHERS for group in groups]


def _training(run: Path, config: Mapping[str, Any], step: int) -> dict[str, Any]:
    """What is known of the training, without the places of one machine."""
    try:
        known = read_json(run / "run.json")
        start = known["starts"][-1]
        facts = {name: known[name] for name in ("dataset", "digest")}
        facts |= {name: start[name] for name in ("commit", "versions", "devices")}
        facts |= {name: known[name] for name in (averaging.AVERAGED,) if name in known}
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{run / 'run.json'}: does not tell how the run was trained") from error
    return {"step": step, "config": card.shared(config), **facts}


def _by_method(clips: Scores, chosen: Mapping[str, verdicts.Thresholds]) -> dict[str, Any]:
    """The rates of each method's fakes against all real clips."""
    methods, fake = np.asarray(clips.method), np.asarray(clips.label) == 1
    return _as_dicts(
        {
            method: measure(clips.take(np.flatnonzero(~fake | (methods == method))), chosen)
            for method in sorted(set(methods[fake]))
        }
    )


def _as_dicts(of: Mapping[str, Mapping[str, Rates]]) -> dict[str, Any]:
    return {
        name: {quality: rates.as_dict() for quality, rates in each.items()}
        for name, each in of.items()
    }


def _job(argv: Sequence[str], prog: str) -> str:
    parser = command_line.Parser(
        prog=prog,
        description="Makes a model file of a run, with thresholds, error rates and a card.",
    )
    parser.add_argument("run", type=expanded, help="the run's folder")
    parser.add_argument("--validation", type=expanded, required=True, help="results to choose on")
    parser.add_argument("--test", type=expanded, required=True, help="results to measure on")
    parser.add_argument(
        "--about", type=expanded, required=True, help="JSON: name, version, sources"
    )
    parser.add_argument("--people", type=expanded, help="CSV: identity, and columns of groups")
    parser.add_argument("--clips", type=expanded, help="CSV: video, and columns of groups")
    parser.add_argument(
        "--hold_in", help="column of --people: its groups also decide on what is called fake"
    )
    parser.add_argument("--step", type=int, help="checkpoint (the best on validation)")
    parser.add_argument("--out", type=expanded, required=True, help="the .safetensors to make")
    args = parser.parse_args(argv)
    check_writable(args.out.absolute().parent, "--out")
    described = release(
        args.run.absolute(),
        args.out,
        validation=args.validation,
        test=args.test,
        about=args.about,
        people=args.people,
        clips=args.clips,
        hold_in=args.hold_in,
        step=args.step,
    )
    return f"{args.out}: {described.name} {described.version}; {args.out.with_suffix('.md')}"


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m qad_jax.release") -> int:
    """Entry point of the command; returns its exit status."""
    return command_line.run(functools.partial(_job, prog=prog), argv)
