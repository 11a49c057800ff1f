"""Macro averages of the matrix, by hand and by another bootstrap."""

import dataclasses
import json

import numpy as np
import pytest

from data_builders.errors import UserError
from qad_jax.evaluation import averages, bootstrap, matrix
from qad_jax.evaluation.matrix_rows import MatrixRow
from qad_jax.evaluation.results import Estimate
from tests.test_matrix import store
from tests.test_metrics import brute_auc
from tests.test_protocol import make_scores


def auc(labels, scores, weights):
    """Of the weighted items, by all pairs of a real and a fake."""
    real, fake = labels == 0, labels == 1
    wins = (scores[fake][:, None] > scores[real]) + 0.5 * (scores[fake][:, None] == scores[real])
    pairs = weights[fake][:, None] * weights[real]
    return (wins * pairs).sum() / pairs.sum()


def drawn(made, chosen, quality, seed):
    """The AUC of each draw of the people of a dataset, for some of its frames."""
    _, person = np.unique(made.identity, return_inverse=True)
    people = person.max() + 1
    counts = np.concatenate(list(bootstrap.draws(people, bootstrap.REPLICATES, seed, 100)))
    column = made.score[:, made.qualities.index(quality)]
    return [auc(made.label[chosen], column[chosen], row[person[chosen]]) for row in counts]


@pytest.fixture
def run(tmp_path):
    """A run on one dataset, and what it scored on it and on two others of 5 and 7 people."""
    parts = {"own/1": make_scores(4), "b/1": make_scores(5), "c/1": make_scores(7)}
    parts["c/1"] = parts["c/1"]._replace(score=1 - parts["c/1"].score)
    for name, made in parts.items():
        place = "" if name == "own/1" else name.replace("/", "-")
        store(tmp_path / "run/evaluation" / place / "test", name, made)
    return tmp_path / "run", parts


def test_the_mean_of_strangers_leaves_the_training_data_out(run):
    folder, parts = run
    rows = matrix.collect([folder], "test")
    means = [mean for mean in averages.of_rows(rows) if mean.over == "datasets"]
    assert [(mean.quality, mean.names) for mean in means] == [
        ("raw", ("b/1", "c/1")),
        ("c40", ("b/1", "c/1")),
    ]
    by_hand = np.mean([brute_auc(parts[n].label, parts[n].score[:, 1]) for n in ("b/1", "c/1")])
    assert means[1].frame.value == pytest.approx(by_hand)
    # The dataset of the run is the first, so that these two have the seeds 1 and 2.
    every = [
        drawn(parts[name], np.arange(len(parts[name].label)), "c40", seed)
        for seed, name in ((1, "b/1"), (2, "c/1"))
    ]
    ends = np.percentile(np.mean(every, axis=0), [2.5, 97.5])
    np.testing.assert_allclose([means[1].frame.low, means[1].frame.high], ends, atol=1e-9)
    videos = [
        brute_auc(parts[n].videos().label, parts[n].videos().score[:, 1]) for n in ("b/1", "c/1")
    ]
    assert means[1].video.value == pytest.approx(np.mean(videos))


def test_the_methods_of_a_dataset_share_its_draws(run):
    folder, parts = run
    means = averages.of_rows(matrix.collect([folder], "test"))
    (mean,) = [m for m in means if (m.dataset, m.quality) == ("b/1", "raw")]
    assert (mean.over, mean.names) == ("methods", ("Deepfakes", "FaceSwap"))
    made, method = parts["b/1"], np.array(parts["b/1"].method)
    every = []
    for name in mean.names:
        chosen = np.flatnonzero((method == "original") | (method == name))
        every.append(drawn(made, chosen, "raw", seed=1))
    by_hand = np.mean(
        [
            brute_auc(made.label[chosen], made.score[chosen, 0])
            for chosen in (np.r_[0:15, 15:30], np.r_[0:15, 30:45])
        ]
    )
    assert mean.frame.value == pytest.approx(by_hand)
    ends = np.percentile(np.mean(every, axis=0), [2.5, 97.5])
    np.testing.assert_allclose([mean.frame.low, mean.frame.high], ends, atol=1e-9)


def test_the_files_and_the_table_have_the_means(run, tmp_path, capsys):
    folder, _ = run
    assert matrix.main([str(folder), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "mean of 2 other datasets" in printed
    assert printed.count("  mean of 2 methods") == 3
    stored = json.loads((tmp_path / "out/matrix.json").read_text())["averages"]
    header, *lines = (tmp_path / "out/averages.csv").read_text().splitlines()
    assert header == ",".join(averages.FIELDS)
    assert len(lines) == len(stored) == 2 * 4
    last = stored[-1]
    assert (last["over"], last["count"], last["names"]) == ("datasets", 2, "b/1, c/1")
    assert f"{100 * last['frame_auc']:.1f} (" in printed


def test_what_is_not_known_has_no_interval_and_what_is_not_defined_no_part():
    def row(dataset, value, own=False):
        both = {"frame": Estimate(value), "video": Estimate(value)}
        return MatrixRow("r", 1, dataset, "test", own, "raw", frames=1, videos=1, **both)

    rows = [row("a", 0.6), row("b", 0.9), row("c", None), row("d", 0.1, own=True)]
    (mean,) = averages.of_rows(rows)
    assert mean.names == ("a", "b")
    assert mean.frame == Estimate(pytest.approx(0.75), None, None)
    assert averages.of_rows(rows[1:]) == []


def test_scores_are_read_where_there_is_a_mean_and_nowhere_else(tmp_path):
    """A table of one dataset without methods was as quick before there were means."""
    both = {"frame": Estimate(0.6), "video": Estimate(0.6)}
    (tmp_path / "scores.csv").write_text("no scores")
    row = MatrixRow("r", 1, "a", "test", False, "raw", frames=1, videos=1, **both)
    rows = [dataclasses.replace(row, scores=tmp_path / "scores.csv", dataset=name) for name in "ab"]
    assert averages.of_rows(rows[:1]) == []
    with pytest.raises(UserError, match=r"scores\.csv: has no column"):
        averages.of_rows(rows)


def test_a_mean_with_a_number_of_one_person_has_no_interval(tmp_path):
    """One method shows a person alone: the AUC of all fakes has an interval, its own has none."""
    made = make_scores(6)
    people = zip(made.identity, made.method, strict=True)
    one = made._replace(identity=["x" if of == "FaceSwap" else who for who, of in people])
    kept = {
        "a/1": made,
        "b/1": one,
        "c/1": made._replace(identity=[*["x"] * 18, *one.identity[18:]]),
    }
    for name, scores in kept.items():
        store(tmp_path / "run" / name.replace("/", "-"), name, scores)
    rows = [
        dataclasses.replace(row, run="run")
        for name in kept
        for row in matrix.collect([tmp_path / "run" / name.replace("/", "-")], "test")
    ]
    bounded = {
        (mean.over, mean.dataset): [end is not None for end in (mean.frame.low, mean.video.high)]
        for mean in averages.of_rows(rows)
    }
    assert bounded == {
        ("methods", "a/1"): [True, True],
        ("methods", "b/1"): [False, False],
        ("methods", "c/1"): [False, False],
        ("datasets", ""): [False, False],
    }
    two = averages.of_rows([row for row in rows if row.dataset != "c/1"])
    (mean, *_) = [mean for mean in two if mean.over == "datasets"]
    assert mean.frame.low < mean.frame.value < mean.frame.high
