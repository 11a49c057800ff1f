"""Metrics against numbers worked by hand, brute force, scipy and scikit-learn."""

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from qad_jax.evaluation import metrics


def brute_auc(labels, scores, weights=None):
    """Every pair of a fake and a real counted one by one."""
    weights = np.ones(len(labels)) if weights is None else weights
    won = total = 0.0
    for y1, s1, w1 in zip(labels, scores, weights, strict=True):
        for y0, s0, w0 in zip(labels, scores, weights, strict=True):
            if y1 == 1 and y0 == 0:
                total += w1 * w0
                won += w1 * w0 * ((s1 > s0) + 0.5 * (s1 == s0))
    return won / total if total else np.nan


def sample(seed, decimals, n=300, share=0.5):
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < share).astype(int)
    return labels, np.round(1 / (1 + np.exp(-rng.normal(size=n) - labels)), decimals)


def test_a_table_worked_by_hand():
    labels = [0, 0, 0, 0, 1, 1, 1, 1]
    scores = [0.1, 0.2, 0.4, 0.7, 0.3, 0.6, 0.8, 0.9]
    got = metrics.numbers(labels, scores, threshold=0.65)
    assert got["auc"] == pytest.approx(13 / 16)
    assert got["accuracy"] == pytest.approx(6 / 8)
    assert got["fpr"] == pytest.approx(1 / 4)
    assert got["accuracy_at_threshold"] == pytest.approx(5 / 8)
    assert got["fpr_at_threshold"] == pytest.approx(1 / 4)
    assert got["tpr_at_fpr_1"] == pytest.approx(2 / 4)  # above 0.7 no real is called fake
    assert got["eer"] == pytest.approx(1 / 4)  # from 0.6 on: one real of four, one fake of four
    # precisions at the ranks of the fakes: 1/1, 2/2, 3/4, 4/6
    assert got["average_precision"] == pytest.approx((1 + 1 + 3 / 4 + 4 / 6) / 4)


@pytest.mark.parametrize("share", [0.5, 0.02, 0.97])
@pytest.mark.parametrize("decimals", [0, 1, 2, 12])  # none and one decimal: full of ties
def test_every_number_against_scikit_learn_and_scipy(decimals, share):
    labels, scores = sample(7, decimals, share=share)
    got = metrics.numbers(labels, scores, threshold=0.7)
    false_rate, true_rate, _ = sklearn.metrics.roc_curve(labels, scores, drop_intermediate=False)
    u = scipy.stats.mannwhitneyu(scores[labels == 1], scores[labels == 0]).statistic
    expected = {
        "auc": sklearn.metrics.roc_auc_score(labels, scores),
        "average_precision": sklearn.metrics.average_precision_score(labels, scores),
        "eer": np.interp(0, false_rate + true_rate - 1, false_rate),
        "tpr_at_fpr_1": true_rate[false_rate <= 0.01].max(),
        "tpr_at_fpr_01": true_rate[false_rate <= 0.001].max(),
    }
    for suffix, threshold in (("", 0.5), ("_at_threshold", 0.7)):
        said = (scores >= threshold).astype(int)
        tn, fp, _, _ = sklearn.metrics.confusion_matrix(labels, said, labels=[0, 1]).ravel()
        expected[f"accuracy{suffix}"] = sklearn.metrics.accuracy_score(labels, said)
        expected[f"fpr{suffix}"] = fp / (fp + tn)
    assert list(got) == list(metrics.NAMES)
    assert got == pytest.approx(expected)
    assert got["auc"] == pytest.approx(u / (labels.sum() * (1 - labels).sum()))


@pytest.mark.parametrize(
    ("scores", "auc", "eer"),
    [
        ([0.5] * 6, 0.5, 0.5),  # knows nothing
        ([0, 0, 0, 1, 1, 1], 1.0, 0.0),
        ([1, 1, 1, 0, 0, 0], 0.0, 1.0),
    ],
)
def test_degenerate_scores(scores, auc, eer):
    got = metrics.numbers([0, 0, 0, 1, 1, 1], scores)
    assert (got["auc"], got["eer"]) == (auc, eer)


def test_rates_at_a_limit_that_is_met_exactly():
    """One real of a hundred, and of a thousand, may be called fake."""
    for reals, name in ((100, "tpr_at_fpr_1"), (1000, "tpr_at_fpr_01")):
        labels = [0] * reals + [1] * 4
        scores = [0.9, 0.8, *[0.1] * (reals - 2), 0.95, 0.85, 0.7, 0.05]
        assert metrics.numbers(labels, scores)[name] == 0.5


