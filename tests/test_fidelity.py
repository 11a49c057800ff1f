"""Averages, warm-ups, stopping, and what a run says of itself: the loop, with a step of no cost."""

import functools
import json
import os
import struct
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tensorboardX.proto import event_pb2

from data_builders.errors import UserError
from qad_jax import configs
from qad_jax.models.layers import IMAGENET
from qad_jax.runs import checkpoints, configuration, provenance, resumption, versions
from qad_jax.training import early_stopping, loop, schedule
from qad_jax.training.augmentation import Augmentation
from qad_jax.training.input_pipeline import TrainBatches, TupleSource
from qad_jax.training.step import Batch, Objective, TrainState, make_train_step
from tests.conftest import ROOT

EPOCH = 5  # steps: 40 tuples in batches of 8


def configured(dataset, **fields):
    config = configs.load("common")
    config.model.name = "resnet_least"
    config.image_size, config.batch_size = 16, 8
    config.head_only_epochs, config.num_epochs = 0, 6
    config.dataset.name = "manifest"
    for name, value in fields.items():
        config[name] = value
    return configuration.check(config)


@pytest.fixture
def small(monkeypatch):
    """Weights that are nothing to compile."""

    def drawn(config, planned):
        params = {"fc": jnp.ones(2)}
        return lambda: TrainState(jnp.zeros((), jnp.int32), params, {"bn": jnp.ones(2)}, {"m": 0.0})

    monkeypatch.setattr(loop, "_drawn", drawn)


