"""The page of one file."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from data_builders.errors import one_line
from data_builders.qualities import crf_of
from qad_jax.detection.credentials import GENERATIVE_AI, NOT_INSTALLED, UNREADABLE
from qad_jax.detection.examination import (
    SIDE,
    ChangeMap,
    Crop,
    Examination,
    FaceView,
    HeatMap,
)
from qad_jax.detection.marks import MARKED, Marks
from qad_jax.detection.pages import parts, rates, timeline, words
from qad_jax.detection.pages.parts import text
from qad_jax.detection.pages.style import STYLE
from qad_jax.detection.results import Face, told_probability
from qad_jax.evaluation.report.document import document
from qad_jax.evaluation.verdicts import Thresholds

# A crop is this bright where a map is zero.
_DARK = 0.2
#: A map whose largest fall of the logit is smaller would show chance.
LEAST_FALL = 0.1


def render(examined: Examination, command: str, *, back: str | None) -> str:
    """Renders the page.

    Args:
      examined: The verdict and what is shown with it.
      command: The command that writes this page.
      back: Address of the page over all files; None where there is no such page.

    Returns:
      The page. The same examination gives the same bytes.
    """
    verdict = examined.verdict
    link = (
        []
        if back is None
        else [f'<p class="back"><a href="{text(back)}">{text(words.BACK)}</a></p>']
    )
    body = [
        *link,
        "<main>",
        f"<h1>{text(name_of(verdict.file))}</h1>",
        *_answer(examined),
        *_faces(examined),
        *_media(examined),
        *_credentials(examined),
        *parts.conditions(examined.model),
        *_model(examined),
        *parts.command(words.COMMAND, command),
        "</main>",
    ]
    title = f"{name_of(verdict.file)}: {words.SHORT[verdict.verdict]}"
    return document(one_line(title), body, style=STYLE, generator=parts.GENERATOR)


def name_of(file: str) -> str:
    """The name of a file without its folders."""
    return file.rstrip("/").rpartition("/")[2] or file


def _answer(examined: Examination) -> list[str]:
    verdict = examined.verdict
    lines = [words.MEANINGS[verdict.verdict]]
    if verdict.reason:
        reason = verdict.reason.removeprefix(f"{verdict.file}: ")
        lines.insert(0, words.REASON.format(reason=reason))
    if (probability := told_probability(verdict)) is not None:
        lines.append(words.PROBABILITY.format(probability=probability))
    found = [
        '<div class="answer">',
        f"<h2>{text(words.TITLES[verdict.verdict])}</h2>",
        *parts.paragraphs(lines),
        "</div>",
    ]
    if examined.rates and examined.judged:
        said = rates.sentences(verdict.verdict, examined.rates, examined.judged)
        found += [f"<h2>{text(words.RATES)}</h2>", *parts.paragraphs(said)]
    return found


def _faces(examined: Examination) -> Iterator[str]:
    if not examined.faces or examined.thresholds is None:
        return
    yield f"<h2>{text(words.FACES)}</h2>"
    lines = [words.SCORE_IS, *_thresholds(examined.thresholds, saturated=examined.saturated)]
    yield f"<p>{text(' '.join(lines))}</p>"
    more = len(examined.verdict.faces) - len(examined.faces)
    if more:
        yield from parts.paragraphs([words.MORE_FACES.format(count=more)])
    for number, view in enumerate(examined.faces):
        yield from _face(view, examined, decides=number == 0)


def _thresholds(thresholds: Thresholds, *, saturated: bool) -> Iterator[str]:
    upper, lower = thresholds.upper, thresholds.lower
    none = words.SATURATED if saturated else words.NO_UPPER
    yield words.UPPER.format(upper=upper) if upper < 1 else none
    yield words.LOWER.format(lower=lower) if lower > 0 else words.NO_LOWER
    if lower > 0 and upper < 1:
        yield words.BETWEEN


def _face(view: FaceView, examined: Examination, *, decides: bool) -> Iterator[str]:
    face = view.face
    said = words.SHORT[face.verdict]
    yield '<section class="face">'
    yield f"<h3>{text(words.FACE.format(number=face.track + 1, verdict=said))}</h3>"
    mean = words.MEAN.format(
        frames=words.counted(len(face.frames), "frame"),
        mean=statistics.fmean(frame.score for frame in face.frames),
    )
    lines = [
        words.DECIDES if decides and len(examined.verdict.faces) > 1 else "",
        "" if view.judged else words.NOT_JUDGED,
        words.REASON.format(reason=face.reason) if face.reason else "",
        mean,
        _probability(face),
    ]
    yield f"<p>{text(' '.join(line for line in lines if line))}</p>"
    duration = examined.verdict.media.get("duration")
    thresholds = examined.thresholds if view.judged else None
    yield from timeline.render(face, thresholds, duration, view.small)
    yield f"<h4>{text(words.CROPS)}</h4>"
    yield '<div class="row">'
    yield from _crops(words.SUSPICIOUS, view.suspicious)
    yield from _crops(words.UNSUSPICIOUS, view.unsuspicious)
    yield "</div>"
    if view.heat_map is not None:
        if isinstance(view.heat_map, ChangeMap):
            yield from _changed(view.heat_map, view.suspicious[0], examined)
        else:
            yield from _heat(view.heat_map, view.suspicious[0])
    yield "</section>"


def _probability(face: Face) -> str:
    probability = told_probability(face)
    return "" if probability is None else words.PROBABILITY_OF_FACE.format(probability=probability)


def _crops(title: str, crops: Sequence[Crop]) -> Iterator[str]:
    if not crops:
        return
    yield f'<div><p class="soft">{text(title)}</p><div class="crops">'
    for crop in crops:
        frame = crop.frame
        time = "" if frame.time is None else words.AT.format(time=frame.time)
        caption = words.CROP_OF.format(frame=frame.frame, time=time, score=frame.score)
        image = parts.image(crop.image, words.CROP.format(frame=frame.frame))
        yield f"<figure>{image}<figcaption>{text(caption)}</figcaption></figure>"
    yield "</div></div>"


def _heat(heat: HeatMap, crop: Crop) -> Iterator[str]:
    frame = crop.frame.frame
    yield f"<h4>{text(words.HEAT)}</h4>"
    if not heat.fall.max() >= LEAST_FALL:  # nor is one shown of what is no number
        yield from parts.paragraphs([words.NO_HEAT.format(frame=frame, score=heat.score)])
        return
    note = words.HEAT_NOTE.format(frame=frame, score=heat.score, covered=heat.covered)
    image = lit(crop.image, heat.fall / heat.fall.max())
    yield from _map(image, words.HEAT_ALT.format(frame=frame), [note])


def _changed(changed: ChangeMap, crop: Crop, examined: Examination) -> Iterator[str]:
    frame = crop.frame.frame
    yield f"<h4>{text(words.CHANGED)}</h4>"
    if not changed.shares.max() >= MARKED:  # nor is one shown of what is no number
        yield from parts.paragraphs([words.NO_MARK.format(frame=frame)])
        return
    notes = [words.CHANGED_NOTE.format(frame=frame)]
    if marks := Marks.of(examined.model.measured).get(str(examined.verdict.quality)):
        shares = {name: 100 * share for name, share in dataclasses.asdict(marks).items()}
        notes.append(words.MARKS.format(**shares))
    image = lit(crop.image, np.asarray(changed.shares, np.float64))
    yield from _map(image, words.CHANGED_ALT.format(frame=frame), notes)


def _map(image: npt.NDArray[np.uint8], alt: str, notes: Sequence[str]) -> Iterator[str]:
    yield f'<figure class="heat">{parts.image(image, alt)}</figure>'
    yield from parts.paragraphs(notes)
    yield '<div class="after"></div>'


def lit(image: npt.NDArray[np.uint8], share: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """A crop that is bright in some places: readable without colours, and in print, too.

    Args:
      image: `(SIDE, SIDE, 3)` uint8 RGB.
      share: `(h, w)` in [0, 1], how bright.
    """
    share = cv2.resize(share, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    light = _DARK + (1 - _DARK) * share[..., None]
    return np.asarray(np.round(image * light), np.uint8)


def _media(examined: Examination) -> list[str]:
    verdict = examined.verdict
    media = {**dict.fromkeys(words.FACTS), **verdict.media}
    compression = media["compression"]
    found: dict[str, object] = {
        "file": verdict.file,
        "sha256": verdict.sha256 or words.UNKNOWN,
    }
    if verdict.media:
        found |= {
            "kind": media["kind"],
            "container": media["container"] or words.UNKNOWN,
            "codec": media["codec"] or words.UNKNOWN,
            "size": words.PIXELS.format(**media),
            "frames": media["frames"],
            "duration": _filled(words.SECONDS, media, "duration"),
            "rate": _filled(words.PER_SECOND, media, "rate"),
            "bit_rate": words.BITS.format(kilobits=media["bit_rate"] / 1000)
            if media["bit_rate"]
            else None,
        }
    if compression:
        found["compression"] = words.COMPRESSION.format(**compression)
        found["quality"] = quality(str(verdict.quality))
        found["before"] = words.BEFORE[compression["encoded_before"]]
    if media["notes"]:
        found["notes"] = "; ".join(media["notes"])
    named = {words.FACTS[name]: value for name, value in found.items() if value is not None}
    return [f"<h2>{text(words.MEDIA)}</h2>", parts.facts(named)]


def _credentials(examined: Examination) -> list[str]:
    held = examined.verdict.media.get("credentials")
    if held is None:
        return []
    found: dict[str, object] = {}
    if held["state"] not in (UNREADABLE, NOT_INSTALLED):
        said = held["generative_ai"]
        found = {name: held[name] for name in words.CREDENTIALS_FACTS}
        found["generative_ai"] = (
            words.GENERATIVE_AI_SAID.format(said=GENERATIVE_AI[said])
            if said
            else words.GENERATIVE_AI_UNSAID
        )
        found |= {name: ", ".join(held[name]) for name in ("actions", "problems")}
    named = {words.CREDENTIALS_FACTS[name]: value for name, value in found.items() if value}
    return [
        f"<h2>{text(words.CREDENTIALS)}</h2>",
        *parts.paragraphs([words.CREDENTIALS_NOTE, held["meaning"]]),
        *([parts.facts(named)] if named else []),
    ]


def _filled(sentence: str, media: Mapping[str, Any], name: str) -> str | None:
    return None if media[name] is None else sentence.format(**media)


def quality(name: str) -> str:
    """A measured quality with what its name stands for."""
    crf = crf_of(name)
    return words.LIKE.format(quality=name, crf=crf) if crf else name


def _model(examined: Examination) -> list[str]:
    verdict = examined.verdict
    found = {words.MODEL_FACTS[name]: verdict.model[name] for name in words.MODEL_FACTS}
    found[words.NETWORK] = examined.model.network
    found[words.VERSIONS] = ", ".join(f"{name} {of}" for name, of in verdict.versions.items())
    return [f"<h2>{text(words.MODEL)}</h2>", parts.facts(found)]
