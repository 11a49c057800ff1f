"""Compares two detectors on what both have scored.

python -m qad_jax.compare runs/a runs/b --out comparison
python -m qad_jax.compare runs/a/evaluation/test/scores.csv other_tool.csv
"""

from __future__ import annotations

import csv
import functools
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_builders import command_line
from data_builders.errors import UserError
from data_builders.files import write_whole
from qad_jax.evaluation import delong, scores
from qad_jax.evaluation.bootstrap import bootstrap, interval
from qad_jax.evaluation.protocol import percent
from qad_jax.evaluation.scores import Scores

#: How many of the clips on which the two differ most are named.
CLIPS = 10
#: Fields of the numbers of one quality and level.
FIELDS = (
    "items",
    "auc_a",
    "auc_b",
    "difference",
    "delong_low",
    "delong_high",
    "delong_p",
    "identity_low",
    "identity_high",
    "undefined",
)
_LEVELS = ("frame", "video")
_CLIP = ("method", "video", "quality", "label", "score_a", "score_b", "difference")


def find(path: Path, split: str) -> Path:
    """The file of scores that a run's folder, a folder of results or a file stands for.

    Raises:
      UserError: If there is none.
    """
    if not path.is_dir():
        return path
    for found in (path / "scores.csv", path / "evaluation" / split / "scores.csv"):
        if found.is_file():
            return found
    others = sorted(str(f.parent) for f in (path / "evaluation").glob("**/scores.csv"))
    raise UserError(
        f"{path}: holds no scores of the split {split!r} (evaluation/{split}/scores.csv); "
        + (f"name one of: {', '.join(others)}" if others else "evaluate it first")
    )


def common(a: Scores, b: Scores) -> tuple[Scores, Scores, dict[str, Any]]:
    """The frames and qualities that both have, in the order of the first.

    Returns:
      Both, cut to these, and what was left out: `{"frames_of_a": n, "frames_of_b": n,
      "qualities_of_a": [...], "qualities_of_b": [...]}`.

    Raises:
      UserError: If nothing is common, or a label differs.
    """
    place = {key: i for i, key in enumerate(_keys(b))}
    rows = [(i, place[key]) for i, key in enumerate(_keys(a)) if key in place]
    if not rows:
        raise UserError(
            f"A and B have no frame in common: A has {_example(a)}, B {_example(b)}; frames are "
            "the same where method, video and frame are"
        )
    qualities = [quality for quality in a.qualities if quality in b.qualities]
    if not qualities:
        raise UserError(
            f"A and B have no quality in common: A has {', '.join(a.qualities)}, "
            f"B {', '.join(b.qualities)}; a column 'quality' says of which one a score is"
        )
    of_a, of_b = np.array(rows, np.intp).T
    left_out = {
        "frames_of_a": len(a.label) - len(rows),
        "frames_of_b": len(b.label) - len(rows),
        "qualities_of_a": [q for q in a.qualities if q not in qualities],
        "qualities_of_b": [q for q in b.qualities if q not in qualities],
    }
    a, b = a.take(of_a).of(qualities), b.take(of_b).of(qualities)
    if (wrong := np.flatnonzero(a.label != b.label)).size:
        i = wrong[0]
        raise UserError(
            f"{a.method[i]}/{a.video[i]} frame {a.frame[i]}: label is {a.label[i]} in A and "
            f"{b.label[i]} in B ({wrong.size} frames in all have another label)"
        )
    return a, b, left_out


def _keys(made: Scores) -> zip[tuple[str, str, int]]:
    return zip(made.method, made.video, made.frame.tolist(), strict=True)


def _example(made: Scores) -> str:
    method, video, frame = next(iter(_keys(made)))
    return f"{method}/{video} frame {frame}"


