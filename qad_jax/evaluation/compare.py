"""Compares two detectors on what both have scored.

python -m qad_jax.compare runs/a runs/b --out comparison
python -m qad_jax.compare runs/a/evaluation/test/scores.csv other_tool.csv
"""

from __future__ import annotations

import dataclasses
import functools
import glob
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_builders import command_line
from data_builders.errors import UserError, printable
from data_builders.files import check_kept, check_writable, write_csv, write_json
from data_builders.home import expanded
from qad_jax.evaluation import delong, scores
from qad_jax.evaluation.bootstrap import bootstrap, interval, why_no_interval
from qad_jax.evaluation.comparison import (
    ClipDifference,
    Comparison,
    LeftOut,
    LevelComparison,
    QualityComparison,
)
from qad_jax.evaluation.protocol import percent
from qad_jax.evaluation.scores import Scores

#: How many of the clips on which the two differ most are named.
CLIPS = 10
#: Fields of the numbers of one quality and level.
FIELDS = tuple(field.name for field in dataclasses.fields(LevelComparison))
_CLIP_FIELDS = tuple(field.name for field in dataclasses.fields(ClipDifference))


def find(path: Path, split: str) -> Path:
    """Finds the file of scores that a run's folder, a folder of results or a file stands for.

    Raises:
      UserError: If there is none.
    """
    if not path.is_dir():
        return path
    for file in (path / "scores.csv", path / "evaluation" / split / "scores.csv"):
        if file.is_file():
            return file
    of_others = (path / "evaluation").glob(f"*/{glob.escape(split)}/scores.csv")
    others = sorted(str(file.parent) for file in of_others)
    raise UserError(
        f"{path}: holds no scores of the split {split!r} (evaluation/{split}/scores.csv); "
        + (f"name one of: {', '.join(others)}" if others else "evaluate it first")
    )


def common(a: Scores, b: Scores) -> tuple[Scores, Scores, LeftOut]:
    """Cuts two sets of scores to the frames and qualities of both, in the order of the first.

    Returns:
      Both, cut, and what is left out.

    Raises:
      UserError: If nothing is common, or a label differs.
    """
    rows = a.common(b)
    if not rows:
        raise UserError(
            f"A and B have no frame in common: A has {_example(a)}, B {_example(b)}; two "
            "frames are the same where their method, video and frame are equal"
        )
    qualities = [quality for quality in a.qualities if quality in b.qualities]
    if not qualities:
        raise UserError(
            f"A and B have no quality in common: A has {', '.join(a.qualities)}, "
            f"B {', '.join(b.qualities)}; the column 'quality' says which one a score belongs to"
        )
    of_a, of_b = np.array(rows, np.intp).T
    left_out = LeftOut(
        frames_of_a=len(a.label) - len(rows),
        frames_of_b=len(b.label) - len(rows),
        qualities_of_a=tuple(q for q in a.qualities if q not in qualities),
        qualities_of_b=tuple(q for q in b.qualities if q not in qualities),
    )
    a, b = a.take(of_a).of(qualities), b.take(of_b).of(qualities)
    if (differing := np.flatnonzero(a.label != b.label)).size:
        i = differing[0]
        raise UserError(
            f"{a.method[i]}/{a.video[i]} frame {a.frame[i]}: label is {a.label[i]} in A and "
            f"{b.label[i]} in B ({differing.size} frames in all have two different labels)"
        )
    return a, b, left_out


def _example(scored: Scores) -> str:
    method, video, frame = next(scored.keys())
    return f"{method}/{video} frame {frame}"


