"""The bootstrap over identities: what it draws, what its intervals cover, what it costs."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.stats

from qad_jax import intervals, metrics
from tests.conftest import ROOT
from tests.test_metrics import brute_auc


def test_whole_clusters_are_drawn():
    rng = np.random.default_rng(1)
    clusters = [f"id{i // 4}" for i in range(32)]
    labels = np.arange(32) // 2 % 2
    scores = np.round(rng.normal(size=(32, 2)) + labels[:, None], 1)
    got = intervals.bootstrap(labels, scores, clusters, replicates=20, seed=5)
    picked = np.random.default_rng(5).integers(8, size=(20, 8))
    weights = np.array([[np.sum(row == i // 4) for i in range(32)] for row in picked])
    for replicate in range(20):
        for column in range(2):
            expected = brute_auc(labels, scores[:, column], weights[replicate])
            assert got["auc"][replicate, column] == pytest.approx(expected)


def test_blocks_and_threads_make_no_difference(monkeypatch):
    rng = np.random.default_rng(2)
    labels, scores = rng.integers(0, 2, 40), rng.normal(size=(40, 2))
    clusters = [str(i % 9) for i in range(40)]
    whole = intervals.bootstrap(labels, scores, clusters, replicates=50)
    monkeypatch.setattr(intervals, "_BLOCK", 120)
    monkeypatch.setattr(intervals, "_THREADS", 3)
    again = intervals.bootstrap(labels, scores, clusters, replicates=50)
    for name in metrics.NAMES:
        np.testing.assert_array_equal(again[name], whole[name])


def test_a_column_that_holds_no_numbers_leaves_the_others():
    labels, scores = np.array([0, 1] * 10), np.random.default_rng(3).random((20, 2))
    scores[3, 0] = np.nan
    got = intervals.bootstrap(labels, scores, np.arange(20) // 2, replicates=9)
    assert np.isnan(got["auc"][:, 0]).all()
    assert np.isfinite(got["auc"][:, 1]).all()


def test_intervals_are_percentiles_of_what_is_defined():
    assert intervals.interval(np.r_[np.arange(101.0), np.nan]) == (2.5, 97.5)
    assert intervals.interval(np.r_[1.0, np.nan, np.nan]) == (None, None)
    assert intervals.interval(np.empty(0)) == (None, None)


def test_95_percent_are_covered_where_frames_are_clustered():
    """Simulated people, each with an offset of their own, against the AUC of the population."""
    people, frames, trials = 100, 8, 800
    true = scipy.stats.norm.cdf(1 / np.sqrt(2 * (1 + 1)))
    labels = np.repeat(np.arange(people) % 2, frames)
    person = np.repeat(np.arange(people), frames)
    rng = np.random.default_rng(3)
    held = {"identity": 0, "frame": 0}
    for trial in range(trials):
        scores = labels + rng.normal(size=people)[person] + rng.normal(size=len(labels))
        for kind, clusters in (("identity", person), ("frame", np.arange(len(labels)))):
            drawn = intervals.bootstrap(
                labels, scores[:, None], clusters, replicates=200, seed=trial
            )
            low, high = intervals.interval(drawn["auc"][:, 0])
            held[kind] += low <= true <= high
    assert 0.93 <= held["identity"] / trials <= 0.97
    assert held["frame"] / trials < 0.7  # the naive bootstrap is far too sure


def test_a_million_scores_take_seconds_and_little_memory():
    """A process of its own, whose peak of memory is that of the work."""
    code = (
        "import resource, time, numpy as np\n"
        "from qad_jax import protocol\n"
        "from qad_jax.scores import Scores\n"
        "n = 1_000_000\n"
        "video = np.arange(n) // 32\n"
        "label = (video % 2).astype(np.int32)\n"
        "score = 1 / (1 + np.exp(-np.random.default_rng(0).normal(size=(n, 1)) - label[:, None]))\n"
        "names = [str(v) for v in video]\n"
        "method = ['a' if one else 'original' for one in label]\n"
        "who = [str(v // 4) for v in video]\n"
        "frame = (np.arange(n) % 32).astype(np.int32)\n"
        "start = time.perf_counter()\n"
        "made = protocol.summarise(Scores(('raw',), label, method, names, who, frame, score))\n"
        "print(time.perf_counter() - start)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)\n"
        "print(made['qualities']['raw']['frame']['auc_high'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    seconds, gib, high = (float(line) for line in done.stdout.split())
    assert seconds < 30
    assert gib < 2
    assert scipy.stats.norm.cdf(1 / np.sqrt(2)) == pytest.approx(high, abs=0.01)
