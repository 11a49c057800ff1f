"""The bootstrap over identities: what it draws, what its intervals cover, what it costs."""

import math
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import scipy.stats

from qad_jax.evaluation import bootstrap, metrics, rates
from tests.conftest import ROOT
from tests.test_metrics import brute_auc


def test_whole_clusters_are_drawn():
    rng = np.random.default_rng(1)
    clusters = [f"id{i // 4}" for i in range(32)]
    labels = np.arange(32) // 2 % 2
    scores = np.round(rng.normal(size=(32, 2)) + labels[:, None], 1)
    got = bootstrap.bootstrap(labels, scores, clusters, replicates=20, seed=5)
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
    whole = bootstrap.bootstrap(labels, scores, clusters, replicates=50)
    monkeypatch.setattr(bootstrap, "_BLOCK", 120)
    monkeypatch.setattr(bootstrap, "_THREADS", 3)
    again = bootstrap.bootstrap(labels, scores, clusters, replicates=50)
    for name in metrics.NAMES:
        np.testing.assert_array_equal(again[name], whole[name])


def test_a_column_that_holds_no_numbers_leaves_the_others():
    labels, scores = np.array([0, 1] * 10), np.random.default_rng(3).random((20, 2))
    scores[3, 0] = np.nan
    got = bootstrap.bootstrap(labels, scores, np.arange(20) // 2, replicates=9)
    assert np.isnan(got["auc"][:, 0]).all()
    assert np.isfinite(got["auc"][:, 1]).all()


def test_intervals_are_percentiles_of_what_is_defined():
    assert bootstrap.interval(np.r_[np.arange(101.0), np.nan]) == (2.5, 97.5)
    assert bootstrap.interval(np.r_[1.0, np.nan, np.nan]) == (None, None)
    assert bootstrap.interval(np.empty(0)) == (None, None)


@pytest.mark.parametrize(
    ("labels", "people", "why"),
    [
        ([0, 0, 1, 1], "aabb", "one class is of one identity"),
        ([0, 0, 0, 1], "abcb", "one class is of one identity"),
        ([0, 0, 1, 1], "aaaa", "one identity only"),
        ([1, 1, 1, 1], "aaaa", "one identity only"),
        ([0, 0, 1, 1], "abab", ""),
        ([0, 0, 1, 1], "abcd", ""),
        ([1, 1, 1, 1], "abcd", ""),  # of the class that is there, there are several
    ],
)
def test_one_person_in_a_class_tells_nothing_of_others(labels, people, why):
    assert bootstrap.why_no_interval(labels, list(people)) == why
    drawn = bootstrap.bootstrap(labels, np.random.default_rng(5).random((4, 2)), list(people))
    assert np.isfinite(drawn["accuracy"]).all() == (not why)
    if why:
        assert all(np.isnan(values).all() for values in drawn.values())


def test_95_percent_are_covered_where_frames_are_clustered():
    """Simulated people, each with an offset of their own, against the AUC of the population."""
    people, frames, trials = 100, 8, 800
    population_auc = scipy.stats.norm.cdf(1 / np.sqrt(2 * (1 + 1)))
    labels = np.repeat(np.arange(people) % 2, frames)
    person = np.repeat(np.arange(people), frames)
    rng = np.random.default_rng(3)
    held = {"identity": [], "frame": []}
    for trial in range(trials):
        scores = labels + rng.normal(size=people)[person] + rng.normal(size=len(labels))
        drawn_from = {"identity": person}
        if trial % 4 == 0:  # takes longer, and is farther from what it should be
            drawn_from["frame"] = np.arange(len(labels))
        for kind, clusters in drawn_from.items():
            drawn = bootstrap.bootstrap(
                labels, scores[:, None], clusters, replicates=200, seed=trial
            )
            low, high = bootstrap.interval(drawn["auc"][:, 0])
            held[kind].append(low <= population_auc <= high)
    assert 0.93 <= np.mean(held["identity"]) <= 0.97
    assert np.mean(held["frame"]) < 0.7  # the naive bootstrap is far too sure


def test_one_long_name_does_not_make_all_of_them_long():
    """An array of texts has the room of the longest for each: here 4 MB for each of 3000."""
    names = ["x" * 1_000_000, *(f"id{i // 2}" for i in range(2999))]
    labels, scores = np.arange(3000) % 2, np.arange(3000.0)
    tracemalloc.start()
    distinct, member = bootstrap.numbered(names)
    assert bootstrap.why_no_interval(labels, names) == ""
    assert rates.count(
        labels, names, scores, called_fake=scores > 2000, called_real=scores < 1000
    ).real_clips
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6  # mostly of the draws
    assert [distinct[i] for i in member] == names
    assert distinct == sorted(set(names))


def test_many_scores_take_little_memory(tmp_path):
    """From the file to the numbers, in a process of its own, whose peak of memory is the work's.

    A million take eight times the seconds and 0.45 GiB. What takes a hundred times as long, such as
    each pair for itself, fails by its time.
    """
    n, path = 128_000, tmp_path / "scores.csv"
    noise = np.random.default_rng(0).normal(size=n)
    with path.open("w") as file:
        file.write("method,video,identity,frame,quality,label,score\n")
        for i, value in enumerate(noise.tolist()):
            video = i // 32
            fake = video % 2
            score = 1 / (1 + math.exp(-value - fake))
            file.write(f"{'ab'[fake]},{video},{video // 4},{i % 32},raw,{fake},{score}\n")
    code = (
        "import pathlib, re, sys\n"
        "from qad_jax.evaluation import protocol, scores\n"
        "summary = protocol.summarise(scores.read(pathlib.Path(sys.argv[1])))\n"
        # Not ru_maxrss: that begins at what the parent has.
        "peak = re.search('VmHWM: *(.*) kB', pathlib.Path('/proc/self/status').read_text())[1]\n"
        "print(int(peak) / 2**20)\n"
        "result = summary.qualities['raw']\n"
        "print(result.frames, result.videos, result.frame.auc.high)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=1800,
    )
    gib, frames, videos, high = map(float, done.stdout.split())
    assert gib < 0.5  # a number for each score and draw would take 1
    assert (frames, videos) == (n, n / 32)
    assert scipy.stats.norm.cdf(1 / np.sqrt(2)) == pytest.approx(high, abs=0.01)
