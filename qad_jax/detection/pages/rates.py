"""How often an answer is wrong, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from qad_jax.detection.pages import words
from qad_jax.evaluation.rates import Rates
from qad_jax.evaluation.results import Estimate
from qad_jax.evaluation.verdicts import FAKE, REAL

# The sentences about rare fakes are for one fake in so many clips.
_ONE_IN = 100


def sentences(verdict: str, rates: Rates, judged: int) -> list[str]:
    """Says how often an answer is wrong, as it was measured.

    Args:
      verdict: 'real', 'fake' or 'inconclusive'.
      rates: Those of the nearest measured quality.
      judged: Number of faces that were judged.
    """
    fake = _rate(
        rates.false_positive_rate,
        rates.real_clips,
        words.CALLED_FAKE,
        words.NONE_CALLED_FAKE,
        words.CALLED_FAKE_UNKNOWN,
    )
    real = _rate(
        rates.false_negative_rate,
        rates.fake_clips,
        words.CALLED_REAL,
        words.NONE_CALLED_REAL,
        words.CALLED_REAL_UNKNOWN,
    )
    # The error that this answer may be comes first.
    lines = [real, fake] if verdict == REAL else [fake, real]
    lines += _neither(rates)
    if verdict == FAKE:
        lines += _rare(rates)
    if judged > 1:
        lines.append(words.SEVERAL.format(faces=judged))
    return lines


def _rate(rate: Estimate, clips: int, sentence: str, none: str, unknown: str) -> str:
    if not _known(rate):
        return unknown
    if rate.value == 0:
        return none.format(clips=clips, most=rate.most_of_1000)
    interval = ""
    if rate.low is not None and rate.high is not None:
        interval = words.INTERVAL.format(low=1000 * rate.low, high=1000 * rate.high)
    return sentence.format(count=_of_1000(rate), interval=interval)


def _known(rate: Estimate) -> bool:
    """Whether anything is known: that none of one person's clips was counted says nothing."""
    return rate.value is not None and (rate.value > 0 or rate.high is not None)


def _of_1000(rate: Estimate) -> str:
    """Such as "about 3". Where none was counted, as many as there can still be."""
    if not rate.value:
        return words.FEWER.format(most=rate.most_of_1000)
    if 1000 * rate.value < 0.5:
        return words.FEWER.format(most=1)
    return words.ABOUT.format(count=1000 * rate.value)


def _neither(rates: Rates) -> Iterator[str]:
    real, fake = rates.inconclusive_real, rates.inconclusive_fake
    if _known(real) and _known(fake):
        yield words.CANNOT_TELL.format(real=_of_1000(real), fake=_of_1000(fake))


def _rare(rates: Rates) -> Iterator[str]:
    """What is called fake where fakes are rare; nothing where a rate is not known, or none."""
    wrong, missed, neither = (
        estimate.value
        for estimate in (
            rates.false_positive_rate,
            rates.false_negative_rate,
            rates.inconclusive_fake,
        )
    )
    if wrong == 0:  # the fewer clips were measured, the more can still be wrong
        wrong = rates.false_positive_rate.high
    if not wrong or missed is None or neither is None:
        return
    of_fakes = max(0.0, 1 - missed - neither)
    right = 100 * of_fakes / (of_fakes + wrong * (_ONE_IN - 1))
    yield words.RARE.format(right=right, wrong=100 - round(right))