@pytest.fixture
def scripted(monkeypatch):
    """Steps that count, and validations that read their mean AUC from a list."""
    script = types.SimpleNamespace(auc=[], steps=[], bad={}, evaluated=[])

    def step(state, batch):
        number = int(jax.device_get(state.step)) + 1
        script.steps.append(number)
        average = None if state.average is None else jax.tree.map(jnp.zeros_like, state.average)
        metrics = {"cross_entropy": 1.0, "hsic": 0.5, **script.bad.get(number, {})}
        return state.replace(step=state.step + 1, average=average), metrics

    def validate(variables):
        script.evaluated.append(variables)
        auc = script.auc[script.steps[-1] // EPOCH - 1]
        return {"raw/auc": auc, "auc": auc}

    monkeypatch.setattr(loop, "train_step_of", lambda *_: lambda s, b: _unguarded(step, s, b))
    script.train = functools.partial(loop.train, validate=validate)
    return script


def _unguarded(step, state, batch):
    with jax.transfer_guard_device_to_host("allow"):
        return step(state, batch)


def test_early_stopping_is_the_same_when_resumed(
    small, scripted, dataset, tmp_path, capsys, monkeypatch
):
    scripted.auc = [0.6, 0.8, 0.8, 0.7, 0.9, 0.9]
    config = configured(dataset, early_stop_patience=2)
    scripted.train(config, tmp_path / "whole", [dataset])
    assert scripted.steps[-1] == 4 * EPOCH
    expected = "stopped early at step 20: 2 epochs without a mean validation AUC above the 0.8000"
    assert expected in capsys.readouterr().err

    log = loop._Run.log

    def killed(self, step, interval):
        if step == 3 * EPOCH + 1:
            raise KeyboardInterrupt
        return log(self, step, interval)

    monkeypatch.setattr(loop._Run, "log", killed)
    every_step = configured(dataset, early_stop_patience=2, log_every_steps=1)
    with pytest.raises(KeyboardInterrupt):
        scripted.train(every_step, tmp_path / "killed", [dataset])
    monkeypatch.setattr(loop._Run, "log", log)
    scripted.steps.clear()
    scripted.train(every_step, tmp_path / "killed", [dataset])
    assert scripted.steps == [16, 17, 18, 19, 20]
    assert expected in capsys.readouterr().err
    # Once more: it has ended, and says so again.
    scripted.train(every_step, tmp_path / "killed", [dataset])
    assert scripted.steps[-1] == 20
    assert expected in capsys.readouterr().err
    starts = json.loads((tmp_path / "killed" / "run.json").read_text())["starts"]
    assert [start["step"] for start in starts] == [0, 15, 20]


@pytest.mark.parametrize(
    ("history", "patience", "stops"),
    [
        ([0.9, 0.8], 0, False),
        ([0.9, 0.8], 2, False),
        ([0.9, 0.8, 0.9], 2, True),  # equal is not better
        ([0.7, 0.8, 0.9], 2, False),
        ([None, None, None], 1, False),
        ([], 1, False),
    ],
)
def test_patience(history, patience, stops):
    validations = [early_stopping.Validation(i, auc) for i, auc in enumerate(history, start=1)]
    assert (early_stopping.reason_to_stop(validations, patience) is not None) == stops


def test_the_log_has_the_mean_over_its_interval(small, scripted, dataset, tmp_path):
    scripted.auc = [0.5]
    scripted.bad = {step: {"hsic": float(step**2)} for step in range(1, EPOCH + 1)}
    config = configured(dataset, num_epochs=1, log_every_steps=3)
    scripted.train(config, tmp_path / "run", [dataset])
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    hsic = {line["step"]: line["hsic"] for line in lines if line["split"] == "train"}
    assert hsic == {3: pytest.approx((1 + 4 + 9) / 3), 5: pytest.approx((16 + 25) / 2)}


def test_divergence_names_step_terms_and_checkpoint(small, scripted, dataset, tmp_path):
    scripted.auc = [0.5] * 6
    scripted.bad = {8: {"gradient_norm": np.inf, "hsic": np.nan}, 9: {"cross_entropy": np.nan}}
    with pytest.raises(UserError) as caught:
        scripted.train(configured(dataset), tmp_path / "run", [dataset])
    assert "gradient_norm is inf, hsic is nan at step 8;" in str(caught.value)
    assert "last good checkpoint: step 5;" in str(caught.value)


def test_averaged_weights_are_validated_saved_and_restored(scripted, dataset, tmp_path):
    scripted.auc = [0.5]
    config = configured(dataset, ema_decay=0.9, num_epochs=1)
    scripted.train(config, tmp_path / "run", [dataset])
    variables, _ = checkpoints.restore_for_evaluation(tmp_path / "run")
    # The scripted step has set the average to zero, and nothing else.
    for params in (variables["params"], scripted.evaluated[0]["params"]):
        assert all(not np.any(leaf) for leaf in jax.tree.leaves(params))
    planned = schedule.plan(config, 40)
    about = resumption.circumstances([dataset])
    state, _ = checkpoints.Checkpoints(tmp_path / "run", about).restore(
        jax.eval_shape(loop._drawn(config, planned))
    )
    assert any(np.any(leaf) for leaf in jax.tree.leaves(state.params))
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(state.average))
    assert jax.tree.structure(state.average) == jax.tree.structure(state.params)


def test_the_sheet_of_tuples_is_what_the_network_is_fed(small, scripted, dataset, tmp_path):
    import cv2

    scripted.auc = [0.5]
    told = {"crop": 0.8, "colour": 0.2, "lens": 0.1, "turn": 5.0, "warp": 0.01, "overlay": 0.5}
    config = configured(dataset, num_epochs=1, sampling="balanced", augment=told)
    scripted.train(config, tmp_path / "run", [dataset])
    (path,) = (tmp_path / "run" / "tensorboard").glob("events*")
    sheets = {v.tag: v.image for e in events(path) for v in e.summary.value if v.HasField("image")}
    png = np.frombuffer(sheets["train/tuples"].encoded_image_string, np.uint8)
    sheet = cv2.imdecode(png, cv2.IMREAD_COLOR_RGB)
    source = TupleSource(dataset, "train", config.qualities, config.image_size)
    changes = Augmentation(**told)
    batch = next(
        TrainBatches(source, 8, seed=config.seed, sampling="balanced", augmentation=changes)
    )
    for row, tuple_ in enumerate(batch.images):
        for column, image in enumerate(tuple_):
            cell = sheet[16 * row : 16 * (row + 1), 16 * column : 16 * (column + 1)]
            np.testing.assert_array_equal(cell, image)


