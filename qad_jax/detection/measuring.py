"""How good the verdicts on a user's own labelled files are: the protocol's numbers, and counts."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_builders.errors import UserError, one_line
from data_builders.files import check_kept, csv_text, write_whole
from data_builders.lists import first_of
from data_builders.records import LABELS
from qad_jax.detection.labels import Labelled, Labels
from qad_jax.detection.results import FAKE, REAL, VERDICTS, Face, Verdict
from qad_jax.evaluation import protocol
from qad_jax.evaluation import report as reports
from qad_jax.evaluation.protocol import percent, span
from qad_jax.evaluation.rates import Rates, count
from qad_jax.evaluation.report import origin
from qad_jax.evaluation.report.document import escaped
from qad_jax.evaluation.results import Estimate, Report, Summary
from qad_jax.evaluation.scores import Scores

ALL = "all"
#: The rates of each group of files, and their titles in tables.
TITLES = {
    "auc": "AUC",
    "false_positive_rate": "real called fake",
    "false_negative_rate": "fake called real",
    "inconclusive_real": "real, cannot tell",
    "inconclusive_fake": "fake, cannot tell",
}
_VERDICTS = "verdicts.csv"
_RULE = (
    "0.5 for the scores of frames; the verdicts have thresholds of their own, and what came of "
    "them is in the tables of verdicts"
)


@dataclasses.dataclass(frozen=True)
class _Judged:
    """What is kept of a file in which a face was judged."""

    row: Labelled
    verdict: str
    probability: float
    quality: str
    frames: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]


def files(folder: Path) -> list[Path]:
    """The files that `Measurement.write` writes into a folder."""
    return [*protocol.files(folder), *reports.files(folder), folder / _VERDICTS]


class Measurement:
    """Takes verdicts one after another, and measures them at the end."""

    def __init__(self, labels: Labels, qualities: Sequence[str]) -> None:
        """Begins with no verdict.

        Args:
          labels: What is known of the files.
          qualities: The measured qualities of the detector, in the order of the tables.
        """
        self._labels, self._qualities = labels, tuple(qualities)
        self._judged: list[_Judged] = []
        self._counts: collections.Counter[tuple[str, int]] = collections.Counter()
        self._seen: set[str] = set()
        self._without_label: dict[str, str] = {}

    def add(self, verdict: Verdict, decisive: Face | None = None) -> None:
        """Takes the verdict on a file; of several verdicts on one file the first counts.

        A file may come under two names, such as `a.mp4` and `./a.mp4`. To count it twice would make
        the intervals too narrow.

        Args:
          verdict: What is said of the file.
          decisive: The face that decides it; None where it is not known any more, as of a verdict
            that was stored.
        """
        row = self._labels.of(verdict.file)
        if row is None:
            self._without_label.setdefault(os.path.abspath(verdict.file), verdict.file)
            return
        if row.path in self._seen:
            return
        self._seen.add(row.path)
        self._counts[verdict.verdict, row.label] += 1
        if verdict.probability is None or verdict.quality is None:
            return
        face = decisive or _decisive(verdict)
        self._judged.append(
            _Judged(
                row,
                verdict.verdict,
                verdict.probability,
                verdict.quality,
                np.array([frame.frame for frame in face.frames], np.int64),
                np.array([frame.score for frame in face.frames]),
            )
        )

    def remarks(self) -> list[str]:
        """What a reader should know of the files that were not measured, a line each."""
        path = self._labels.path
        listed = self._labels.files()
        missing = [row.name for row in listed if row.path not in self._seen]
        lines = []
        if missing:
            lines.append(
                f"{path}: {len(missing)} listed files were not judged: {first_of(missing)}"
            )
        if others := list(self._without_label.values()):
            lines.append(f"{path}: does not list {len(others)} judged files: {first_of(others)}")
        if unknown := [row.name for row in listed if not row.is_known]:
            lines.append(
                f"{path}: does not say who is shown in {len(unknown)} of {len(listed)} files "
                f"(column identity), so each of them counts as another person: {first_of(unknown)}"
                "; where a person is in several files, the intervals are too narrow"
            )
        return lines

    def rates(self) -> dict[str, Rates]:
        """The rates of all files with a face, of each quality, and of each method of fakes.

        The fakes of a method are measured with all real files.
        """
        qualities = np.array([one.quality for one in self._judged], object)
        methods = np.array([one.row.method for one in self._judged], object)
        fake = np.array([one.row.label for one in self._judged], int) == 1
        groups = {ALL: np.ones(len(fake), bool)}
        groups |= {quality: qualities == quality for quality in self._qualities}
        makers = sorted(set(methods[fake]))
        if len(makers) > 1:
            groups |= {_against(method): ~fake | (methods == method) for method in makers}
        return {name: self._count(which) for name, which in groups.items() if which.any()}

    def _count(self, which: npt.NDArray[np.bool_]) -> Rates:
        chosen = [self._judged[i] for i in np.flatnonzero(which)]
        verdicts = np.array([one.verdict for one in chosen])
        return count(
            [one.row.label for one in chosen],
            [one.row.identity for one in chosen],
            [one.probability for one in chosen],
            called_fake=verdicts == FAKE,
            called_real=verdicts == REAL,
        )

    def text(self) -> str:
        """The tables for a terminal; rates in percent, with 95 % intervals."""
        lines = [f"{'verdict':<14}{'real':>7}{'fake':>7}"]
        for verdict in VERDICTS:
            of_label = "".join(f"{self._counts[verdict, label]:>7}" for label in (0, 1))
            lines.append(f"{verdict.replace('_', ' '):<14}{of_label}")
        rates = self.rates()
        if not rates:
            return "\n".join([*lines, "no labelled file has a face, so nothing is measured"])
        wide = max(8, *(len(one_line(name)) + 1 for name in rates))
        head = "".join(f"{title:>20}" for title in TITLES.values())
        lines += ["", f"{'':<{wide}}{'real':>6}{'fake':>6}{head}"]
        for name, of in rates.items():
            cells = "".join(f"{_cell(getattr(of, rate)):>20}" for rate in TITLES)
            lines.append(f"{one_line(name):<{wide}}{of.real_clips:>6}{of.fake_clips:>6}{cells}")
        return "\n".join(lines)

    def write(self, folder: Path) -> Path | None:
        """Writes the protocol's report, `verdicts.csv` and the scores of the frames.

        Args:
          folder: Where they go, see `reports.write`.

        Returns:
          The path of the page; None where no labelled file has a face, so that there is none.

        Raises:
          UserError: The labels would be overwritten.
        """
        if not self._judged:
            return None
        check_kept([self._labels.path], files(folder), "--out")
        rates, scores = self.rates(), self._scores()
        # The name of the file need not be UTF-8.
        called = one_line(self._labels.path.stem)
        report = Report(called, "labels", None, self._summary(scores), _RULE)
        reports.remove(folder)
        protocol.write(folder, scores, report)
        write_whole(folder / _VERDICTS, _csv(rates))
        facts = origin.describe(
            labels=one_line(self._labels.path.name), files=str(len(self._judged))
        )
        tables = {"Verdicts": self._counted(), "Error rates of the verdicts": _table(rates)}
        return reports.write(folder, report, scores, provenance=facts, sections=tables)

    def _scores(self) -> Scores:
        """The scores of the frames of the face that decides each verdict."""
        found = {one.quality for one in self._judged}
        times = [len(one.frames) for one in self._judged]

        def repeated(values: Sequence[str]) -> list[str]:
            return [value for value, n in zip(values, times, strict=True) for _ in range(n)]

        return Scores(
            (found.pop() if len(found) == 1 else ALL,),
            np.repeat([one.row.label for one in self._judged], times).astype(np.int32),
            repeated([one.row.method for one in self._judged]),
            repeated([one.row.name for one in self._judged]),
            repeated([one.row.identity for one in self._judged]),
            np.concatenate([one.frames for one in self._judged]),
            np.concatenate([one.scores for one in self._judged])[:, None],
        )

    def _summary(self, scores: Scores) -> Summary:
        """The numbers of all files, and of those of each estimated quality for themselves."""
        whole = protocol.summarise(scores)
        if scores.qualities != (ALL,):
            return whole
        of_frame = np.repeat(
            np.array([one.quality for one in self._judged], object),
            [len(one.frames) for one in self._judged],
        )
        parts = [
            protocol.summarise(
                scores.take(np.flatnonzero(of_frame == quality))._replace(qualities=(quality,))
            )
            for quality in self._qualities
            if (of_frame == quality).any()
        ]
        methods = {name: dict(results) for name, results in whole.methods.items()}
        for part in parts:
            for name, results in part.methods.items():
                methods[name].update(results)
        qualities = dict(whole.qualities)
        for part in parts:
            qualities.update(part.qualities)
        return dataclasses.replace(whole, qualities=qualities, methods=methods)

    def _counted(self) -> str:
        rows = "".join(
            f"<tr><td>{escaped(verdict.replace('_', ' '))}</td>"
            + "".join(f"<td>{self._counts[verdict, label]}</td>" for label in (0, 1))
            + "</tr>"
            for verdict in VERDICTS
        )
        head = "".join(f"<th>{label}</th>" for label in LABELS)
        return (
            '<div class="wide"><table><caption>Number of files by verdict and by label</caption>'
            f"<thead><tr><th>verdict</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        )


def _decisive(verdict: Verdict) -> Face:
    """The face that decides a stored verdict.

    A file has the verdict and the probability of the face that decides, and of several with both
    the first decides, see `judging.judge`. Only where a face that passes by has both, too, and
    comes first, this is another face of the same verdict and probability.

    Raises:
      UserError: No face has them, so that somebody has changed what was stored.
    """
    told = (verdict.verdict, verdict.probability)
    for face in verdict.faces:
        if (face.verdict, face.probability) == told:
            return face
    raise UserError(
        f"{verdict.file}: its stored verdict is that of none of its faces; remove it, and judge "
        "the file again"
    )


def _against(method: str) -> str:
    return f"{method} and all reals"


def _cell(rate: Estimate) -> str:
    if rate.low is None:
        return percent(rate.value)
    return f"{percent(rate.value)} {span(rate.low, rate.high).replace(' to ', '-')}"


def _csv(rates: dict[str, Rates]) -> str:
    rows = [{"files": name, **of.as_dict()} for name, of in rates.items()]
    return csv_text(list(rows[0]), [list(row.values()) for row in rows])


def _table(rates: dict[str, Rates]) -> str:
    head = "".join(f"<th>{escaped(title)}</th>" for title in TITLES.values())
    rows = []
    for name, of in rates.items():
        cells = []
        for rate in TITLES:
            estimate = getattr(of, rate)
            ends = span(estimate.low, estimate.high)
            cells.append(f'<td>{percent(estimate.value)}<br><span class="low">{ends}</span></td>')
        rows.append(
            f"<tr><td>{escaped(name)}</td><td>{of.real_clips}</td><td>{of.fake_clips}</td>"
            f"{''.join(cells)}</tr>"
        )
    return (
        '<div class="wide"><table><caption>Of the files with a face; percent, 95 % interval over '
        "identities below. AUC is that of the probability of fake.</caption><thead><tr>"
        f"<th>files</th><th>real</th><th>fake</th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
