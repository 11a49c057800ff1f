"""Verdicts: thresholds by conformal prediction, counted rates, groups of people."""

import dataclasses
import math

import numpy as np
import pytest

from qad_jax.evaluation import verdicts
from qad_jax.evaluation.rates import Rates, by_group, measure
from qad_jax.evaluation.results import Estimate
from qad_jax.evaluation.scores import Scores
from qad_jax.evaluation.verdicts import Thresholds


def clips(label, score, identity=None, qualities=("raw",)):
    label = np.asarray(label)
    people = [f"p{i}" for i in range(len(label))] if identity is None else identity
    return Scores(
        qualities,
        label,
        [("original", "swap")[one] for one in label],
        [f"v{i}" for i in range(len(label))],
        people,
        np.zeros(len(label), np.int64),
        np.asarray(score, np.float64).reshape(len(label), -1),
    )


def chosen_at(lower, upper):
    return Thresholds(1.0, 0.5, lower, upper, (0.1, 0.2), (0.7, 0.9))


def test_thresholds_by_hand():
    """Of 49 real clips the largest error of 2 % allows none above: rank 50 * 0.98 = 49."""
    real = np.arange(1, 50) / 100  # 0.01 to 0.49
    fake = np.arange(30, 49) / 50  # 0.60 to 0.96, 19 clips: rank 20 * 0.95 = 19, the lowest
    lower, upper = verdicts.conformal(real, fake)
    assert (lower, upper) == pytest.approx((0.49, 0.60))  # they lie apart: in between is neither
    lower, upper = verdicts.conformal(real, fake, real_error=0.5, fake_error=0.5)
    assert (lower, upper) == pytest.approx((0.25, 0.78))  # rank 25 of 49, rank 10 of 19 from above


def test_where_the_classes_overlap_the_middle_is_inconclusive():
    real, fake = np.arange(0, 101) / 125, np.arange(24, 125) / 125
    lower, upper = verdicts.conformal(real, fake)
    assert lower == pytest.approx(28 / 125)  # rank ceil(102 * 0.95) = 97 from above: 4 lie below
    assert upper == pytest.approx(99 / 125)  # rank ceil(102 * 0.98) = 100: one lies above
    thresholds = chosen_at(lower, upper)
    got = [thresholds.verdict(score) for score in (0.1, lower, 0.5, upper, 0.95)]
    assert got == ["real", "inconclusive", "inconclusive", "inconclusive", "fake"]


def test_too_few_clips_promise_nothing():
    assert verdicts.conformal(np.linspace(0, 0.5, 10), np.linspace(0.5, 1, 10)) == (0.0, 1.0)


def test_the_promise_holds_for_new_clips_of_the_same_kind():
    """Over many validation splits, the mean share of new real clips called fake is at most 5 %."""
    rng = np.random.default_rng(0)
    wrong_real, wrong_fake = [], []
    for _ in range(300):
        real, fake = rng.beta(2, 4, 60), rng.beta(4, 2, 60)
        lower, upper = verdicts.conformal(real, fake, real_error=0.05, fake_error=0.1)
        wrong_real.append(np.mean(rng.beta(2, 4, 2000) > upper))
        wrong_fake.append(np.mean(rng.beta(4, 2, 2000) < lower))
    # By exchangeability the means are 1 - ceil(61 * 0.95) / 61 and 1 - ceil(61 * 0.9) / 61.
    assert np.mean(wrong_real) == pytest.approx(1 - 58 / 61, abs=0.005)
    assert np.mean(wrong_fake) == pytest.approx(1 - 55 / 61, abs=0.008)


def test_people_count_alike_by_hand():
    """Of three people one has two clips; the fourth, a new one, lies at infinity."""
    scores, people = [0.2, 0.4, 0.1, 0.3], ["a", "c", "a", "b"]
    # Weights of four: 1/2, 1/2, 1, 1 in the order of the scores. Half of four is two.
    assert verdicts.usual_of_people(scores, people, 0.5) == 0.3
    assert verdicts.usual_of_people(scores, people, 0.25) == 0.4  # all three
    assert verdicts.usual_of_people(scores, people, 0.2) == 1.0
    each = [f"p{i}" for i in range(99)]  # of one clip: rank 100 * 0.95 of 99
    assert verdicts.usual_of_people(np.arange(99) / 100, each, 0.05) == 0.94


