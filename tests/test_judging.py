"""What is said of a file, from the scores of its faces: with numbers that are written down here."""

import dataclasses
import math

import numpy as np
import pytest

from qad_jax.detection import quality
from qad_jax.detection.conditions import Appearance, Conditions
from qad_jax.detection.judging import Seen, judge
from qad_jax.detection.quality import Quality
from qad_jax.detection.results import FrameScore
from qad_jax.evaluation.verdicts import Thresholds, conformal

REALS, FAKES = np.arange(1, 400) / 1000, np.arange(1, 400) / 800 + 0.5
LOW = tuple(np.arange(1, 400) / 800 + 0.3)  # some fakes score as real ones do
CHOSEN = Thresholds(1.0, 0.5, 0.3, 0.392, tuple(REALS), tuple(FAKES))
CONDITIONS = Conditions(smallest_face=60, least_sharpness=0.01, largest_turn=0.8)


def seen(score, *, frames=32, **appearance):
    """A face of 100 px with this score in each frame."""
    shown = tuple(FrameScore(i, i / 10, (0, 0, 9, 9), score) for i in range(frames))
    return Seen(shown, Appearance(**{"side": 100.0, "sharpness": 0.1, "turn": 0.1} | appearance))


def told(*faces, plausible=(CHOSEN,), weaker=None):
    return judge(faces, 32, plausible, weaker, CONDITIONS)


def test_a_face_like_none_that_was_measured_keeps_a_file_from_being_called_real():
    plain = seen(0.01)
    assert told(plain).decisive.verdict == "real"
    assert told(plain).reason == ""
    for unlike, why in (
        ({"turn": 0.9}, "turned farther to the side"),
        ({"side": 50.0}, "the face has 50 pixels"),
        ({"sharpness": 0.001}, "blurred more"),
    ):
        for order in (1, -1):
            found = told(*[plain, seen(0.9999, **unlike)][::order])
            assert found.decisive.verdict == "inconclusive"
            assert why in found.decisive.reason
            assert why in found.reason
            assert [face.verdict for face in found.judged] == ["real"]
        # What looks fake is said all the same.
        assert told(seen(0.99), seen(0.01, **unlike)).decisive.verdict == "fake"


def test_faces_that_pass_by_are_named_and_decide_nothing():
    plain = seen(0.01)
    seldom = told(plain, seen(0.9999, frames=3))
    assert seldom.decisive.verdict == "real"
    assert seldom.reason == "1 of 2 faces not judged: the face is seen in 3 of 32 frames only"
    both = told(plain, seen(0.9999, frames=3), seen(0.9999, side=24.0))
    assert both.reason == (
        "1 of 3 faces not judged: the face is seen in 3 of 32 frames only; "
        "1 of 3 faces not judged: the face is much smaller than another"
    )
    small = told(plain, seen(0.9999, side=24.0), seen(0.9999, side=20.0))
    assert small.decisive.verdict == "real"
    assert small.reason == "2 of 3 faces not judged: the face is much smaller than another"
    assert len(small.judged) == 1
    alone = told(seen(0.9999, frames=3))
    assert alone.decisive.verdict == "inconclusive"
    assert alone.reason == "the face is seen in 3 of 32 frames only"


def test_what_is_seen_seldom_or_small_is_judged_from_a_bound_on():
    """A tenth of 32 frames is 3.2 frames, and a quarter of 400 pixels is 100."""
    large = seen(0.01, side=400.0)
    for frames, verdict in ((3, "real"), (4, "fake")):
        assert told(large, seen(0.9999, frames=frames, side=400.0)).decisive.verdict == verdict
    for side, verdict in ((96.0, "real"), (104.0, "fake")):
        assert told(large, seen(0.9999, side=side)).decisive.verdict == verdict


def test_a_quarter_of_the_frames_contradicts_the_others():
    for few, many, verdict in ((0.01, 0.99, "fake"), (0.99, 0.01, "real")):
        for count, said in ((1, verdict), (7, verdict), (8, "inconclusive")):
            face, other = seen(many), seen(few, frames=count)
            face = dataclasses.replace(face, frames=other.frames + face.frames[count:])
            found = told(face).decisive
            assert found.verdict == said
            if said == "inconclusive":
                assert found.reason.startswith("the frames contradict each other: ")


def test_a_person_in_several_scenes_can_be_called_fake():
    """For one face of three, 0.67 % of 50 clips is less than one; for three of them 2 % is one."""
    few = dataclasses.replace(CHOSEN, real=tuple(REALS[:50]), upper=0.05, lower=0.04)
    every = told(*[seen(0.9)] * 3, plausible=(few,))
    assert every.decisive.verdict == "fake"
    assert len(every.judged) == 3
    one = told(seen(0.9), seen(0.02), seen(0.02), plausible=(few,))
    assert one.decisive.verdict == "inconclusive"
    assert one.reason == (
        "face 1 of 3: too few real clips were measured to call the face fake as one of 3"
    )
    pair = told(seen(0.394), seen(0.32), plausible=(dataclasses.replace(CHOSEN, fake=LOW),))
    assert (
        pair.reason == "face 1 of 2: the face looks fake, but as one of 2 it needs a higher score"
    )


