"""The card of a model file, all of it from what the file says of itself.

Its headings follow Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data_builders.qualities import MESSENGER
from qad_jax.evaluation.protocol import percent
from qad_jax.evaluation.rates import Rates
from qad_jax.evaluation.report.card import cell, facts_list, plain_text
from qad_jax.evaluation.verdicts import Thresholds
from qad_jax.weights import crops
from qad_jax.weights.model_file import Description

# For each column of a table its title.
_COLUMNS = {
    "auc": "AUC",
    "false_positive_rate": "real called fake",
    "inconclusive_real": "real inconclusive",
    "false_negative_rate": "fake called real",
    "inconclusive_fake": "fake inconclusive",
}
_MARKS = {
    "right": "of the marked places were changed",
    "found": "of the changed places are marked",
    "false": "of the real images have a mark",
}
_MESSENGER = (
    "cNN is H.264 with a constant rate factor of NN. `messenger`, as the builders make it, "
    "imitates a video that was sent twice: at most 480 pixels, encoded at CRF 28 and again at 32."
)
_OF_MEAN = (
    "Of the run whose weights are one part of the mean. `ema_decay` is 0, as nothing is averaged "
    "any more: what the run itself had is not kept.",
)
_OTHER_CROPS = (
    "`qad-jax detect` finds and cuts out faces in another way, so these numbers say nothing of "
    "what it finds: it calls every file with a face inconclusive, and tells no error rates."
)
_ERRORS = ("false_positive_rate", "false_negative_rate")


def render(described: Description) -> str:
    """Renders the card as Markdown."""
    measured = described.measured
    facts = {
        "Network": f"{described.network}, {described.image_size} px",
        "Step": described.training["step"],
        "Trained on": ", ".join(_all_of(described.training["dataset"])),
        "Training qualities": ", ".join(described.training["config"]["qualities"]),
        "Commit": described.training["commit"],
        "Versions": ", ".join(f"{n} {v}" for n, v in described.training["versions"].items()),
        "Devices": ", ".join(described.training["devices"]),
    }
    if averaged := described.training.get("averaged_with"):
        facts["Averaged with"] = averaged["file"]
    sections: dict[str, Sequence[str]] = {
        "What it does": [
            "It takes the crop of a face and gives the probability that the face was manipulated. "
            "The score of a clip is the mean over its frames. From the score and the quality of "
            "the clip comes the answer: real, fake, or inconclusive.",
            facts_list(facts),
        ],
        "What it is for": [
            "A first look at a clip, and research. An answer is a statistic of images like those "
            "it was measured on; it is no evidence against a person. Not for images that were "
            "generated as a whole, nor for crops made in another way."
        ],
        "How often it is wrong": [
            f"Measured on {measured['clips']} clips of {measured['identities']} people whom "
            "neither training nor the choice of thresholds saw; in brackets 95 % intervals over "
            f"people.{_length(measured)} The thresholds were chosen on other people so that about "
            f"{1000 * measured['real_error']:g} of 1000 real clips are called fake and about "
            f"{1000 * measured['fake_error']:g} of 1000 fakes are called real.{_held(measured)}"
            f"{_people(described)}",
            _table("quality", _rates(described.qualities, "rates"), _COLUMNS),
            *([_MESSENGER] if MESSENGER in described.qualities else []),
            *_sentences(described),
        ],
        "Kinds of fakes": [
            "The AUC of each kind of fake against all real clips.",
            _by_quality("kind", measured["methods"], "auc"),
        ],
        **_marks(measured.get("localisation", {})),
        "Groups of people": _groups(measured["groups"]),
        "Limits": [_limits(described)],
        "Data, weights and their terms": [
            "\n".join(f"- {_source(source)}" for source in described.sources)
        ],
        "Crops": _crops(described.crop),
        "Thresholds": [_thresholds(described)],
        "Configuration": [
            *(_OF_MEAN if averaged else ()),
            f"```json\n{json.dumps(described.training['config'], indent=2)}\n```",
        ],
    }
    parts = [
        f"# {plain_text(described.name)} {plain_text(described.version)}",
        "Generated from the model file by `python -m qad_jax.release`; edits are overwritten.",
    ]
    for heading, paragraphs in sections.items():
        parts += [f"## {heading}", *paragraphs]
    return "\n\n".join(parts) + "\n"


def _all_of(dataset: str | Sequence[str]) -> Sequence[str]:
    """The names of the datasets of a training, which are a list where it had several."""
    return [dataset] if isinstance(dataset, str) else dataset


def _length(measured: Mapping[str, Any]) -> str:
    """How long the measured clips are; nothing where the file does not say it."""
    if "frames" not in measured:
        return ""
    mean = measured["frames"] / measured["clips"]
    if mean == 1:
        return (
            " Each clip is one frame: how the mean over many frames of a video does was not "
            "measured."
        )
    return f" A clip has {mean:.3g} frames on average."


def _held(measured: Mapping[str, Any]) -> str:
    column = measured.get("hold_in")
    if not column:
        return ""
    return (
        f" The first is also aimed at for each {plain_text(column)} that has clips enough: the "
        "real clips of the one in which they score highest decide."
    )


def _people(described: Description) -> str:
    """On how many people the thresholds rest; nothing where the file does not say it."""
    chosen = [Thresholds.from_dict(of["thresholds"]) for of in described.qualities.values()]
    fewest = min(chosen, key=lambda one: one.people, default=None)
    if fewest is None or fewest.people == 0:
        return ""
    count = f" They rest on real clips of {fewest.people} people"
    if fewest.promising:
        return f"{count}, of whom each counts as much as any other."
    return f"{count}, who are too few to promise it of clips of others."


def _rates(of: Mapping[str, Mapping[str, Any]], key: str = "") -> dict[str, Rates]:
    return {name: Rates.from_dict(values[key] if key else values) for name, values in of.items()}


def _table(first: str, rows: Mapping[str, Rates], columns: Mapping[str, str]) -> str:
    lines = [
        f"| {first} | real clips | fakes | {' | '.join(columns.values())} |",
        "|---" * (3 + len(columns)) + "|",
    ]
    for name, rates in rows.items():
        cells = " | ".join(cell(getattr(rates, column)) for column in columns)
        counts = f"{rates.real_clips} | {rates.fake_clips}"
        lines.append(f"| {plain_text(name)} | {counts} | {cells} |")
    return "\n".join(lines)


def _by_quality(first: str, rows: Mapping[str, Mapping[str, Any]], name: str) -> str:
    """A table with a row for each kind and a column for each quality."""
    qualities = list(next(iter(rows.values()), {}))
    lines = [
        f"| {first} | {' | '.join(map(plain_text, qualities))} |",
        "|---" * (1 + len(qualities)) + "|",
    ]
    for row, of in rows.items():
        cells = " | ".join(cell(getattr(rates, name)) for rates in _rates(of).values())
        lines.append(f"| {plain_text(row.replace('_', ' '))} | {cells} |")
    return "\n".join(lines)


def _sentences(described: Description) -> Iterator[str]:
    rates = _rates(described.qualities, "rates")
    for quality, of in rates.items():
        wrong, neither = of.false_positive_rate, of.inconclusive_fake.value
        if wrong.value is not None and neither is not None:
            count = f"about {1000 * wrong.value:.0f}"
            if wrong.value == 0:
                count = f"none of {of.real_clips}"
                if wrong.high is not None:
                    count = f"fewer than {wrong.most_of_1000} of 1000 ({count} measured ones)"
            else:
                count += " of 1000"
            yield (
                f"At {plain_text(quality)}, {count} real clips are called fake, and about "
                f"{1000 * neither:.0f} of 1000 fakes are inconclusive."
            )


def _marks(measured: Mapping[str, Mapping[str, float]]) -> dict[str, list[str]]:
    """A section on where faces were changed, empty where that was not learned."""
    if not measured:
        return {}
    rows = [
        f"| {plain_text(quality)} | {' | '.join(percent(of[name]) for name in _MARKS)} |"
        for quality, of in measured.items()
    ]
    return {
        "Where a face was changed": [
            "The detector also marks the places of a face that look changed. The score does not "
            "depend on the marks. They were measured on fakes and their originals, half and half.",
            "\n".join(
                [
                    f"| quality | {' | '.join(_MARKS.values())} |",
                    "|---" * (1 + len(_MARKS)) + "|",
                    *rows,
                ]
            ),
        ]
    }


def _groups(groups: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    if not groups:
        return ["Errors were not measured by groups of people."]
    parts = [
        "Groups are named as the sources of the images name them. Where the intervals of two "
        "groups do not overlap, they are named here. So many groups are compared, at each quality, "
        "that some such differences come by chance."
    ]
    for column, of in groups.items():
        uneven = plain_text("; ".join(_uneven(of)))
        told = uneven or "no difference beyond the intervals was found"
        parts.append(f"By {plain_text(column)}: {told}.")
        for name in _ERRORS:
            parts.append(f"{_COLUMNS[name].capitalize()}:")
            parts.append(_by_quality(column, of, name))
    return parts


def _uneven(groups: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Says where a group has more errors than another, beyond the intervals of both."""
    rates = {group: _rates(of) for group, of in groups.items()}
    for quality in next(iter(rates.values()), {}):
        for name in _ERRORS:
            known = {g: getattr(of[quality], name) for g, of in rates.items() if quality in of}
            known = {g: e for g, e in known.items() if e.low is not None}
            if len(known) < 2:
                continue
            least = min(known, key=lambda g: known[g].high)
            most = max(known, key=lambda g: known[g].low)
            if known[most].low > known[least].high:
                yield (
                    f"at {quality}, {_COLUMNS[name]} is {percent(known[most].value)} for {most} "
                    f"and {percent(known[least].value)} for {least}"
                )


