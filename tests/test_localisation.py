"""The second task of training: where a fake differs from the image that it was made from."""

import json
import types
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data_builders.errors import UserError
from qad_jax import configs, models
from qad_jax.models import localiser
from qad_jax.models.layers import IMAGENET, normalise
from qad_jax.runs import checkpoints, configuration
from qad_jax.training import localisation, loop, mixture, parallel
from qad_jax.training.step import (
    Batch,
    Objective,
    TrainState,
    drawn,
    losses,
    make_train_step,
)
from qad_jax.weights import pretrained
from tests.test_sampling import synthetic  # noqa: F401  # a fixture


def twins(difference):
    """A fake and its original at two qualities; the second quality is all noise."""
    difference = np.asarray(difference, np.uint8)
    images = np.random.default_rng(0).integers(0, 256, (2, 2, *difference.shape, 3), np.uint8)
    images[:, 0] = 100
    images[0, 0] += difference[..., None]
    return images


def test_the_target_of_a_cell_follows_the_mean_difference_at_the_best_quality():
    # Cells of 11, of 3 and 4 (3.5 in the mean), of 1, and of nothing but one pixel of 8 (2).
    images = twins([[11, 11, 3, 4], [11, 11, 4, 3], [1, 1, 8, 0], [1, 1, 0, 0]])
    targets = localisation.targets(localisation.differences(images), 2, 2)
    np.testing.assert_allclose(targets[0], [[1, 0.5], [0, 0.2]], atol=1e-6)
    np.testing.assert_array_equal(targets[1], 0)  # it is real
    darker = localisation.differences(255 - images)
    np.testing.assert_array_equal(darker, localisation.differences(images))


def test_a_colour_counts_a_third():
    images = twins(np.zeros((2, 2)))
    images[0, 0, ..., 2] -= 9
    np.testing.assert_allclose(localisation.differences(images), 3)


def test_cells_may_cut_pixels():
    difference = jnp.asarray([[[3.0, 6.0, 1.0]]])
    cells = localisation.targets(difference, 1, 2)[0]
    means = np.array([(3 + 6 / 2) / 1.5, (6 / 2 + 1) / 1.5])
    np.testing.assert_allclose(cells, [np.clip((means - 1) / 5, 0, 1)], atol=1e-6)


def bce(logits, targets):
    """In float64, written out."""
    logits = np.asarray(logits, np.float64)
    fake, real = 1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(logits))
    return -(targets * np.log(fake) + (1 - targets) * np.log(real))


def test_the_loss_is_the_cross_entropy_of_all_cells_of_all_qualities():
    images = twins([[11, 11, 3, 4], [11, 11, 4, 3], [1, 1, 8, 0], [1, 1, 0, 0]])
    rng = np.random.default_rng(1)
    fine, coarse = rng.normal(size=(4, 2, 2)), rng.normal(size=(4, 1, 1))
    of_fine = np.array([[[1, 0.5], [0, 0.2]]] * 2 + [np.zeros((2, 2))] * 2)
    mean = (11 + 3.5 + 1 + 2) / 4
    of_coarse = np.array([(mean - 1) / 5] * 2 + [0, 0]).reshape(4, 1, 1)
    expected = (bce(fine, of_fine).mean() + bce(coarse, of_coarse).mean()) / 2
    got = localisation.loss([jnp.asarray(fine), jnp.asarray(coarse)], images)
    assert float(got) == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def begun():
    """A model and its variables, with a localiser."""
    model = models.create("resnet_least")
    init = jax.jit(lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False))
    return model, localiser.extended(model, init(), 32, seed=1)