@pytest.mark.parametrize(("label", "fpr"), [(0, 0.5), (1, None)])
def test_what_one_class_does_not_define_is_none_and_the_reason_is_said(label, fpr):
    got = metrics.numbers([label] * 4, [0.1, 0.2, 0.8, 0.9])
    assert got["accuracy"] == 0.5
    assert got["fpr"] == fpr
    undefined = {name for name, value in got.items() if value is None}
    reasons = metrics.why_undefined([label] * 4, [0.1, 0.2, 0.8, 0.9])
    assert undefined == set(reasons)
    assert undefined >= {"auc", "eer", "average_precision", "tpr_at_fpr_1", "tpr_at_fpr_01"}
    assert set(reasons.values()) == {f"one class only: all 4 are {('real', 'fake')[label]}"}


def test_scores_that_are_no_numbers():
    assert metrics.why_undefined([0, 1, 1], [0.1, np.nan, np.inf]) == {
        metrics.ALL: "2 of 3 scores are not numbers"
    }
    assert set(metrics.numbers([0, 1, 1], [0.1, np.nan, np.inf]).values()) == {None}
    assert set(metrics.numbers([], []).values()) == {None}


@pytest.mark.parametrize("decimals", [1, 12])
def test_a_weighting_counts_items_as_often(decimals):
    """Weights 0, 1, 2, ... against the sample with its items left out and repeated."""
    labels, scores = sample(1, decimals, n=40)
    member = np.arange(40) // 4
    weights = np.random.default_rng(2).integers(0, 3, (5, 10)).astype(float)
    got = metrics.Ranking(labels, scores, member, 0.6).numbers(weights)
    for row, weight in enumerate(weights):
        rows = np.repeat(np.arange(40), weight[member].astype(int))
        expected = metrics.numbers(labels[rows], scores[rows], 0.6)
        assert {name: values[row] for name, values in got.items()} == pytest.approx(expected)
        assert got["auc"][row] == pytest.approx(brute_auc(labels, scores, weight[member]))


def test_a_weighting_that_leaves_one_class():
    got = metrics.Ranking([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]).numbers(np.eye(2))
    assert np.isnan(got["auc"]).all()
    assert np.isnan(got["eer"]).all()
    np.testing.assert_array_equal(got["accuracy"], [1, 0])
    np.testing.assert_array_equal(got["fpr"], [0, np.nan])


@pytest.mark.parametrize("decimals", [1, 12])
def test_the_roc_curve_against_scikit_learn(decimals):
    labels, scores = sample(3, decimals)
    expected = sklearn.metrics.roc_curve(labels, scores, drop_intermediate=False)
    for got, wanted in zip(metrics.roc(labels, scores), expected, strict=True):
        np.testing.assert_allclose(got, wanted)


def test_the_threshold_of_equal_errors():
    labels = [0, 0, 0, 0, 1, 1, 1, 1]
    scores = [0.1, 0.2, 0.4, 0.7, 0.3, 0.6, 0.8, 0.9]
    threshold = metrics.equal_error_threshold(labels, scores)
    assert threshold == pytest.approx((0.6 + 0.4) / 2)  # one real and one fake are mistaken
    flagged = np.asarray(scores) >= threshold
    assert flagged[:4].mean() == (~flagged[4:]).mean() == 0.25
    assert metrics.equal_error_threshold([0, 1], [0.2, 0.8]) == 0.5
    assert metrics.equal_error_threshold([1, 1], [0.2, 0.8]) is None
    assert metrics.equal_error_threshold([0, 1], [0.3, 0.3]) == 0.3
    neighbours = [0.5, np.nextafter(0.5, 1)]
    assert metrics.equal_error_threshold([0, 1], neighbours) == neighbours[1]


def test_videos_are_means_of_their_frames_by_method_and_name():
    first, means = metrics.by_video(
        ["a", "a", "b", "a", "b"], ["1", "1", "1", "2", "1"], [[0.0], [1.0], [0.2], [0.5], [0.4]]
    )
    np.testing.assert_array_equal(first, [0, 2, 3])
    np.testing.assert_allclose(means[:, 0], [0.5, 0.3, 0.5])