def _source(source: Mapping[str, Any]) -> str:
    more = "; ".join(
        f"{name}: {plain_text(value)}"
        for name, value in source.items()
        if name not in ("title", "licence")
    )
    text = f"{plain_text(source['title'])}: {plain_text(source['licence'])}"
    return f"{text} ({more})" if more else text


def _limits(described: Description) -> str:
    trained = described.training["config"]["qualities"]
    unseen = [quality for quality in described.qualities if quality not in trained]
    limits = [
        f"The fakes it was measured on are of {', '.join(described.measured['methods'])}. On fakes "
        "made in another way, detectors usually do much worse.",
        "Thresholds and probabilities hold for clips like those they were chosen on, half of them "
        "fake. Where fakes are rare, most of what is called fake is real.",
        "Nothing was measured on images that were made to deceive this detector.",
    ]
    if unseen:
        limits.append(f"Training saw no clips of the qualities {', '.join(unseen)}.")
    return "\n".join(f"- {plain_text(limit)}" for limit in limits)


def _crops(recipe: Mapping[str, Any]) -> list[str]:
    """How faces were cut out, and what that means for whole images."""
    parts = [facts_list({name.replace("_", " "): value for name, value in recipe.items()})]
    if not recipe:
        parts = ["How the faces were cut out is not known."]
    if crops.search_of(recipe) is None:
        parts.append(_OTHER_CROPS)
    return parts


def _thresholds(described: Description) -> str:
    names = ("temperature", "shift", "equal_error", "lower", "upper")
    lines = ["| quality | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
    for quality, of in described.qualities.items():
        cells = " | ".join(f"{of['thresholds'][name]:.4f}" for name in names)
        lines.append(f"| {plain_text(quality)} | {cells} |")
    return "\n".join(lines)