def test_a_step_may_see_some_of_the_qualities(begun):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 3, 8, 8, 3), np.uint8)
    key = jax.random.key(5)
    draw = jax.jit(lambda k: drawn(images, 2, jax.random.fold_in(key, k)))
    found = []
    for k in range(40):
        seen = np.asarray(draw(k))
        places = [
            [next(q for q in range(3) if (images[i, q] == one).all()) for one in seen[i]]
            for i in range(6)
        ]
        assert places[0::2] == places[1::2]  # neighbours alike
        found += map(tuple, places[0::2])
    assert set(found) == {(0, 1), (0, 2), (1, 2)}  # in order, none twice
    assert min(map(found.count, set(found))) > 20  # of 120
    np.testing.assert_array_equal(drawn(images, 3, key), images)
    assert drawn(images[:5], 1, key).shape == (5, 1, 8, 8, 3)

    # The loss is that of the qualities that are seen, and the target that of the best.
    batch = Batch(images, np.array([1, 0] * 3))
    model, variables = begun
    objective = Objective(model, (0.0,) * 6, localise=1.0, at_once=1)

    @jax.jit
    def expected(variables, chosen):
        pictures = normalise(chosen, model.normalisation)
        output, _ = model.apply(variables, pictures, train=True, mutable=["batch_stats"])
        own = {"params": variables["params"][localiser.LOCALISER]}
        maps = localiser.Localiser().apply(own, output.features[localiser.MAPS])
        return output.logits, localisation.loss(maps, images)

    given = variables["params"], variables["batch_stats"], batch, key
    _, (logits, _, parts) = jax.jit(partial(losses, objective))(*given)
    assert logits.shape == (6, 1, 2)
    wanted, loss = expected(variables, np.asarray(drawn(images, 1, key))[:, 0])
    np.testing.assert_allclose(logits[:, 0], wanted, atol=1e-5)
    assert float(parts["localisation"]) == pytest.approx(float(loss), rel=1e-5)


class Brightness:
    """Takes bright images for fake."""

    normalisation = IMAGENET

    def apply(self, variables, images, **_):
        bright = variables["params"]["fc"] * images.mean(axis=(1, 2, 3))
        logits = jnp.stack([-bright, bright], axis=1)
        return types.SimpleNamespace(logits=logits, features=[logits] * 6), {"batch_stats": {}}


@pytest.mark.parametrize("cut", ["devices", "parts"])
def test_devices_and_parts_of_a_batch_draw_for_themselves(cut):
    """All show the same three qualities: of one draw for all, the loss would be that of one."""
    tx = optax.GradientTransformation(
        lambda params: optax.EmptyState(), lambda updates, state, params=None, **_: (params, state)
    )
    state = TrainState(jnp.zeros((), jnp.int32), {"fc": jnp.ones(())}, {}, ())
    grey = np.uint8([0, 100, 250])[None, :, None, None, None]
    batch = Batch(np.tile(grey, (16, 1, 2, 2, 3)), np.zeros(16, np.int32))
    axis = "batch" if cut == "devices" else None
    objective = Objective(Brightness(), (0.0,) * 6, axis_name=axis, at_once=1)
    step = make_train_step(objective, tx, 0, 8 if cut == "parts" else 1)
    if axis:
        step = jax.vmap(step, in_axes=(None, 0), axis_name=axis)
        batch = jax.tree.map(lambda leaf: leaf.reshape(8, 2, *leaf.shape[1:]), batch)
    loss = float(jnp.mean(jax.jit(step)(state, batch)[1]["cross_entropy"]))
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    bright = [np.mean((value / 255 - mean) / deviation) for value in (0, 100, 250)]
    alone = np.log1p(np.exp(2 * np.array(bright)))  # the loss of a real image of each quality
    shares = [np.array([a, b, 8 - a - b]) / 8 for a in range(9) for b in range(9 - a)]
    found = [each for each in shares if abs(each @ alone - loss) < 1e-5]
    assert len(found) == 1
    assert max(found[0]) < 0.8  # of eight draws, seven would be one quality once in 130 times


def test_it_is_added_to_what_is_minimised_and_reaches_the_backbone(begun):
    model, variables = begun
    rng = np.random.default_rng(0)
    batch = Batch(rng.integers(0, 256, (4, 2, 32, 32, 3), np.uint8), np.array([1, 0, 1, 0]))
    maps = variables["params"][localiser.LOCALISER]
    assert set(maps) == {"map_0", "map_1"}

    def of(weight):
        objective = Objective(model, (0.0,) * 6, localise=weight)

        def minimised(params):
            (value, _), (_, _, parts) = losses(
                objective, params, variables["batch_stats"], batch, jax.random.key(0)
            )
            return value, parts

        return jax.jit(jax.value_and_grad(minimised, has_aux=True))(variables["params"])

    (plain, without), plain_gradient = of(0.0)
    (value, parts), gradient = of(0.5)
    assert "localisation" not in without
    assert without["cross_entropy"] == plain
    assert float(parts["cross_entropy"]) == pytest.approx(float(plain), rel=1e-6)
    assert float(value) == pytest.approx(float(plain + 0.5 * parts["localisation"]), rel=1e-6)
    for name in ("conv1", "layer3_0"):
        difference = jax.tree.map(lambda a, b: np.abs(a - b).max(), gradient, plain_gradient)
        assert max(jax.tree.leaves(difference[name])) > 1e-4
    assert not any(map(np.any, jax.tree.leaves(plain_gradient[localiser.LOCALISER])))