def test_the_promise_holds_for_clips_of_new_people():
    """Twelve clips of a person, which resemble each other, are no twelve people."""
    rng = np.random.default_rng(0)

    def drawn(people):
        person = rng.normal(0, 1, people)[:, None]
        return (1 + np.tanh(person + rng.normal(0, 1, (people, 12)) - 1)) / 2

    names = np.repeat(np.arange(60).astype(str), 12)
    wrong = [
        np.mean(drawn(400) > verdicts.usual_of_people(drawn(60).ravel(), names, 0.02))
        for _ in range(300)
    ]
    assert 0.001 < np.mean(wrong) < 0.02
    real = drawn(60).ravel()
    people = [*names, *(f"f{i}" for i in range(60))]
    chosen = verdicts.choose(clips([0] * 720 + [1] * 60, [*real, *[0.5] * 60], people))["raw"]
    assert (chosen.people, chosen.promising) == (60, True)
    assert chosen.upper == verdicts.usual_of_people(real, names, 0.02)


def test_few_people_promise_nothing_but_are_told():
    made = clips([0] * 60 + [1] * 60, np.arange(120) / 120, [*"ab" * 30, *"cd" * 30])
    chosen = verdicts.choose(made)["raw"]
    assert (chosen.people, chosen.promising) == (2, False)
    # Rank ceil(61 * 0.98) = 60 of 60 clips is 59 / 120; rank 58 of 60 fakes from above is more.
    assert chosen.upper == 62 / 120
    older = dataclasses.asdict(chosen)
    del older["people"]
    assert Thresholds.from_dict(older).people == 0


def test_what_no_real_clip_has_is_not_called_real():
    """Thirty real clips are too few for 2 %: all is usual among them, yet 0.85 is like none."""
    real, fake = np.arange(30) / 1000, np.linspace(0.9, 1, 99)
    lower, upper = verdicts.conformal(real, fake)
    assert (lower, upper) == (0.029, 1.0)
    made = clips([0] * 99 + [1] * 99, [*np.linspace(0, 0.1, 99), *fake])
    chosen = verdicts.choose(made)["raw"]
    assert chosen.of_several([0.85, 0.01, 0.01]).verdict(0.85) == "inconclusive"


def test_fakes_of_one_score_are_all_called_alike():
    """Four in ten fakes score 0.3, of which no sum of rounded numbers makes 0.30000000000000004."""
    fake = [0.3] * 40 + [0.9] * 60
    lower, _ = verdicts.conformal(np.linspace(0.2, 0.6, 99), fake)
    assert lower == 0.3
    assert chosen_at(lower, 0.9).verdict(0.3) == "inconclusive"


def test_rates_are_counted():
    label = [0] * 5 + [1] * 10
    score = [0.1, 0.2, 0.5, 0.5, 0.9, 0.1, 0.2, 0.25, 0.5, 0.85, 0.9, 0.95, 0.95, 0.99, 0.99]
    chosen = {"raw": chosen_at(0.3, 0.8)}
    rates = measure(clips(label, score), chosen)["raw"]
    assert (rates.real_clips, rates.fake_clips) == (5, 10)
    assert rates.false_positive_rate.value == 0.2
    assert rates.false_negative_rate.value == 0.3
    assert rates.inconclusive_real.value == 0.4
    assert rates.inconclusive_fake.value == 0.1
    # Of the ten fakes, so many score above each real, of which each ties with one.
    assert rates.auc.value == pytest.approx((9.5 + 8.5 + 6.5 + 6.5 + 4.5) / 50)
    assert 0 <= rates.false_positive_rate.low <= 0.2 <= rates.false_positive_rate.high <= 1
    assert Rates.from_dict(rates.as_dict()) == rates


def test_the_interval_of_a_rate_is_that_of_drawn_people():
    """40 people of one clip each, a quarter called fake: a binomial share."""
    label, score = [0] * 40, [0.9] * 10 + [0.1] * 30
    rates = measure(clips(label, score), {"raw": chosen_at(0.3, 0.8)})["raw"]
    error = 1.96 * np.sqrt(0.25 * 0.75 / 40)
    got = rates.false_positive_rate
    assert got.low == pytest.approx(0.25 - error, abs=0.03)
    assert got.high == pytest.approx(0.25 + error, abs=0.03)
    assert rates.auc.value is None  # there is no fake
    assert rates.false_negative_rate.value is None
    # All clips of one person: people are drawn, not clips, and there is no interval.
    one = measure(clips(label, score, ["ann"] * 40), {"raw": chosen_at(0.3, 0.8)})
    assert one["raw"].false_positive_rate.value == 0.25
    assert one["raw"].false_positive_rate.low is None


