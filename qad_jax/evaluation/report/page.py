"""One self-contained HTML page: no script, no network, light, dark and printed."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from qad_jax.evaluation import protocol
from qad_jax.evaluation.protocol import TITLES, percent, span
from qad_jax.evaluation.report.document import document, escaped
from qad_jax.evaluation.report.figures import Figure
from qad_jax.evaluation.report.hardest import HardClip
from qad_jax.evaluation.results import CalibrationResult, Estimate, Numbers, QualityResult, Report


def render(
    report: Report,
    *,
    figures: Mapping[str, Sequence[Figure]],
    hardest: Sequence[HardClip],
    provenance: Mapping[str, Any],
    notes: Mapping[str, str] | None = None,
    sections: Mapping[str, str] | None = None,
) -> str:
    """Renders the page.

    Args:
      report: The numbers.
      figures: The figures of each section, under its title.
      hardest: The clips that were judged worst.
      provenance: What produced the scores, see `origin.describe`.
      notes: A sentence at the head of a section, under its title.
      sections: Further sections, which come first: HTML under its title.

    Returns:
      The page. Every name in it is escaped: names of videos are strangers' text.
    """
    title = f"{report.dataset}, {report.split}"
    step = "" if report.step is None else f", step {report.step}"
    parts = [
        f"<h1>{escaped(title)}</h1>",
        f'<p class="soft">Evaluation of a deepfake detector{escaped(step)}</p>',
        f'<p class="headline">{escaped(protocol.headline(report))}</p>',
        *(f"<p>{escaped(line)}</p>" for line in sentences(report)),
        *(f"<h2>{escaped(name)}</h2>{content}" for name, content in (sections or {}).items()),
        "<h2>Every quality</h2>",
        _table(report.summary.qualities, "All methods together"),
        *(
            _table(results, f"{method} against the reals")
            for method, results in report.summary.methods.items()
        ),
        "<h2>Calibration</h2>",
        _calibration(report),
    ]
    for section, drawn in figures.items():
        if drawn:
            parts.append(f"<h2>{escaped(section)}</h2>")
            if notes and section in notes:
                parts.append(f"<p>{escaped(notes[section])}</p>")
            parts.append('<div class="figures">')
            parts += [_figure(one) for one in drawn]
            parts.append("</div>")
    parts += _hardest(hardest)
    parts += ["<h2>Where this comes from</h2>", _provenance(provenance)]
    return document(title, parts)


def sentences(report: Report) -> list[str]:
    """What a reader should know of the numbers after the headline, in words."""
    summary = report.summary
    lines = [
        f"Intervals are of 95 %, by bootstrap over {summary.identities} identities "
        f"({summary.bootstrap} draws). The score of a video is the mean over its frames. Accuracy "
        "and FPR, the share of real frames or videos that are called fake, are at a threshold. "
        f"The rule of the threshold is: {report.threshold_rule}."
    ]
    rates = {
        quality: result.frame.fpr_at_threshold.value
        for quality, result in summary.qualities.items()
        if result.frame.fpr_at_threshold.value is not None
    }
    if any(rates.values()):
        quality = max(rates, key=lambda quality: rates[quality])
        lines.append(
            f"{quality} has the highest false-positive rate: {percent(rates[quality])} % of its "
            "real frames are called fake."
        )
    elif rates:
        lines.append(f"No real frame is called fake at {', '.join(rates)}.")
    lines += [
        f"Not defined at {', '.join(qualities)}: {reason}."
        for reason, qualities in summary.undefined().items()
    ]
    return lines


def _table(results: Mapping[str, QualityResult], caption: str) -> str:
    head = "".join(f"<th>{escaped(title)}</th>" for title in TITLES.values())
    rows = []
    for quality, result in results.items():
        for level, count, numbers in result.levels():
            estimates = numbers.estimates()
            cells = "".join(_cell(numbers, name, estimates[name]) for name in TITLES)
            name = escaped(quality) if level == "frame" else ""
            rows.append(f"<tr><td>{name}</td><td>{level}</td><td>{count}</td>{cells}</tr>")
    return (
        f'<div class="wide"><table><caption>{escaped(caption)}; percent, 95 % interval below'
        f"</caption><thead><tr><th>quality</th><th>level</th><th>n</th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(numbers: Numbers, name: str, estimate: Estimate) -> str:
    if estimate.value is None:
        reason = numbers.undefined.get(name) or next(iter(numbers.undefined.values()), "")
        return f'<td title="{escaped(reason)}">not defined</td>'
    ends = span(estimate.low, estimate.high)
    return f'<td>{percent(estimate.value)}<br><span class="low">{ends}</span></td>'


def _calibration(report: Report) -> str:
    def number(value: float | None) -> str:
        return "not defined" if value is None else f"{value:.3f}"

    rows = []
    for quality, result in report.summary.qualities.items():
        fitted = result.calibration or CalibrationResult(None, None, None)
        cells = (
            fitted.temperature,
            fitted.ece_before,
            fitted.ece_after,
            result.frame.threshold,
            result.video.threshold,
        )
        numbers = "".join(f"<td>{number(value)}</td>" for value in cells)
        rows.append(f"<tr><td>{escaped(quality)}</td><td></td>{numbers}</tr>")
    return (
        '<div class="wide"><table><caption>Temperature fitted on validation; expected '
        "calibration error of frames here, before and after it; thresholds</caption><thead><tr>"
        "<th>quality</th><th></th><th>temperature</th><th>ECE before</th><th>ECE after</th>"
        "<th>threshold, frames</th><th>threshold, videos</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _figure(figure: Figure) -> str:
    return (
        f'<figure id="{escaped(figure.name)}"><figcaption>{escaped(figure.title)}</figcaption>'
        f"{figure.svg}</figure>"
    )


def _hardest(clips: Sequence[HardClip]) -> list[str]:
    if not clips:
        return []
    parts = ["<h2>Hardest clips</h2>", '<div class="clips">']
    for clip in clips:
        crops = "".join(
            f"<figure>{_image(image)}<figcaption>{escaped(quality)} {score:.2f}"
            "</figcaption></figure>"
            for quality, score, image in zip(
                clip.qualities,
                clip.scores,
                clip.images or (None,) * len(clip.scores),
                strict=True,
            )
        )
        parts.append(
            f'<div class="clip"><div>{escaped(clip.method)} / {escaped(clip.video)}</div>'
            f'<div class="soft">{clip.truth}, frame {clip.frame}; mean probability of fake over '
            f'the video at each quality</div><div class="crops">{crops}</div></div>'
        )
    return [*parts, "</div>"]


def _image(png: bytes | None) -> str:
    if png is None:
        return ""
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _provenance(provenance: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>"
        for name, value in provenance.items()
        if not isinstance(value, Mapping)
    )
    details = "".join(
        f"<details><summary>{escaped(name)}</summary><pre>"
        f"{escaped(json.dumps(value, indent=2))}</pre></details>"
        for name, value in provenance.items()
        if isinstance(value, Mapping)
    )
    return f"<dl>{rows}</dl>{details}"
