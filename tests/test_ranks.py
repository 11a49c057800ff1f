"""What benchmarks keep of many runs, and how they compare them."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from data_builders.errors import UserError
from qad_jax.evaluation.scores import Scores
from tests.conftest import ROOT
from tests.test_benchmarks import script

pytestmark = pytest.mark.checkout


def scores(seed, *, people=30, gain=1.0, qualities=("raw", "c40")):
    """Two images of each person; fakes score more by `gain` standard deviations."""
    rng = np.random.default_rng(seed)
    label = np.tile([0, 1], people)
    return Scores(
        qualities=qualities,
        label=label,
        method=["original", "eyes"] * people,
        video=[f"v{i}" for i in range(2 * people)],
        identity=[f"person {i // 2}" for i in range(2 * people)],
        frame=np.zeros(2 * people, np.int32),
        score=1 / (1 + np.exp(-rng.normal(size=(2 * people, 2)) - gain * label[:, None])),
    )


def test_a_file_keeps_what_an_auc_goes_by_and_no_names(tmp_path):
    ranks = script("ranks")
    runs = {"first": scores(1), "second": scores(2)}
    runs["first"].score[:9, 0] = 0.5  # ties count half
    for name, found in runs.items():
        ranks.add(tmp_path / "test.npz", name, found)
    kept = ranks.read(tmp_path / "test.npz")
    assert kept.qualities == ("raw", "c40")
    np.testing.assert_array_equal(kept.label, runs["first"].label)
    assert kept.method.tolist() == runs["first"].method
    assert [len(set(kept.identity[i : i + 2])) for i in range(0, 60, 2)] == [1] * 30
    assert len(set(kept.identity)) == 30
    assert b"person" not in (tmp_path / "test.npz").read_bytes()
    for name, found in runs.items():
        for of, column in zip(kept.runs[name].T, found.score.T, strict=True):
            assert roc_auc_score(kept.label, of) == roc_auc_score(found.label, column)


def test_runs_of_another_test_are_refused(tmp_path):
    ranks = script("ranks")
    ranks.add(tmp_path / "test.npz", "first", scores(1))
    before = (tmp_path / "test.npz").read_bytes()
    with pytest.raises(UserError, match="another test, by its label"):
        ranks.add(tmp_path / "test.npz", "second", scores(2, people=29))
    with pytest.raises(UserError, match="another test, by its qualities"):
        ranks.add(tmp_path / "test.npz", "second", scores(2, qualities=("raw", "c23")))
    assert (tmp_path / "test.npz").read_bytes() == before


def test_rows_are_compared_seed_by_seed():
    ranks = script("ranks")
    gains = {"base": 1.0, "better": 2.5, "same": 1.0}
    found = {
        (row, seed): scores(7 * seed, gain=gain)
        for row, gain in gains.items()
        for seed in range(3)
        if (row, seed) != ("same", 1)
    }
    found["better", 9] = scores(5)  # of a seed that the base lacks
    first = found["base", 0]
    identity = np.unique(first.identity, return_inverse=True)[1]
    runs = {run: of.score[:, 0] for run, of in found.items()}
    cells = ranks.cells(first.label, identity, runs, "base")
    auc = {run: roc_auc_score(first.label, column) for run, column in runs.items()}
    assert list(cells) == ["base", "better", "same"]
    assert cells["better"].auc == pytest.approx(np.mean([auc["better", s] for s in range(3)]))
    assert cells["better"].seeds == pytest.approx(
        [auc["better", s] - auc["base", s] for s in range(3)]
    )
    assert cells["better"].difference == pytest.approx(np.mean(cells["better"].seeds))
    assert cells["better"].differences.mean() == pytest.approx(cells["better"].difference, abs=0.01)
    assert cells["better"].clear
    # The same scores with the same seeds: no difference in any draw.
    assert cells["same"].seeds == [0, 0]
    assert not cells["same"].differences.any()
    assert not cells["same"].clear
    assert cells["same"].auc == pytest.approx(np.mean([auc["same", s] for s in (0, 2)]))


def test_a_difference_is_clear_only_if_all_seeds_agree():
    ranks = script("ranks")
    drawn = np.linspace(0.01, 0.03, 100)
    cell = ranks.Cell(auc=0.8, drawn=drawn, seeds=[0.01, 0.02, 0.03], differences=drawn)
    assert cell.clear
    assert cell._replace(differences=-drawn, seeds=[-0.01, -0.02, -0.03]).clear
    assert not cell._replace(seeds=[0.05, 0.05, -0.01]).clear
    assert not cell._replace(differences=drawn - 0.02).clear


def test_the_page_has_the_table_of_the_runs_that_are_kept():
    ablation = script("detector_ablation")
    kept = ablation.Ablation(ROOT / "docs/measured/detector_ablation", None)
    runs = kept.runs
    assert {run["row"] for run in runs} >= {ablation.START, ablation.BASE}
    made = ablation.table(runs, ablation.results(kept, runs))
    assert made in (ROOT / "docs/method.md").read_text()