def test_no_score_is_above_real_clips_that_have_the_highest_one():
    """Of 500 real clips, 2 % of which may be called fake, 4 % have the score 1."""
    reals = (*np.arange(480) / 1000, *[1.0] * 20)
    full = dataclasses.replace(CHOSEN, real=reals, upper=1.0)
    for faces, begins in (([seen(1.0)], ""), ([seen(1.0), seen(0.01)], "face 1 of 2: ")):
        found = told(*faces, plausible=(full,))
        assert found.decisive.verdict == "inconclusive"
        assert found.reason == (
            f"{begins}some real clips have the highest score that there is, so no face is called "
            "fake"
        )


def test_real_clips_with_the_highest_score_at_any_quality_that_the_file_may_have():
    """Of the nearest one too few real clips were measured; one of them has the score 1, too."""
    few = dataclasses.replace(CHOSEN, real=tuple(REALS[:10]), upper=1.0)
    full = dataclasses.replace(CHOSEN, real=(*REALS, *[1.0] * 20), upper=1.0)
    one = dataclasses.replace(CHOSEN, real=(*REALS, 1.0))
    for plausible, saturated in (((few, full), True), ((few,), False), ((few, one), False)):
        found = told(seen(0.99), plausible=plausible)
        assert found.saturated == saturated
        assert found.reason.startswith("some real clips have" if saturated else "too few real")


def test_too_few_fakes_to_call_a_face_real():
    """A twentieth of 15 fakes is less than one, so any score is usual among fakes."""
    assert conformal(REALS[:100], FAKES[:15])[0] == 0
    few = dataclasses.replace(CHOSEN, fake=tuple(FAKES[:15]), lower=0.0)
    for plausible in ((few,), (CHOSEN, few), (few, CHOSEN)):
        found = told(seen(0.0001), plausible=plausible)
        assert found.decisive.verdict == "inconclusive"
        assert found.reason == "too few fakes were measured to call the face real"
    assert told(seen(0.99), plausible=(few,)).decisive.verdict == "fake"


def test_scores_are_compared_before_they_are_rounded():
    sure = dataclasses.replace(CHOSEN, upper=0.9999998)
    found = told(seen(0.9999996), plausible=(sure,))
    assert found.decisive.verdict == "inconclusive"
    assert {frame.score for frame in found.decisive.frames} == {1.0}


def test_what_is_said_holds_at_each_quality_that_the_file_may_have():
    strict = dataclasses.replace(CHOSEN, lower=0.1, upper=0.8, temperature=2.0)
    assert told(seen(0.7)).decisive.verdict == "fake"
    assert told(seen(0.2)).decisive.verdict == "real"
    for plausible in ((CHOSEN, strict), (strict, CHOSEN)):
        found = told(seen(0.7), plausible=plausible)
        assert found.decisive.verdict == "inconclusive"
        assert found.reason == (
            "the face looks fake, but would not at each quality that the file may have"
            if plausible[0] is CHOSEN
            else "the score is usual among real clips and among fakes of this quality"
        )
        assert (found.thresholds.lower, found.thresholds.upper) == (0.1, 0.8)
        # The probability is that of the nearest.
        logit = math.log(0.7 / 0.3) / plausible[0].temperature
        assert found.decisive.probability == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-5)
        assert told(seen(0.2), plausible=plausible).decisive.verdict == "inconclusive"
        assert told(seen(0.05), plausible=plausible).decisive.verdict == "real"
        assert told(seen(0.9), plausible=plausible).decisive.verdict == "fake"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_one_more_encoding_may_not_turn_the_verdict_of_several_faces(count):
    turned = [
        dataclasses.replace(seen(score), weakened=0.9999) for score in (0.01, 0.02, 0.03)[:count]
    ]
    assert told(*turned).decisive.verdict == "real"  # nothing weaker was measured
    found = told(*turned, weaker=CHOSEN)
    assert found.decisive.verdict == "inconclusive"
    which = f"face {count} of {count}: " if count > 1 else ""  # the one of the highest score
    assert found.reason == f"{which}after one more encoding the face looks fake"


@pytest.mark.parametrize(
    ("crf", "low", "high", "names"),
    [
        (10, 10, 14, ["raw"]),
        (22, 19, 26, ["c23"]),
        (29, 25, 36, ["c30", "messenger"]),
        (42.5, 39, 46, ["c45", "c40"]),
        (38, 37, 39, ["c40"]),
        (23, 10, 51, ["c23", "raw", "c30", "c40", "c45", "messenger"]),
    ],
)
def test_the_qualities_that_a_file_may_have(crf, low, high, names):
    every = ("raw", "c23", "c30", "c40", "c45", "messenger", "random")
    assert quality.plausible(Quality(crf, low, high, ""), every) == names


def test_a_quality_without_a_place_is_the_only_one():
    assert quality.plausible(Quality(23, 10, 51, ""), ("random",)) == ["random"]