def test_a_share_of_none_has_an_interval():
    """None of 20 people: the exact binomial says up to 16.8 %, where all draws of people say 0."""
    made = clips([0] * 20, [0.1] * 20)
    rate = measure(made, {"raw": chosen_at(0.3, 0.8)})["raw"].false_positive_rate
    assert (rate.value, rate.low) == (0, 0)
    assert rate.high == pytest.approx(0.1684, abs=1e-4)
    made = clips([1] * 20, [0.1] * 20)
    rate = measure(made, {"raw": chosen_at(0.3, 0.8)})["raw"].false_negative_rate
    assert (rate.value, rate.high) == (1, 1)
    assert rate.low == pytest.approx(1 - 0.1684, abs=1e-4)


def test_one_hit_is_not_known_better_than_none():
    """Of 100 clips of ten people one is hit: Wilson's interval of 1 of 100 is 0.2 to 5.4 %."""
    score = np.full(100, 0.1)
    score[0] = 0.9
    made = clips([0] * 100, score, np.repeat([f"p{i}" for i in range(10)], 10).tolist())
    rate = measure(made, {"raw": chosen_at(0.3, 0.8)})["raw"].false_positive_rate
    assert (rate.value, rate.low) == (0.01, 0.0)  # of the draws, many have none
    assert rate.high == pytest.approx(0.0545, abs=5e-4)
    score[:10] = 0.9  # all clips of one person: ten people, of whom one is hit
    made = made._replace(score=score[:, None])
    rate = measure(made, {"raw": chosen_at(0.3, 0.8)})["raw"].false_positive_rate
    assert (rate.value, rate.low) == (0.1, 0.0)
    assert rate.high == pytest.approx(0.404, abs=0.02)  # Wilson's of 1 of 10, by 1000 draws


def test_people_who_are_all_alike_have_wilsons_interval():
    """Of each of four people one of two clips is hit: of 4 of 8 it is 21.5 to 78.5 %."""
    made = clips([0] * 8, [0.9, 0.1] * 4, [*"aabbccdd"])
    rate = measure(made, {"raw": chosen_at(0.3, 0.8)})["raw"].false_positive_rate
    assert (rate.value, rate.low, rate.high) == pytest.approx((0.5, 0.2152, 0.7848), abs=1e-4)


def test_one_person_in_a_class_gives_no_interval():
    made = clips([0] * 5 + [1] * 5, np.arange(10) / 10, [*"aaaaabcdef"][:10])
    rates = measure(made, {"raw": chosen_at(0.3, 0.35)})["raw"]
    assert rates.false_positive_rate == Estimate(0.2)
    assert rates.auc.low is None
    assert rates.false_negative_rate.low is not None


def test_the_promise_can_be_for_each_group():
    """Of 49 real clips the highest is the 2 % threshold; 30 are too few to promise it alone."""
    people = [*(f"a{i}" for i in range(100)), *(f"b{i}" for i in range(49))]
    people += [f"c{i}" for i in range(30)]
    real = [*np.linspace(0, 0.5, 100), *np.linspace(0.1, 0.7, 49), *np.linspace(0.1, 0.9, 30)]
    made = clips([0] * 179 + [1] * 99, [*real, *np.linspace(0.3, 1, 99)], [*people, *"f" * 99])
    chosen = verdicts.choose(made, {name: name[0] for name in people})["raw"]
    alone = verdicts.choose(made)["raw"]
    assert len(alone.real) == 179
    assert alone.upper == sorted(real)[math.ceil(180 * 0.98) - 1]
    assert chosen.upper == alone.upper  # of all, which is more than 0.7
    calm = made._replace(score=np.where(made.score > 0.7, 0.7, made.score))
    calm.score[149:179] = 0.1
    chosen = verdicts.choose(calm, {name: name[0] for name in people})["raw"]
    assert chosen.upper == pytest.approx(0.7)
    assert len(chosen.real) == 49
    alone = verdicts.choose(calm)["raw"]
    assert alone.upper == pytest.approx(0.675)
    assert (alone.lower, alone.temperature) == (chosen.lower, chosen.temperature)


def test_groups_are_measured_for_themselves():
    label = [0, 0, 0, 0]
    made = clips(label, [0.9, 0.1, 0.1, 0.9], ["ann", "bob", "bob", "eve"])
    chosen = {"raw": chosen_at(0.3, 0.8)}
    groups = by_group(made, chosen, ["f", "m", "m", ""])
    assert {g: rates["raw"].false_positive_rate.value for g, rates in groups.items()} == {
        "f": 1.0,
        "m": 0.0,
    }
    assert groups["m"]["raw"].real_clips == 2


