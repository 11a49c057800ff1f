"""Temperatures that are known beforehand, errors worked by hand, what is stored."""

import numpy as np
import pytest

from qad_jax.evaluation import calibration
from qad_jax.evaluation.scores import Scores


def drawn(temperature, n=40_000, seed=0):
    """Labels drawn from the truth, and probabilities whose logits are `temperature` times it."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=n) * 2
    labels = (rng.random(n) < 1 / (1 + np.exp(-logits))).astype(int)
    return labels, 1 / (1 + np.exp(-temperature * logits))


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_the_scores_is_found(temperature):
    labels, probabilities = drawn(temperature)
    fitted = calibration.fit_temperature(labels, probabilities)
    assert fitted == pytest.approx(temperature, rel=0.04)
    before = calibration.expected_calibration_error(labels, probabilities)
    after = calibration.expected_calibration_error(
        labels, calibration.scaled(probabilities, fitted)
    )
    assert after < 0.012
    assert before > 0.05 or temperature == 1.0


def test_it_is_the_minimum_of_the_likelihood_on_a_grid():
    labels, probabilities = drawn(2.5, n=300, seed=1)

    def loss(temperature):
        p = calibration.scaled(probabilities, temperature)
        return -np.mean(np.log(np.where(labels == 1, p, 1 - p)))

    grid = np.exp(np.linspace(np.log(0.5), np.log(20), 4000))
    best = grid[np.argmin([loss(temperature) for temperature in grid])]
    assert calibration.fit_temperature(labels, probabilities) == pytest.approx(best, rel=0.003)


@pytest.mark.parametrize("fakes", [0.5, 0.1])
def test_temperature_and_shift_that_made_the_scores_are_found(fakes):
    labels, probabilities = drawn(1.0)
    logits = calibration.logit(probabilities)
    shifted = 1 / (1 + np.exp(-(2.5 * logits + 1.5)))
    # As many of each class count, however few of one there are.
    rng = np.random.default_rng(2)
    kept = (labels == 0) | (rng.random(len(labels)) < fakes / (1 - fakes))
    temperature, shift = calibration.fit_shifted(labels[kept], shifted[kept])
    assert temperature == pytest.approx(2.5, rel=0.06)
    assert shift == pytest.approx(1.5, abs=0.15)
    back = calibration.scaled(shifted, temperature, shift)
    assert calibration.expected_calibration_error(labels, back) < 0.02
    assert calibration.scaled(1 / (1 + np.exp(-shift)), temperature, shift) == pytest.approx(0.5)


def test_temperature_and_shift_are_the_minimum_of_the_likelihood_on_a_grid():
    labels, probabilities = drawn(2.5, n=300, seed=1)
    logits = np.log(probabilities / (1 - probabilities))
    items = np.where(labels == 1, labels.sum(), (1 - labels).sum())
    weight, target = 0.5 / items, np.abs(labels - 1 / (items + 2))  # Platt's targets

    def loss(temperature, shift):
        p = 1 / (1 + np.exp(-(logits - shift) / temperature))
        return -np.sum(weight * (target * np.log(p) + (1 - target) * np.log(1 - p)))

    temperature, shift = calibration.fit_shifted(labels, probabilities)
    grid = [(t, s) for t in np.linspace(1, 5, 81) for s in np.linspace(-3, 3, 121)]
    best = min(grid, key=lambda one: loss(*one))
    assert loss(temperature, shift) <= loss(*best) + 1e-9
    assert (temperature, shift) == pytest.approx(best, abs=0.06)


def test_few_items_that_lie_apart_are_not_certain():
    """Of five and five, no probability passes 6 of 7, however far the scores lie apart."""
    labels, scores = [0] * 5 + [1] * 5, [0.4] * 5 + [0.55] * 5
    told = calibration.scaled(scores, *calibration.fit_shifted(labels, scores))
    assert told == pytest.approx([1 / 7] * 5 + [6 / 7] * 5, abs=1e-3)


@pytest.mark.parametrize(
    ("labels", "probabilities"),
    [([1, 1], [0.2, 0.8]), ([0, 1], [np.nan, 0.5]), ([0, 1], [-3.0, 4.0])],
)
def test_what_defines_no_temperature(labels, probabilities):
    assert calibration.fit_temperature(labels, probabilities) is None
    assert calibration.fit_shifted(labels, probabilities) is None


def test_scores_that_are_all_right_end_at_the_bound():
    fitted = calibration.fit_temperature([0, 0, 1, 1], [0.2, 0.3, 0.7, 0.8])
    assert fitted == pytest.approx(0.01, rel=0.01)
    assert np.isfinite(calibration.scaled([0.0, 0.3, 1.0], fitted)).all()


def test_the_error_worked_by_hand():
    labels, probabilities = [0, 1, 1, 1], [0.1, 0.2, 0.6, 1.0]
    # two bins: {0.1, 0.2} with half fakes, {0.6, 1.0} with fakes alone
    bars = calibration.reliability(labels, probabilities, bins=2)
    np.testing.assert_allclose(bars.confidence, [0.15, 0.8])
    np.testing.assert_allclose(bars.frequency, [0.5, 1.0])
    got = calibration.expected_calibration_error(labels, probabilities, bins=2)
    assert got == pytest.approx((2 * 0.35 + 2 * 0.2) / 4)


def test_each_quality_has_its_own_temperature():
    labels, stretched = drawn(2.0, n=8000)
    _, shrunk = drawn(0.5, n=8000)  # of the same truth
    names, score = [str(i) for i in range(8000)], np.stack([stretched, shrunk], axis=1)
    scores = Scores(("raw", "c40"), labels, ["m"] * 8000, names, names, np.arange(8000), score)
    chosen = calibration.fit(scores, dataset="d/1.0.0", step=7).qualities
    assert chosen["raw"].temperature == pytest.approx(2.0, rel=0.1)
    assert chosen["c40"].temperature == pytest.approx(0.5, rel=0.1)


def test_what_is_chosen_is_stored_for_its_checkpoint(tmp_path):
    label = np.repeat([0, 0, 1, 1], 2).astype(np.int32)
    video = [str(i // 2) for i in range(8)]
    raw, c40 = [0.1, 0.6, 0.2, 0.3, 0.4, 0.9, 0.5, 0.7], [0.3, 0.7, 0.1, 0.2, 0.35, 0.95, 0.6, 0.8]
    score = np.stack([raw, c40], axis=1)
    scores = Scores(("raw", "c40"), label, ["m"] * 8, video, video, np.arange(8), score)
    chosen = calibration.fit(scores, dataset="d/1.0.0", step=7)
    # At 0.5 of raw and at 0.6 of c40, one of four frames of each class is wrong; below them come
    # 0.4 and 0.35. The means of videos lie apart: 0.35 and 0.6 at raw, 0.5 and 0.65 at c40.
    for quality, of_frames, of_videos in (("raw", 0.45, 0.475), ("c40", 0.475, 0.575)):
        got = chosen.qualities[quality]
        assert (got.threshold, got.video_threshold) == pytest.approx((of_frames, of_videos))
    path = tmp_path / "calibration.json"
    calibration.write(path, chosen)
    assert calibration.read(path, step=7) == chosen
    assert calibration.read(path, step=8) is None
    assert calibration.read(path, step=7, weights="a") == chosen  # an older file does not tell
    calibration.write(path, chosen._replace(weights="a"))
    assert calibration.read(path, step=7, weights="a").weights == "a"
    assert calibration.read(path, step=7, weights="b") is None
    path.write_text('{"step": 7, "dataset": "d", "qualities": {"raw": 1}}')
    assert calibration.read(path, step=7) is None
    for wrong in ('"x"', "NaN", "[1]", "true", "1e999", "0"):
        path.write_text(
            f'{{"step": 7, "dataset": "d", "qualities": {{"raw": {{"temperature": {wrong}, '
            '"threshold": null, "video_threshold": null}}}'
        )
        assert calibration.read(path, step=7) is None, wrong
    path.write_text(path.read_text().replace(": 0,", ": 2,"))
    assert calibration.read(path, step=7).qualities["raw"].temperature == 2
    assert calibration.read(tmp_path / "none.json", step=7) is None