def compare(a: Scores, b: Scores, *, names: tuple[str, str] = ("A", "B")) -> Comparison:
    """Compares two sets of scores on what both have.

    Args:
      a: Of one detector.
      b: Of another.
      names: Where the scores of each come from.

    Returns:
      The comparison; differences are A less B.

    Raises:
      UserError: See `common`.
    """
    a, b, left_out = common(a, b)
    # A file without identities counts each video as a person: the coarser identities are right.
    owner = "B" if len(set(b.identity)) < len(set(a.identity)) else "A"
    identity = b.identity if owner == "B" else a.identity
    a, b = a._replace(identity=identity), b._replace(identity=identity)
    qualities: dict[str, QualityComparison] = {}
    clips: list[ClipDifference] = []
    for i, quality in enumerate(a.qualities):
        finite = np.isfinite(a.score[:, i]) & np.isfinite(b.score[:, i])
        rows = np.flatnonzero(finite)
        pair = a.take(rows)._replace(
            qualities=("a", "b"), score=np.stack([a.score[rows, i], b.score[rows, i]], axis=1)
        )
        videos = pair.videos() if len(rows) else pair
        qualities[quality] = QualityComparison(
            frames=len(rows),
            videos=len(videos.label),
            identities=len(set(pair.identity)),
            not_numbers=int(np.sum(~finite)),
            frame=_level(pair),
            video=_level(videos),
        )
        clips += _clips(videos, quality)
    clips.sort(key=lambda clip: -abs(clip.difference))
    return Comparison(*names, left_out, owner, qualities, tuple(clips[:CLIPS]))


def _level(pair: Scores) -> LevelComparison:
    """The numbers of one level; the two columns of `pair` are the two detectors."""
    tested = delong.compare(pair.label, pair.score[:, 0], pair.score[:, 1])
    low = high = None
    reason = tested.undefined
    if tested.difference is not None:
        if why := why_no_interval(pair.label, pair.identity):
            reason = reason or f"no interval over identities: {why}"
        else:
            drawn = bootstrap(pair.label, pair.score, pair.identity)["auc"]
            low, high = interval(drawn[:, 0] - drawn[:, 1])
            if low is None:
                reason = reason or "most draws of identities hold one class only"
    return LevelComparison(
        items=len(pair.label),
        auc_a=tested.auc[0],
        auc_b=tested.auc[1],
        difference=tested.difference,
        delong_low=tested.low,
        delong_high=tested.high,
        delong_p=tested.p,
        identity_low=low,
        identity_high=high,
        undefined=reason,
    )


def _clips(videos: Scores, quality: str) -> list[ClipDifference]:
    apart: npt.NDArray[np.floating[Any]] = videos.score[:, 0] - videos.score[:, 1]
    return [
        ClipDifference(
            method=videos.method[i],
            video=videos.video[i],
            quality=quality,
            label=int(videos.label[i]),
            score_a=float(videos.score[i, 0]),
            score_b=float(videos.score[i, 1]),
            difference=float(apart[i]),
        )
        for i in np.argsort(-np.abs(apart), kind="stable")[:CLIPS]
        if apart[i] != 0
    ]


def table(comparison: Comparison) -> str:
    """Renders a comparison for a terminal; AUCs in percent, differences in points."""
    wide = max(8, *(len(name) + 1 for name in comparison.qualities))
    lines = [
        f"A: {comparison.a}",
        f"B: {comparison.b}",
        *_left_out(comparison),
        f"{'':<{wide + 28}}{'':>8}{'DeLong, items independent':^28}{'bootstrap':^17}",
        f"{'quality':<{wide}} {'level':<6}{'n':>7}{'AUC A':>7}{'AUC B':>7}{'A - B':>8}"
        f"{'95 %':>17}{'p':>11}{'identities 95 %':>17}",
    ]
    reasons = []
    for quality, compared in comparison.qualities.items():
        for level, n in compared.levels():
            name = quality if level == "frame" else ""
            lines.append(
                f"{name:<{wide}} {level:<6}{n.items:>7}{percent(n.auc_a):>7}"
                f"{percent(n.auc_b):>7}{_points(n.difference):>8}"
                f"{_span(n.delong_low, n.delong_high):>17}{_p(n.delong_p):>11}"
                f"{_span(n.identity_low, n.identity_high):>17}"
            )
            if n.undefined:
                reasons.append(f"not defined at {quality}, {level} level: {n.undefined}")
    people = sorted({compared.identities for compared in comparison.qualities.values()})
    lines += [
        *reasons,
        f"number of identities: {' to '.join(map(str, dict.fromkeys((people[0], people[-1]))))}",
        "DeLong's interval and p assume that frames (videos) are independent. Those of one person",
        "are not: where the interval over identities is wider, rely on that one.",
        "Clips on which A and B differ most, by mean score:"
        if comparison.clips
        else "A and B differ on no clip.",
    ]
    for clip in comparison.clips:
        truth = "fake" if clip.label else "real"
        lines.append(
            f"  {clip.method}/{clip.video} at {clip.quality}, {truth}: "
            f"A {clip.score_a:.3f}, B {clip.score_b:.3f}"
        )
    return "\n".join(map(printable, lines))