def events(path):
    """Reads TensorBoard's records: length, its checksum, the event, its checksum."""
    data, place = path.read_bytes(), 0
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        yield event_pb2.Event.FromString(data[place + 12 : place + 12 + length])
        place += 12 + length + 4


def test_the_average_of_weights_in_float64():
    """Seven steps against the recursion written out; the given decay is reached at the end."""

    class Constant:
        """A model whose gradient is one everywhere."""

        normalisation = IMAGENET

        def apply(self, variables, images, **_):
            total = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(variables["params"]))
            logits = jnp.stack([-total, total]) * jnp.ones((len(images), 1))
            return types.SimpleNamespace(logits=logits, features=[logits] * 6), {"batch_stats": {}}

    tx = optax.GradientTransformation(
        lambda params: optax.EmptyState(),
        lambda updates, state, params=None, **_: (jax.tree.map(jnp.ones_like, params), state),
    )
    objective = Objective(Constant(), (0.0,) * 6, ema_decay=0.3)
    step = jax.jit(make_train_step(objective, tx, seed=0))
    params = {"fc": jnp.array([1.0, 2.0])}
    state = TrainState(jnp.zeros((), jnp.int32), params, {}, (), average=params)
    batch = Batch(jnp.zeros((2, 1, 4, 4, 3), jnp.uint8), jnp.zeros(2, jnp.int32))
    expected = np.array([1.0, 2.0])
    for t in range(7):
        state, metrics = step(state, batch)
        kept = min(0.3, (1 + t) / (10 + t))
        expected = kept * expected + (1 - kept) * (np.array([1.0, 2.0]) + t + 1)
        np.testing.assert_allclose(state.average["fc"], expected, rtol=1e-6)
    assert set(metrics) == {"cross_entropy", "hsic", "accuracy"}
    np.testing.assert_array_equal(state.variables()["params"]["fc"], state.average["fc"])


def test_hsic_warms_up_once_the_backbone_moves():
    config = configs.load("common")
    config.head_only_epochs, config.hsic.warmup_epochs, config.hsic.weight = 1, 2, 0.4
    weight = schedule.hsic_weight(config, schedule.plan(config, 10 * config.batch_size))
    assert [float(weight(step)) for step in (0, 9, 10, 15, 20, 29, 30, 99)] == pytest.approx(
        [0, 0, 0, 0.1, 0.2, 0.38, 0.4, 0.4]
    )
    config.hsic.warmup_epochs = 0
    assert schedule.hsic_weight(config, schedule.plan(config, 640)) == 0.4


def test_the_commit_of_a_source_tree(tmp_path, monkeypatch):
    assert versions.commit(tmp_path) is None
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)  # settings of a user could refuse a commit
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")

    def git(*words):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *words],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "one")
    head = git("rev-parse", "HEAD")
    assert len(head) == 40
    assert versions.commit(tmp_path) == head
    (tmp_path / "file").write_text("2")
    assert versions.commit(tmp_path) == f"{head}+"


def test_a_run_says_what_it_was_made_with(dataset, tmp_path, monkeypatch):
    import flax

    monkeypatch.setattr(sys, "argv", ["qad_jax.main", "--config=configs/common.py"])
    provenance.record_start(tmp_path, [dataset], 0)
    (tmp_path / "run.json").write_text((tmp_path / "run.json").read_text()[:-20])  # not ours: cut
    provenance.record_start(tmp_path, [dataset], 0)
    provenance.record_start(tmp_path, [dataset], 7)
    known = json.loads((tmp_path / "run.json").read_text())
    assert known["dataset"] == dataset.info.full_name
    assert known["digest"] == dict(dataset.info.metadata["digest"])
    assert set(known["digest"]) == {"train", "validation", "test"}
    first, second = known["starts"]
    assert (first["step"], second["step"]) == (0, 7)
    assert second["versions"]["flax"] == flax.__version__
    assert second["devices"] == [f"{jax.devices()[0].device_kind} x {jax.device_count()}"]
    assert second["commit"] == versions.commit(ROOT)
    assert "qad_jax.main --config=configs/common.py" in second["command"]