@pytest.fixture(scope="module")
def run(tmp_path_factory, synthetic):  # noqa: F811
    """A short run with the second task, and its configuration."""
    config = configs.load("common")
    config.dataset.name = "synthetic_faces/tiny"
    config.model.name = "resnet_least"
    config.qualities = ("raw", "c40")
    config.sampling = "twins"
    config.localise.weight = 1.0
    config.image_size = 32
    config.batch_size = 16
    config.num_steps = 4
    config.head_only_epochs = 0
    config.awp.gamma = 0.0
    config.hsic.weight = 0.0
    config.log_every_steps = 2
    config.checkpoint_every_steps = 2
    config = configuration.check(config)
    workdir = tmp_path_factory.mktemp("localised")
    loop.train(config, workdir, [synthetic])
    return workdir, config


def test_a_run_logs_it_and_evaluation_is_without_it(run):
    workdir, config = run
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert all(0 < line["localisation"] < 10 for line in lines)
    variables, _ = checkpoints.restore_for_evaluation(workdir)
    model = models.create(config.model.name)
    plain = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
    )
    assert jax.tree.structure(variables["params"]) == jax.tree.structure(plain["params"])


def test_a_run_continues_with_it(run, synthetic, tmp_path):  # noqa: F811
    workdir, config = run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.schedule, "plan", lambda *_: planned)
        planned = loop.schedule.Plan(4, 1, [loop.schedule.Phase(0, 2, False, 0.0)])
        loop.train(config, tmp_path / "again", [synthetic])
        assert checkpoints.latest_step(tmp_path / "again") == 2
    loop.train(config, tmp_path / "again", [synthetic])
    expected, _ = checkpoints.restore_for_evaluation(workdir)
    got, _ = checkpoints.restore_for_evaluation(tmp_path / "again")
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_a_run_begins_with_the_weights_of_another(run):
    workdir, config = run
    config = config.copy_and_resolve_references().unlock()
    config.model.pretrained = str(workdir)
    imported = pretrained.of_config(config)
    assert imported.summary == (f"weights of resnet_least, head included; of step 4 of {workdir}")
    begun = loop.initial_state(config, loop.schedule.plan(config, 64))
    expected, _ = checkpoints.restore_for_evaluation(workdir)
    jax.tree.map(np.testing.assert_array_equal, begun.variables(), expected)
    assert localiser.LOCALISER in expected
    config.model.name = "resnet50"
    with pytest.raises(UserError, match="is a run of resnet_least, not of resnet50"):
        pretrained.of_config(config)


def test_twins_stay_on_one_device():
    devices = parallel.device_count()
    parallel.check_divides(devices)
    with pytest.raises(UserError, match="the real image beside it on the same one; 16 can"):
        parallel.check_divides(devices, together=2)


def test_a_batch_that_is_advised_has_as_many_reals_as_fakes(monkeypatch):
    for name in ("device_count", "local_device_count"):
        monkeypatch.setattr(jax, name, lambda: 3)
    with pytest.raises(UserError, match="10 tuples cannot be shared evenly by 3 devices; 9 can"):
        parallel.check_divides(10)
    with pytest.raises(UserError, match="10 tuples cannot be shared evenly by 3 devices; 12 can"):
        parallel.check_divides(10, multiple=2)


def test_it_learns_at_the_best_quality(synthetic):  # noqa: F811
    config = configs.load("detector")
    config.qualities = ("c40", "raw")
    with pytest.raises(UserError, match=r"config\.qualities: name 'raw' first, the best of syn"):
        mixture.open_training(config, [synthetic])
    config.qualities = ("raw", "c40")
    assert len(mixture.open_training(config, [synthetic])) > 0
    config.qualities, config.localise.weight = ("c40", "raw"), 0.0
    assert len(mixture.open_training(config, [synthetic])) > 0


def test_it_needs_twins():
    config = configs.load("common")
    config.localise.weight = 1.0
    with pytest.raises(UserError, match=r"localise\.weight: needs config\.sampling 'twins'"):
        configuration.check(config)