def _left_out(comparison: Comparison) -> list[str]:
    left_out, lines = comparison.left_out, []
    if comparison.identities_of == "B":
        lines.append("the identities are those of B, which has fewer of them")
    for side, frames, qualities in (
        ("A", left_out.frames_of_a, left_out.qualities_of_a),
        ("B", left_out.frames_of_b, left_out.qualities_of_b),
    ):
        if frames:
            lines.append(f"left out: {frames} frames that only {side} has")
        if qualities:
            lines.append(f"left out: {', '.join(qualities)}, which only {side} has")
    for quality, compared in comparison.qualities.items():
        if count := compared.not_numbers:
            lines.append(f"left out at {quality}: {count} frames whose score is not a number")
    return lines


def _points(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:+.2f}"


def _span(low: float | None, high: float | None) -> str:
    return "n/a" if low is None else f"{_points(low)} to {_points(high)}"


def _p(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2g}"


def files(folder: Path) -> list[Path]:
    """The files that `write` writes into a folder."""
    return [folder / name for name in ("comparison.json", "comparison.csv", "clips.csv")]


def write(folder: Path, comparison: Comparison) -> None:
    """Writes `comparison.json`, `comparison.csv` and `clips.csv`, each whole or not at all."""
    rows = [
        [quality, level, *dataclasses.astuple(numbers)]
        for quality, compared in comparison.qualities.items()
        for level, numbers in compared.levels()
    ]
    clips = [dataclasses.astuple(clip) for clip in comparison.clips]
    whole, of_numbers, of_clips = files(folder)
    write_json(whole, comparison.as_dict(), allow_nan=False)
    write_csv(of_numbers, ("quality", "level", *FIELDS), rows)
    write_csv(of_clips, _CLIP_FIELDS, clips)


def _job(argv: Sequence[str], prog: str) -> str:
    parser = command_line.Parser(
        prog=prog,
        description="Compares two detectors on what both have scored: differences of AUC with "
        "intervals and p-values, and the clips on which they differ most.",
    )
    parser.add_argument(
        "a", type=expanded, help="a run's folder, a folder of results or a CSV file"
    )
    parser.add_argument("b", type=expanded, help="the other one")
    parser.add_argument("--split", default="test", help="of run folders (default: test)")
    parser.add_argument("--out", type=expanded, help="folder for comparison.json and CSV files")
    args = parser.parse_args(argv)
    if args.out:
        check_writable(args.out.absolute(), "--out")
    paths = [find(path, args.split) for path in (args.a, args.b)]
    if args.out:
        check_kept(paths, files(args.out), "--out")
    a, b = (scores.read(path) for path in paths)
    for path, scored in zip(paths, (a, b), strict=True):
        if beyond := scored.beyond_probabilities():
            print(
                f"warning: {path}: scores run {beyond}, not from 0 to 1: AUC is right; where mean "
                "scores of clips are compared, both detectors need scores of one kind",
                file=sys.stderr,
            )
    comparison = compare(a, b, names=(str(paths[0]), str(paths[1])))
    if args.out:
        write(args.out, comparison)
    return table(comparison)


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m qad_jax.compare") -> int:
    """Entry point of the command; returns its exit status."""
    return command_line.run(functools.partial(_job, prog=prog), argv)