def compare(a: Scores, b: Scores) -> dict[str, Any]:
    """Compares two sets of scores on what both have.

    Args:
      a: Of one detector.
      b: Of another.

    Returns:
      A dictionary of this form.
      `{"left_out": {...}, "identities_of": "A" or "B", "qualities": {name: {"frames": n,
      "videos": n, "identities": n, "not_numbers": n, "frame": {...}, "video": {...}}},
      "clips": [...]}`, each `{...}` of a level with `FIELDS`; differences are A less B. What is
      not defined is None, and "undefined" says why.

    Raises:
      UserError: See `common`.
    """
    a, b, left_out = common(a, b)
    # A file without identities counts each video for a person: the coarser ones are right.
    owner = "B" if len(set(b.identity)) < len(set(a.identity)) else "A"
    identity = b.identity if owner == "B" else a.identity
    a, b = a._replace(identity=identity), b._replace(identity=identity)
    found: dict[str, Any] = {}
    clips: list[dict[str, Any]] = []
    for i, quality in enumerate(a.qualities):
        numbers = np.isfinite(a.score[:, i]) & np.isfinite(b.score[:, i])
        rows = np.flatnonzero(numbers)
        pair = a.take(rows)._replace(
            qualities=("a", "b"), score=np.stack([a.score[rows, i], b.score[rows, i]], axis=1)
        )
        videos = pair.videos() if len(rows) else pair
        found[quality] = {
            "frames": len(rows),
            "videos": len(videos.label),
            "identities": len(set(pair.identity)),
            "not_numbers": int(np.sum(~numbers)),
            "frame": _level(pair),
            "video": _level(videos),
        }
        clips += _clips(videos, quality)
    clips.sort(key=lambda clip: -abs(clip["difference"]))
    return {
        "left_out": left_out,
        "identities_of": owner,
        "qualities": found,
        "clips": clips[:CLIPS],
    }


def _level(pair: Scores) -> dict[str, Any]:
    """The numbers of one level; the two columns of `pair` are the two detectors."""
    tested = delong.compare(pair.label, pair.score[:, 0], pair.score[:, 1])
    low = high = None
    reason = tested.undefined
    if tested.difference is not None:
        if len(set(pair.identity)) > 1:
            drawn = bootstrap(pair.label, pair.score, pair.identity)["auc"]
            low, high = interval(drawn[:, 0] - drawn[:, 1])
            if low is None:
                reason = reason or "most draws of identities hold one class only"
        else:
            reason = reason or "no interval over identities: one identity only"
    values = (
        len(pair.label),
        *tested.auc,
        tested.difference,
        tested.low,
        tested.high,
        tested.p,
        low,
        high,
        reason,
    )
    return dict(zip(FIELDS, values, strict=True))


def _clips(videos: Scores, quality: str) -> list[dict[str, Any]]:
    apart: npt.NDArray[np.floating[Any]] = videos.score[:, 0] - videos.score[:, 1]
    return [
        dict(
            zip(
                _CLIP,
                (
                    videos.method[i],
                    videos.video[i],
                    quality,
                    int(videos.label[i]),
                    float(videos.score[i, 0]),
                    float(videos.score[i, 1]),
                    float(apart[i]),
                ),
                strict=True,
            )
        )
        for i in np.argsort(-np.abs(apart), kind="stable")[:CLIPS]
        if apart[i] != 0
    ]


