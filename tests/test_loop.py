"""The main job on a small scale, as a user runs it: train, stop, go on, evaluate elsewhere."""

import csv
import json
import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_builders.errors import UserError
from qad_jax import configs, models
from qad_jax.runs import checkpoints, placement
from qad_jax.runs.checkpoints import Checkpoints
from qad_jax.training import loop, parallel, schedule
from tests.commands import call, tiny
from tests.conftest import ROOT
from tests.faces import write_manifest

STEPS, EPOCH = 15, 5


@pytest.fixture(scope="module")
def run(tmp_path_factory, manifest, data_dir):
    """A finished run: its folder, and what the command printed."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    result = call(*tiny("hkrawp_resnet", workdir, manifest, data_dir))
    assert result.status == 0, result.err
    return workdir, result


def logged(workdir, split):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["split"] == split]


def test_it_trains_logs_and_evaluates(run):
    workdir, result = run
    train = logged(workdir, "train")
    assert [line["step"] for line in train] == [2, 3, 4, 5, 6, 8, 9, 10, 12, 14, 15]
    assert all(0 < line["cross_entropy"] < 10 and line["tuples_per_second"] > 0 for line in train)
    # One cycle of two halves of a cosine, as it was before the step.
    config = json.loads((workdir / "config.json").read_text())
    peak, cycle = config["learning_rate"], config["one_cycle"]
    start = peak / cycle["div_factor"]
    end, top = start / cycle["final_div_factor"], cycle["pct_start"] * STEPS - 1
    for line in train:
        taken = line["step"] - 1
        rising = start + (peak - start) * (1 - np.cos(np.pi * taken / top)) / 2
        left = (STEPS - 1 - taken) / (STEPS - 1 - top)
        falling = end + (peak - end) * (1 - np.cos(np.pi * left)) / 2
        expected = rising if taken <= top else falling
        assert line["learning_rate"] == pytest.approx(expected, rel=1e-4)
    assert all(line["gradient_norm"] > 0 for line in train)
    assert [line["step"] for line in train if line["perturbation_norm"] > 0] == [12, 14, 15]
    for line in train:  # weighted as the configuration has it
        layers = [line[f"hsic/stage{i}"] for i in (1, 2, 3)]
        assert np.dot(layers, (0.1, 0.25, 0.5)) == pytest.approx(line["hsic"], abs=1e-5)
    assert {"raw/auc", "c23/auc", "c40/auc", "auc"} < set(logged(workdir, "validation")[0])
    assert [line["step"] for line in logged(workdir, "validation")] == [5, 10, 15]
    assert list((workdir / "tensorboard").glob("events*"))
    assert json.loads((workdir / "config.json").read_text())["image_size"] == 32
    report = json.loads((workdir / "evaluation/test/metrics.json").read_text())
    assert set(report) >= {"dataset", "split", "step", "qualities", "mean"}
    assert report["dataset"].startswith("manifest/")
    assert report["qualities"]["c40"]["frames"] == 14
    with (workdir / "evaluation/test/scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len({(r["video"], r["frame"], r["quality"]) for r in rows}) == 14 * 3
    for line in ("raw", "c23", "c40", "mean", str(workdir / "evaluation/test")):
        assert line in result.out


def test_newest_and_best_checkpoints_are_kept_and_the_best_is_evaluated(run):
    workdir, _ = run
    validation = logged(workdir, "validation")
    best = max(validation, key=lambda line: (line["auc"], line["step"]))["step"]
    steps = {int(path.name) for path in (workdir / "checkpoints").iterdir()}
    assert steps == {best, STEPS}
    items = {path.name for path in (workdir / "checkpoints" / str(STEPS)).iterdir()}
    assert items >= {"params", "batch_stats", "opt_state", "data", "config"}
    report = json.loads((workdir / "evaluation/test/metrics.json").read_text())
    assert report["step"] == best


def test_restored_variables_fit_the_model(run):
    workdir, _ = run
    variables, config = checkpoints.restore_for_evaluation(workdir, STEPS)
    assert set(variables) == {"params", "batch_stats"}
    assert config.model.name == "resnet_least"
    assert config.qualities == ("raw", "c23", "c40")
    model = models.create(config.model.name)
    images = np.zeros((2, 32, 32, 3), np.float32)
    output = jax.jit(lambda given: model.apply(given, images, train=False))(variables)
    assert np.isfinite(output.logits).all()
    again, _ = checkpoints.restore_for_evaluation(workdir / "checkpoints", STEPS)
    jax.tree.map(np.testing.assert_array_equal, variables, again)


def test_an_unknown_step(run):
    with pytest.raises(UserError, match=r"there is no checkpoint of step 3; there are \d+"):
        checkpoints.restore_for_evaluation(run[0], step=3)


def test_interrupted_and_started_again_it_ends_with_the_same_bits(
    run, tmp_path, manifest, data_dir, monkeypatch
):
    workdir = tmp_path / "interrupted"
    save = Checkpoints.save

    def interrupt(self, state, config, *, step, auc=None):
        save(self, state, config, step=step, auc=auc)
        if step == 9:  # in the middle of an epoch
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", interrupt)
    stopped = call(*tiny("hkrawp_resnet", workdir, manifest, data_dir))
    assert stopped.status == 130
    assert "a training goes on from the last checkpoint" in stopped.err
    monkeypatch.undo()
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 11, "split": "train"}\n{"step": 12, "sp')  # logged, never saved

    finished = call(*tiny("hkrawp_resnet", workdir, manifest, data_dir))
    assert finished.status == 0, finished.err
    for split in ("train", "validation"):
        whole, resumed = (logged(folder, split) for folder in (run[0], workdir))
        for lines in (whole, resumed):
            for line in lines:
                line.pop("tuples_per_second", None)
        assert resumed == whole
    whole, resumed = (
        checkpoints.restore_for_evaluation(folder, STEPS)[0] for folder in (run[0], workdir)
    )
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)
    assert finished.out.replace(str(workdir), str(run[0])) == run[1].out


def test_going_on_with_other_data_is_refused(run, tmp_path, data_dir):
    workdir = tmp_path / "copied"
    shutil.copytree(run[0], workdir)
    other = write_manifest(tmp_path / "crops", {"train": 40, "val": 12, "test": 14})
    result = call(*tiny("hkrawp_resnet", workdir, other, data_dir))
    assert result.status == 1
    assert "holds a run on manifest/data-" in result.err
    assert "name another folder" in result.err


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("empty_step", "checkpoints/99: the checkpoint is not complete: it lacks params, "),
        ("params", f"checkpoints/{STEPS}: the checkpoint is not complete: it lacks params; "),
        ("config", "config/metadata: is not JSON: "),
    ],
)
def test_a_damaged_checkpoint_is_named(run, tmp_path, manifest, data_dir, damage, message):
    workdir = tmp_path / "damaged"
    shutil.copytree(run[0], workdir)
    newest = workdir / "checkpoints" / str(STEPS)
    arguments = tiny("hkrawp_resnet", workdir, manifest, data_dir)
    if damage == "empty_step":
        (workdir / "checkpoints" / "99").mkdir()
    elif damage == "params":
        shutil.rmtree(newest / "params")
        arguments += ["--mode=evaluate", f"--step={STEPS}"]
    else:
        (newest / "config" / "metadata").write_text("{")
        arguments += ["--mode=evaluate", f"--step={STEPS}"]
    result = call(*arguments)
    lines = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert result.status == 1
    assert len(lines) == 1
    assert message in lines[0]


def test_evaluation_on_other_devices_gives_the_same_scores(run, manifest, data_dir):
    """Three devices, which share no batch of the run evenly; a process of its own."""
    workdir, _ = run
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=3")
    subprocess.run(
        [
            *(sys.executable, "-m", "qad_jax.main", "--mode=evaluate", "--split=validation"),
            *tiny("hkrawp_resnet", workdir, manifest, data_dir),
        ],
        env={**os.environ, "XLA_FLAGS": flags},
        cwd=ROOT,
        check=True,
        timeout=300,
    )
    there = (workdir / "evaluation/validation/scores.csv").read_text().splitlines()
    again = call(
        *("--mode=evaluate", "--split=validation"),
        *tiny("hkrawp_resnet", workdir, manifest, data_dir),
        *("--config.image_size=48", "--config.model.dtype=bfloat16"),
    )
    assert again.status == 0
    assert "note: config.image_size is 48, which changes no evaluation" in again.err
    assert "note: config.model.dtype is bfloat16, which changes no evaluation" in again.err
    here = (workdir / "evaluation/validation/scores.csv").read_text().splitlines()
    assert len(there) == len(here) == 1 + 12 * 3
    for a, b in zip(there[1:], here[1:], strict=True):
        assert a.rpartition(",")[0] == b.rpartition(",")[0]
        assert float(a.rpartition(",")[2]) == pytest.approx(float(b.rpartition(",")[2]), abs=1e-5)


def test_the_effnet_configuration_trains(tmp_path, manifest, data_dir):
    arguments = tiny("hkrawp_effnet", tmp_path / "run", manifest, data_dir)
    arguments += ["--config.model.name=efficientnet_tiny", "--config.model.dtype=bfloat16"]
    arguments += ["--config.num_steps=3", "--config.head_only_epochs=0"]
    arguments += ["--config.awp.warmup_epochs=0", "--config.qualities=raw,c40"]
    result = call(*arguments)
    assert result.status == 0, result.err
    report = json.loads((tmp_path / "run/evaluation/test/metrics.json").read_text())
    assert list(report["qualities"]) == ["raw", "c40"]
    assert report["step"] == 3


def test_the_quickstart_configuration_makes_its_own_data(tmp_path):
    result = call(
        "--config=quickstart",
        f"--workdir={tmp_path / 'run'}",
        f"--config.dataset.data_dir={tmp_path / 'data'}",
        "--config.dataset.name=synthetic_faces/tiny",
        "--config.model.name=resnet_least",
        "--config.image_size=32",
        "--config.batch_size=8",
        "--config.num_steps=2",
    )
    assert result.status == 0, result.err
    assert "clip" in result.err  # it was built now, with progress
    report = json.loads((tmp_path / "run/evaluation/test/metrics.json").read_text())
    assert report["dataset"] == "synthetic_faces/tiny/1.0.0"
    assert list(report["qualities"]) == ["raw", "c23", "c40"]


def test_the_plan_of_a_training():
    config = configs.load("hkrawp_resnet")
    planned = schedule.plan(config, 6430)  # 100 epochs' worth of batches and 30 tuples
    assert planned.epoch_steps == 100
    assert planned.steps == 3200
    assert planned.phases == [
        schedule.Phase(0, 300, True, 0.0),
        schedule.Phase(300, 3200, False, 0.002),
    ]
    config.awp.warmup_epochs = 5
    config.num_steps = 450
    assert schedule.plan(config, 6430).phases == [
        schedule.Phase(0, 300, True, 0.0),
        schedule.Phase(300, 450, False, 0.0),
    ]


def test_the_original_configurations():
    for name, expected in [
        ("hkrawp_resnet", ("resnet50", 224, 64, 0.002)),
        ("hkrawp_effnet", ("efficientnet_b1", 240, 32, 0.006)),
    ]:
        config = configs.load(name)
        found = (config.model.name, config.image_size, config.batch_size, config.awp.gamma)
        assert found == expected
        assert (config.learning_rate, config.weight_decay, config.num_epochs) == (2e-4, 1e-4, 32)
        assert (config.head_only_epochs, config.awp.warmup_epochs, config.seed) == (3, 3, 41)
        assert config.hsic.layer_weights == (0.1, 0.25, 0.5, 0.0, 0.0, 0.0)
        assert config.dataset.name == "face_forensics/neural_textures"


def test_what_a_step_is_told_is_what_the_configuration_says(monkeypatch):
    monkeypatch.setattr(loop, "make_train_step", lambda *given: given)
    monkeypatch.setattr(parallel, "pmap_train", lambda given: given)
    config = configs.load("hkrawp_resnet")
    config.qualities_at_once, config.seed, config.accumulate_steps = 2, 7, 4
    config.model.name, config.hsic.sigma, config.ema_decay = "resnet_least", 5.0, 0.9
    config.hsic.estimator, config.localise.weight = "unbiased", 0.7
    config.model.dtype, config.remat = "bfloat16", True
    planned = schedule.plan(config, 6430)
    for phase in planned.phases:
        objective, _, seed, parts = loop.train_step_of(config, planned, phase)
        assert (objective.at_once, seed, parts) == (2, 7, 4)
        assert (objective.sigma, objective.ema_decay) == (5.0, 0.9)
        assert (objective.estimator, objective.localise) == ("unbiased", 0.7)
        assert objective.head_only == phase.head_only
        assert objective.axis_name == objective.model.axis_name == placement.AXIS
        assert (objective.model.dtype, objective.model.remat) == (jnp.bfloat16, True)


def test_batches_in_flight_keep_their_order():
    batches = [np.full((8, 2), i) for i in range(5)]
    got = list(parallel.prefetch(batches))
    assert [int(b[0, 0, 0]) for b in got] == [0, 1, 2, 3, 4]
    assert got[0].shape == (8, 1, 2)
    assert len(got[0].sharding.device_set) == 8
