"""Metrics against numbers worked by hand, brute force and scipy."""

import numpy as np
import pytest
import scipy.stats

from qad_jax import evaluate, metrics
from qad_jax.evaluate import Scores


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


def test_a_table_worked_by_hand():
    labels = [0, 0, 0, 0, 1, 1, 1, 1]
    scores = [0.1, 0.2, 0.4, 0.7, 0.3, 0.6, 0.8, 0.9]
    got = metrics.numbers(labels, scores)
    assert got["auc"] == pytest.approx(13 / 16)
    assert got["accuracy"] == pytest.approx(6 / 8)
    assert got["fpr"] == pytest.approx(1 / 4)
    assert got["tpr_at_fpr_1"] == pytest.approx(2 / 4)  # above 0.7: no real is wronged
    assert got["eer"] == pytest.approx(1 / 4)  # from 0.6 on: one real of four, one fake of four
    # precisions at the ranks of the fakes: 1/1, 2/2, 3/4, 4/6
    assert got["average_precision"] == pytest.approx((1 + 1 + 3 / 4 + 4 / 6) / 4)


@pytest.mark.parametrize("decimals", [1, 6])  # one decimal: full of ties
def test_auc_is_mann_whitneys_statistic(decimals):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60)
    scores = np.round(rng.normal(size=60) + labels, decimals)
    u = scipy.stats.mannwhitneyu(scores[labels == 1], scores[labels == 0]).statistic
    expected = u / (labels.sum() * (1 - labels).sum())
    assert metrics.numbers(labels, scores)["auc"] == pytest.approx(expected)


@pytest.mark.parametrize(("label", "fpr"), [(0, 0.5), (1, None)])
def test_what_one_class_does_not_define_is_none(label, fpr):
    got = metrics.numbers([label] * 4, [0.1, 0.2, 0.8, 0.9])
    assert got["accuracy"] == 0.5
    assert got["fpr"] == fpr
    assert {name for name, value in got.items() if value is None} >= {
        "auc",
        "eer",
        "average_precision",
        "tpr_at_fpr_1",
    }


def test_bootstrap_draws_whole_clusters():
    rng = np.random.default_rng(1)
    clusters = [f"id{i // 4}" for i in range(32)]
    labels = np.arange(32) // 2 % 2
    scores = np.round(rng.normal(size=(32, 2)) + labels[:, None], 1)
    got = metrics.bootstrap_auc(labels, scores, clusters, replicates=20, seed=5)
    drawn = np.random.default_rng(5).multinomial(8, np.full(8, 1 / 8), size=20)
    order = {name: i for i, name in enumerate(sorted(set(clusters)))}
    weights = drawn[:, [order[c] for c in clusters]]
    for replicate in range(20):
        for column in range(2):
            expected = brute_auc(labels, scores[:, column], weights[replicate])
            assert got[replicate, column] == pytest.approx(expected)


def test_blocks_of_the_bootstrap_make_no_difference(monkeypatch):
    rng = np.random.default_rng(2)
    labels, scores = rng.integers(0, 2, 40), rng.normal(size=(40, 1))
    clusters = [str(i % 9) for i in range(40)]
    whole = metrics.bootstrap_auc(labels, scores, clusters, replicates=50)
    monkeypatch.setattr(metrics, "_BLOCK", 120)
    np.testing.assert_array_equal(
        metrics.bootstrap_auc(labels, scores, clusters, replicates=50), whole
    )


def test_the_interval_covers_where_frames_are_clustered():
    """Simulated people, each with an offset of their own: 95 % intervals hold the true AUC."""
    true = scipy.stats.norm.cdf(1 / np.sqrt(2 * (1 + 1)))
    rng = np.random.default_rng(3)
    people, frames = 60, 10
    held = {"identity": 0, "frame": 0}
    for trial in range(60):
        labels = np.repeat(np.arange(people) % 2, frames)
        scores = labels + np.repeat(rng.normal(size=people), frames) + rng.normal(size=len(labels))
        names = [str(i) for i in range(len(labels))]
        for kind, clusters in [
            ("identity", [str(i // frames) for i in range(len(labels))]),
            ("frame", names),
        ]:
            draws = metrics.bootstrap_auc(
                labels, scores[:, None], clusters, replicates=200, seed=trial
            )
            low, high = metrics.interval(draws[:, 0])
            held[kind] += low <= true <= high
    assert held["identity"] >= 51  # 57 expected of 60
    assert held["frame"] <= 42  # the naive bootstrap is far too sure


def make_scores():
    """Two methods that use the same names of videos; three frames a video."""
    rng = np.random.default_rng(4)
    rows = [
        (label, method, video, f"person_{video}", frame)
        for label, method in [(0, "original"), (1, "Deepfakes"), (1, "FaceSwap")]
        for video in ("001", "002", "003")
        for frame in range(3)
    ]
    labels, method, video, identity, frame = (list(column) for column in zip(*rows, strict=True))
    score = np.clip(rng.normal(0.4, 0.2, (27, 2)) + 0.2 * np.array(labels)[:, None], 0, 1)
    return Scores(
        ("raw", "c40"),
        np.array(labels),
        method,
        video,
        identity,
        np.array(frame),
        score.astype(np.float32),
    )


def test_equal_names_of_videos_under_two_methods_stay_apart():
    scores = make_scores()
    report = evaluate.summarise(scores)
    entry = report["qualities"]["raw"]
    assert entry["frames"] == 27
    assert entry["videos"] == 9
    means = scores.score[:, 0].reshape(9, 3).mean(1)
    assert entry["video"]["auc"] == pytest.approx(brute_auc([0] * 3 + [1] * 6, means))
    assert entry["frame"]["auc"] == pytest.approx(brute_auc(scores.label, scores.score[:, 0]))


def test_the_mean_is_over_qualities_and_its_interval_of_the_mean():
    scores = make_scores()
    report = evaluate.summarise(scores)
    frames = [report["qualities"][q]["frame"] for q in ("raw", "c40")]
    assert report["mean"]["auc"] == pytest.approx((frames[0]["auc"] + frames[1]["auc"]) / 2)
    draws = metrics.bootstrap_auc(scores.label, scores.score, scores.identity)
    low, high = np.percentile(draws.mean(axis=1), [2.5, 97.5])
    assert (report["mean"]["auc_low"], report["mean"]["auc_high"]) == pytest.approx((low, high))
    assert list(report["mean"]) == list(metrics.NAMES)


def test_a_split_of_one_class_gives_the_rest_of_the_report():
    scores = make_scores()
    report = evaluate.summarise(scores._replace(label=np.ones(27, int)))
    assert report["mean"]["auc"] is None
    assert report["mean"]["accuracy"] is not None
    assert "n/a" in evaluate.table({"dataset": "d", "split": "test", "step": 1, **report})


def test_files_hold_every_frame_at_every_quality(tmp_path):
    scores = make_scores()
    report = {"dataset": "d", "split": "test", "step": 1, **evaluate.summarise(scores)}
    evaluate.write(tmp_path, scores, report)
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    assert lines[0] == "method,video,identity,frame,quality,label,score"
    assert len(lines) == 1 + 27 * 2
    assert len(set(lines)) == len(lines)
    first = lines[1].split(",")
    assert first[:6] == ["original", "001", "person_001", "0", "raw", "0"]
    assert np.float32(first[6]) == scores.score[0, 0]
