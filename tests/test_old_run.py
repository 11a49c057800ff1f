"""A run that version 0.1.0 made before the packages were laid out anew goes on as it would have.

`data/run_0_1_0.tar.xz` holds a run of 8 steps that SIGTERM stopped at step 5, its dataset, and what
that version gave: the scores of its best checkpoint (step 4), and the log and the scores of the
same run that was never stopped.
"""

import json
import tarfile

import jax
import numpy as np
import pytest

from data_builders.manifest import reader
from qad_jax import configs
from qad_jax.evaluation import scores
from qad_jax.runs import checkpoints
from qad_jax.weights import averaging
from tests.commands import call
from tests.conftest import ROOT


@pytest.fixture
def old(tmp_path, monkeypatch):
    # A manifest's dataset is named by the paths and dates of its files, which were others there.
    monkeypatch.setattr(reader.Listing, "digest", lambda self: "014bae222c8b")
    with tarfile.open(ROOT / "tests/data/run_0_1_0.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def arguments(old):
    stored = json.loads((old / "run" / "config.json").read_text())
    return [
        "--config=hkrawp_resnet",
        f"--workdir={old / 'run'}",
        "--config.dataset.name=manifest",
        f"--config.dataset.manifest={old / 'crops' / 'data.json'}",
        f"--config.dataset.data_dir={old / 'data'}",
        *(
            f"--config.{name}={stored[name]}"
            for name in ("image_size", "batch_size", "num_epochs", "head_only_epochs", "ema_decay")
        ),
        "--config.model.name=resnet_tiny",
        "--config.awp.warmup_epochs=2",
        "--config.log_every_steps=2",
        "--config.checkpoint_every_steps=3",
    ]


def assert_scores(path, expected):
    ours, theirs = scores.read(path), scores.read(expected)
    assert (ours.video, ours.qualities) == (theirs.video, theirs.qualities)
    np.testing.assert_allclose(ours.score, theirs.score, atol=1e-4)


def test_it_evaluates_as_before(old):
    result = call(*arguments(old), "--mode=evaluate")
    assert result.status == 0, result.err
    assert "step 4" in result.out
    assert_scores(old / "run/evaluation/test/scores.csv", old / "expected/scores_step_4.csv")


def test_its_mean_with_itself_is_itself(old):
    run, mean = old / "run", old / "mean"
    averaging.average(run, run, mean)
    expected, _ = checkpoints.restore_for_evaluation(run)
    got, config = checkpoints.restore_for_evaluation(mean)
    jax.tree.map(np.testing.assert_array_equal, got, expected)
    assert (config.localise.weight, config.model.name) == (0, "resnet_tiny")


def test_it_resumes_as_before(old):
    result = call(*arguments(old))
    assert result.status == 0, result.err
    logs = old / "run/metrics.jsonl", old / "expected/metrics_resumed.jsonl"
    ours, theirs = ([json.loads(line) for line in log.read_text().splitlines()] for log in logs)
    assert [(row["step"], row["split"]) for row in ours] == [
        (row["step"], row["split"]) for row in theirs
    ]
    for row, expected in zip(ours, theirs, strict=True):
        if expected["split"] == "train":
            for name in ("cross_entropy", "hsic", "gradient_norm", "learning_rate"):
                np.testing.assert_allclose(row[name], expected[name], rtol=1e-2, err_msg=name)
    assert ours[-1]["step"] == 8
    # Its data were elsewhere, and whoever names the run alone finds them.
    assert configs.load(old / "run").dataset.data_dir == str(old / "data")
    assert_scores(old / "run/evaluation/test/scores.csv", old / "expected/scores_resumed.csv")
