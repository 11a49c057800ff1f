"""Evaluates the scores of another tool, with the same table, files and report as of a run.

python -m qad_jax.score theirs.csv --out results
python -m qad_jax.score theirs_test.csv --out results --validation theirs_validation.csv
python -m qad_jax.score submission.csv --labels labels.csv --out results
python -m qad_jax.score results/scores.csv --export deepfakebench --out DIR
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_builders import command_line
from data_builders.errors import UserError, printable
from data_builders.files import check_kept, check_writable
from data_builders.home import expanded
from qad_jax.evaluation import calibration, formats, protocol
from qad_jax.evaluation import report as reports
from qad_jax.evaluation.formats import deepfakebench
from qad_jax.evaluation.report import origin
from qad_jax.evaluation.results import Report
from qad_jax.evaluation.scores import Scores


def evaluate(
    path: Path,
    folder: Path,
    *,
    validation: Path | None = None,
    dataset: str | None = None,
    split: str = "test",
    labels: Path | None = None,
    column: str | None = None,
) -> str:
    """Evaluates a file of scores and writes the results into a folder.

    Args:
      path: The scores, see `formats.read`.
      folder: Gets `metrics.json`, `scores.csv`, `metrics.csv`, `figures` and `report.html`.
      validation: Scores of a validation split, on which thresholds and temperatures are chosen.
      dataset: Name of the data; by default the name of the file.
      split: Name of the split.
      labels: The truth, for files of scores that do not hold it; also for those of validation.
      column: Which score is read, where a file has those of several detectors.

    Returns:
      The table, the sentence on the weakest quality, and where the files are.

    Raises:
      UserError: Naming the row that is wrong.
    """
    written = (*protocol.files(folder), *reports.files(folder))
    check_kept(formats.sources(path, validation, labels), written, "--out")
    scored = formats.read(path, labels=labels, column=column)
    if found := deepfakebench.metrics_file(path):
        path, dataset = found, dataset or found.absolute().parent.name  # the folder has the name
    # A name need not be UTF-8, and pages and tables are.
    dataset, split = printable(dataset or path.stem), printable(split)
    facts = {"scores": _named(path)}
    chosen, rule = None, "0.5: no validation scores were given to choose one on"
    beyond = scored.beyond_probabilities()
    no_threshold = f"; scores run {beyond}: at 0.5, accuracy and FPR have no meaning"
    if validation:
        validated = formats.read(validation, labels=labels, column=column)
        validation = deepfakebench.metrics_file(validation) or validation
        facts["validation"] = _named(validation)
        if missing := [name for name in scored.qualities if name not in validated.qualities]:
            raise UserError(
                f"{validation}: has no scores at {', '.join(missing)}; it needs every quality of "
                f"{path}"
            )
        validated = validated.of(scored.qualities)  # thresholds of others are of no use
        _check_ranges(path, beyond, validation, validated.beyond_probabilities())
        _check_others(scored, validation, validated)
        chosen = calibration.fit(validated, dataset=dataset, step=0)
        rule = f"{calibration.RULE} ({printable(validation.name)})"
        undefined = [name for name, of in chosen.qualities.items() if of.threshold is None]
        rule += f"; 0.5 for {', '.join(undefined)}" if undefined else ""
        no_threshold = no_threshold if undefined else ""
    if beyond:
        rule += no_threshold
        print(_warning(path, beyond, no_threshold), file=sys.stderr)
    report = Report(
        dataset=dataset,
        split=split,
        step=None,
        summary=protocol.summarise(scored, chosen=chosen),
        threshold_rule=rule,
    )
    reports.remove(folder)
    protocol.write(folder, scored, report)
    page = reports.write(
        folder,
        report,
        scored,
        provenance=origin.describe(**facts, threshold=rule),
    )
    return "\n".join([protocol.table(report), str(folder), protocol.headline(report), str(page)])


def export(
    path: Path,
    folder: Path,
    form: str,
    *,
    labels: Path | None = None,
    column: str | None = None,
) -> str:
    """Writes a file of scores again, in a form of another project.

    Args:
      path: The scores, see `formats.read`.
      folder: Gets the files.
      form: One of `formats.FORMS`.
      labels: As in `evaluate`.
      column: As in `evaluate`.

    Returns:
      The files, a line each.

    Raises:
      UserError: As `formats.read` and `formats.write`.
    """
    made = formats.read(path, labels=labels, column=column)
    return "\n".join(map(str, formats.write(folder, form, made, formats.sources(path, labels))))


def _warning(path: Path, beyond: str, no_threshold: str) -> str:
    """What is said of scores that are not probabilities; the ranks alone are used for AUC."""
    done = (
        "accuracy and FPR at 0.5 have no meaning: give --validation, which chooses a threshold, or "
        "make them probabilities (percent divided by 100, sigmoid of logits)"
        if no_threshold
        else "thresholds are those of the validation file"
    )
    return (
        f"warning: {path}: scores run {beyond}, not from 0 to 1: AUC and EER are right, nothing is "
        f"calibrated, {done}"
    )


def _check_ranges(path: Path, beyond: str | None, validation: Path, validated: str | None) -> None:
    """A threshold is of use only on scores of the same kind.

    Raises:
      UserError: If one file has probabilities and the other has not.
    """
    if (beyond is None) != (validated is None):
        ranges = [
            f"those of {of} run {said or 'within 0 to 1'}"
            for of, said in ((validation, validated), (path, beyond))
        ]
        raise UserError(
            f"--validation: the scores are of two kinds: {' and '.join(ranges)}; a threshold "
            "chosen on one has no meaning for the other"
        )


def _check_others(scored: Scores, validation: Path, validated: Scores) -> None:
    """A threshold fits those that it was chosen on too well.

    The same file can be given as a folder, a copy or a part of another, so the frames are compared.

    Raises:
      UserError: Both files have the same scores of the same frames.
    """
    pairs = scored.common(validated)
    if not pairs:
        return
    tested, chosen_on = np.array(pairs, np.intp).T
    # Two splits may count their videos in one way; their scores then differ, but for those of a
    # detector that is sure, which may be 0 and 1 in both.
    of_test, of_validation = scored.score[tested], validated.score[chosen_on]
    sure = np.isin(of_test, (0, 1)) | np.isnan(of_test)
    if not sure.all() and np.array_equal(of_test, of_validation, equal_nan=True):
        raise UserError(
            f"--validation: {validation} has the same scores as the file that is tested, of "
            f"{len(pairs)} frames of the same method, video and frame; thresholds are chosen on "
            "scores of other people"
        )


def _named(path: Path) -> str:
    """The name of a file and the checksum of its content."""
    with path.open("rb") as file:
        return f"{printable(path.name)}, sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"


def _job(argv: Sequence[str], prog: str) -> str:
    parser = command_line.Parser(
        prog=prog,
        description="Evaluates a file of scores: a CSV file with the columns method, video, frame, "
        "label, score, and where there are any quality and identity; or a file as DeepfakeBench, "
        "the DFDC competition or GRIP-UNINA's ClipBased detector writes it, which is recognised.",
    )
    parser.add_argument("file", type=expanded, help="the scores")
    parser.add_argument(
        "--out", type=expanded, required=True, help="folder for the results, or for the files"
    )
    parser.add_argument("--validation", type=expanded, help="scores on which to choose thresholds")
    parser.add_argument("--dataset", help="name of the data (default: that of the file)")
    parser.add_argument("--split", default="test", help="name of the split (default: test)")
    parser.add_argument(
        "--labels",
        type=expanded,
        metavar="FILE",
        help="which files are real, for scores without labels: CSV, or metadata.json of DFDC",
    )
    parser.add_argument(
        "--column", metavar="NAME", help="which detector, where a file has scores of several"
    )
    parser.add_argument(
        "--export",
        choices=formats.FORMS,
        help="evaluate nothing, and write the scores in this form",
    )
    args = parser.parse_args(argv)
    check_writable(args.out.absolute(), "--out")
    given = {"labels": args.labels, "column": args.column}
    if args.export is None:
        return evaluate(
            args.file,
            args.out,
            validation=args.validation,
            dataset=args.dataset,
            split=args.split,
            **given,
        )
    if args.validation is not None:
        parser.error("--export writes one file of scores; leave --validation out")
    return export(args.file, args.out, args.export, **given)


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m qad_jax.score") -> int:
    """Entry point of the command; returns its exit status."""
    return command_line.run(functools.partial(_job, prog=prog), argv)
