"""The mean of a run and of other weights: number by number, with the record of the run."""

import hashlib
import json
import shutil
import types

import numpy as np
import pytest

from data_builders.errors import UserError
from qad_jax import configs
from qad_jax.evaluation import release
from qad_jax.runs import checkpoints
from qad_jax.weights import averaging, command, pretrained
from tests.test_models import fixture
from tests.test_pretrained import assert_equal, saved, variables_from_torch

RECORD = {
    "dataset": ["self_blended/0123abcd/3.3.0"],
    "digest": [{"train": "0" * 32}],
    "starts": [{"commit": "abc", "versions": {"jax": "1"}, "devices": ["cpu x 1"]}],
}


def noisy(seed):
    """Tensors of the fixture, each changed by a little."""
    draw = np.random.default_rng(seed)
    return {
        key: np.float32(value + np.abs(draw.normal(size=value.shape)))
        for key, value in fixture("resnet_tiny")["state"].items()
    }


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Two runs without a training; the first has the record of one."""
    folder = tmp_path_factory.mktemp("converted")
    for name, seed in (("first", 1), ("second", 2)):
        path = saved(folder, file=f"{name}.safetensors", **noisy(seed))
        assert command.main([str(path), "--out", str(folder / name), "--name=resnet_tiny"]) == 0
    (folder / "first/run.json").write_text(json.dumps(RECORD))
    return folder


@pytest.fixture
def runs(converted, tmp_path):
    """Copies of the two, which a test may change."""
    shutil.copytree(converted, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.mark.parametrize("other", ["second", "second.safetensors"])
def test_each_number_is_the_mean_and_the_record_names_both(runs, other, capsys):
    arguments = [str(runs / "first"), "--average", str(runs / other), "--out", str(runs / "mean")]
    assert command.main(arguments) == 0
    assert (
        f"the mean of step 0 of {runs / 'first'} and of {runs / other}" in capsys.readouterr().out
    )
    variables, config = checkpoints.restore_for_evaluation(runs / "mean")
    one, two = noisy(1), noisy(2)
    mean = {key: np.float32((np.float64(one[key]) + two[key]) / 2) for key in one}
    assert_equal(variables, variables_from_torch(mean))
    assert config.model.name == "resnet_tiny"
    told = release._training(runs / "mean", configs.to_dict(config), 0)
    assert (told["dataset"], told["commit"]) == (RECORD["dataset"], "abc")
    facts = {"step": 0}
    if other.endswith("safetensors"):
        facts = {"sha256": hashlib.sha256((runs / other).read_bytes()).hexdigest()}
    assert told["averaged_with"] == {"file": other} | facts
    with pytest.raises(UserError, match="holds converted weights, not a training"):
        checkpoints.Checkpoints(runs / "mean", {"dataset": "data"}).restore(types.SimpleNamespace())
    assert command.main(arguments) == 1
    assert f"--out: {runs / 'mean'} exists" in capsys.readouterr().err


def test_it_keeps_the_step_and_the_data_of_the_training(runs):
    variables, config = checkpoints.restore_for_evaluation(runs / "first")
    data = {"dataset": ["self_blended/0123abcd/3.3.0"]}
    checkpoints.save_for_evaluation(runs / "later", variables, config, step=17, data=data)
    averaging.average(runs / "later", runs / "second", runs / "mean")
    assert checkpoints.restore_step(runs / "mean")[2] == 17
    assert checkpoints.datasets_of(runs / "mean", 17) == tuple(data["dataset"])


def test_a_localiser_of_converted_weights_is_kept_and_averaged(runs, capsys):
    """The configuration of the original project, which goes with weights, has none."""
    draw = np.random.default_rng(3)
    shapes = {  # of the last two stages
        f"localiser.map_{i}.{leaf}": shape
        for i, width in enumerate((24, 32))
        for leaf, shape in (("weight", (1, width)), ("bias", (1,)))
    }
    own = {name: np.float32(draw.normal(size=shape)) for name, shape in shapes.items()}
    path = saved(runs, file="located.safetensors", **noisy(3), **own)
    pretrained.convert(path, runs / "located", "resnet_tiny")
    half = {name: value / 2 for name, value in own.items()}
    other = saved(runs, file="half.safetensors", **noisy(3), **half)
    averaging.average(runs / "located", other, runs / "mean")
    for folder, share in (("located", 1), ("mean", 0.75)):
        got, _ = checkpoints.restore_for_evaluation(runs / folder)
        for name, value in own.items():
            _, place, leaf = name.split(".")
            leaf = {"weight": "kernel"}.get(leaf, leaf)
            np.testing.assert_allclose(got["localiser"][place][leaf], share * value.T, rtol=1e-6)
    first, located = runs / "first", runs / "located"
    for one, two in ((first, located), (located, first)):
        arguments = [str(one), "--average", str(two), "--out", str(runs / "no")]
        assert command.main(arguments) == 1
        assert f"{located} has a localiser and {first} has none" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b'{"a": "\xff"}', b"\xff\xfe{", b"[" * 99_999, b"[1]"])
def test_a_record_that_is_none_is_left_out(runs, content):
    (runs / "first/run.json").write_bytes(content)
    assert averaging._record(runs / "first") == {}


def test_what_cannot_be_averaged_is_refused_and_nothing_is_left(runs, capsys):
    head = {"fc.weight": np.ones((7, 64), np.float32), "fc.bias": np.ones(7, np.float32)}
    state = fixture("resnet_tiny")["state"]
    head = {key: np.resize(value, (7, *state[key].shape[1:])) for key, value in head.items()}
    headless = saved(runs, file="headless.safetensors", **head)
    small = saved(runs, "efficientnet_tiny", "small.safetensors")
    assert command.main([str(small), "--out", str(runs / "b"), "--name=efficientnet_tiny"]) == 0
    for other, more, message in (
        (headless, [], "its head of 7 classes tells no fake from real"),
        (runs / "b", [], "is a run of efficientnet_tiny, not resnet_tiny"),
        (small, [], "resnet_tiny has those of torchvision"),
        (runs / "second", ["--name=resnet_tiny"], "goes with a run and --out, without --name"),
    ):
        out = ["--out", str(runs / "mean")]
        assert command.main([str(runs / "first"), "--average", str(other), *out, *more]) == 1
        assert message in capsys.readouterr().err
        assert not [path for path in runs.iterdir() if "mean" in path.name]
