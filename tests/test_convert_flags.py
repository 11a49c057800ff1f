"""Flags of `qad-jax convert` that go with another source or target are refused, not ignored."""

import pytest

from qad_jax.weights import command
from tests import tiny_detector
from tests.test_pretrained import saved


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    (folder / "run").mkdir()
    return {
        "a run": folder / "run",
        "a model file": tiny_detector.write(folder / "tiny.safetensors"),
        "a file": saved(folder),
    }


@pytest.mark.parametrize(
    ("source", "target", "flag"),
    [
        ("a file", "--out=new", "--step=77"),
        ("a file", "--export=new.onnx", "--step=77"),
        ("a run", "--export=new.safetensors", "--name=resnet_tiny"),
        ("a run", "--export=new.safetensors", "--config=common"),
        ("a run", "--export=new.onnx", "--name=resnet_tiny"),
        ("a run", "--export=new.stablehlo", "--config=common"),
        ("a model file", "--export=new.onnx", "--name=resnet_tiny"),
        ("a model file", "--export=new.onnx", "--config=common"),
        ("a model file", "--export=new.stablehlo", "--step=0"),
    ],
)
def test_a_flag_that_would_change_nothing(sources, source, target, flag, capsys, tmp_path):
    option, _, name = target.partition("=")
    assert command.main([str(sources[source]), option, str(tmp_path / name), flag]) == 1
    name = flag.partition("=")[0]
    assert capsys.readouterr().err == (
        f"error: {name}: does not go with {source}, {sources[source]}; leave it out\n"
    )
    assert not any(tmp_path.iterdir())
