"""DeLong's test against its published formula, written out over all pairs."""

import numpy as np
import pytest
import scipy.stats

from qad_jax.evaluation import delong
from tests.test_metrics import brute_auc


def by_hand(labels, scores):
    """AUCs and covariance from the structural components of the paper, pair by pair."""
    fakes, reals = scores[labels == 1], scores[labels == 0]
    m, n = len(fakes), len(reals)
    psi = (fakes[:, None] > reals[None]) + 0.5 * (fakes[:, None] == reals[None])  # (m, n, k)
    auc = psi.sum((0, 1)) / (m * n)
    of_fakes, of_reals = psi.sum(1) / n - auc, psi.sum(0) / m - auc
    s10 = of_fakes.T @ of_fakes / (m - 1)
    s01 = of_reals.T @ of_reals / (n - 1)
    return auc, s10 / m + s01 / n


@pytest.mark.parametrize("digits", [None, 1, 0], ids=["no ties", "ties", "mostly ties"])
@pytest.mark.parametrize("size", [7, 60])
def test_the_covariance_is_the_published_one(size, digits):
    rng = np.random.default_rng(size)
    labels = rng.permutation(np.arange(size) % 3 > 0).astype(int)
    common = rng.normal(size=(size, 1))
    scores = common + rng.normal(size=(size, 2)) + labels[:, None]
    if digits is not None:
        scores = np.round(scores, digits)
    auc, expected = by_hand(labels, scores)
    got_auc, got = delong.covariance(labels, scores)
    assert got_auc == pytest.approx(auc, abs=1e-14)
    np.testing.assert_allclose(got, expected, atol=1e-14)
    assert auc[0] == pytest.approx(brute_auc(labels, scores[:, 0]))

    paired = delong.compare(labels, *scores.T)
    assert paired.auc == pytest.approx(tuple(auc), abs=1e-14)
    variance = expected[0, 0] + expected[1, 1] - 2 * expected[0, 1]
    assert paired.variance == pytest.approx(variance, rel=1e-10)
    z = (auc[0] - auc[1]) / np.sqrt(variance)
    assert paired.p == pytest.approx(2 * scipy.stats.norm.sf(abs(z)))
    ends = scipy.stats.norm.interval(0.95, auc[0] - auc[1], np.sqrt(variance))
    assert (paired.low, paired.high) == pytest.approx(ends)


def test_a_tiny_p_is_the_normal_tail_and_not_zero():
    rng = np.random.default_rng(0)
    labels = np.arange(2000) % 2
    good, bad = (rng.normal(size=2000) + shift * labels for shift in (2, 0))
    auc, cov = by_hand(labels, np.stack([good, bad], axis=1))
    z = (auc[0] - auc[1]) / np.sqrt(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1])
    got = delong.compare(labels, good, bad).p
    assert 0 < got < 1e-100
    assert np.log(got) == pytest.approx(np.log(2) + scipy.stats.norm.logsf(z))


def test_equal_detectors_are_told_apart_one_time_in_twenty():
    """Independent items, two correlated scores of the same AUC."""
    trials, size = 2000, 120
    rng = np.random.default_rng(1)
    labels = np.arange(size) % 2
    p = []
    for _ in range(trials):
        scores = labels + rng.normal(size=size) + rng.normal(size=(2, size))
        p.append(delong.compare(labels, *scores).p)
    error = 3 * np.sqrt(0.05 * 0.95 / trials)
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=error)


def test_scores_of_equal_order_do_not_differ():
    labels, score = np.arange(50) % 2, np.random.default_rng(2).random(50)
    got = delong.compare(labels, score, score**3)
    assert (got.difference, got.variance, got.low, got.high, got.p) == (0, 0, 0, 0, 1)
    assert got.undefined == ""


@pytest.mark.parametrize(
    ("labels", "first", "second", "reason"),
    [
        ([0, 0], [1, 2], [1, 2], "one class only: all 2 are real"),
        ([1, 1], [1, 2], [1, 2], "one class only: all 2 are fake"),
        ([], [], [], "there are no items"),
        ([0, 1], [0, 1], [0, np.nan], "1 of 2 scores are not numbers"),
    ],
)
def test_nothing_is_defined_without_both_classes_and_numbers(labels, first, second, reason):
    got = delong.compare(labels, first, second)
    assert got.undefined == reason
    assert set(got[1:6]) == {None}


def test_without_variance_there_is_a_difference_and_no_test():
    got = delong.compare([0, 0, 1, 1], [1, 2, 3, 4], [4, 3, 2, 1])
    assert got.auc == (1, 0)
    assert (got.difference, got.p, got.low) == (1, None, None)
    assert "no variance" in got.undefined
    # All components differ by a third, which no float is.
    got = delong.compare([0, 1] * 3, [1, 2, 3, 4, 5, 6], [2, 1, 4, 3, 6, 5])
    assert got.difference == pytest.approx(1 / 3)
    assert (got.variance, got.p, got.low, got.high) == (0, None, None, None)
    for labels, side in (([0, 1, 1, 1], "real"), ([0, 0, 0, 1], "fake")):
        got = delong.compare(labels, [1, 2, 3, 4], [2, 1, 4, 3])
        assert got.undefined == f"no variance from one {side} only"
        assert got.difference is not None
        assert got.p is None