def test_thresholds_are_chosen_on_the_means_of_clips():
    """Two frames a clip: the thresholds are of their means, at each quality."""
    frames = clips(
        [0, 0, 1, 1] * 2,
        [[0.0, 0.3], [0.2, 0.1], [0.7, 0.9], [0.8, 0.6]] * 2,
        qualities=("raw", "c40"),
    )
    frames = frames._replace(video=[f"v{i // 2}" for i in range(8)])
    chosen = verdicts.choose(frames, real_error=0.4, fake_error=0.4)
    assert list(chosen) == ["raw", "c40"]
    assert (chosen["raw"].lower, chosen["raw"].upper) == pytest.approx((0.1, 0.75))
    assert (chosen["c40"].lower, chosen["c40"].upper) == pytest.approx((0.2, 0.75))
    assert chosen["raw"].lower < chosen["raw"].equal_error < chosen["raw"].upper
    with pytest.raises(ValueError, match="raw: one class only"):
        verdicts.choose(clips([0, 0], [0.1, 0.2]))
    with pytest.raises(ValueError, match="raw: scores are no probabilities"):
        verdicts.choose(clips([0, 1], [-1.0, 2.0]))


def test_the_probability_is_of_scaled_and_shifted_scores():
    """Scores are made of the logits of true probabilities, stretched and shifted."""
    rng = np.random.default_rng(5)
    logits = rng.normal(size=6000) * 2
    label = (rng.random(6000) < 1 / (1 + np.exp(-logits))).astype(int)
    chosen = verdicts.choose(clips(label, 1 / (1 + np.exp(-(2.5 * logits + 1.5)))))["raw"]
    assert chosen.temperature == pytest.approx(2.5, rel=0.1)
    assert chosen.shift == pytest.approx(1.5, abs=0.3)
    known = dataclasses.replace(chosen, temperature=2.5, shift=1.5)
    for logit in (-1.0, 0.0, 2.0):
        told = known.probability(1 / (1 + np.exp(-(2.5 * logit + 1.5))))
        assert told == pytest.approx(1 / (1 + np.exp(-logit)))


def test_several_faces_are_judged_together():
    """Of 399 real clips: rank 400 * 0.98 = 392 for one face, 400 * 0.99 = 396 for one of two."""
    real, fake = np.arange(1, 400) / 1000, np.arange(1, 400) / 800 + 0.2
    chosen = verdicts.choose(clips([0] * 399 + [1] * 399, np.r_[real, fake]))["raw"]
    assert chosen.upper == pytest.approx(0.392)
    assert chosen.verdict(0.394) == "fake"
    for scores, upper in (
        ([0.394], 0.392),
        ([0.394, 0.1], 0.396),  # one face alone among two: half of the error
        ([0.1, 0.397], 0.396),
        ([0.394, 0.393], 0.392),  # both look fake: the whole of it
        ([0.1, 0.1], 0.396),
        ([0.394, 0.397, 0.1, 0.1], 0.398),  # two of four: 0.5 % for one, 1 % for two
        ([0.397, 0.3965, 0.1, 0.1], 0.396),
        ([0.9] * 9 + [0.1], 0.393),  # nine of ten: 1.8 %
        ([0.9] + [0.1] * 9, 1.0),  # 0.2 % of 400 is less than one clip
    ):
        several = chosen.of_several(scores)
        assert several.upper == pytest.approx(upper)
        assert several.lower == chosen.lower


def test_thresholds_are_read_again_and_checked():
    chosen = verdicts.choose(clips([0, 0, 1, 1], [0.1, 0.2, 0.7, 0.9]))["raw"]
    stored = dataclasses.asdict(chosen)
    assert Thresholds.from_dict(stored) == chosen
    for change in (
        {"lower": 2.0},
        {"upper": float("nan")},
        {"lower": 1.0, "upper": 0.0},
        {"temperature": 0},
        {"real": ["x"]},
        {"real": [3.0]},
        {"fake": None},
        {"real_error": 1.5},
        {"people": -1},
        {"people": "49"},
    ):
        with pytest.raises(ValueError, match=r"threshold|temperature|could not convert"):
            Thresholds.from_dict({**stored, **change})
    del stored["fake"]
    with pytest.raises(ValueError, match="thresholds: 'fake' is missing"):
        Thresholds.from_dict(stored)