def table(found: Mapping[str, Any]) -> str:
    """Renders a comparison for a terminal; AUCs in percent, differences in points."""
    wide = max(8, *(len(name) + 1 for name in found["qualities"]))
    lines = [
        f"A: {found['a']}",
        f"B: {found['b']}",
        *_left_out(found),
        f"{'':<{wide + 28}}{'':>8}{'DeLong, items independent':^28}{'bootstrap':^17}",
        f"{'quality':<{wide}} {'level':<6}{'n':>7}{'AUC A':>7}{'AUC B':>7}{'A - B':>8}"
        f"{'95 %':>17}{'p':>11}{'identities 95 %':>17}",
    ]
    reasons = []
    for quality, entry in found["qualities"].items():
        for level, name in zip(_LEVELS, (quality, ""), strict=True):
            n = entry[level]
            lines.append(
                f"{name:<{wide}} {level:<6}{n['items']:>7}{percent(n['auc_a']):>7}"
                f"{percent(n['auc_b']):>7}{_points(n['difference']):>8}"
                f"{_span(n['delong_low'], n['delong_high']):>17}{_p(n['delong_p']):>11}"
                f"{_span(n['identity_low'], n['identity_high']):>17}"
            )
            if n["undefined"]:
                reasons.append(f"not defined at {quality}, {level} level: {n['undefined']}")
    lines += [
        *reasons,
        "DeLong's interval and p take frames (videos) for independent, which those of one person",
        "are not: where the interval over identities is wider, it is the one to believe.",
        "Clips on which A and B differ most, by mean score:"
        if found["clips"]
        else "No clip differs.",
    ]
    for clip in found["clips"]:
        truth = "fake" if clip["label"] else "real"
        lines.append(
            f"  {clip['method']}/{clip['video']} at {clip['quality']}, {truth}: "
            f"A {clip['score_a']:.3f}, B {clip['score_b']:.3f}"
        )
    return "\n".join(lines)


def _left_out(found: Mapping[str, Any]) -> list[str]:
    left_out, lines = found["left_out"], []
    if found["identities_of"] == "B":
        lines.append("identities are those of B, which tells fewer apart")
    for side in "ab":
        if frames := left_out[f"frames_of_{side}"]:
            lines.append(f"left out: {frames} frames that only {side.upper()} has")
        if qualities := left_out[f"qualities_of_{side}"]:
            lines.append(f"left out: {', '.join(qualities)}, which only {side.upper()} has")
    for quality, entry in found["qualities"].items():
        if count := entry["not_numbers"]:
            lines.append(f"left out at {quality}: {count} frames whose score is not a number")
    return lines


def _points(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:+.2f}"


def _span(low: float | None, high: float | None) -> str:
    return "n/a" if low is None else f"{_points(low)} to {_points(high)}"


def _p(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2g}"


def write(folder: Path, found: Mapping[str, Any]) -> None:
    """Writes `comparison.json`, `comparison.csv` and `clips.csv`, each whole or not at all."""
    rows = [
        [quality, level, *(entry[level][field] for field in FIELDS)]
        for quality, entry in found["qualities"].items()
        for level in _LEVELS
    ]
    clips = [list(clip.values()) for clip in found["clips"]]
    write_whole(folder / "comparison.json", json.dumps(found, indent=2, allow_nan=False) + "\n")
    write_whole(folder / "comparison.csv", _csv(("quality", "level", *FIELDS), rows))
    write_whole(folder / "clips.csv", _csv(_CLIP, clips))


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows([header, *rows])
    return lines.getvalue()


def _job(argv: Sequence[str], prog: str) -> str:
    parser = command_line.Parser(
        prog=prog,
        description="Compares two detectors on what both have scored: differences of AUC with "
        "intervals and p-values, and the clips on which they differ most.",
    )
    parser.add_argument("a", type=Path, help="a run's folder, a folder of results or a CSV file")
    parser.add_argument("b", type=Path, help="the other one")
    parser.add_argument("--split", default="test", help="of run folders (default: test)")
    parser.add_argument("--out", type=Path, help="folder for comparison.json and CSV files")
    args = parser.parse_args(argv)
    paths = [find(path, args.split) for path in (args.a, args.b)]
    found = {"a": str(paths[0]), "b": str(paths[1]), **compare(*map(scores.read, paths))}
    if args.out:
        write(args.out, found)
    return table(found)


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m qad_jax.compare") -> int:
    """Entry point of the command; returns its exit status."""
    return command_line.run(functools.partial(_job, prog=prog), argv)
