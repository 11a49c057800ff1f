"""Checkpoints as people have them: averages, wrappers, one logit, objects of their own classes."""

import os
import pathlib

import jax
import ml_dtypes
import numpy as np
import pytest
from flax import traverse_util
from safetensors import numpy as safetensors

from data_builders.errors import UserError
from qad_jax import models
from qad_jax.evaluation import inference
from qad_jax.runs import checkpoints
from qad_jax.weights import command, pretrained
from tests import torch_files
from tests.commands import call, tiny
from tests.test_models import fixture, variables_from_torch
from tests.torch_files import Call, Global

STATE = fixture("resnet_tiny")["state"]
OTHER = {key: value + np.float32(1) for key, value in STATE.items()}  # not what must be read
PATH = Call(Global("pathlib", "PosixPath"), "/", "data", "ffpp")
ONE_LOGIT = {
    "fc.weight": np.linspace(-1, 1, 32, dtype=np.float32)[None],
    "fc.bias": np.array([0.25], np.float32),
}


def written(folder, content, form=torch_files.zipped):
    path = folder / "theirs.ckpt"
    path.write_bytes(form(content))
    return path


def prefixed(prefix, state=STATE):
    return {prefix + name: value for name, value in state.items()}


def assert_read(imported, state=STATE):
    actual = traverse_util.flatten_dict(imported.variables)
    expected = traverse_util.flatten_dict(variables_from_torch(state))
    assert actual.keys() == expected.keys()
    for path, value in expected.items():
        assert actual[path].dtype == np.float32
        np.testing.assert_array_equal(actual[path], value, err_msg="/".join(path))


@pytest.mark.parametrize("form", [torch_files.zipped, torch_files.legacy])
def test_one_logit_is_a_head_of_two(tmp_path, form):
    path = written(tmp_path, {"state_dict": prefixed("module.", {**STATE, **ONE_LOGIT})}, form)
    imported = pretrained.read(path, "resnet_tiny")
    assert imported.dropped is None
    assert "its one logit z" in imported.summary
    head = imported.variables["params"]["fc"]
    np.testing.assert_array_equal(head["kernel"][:, 0], 0)
    np.testing.assert_array_equal(head["kernel"][:, 1], ONE_LOGIT["fc.weight"][0])
    np.testing.assert_array_equal(head["bias"], [0, 0.25])
    images = fixture("resnet_tiny")["images_odd"].astype(np.float32) / 64 - 2
    model = models.create("resnet_tiny")
    output = jax.jit(lambda given: model.apply(given, images, train=False))(imported.variables)
    z = output.features[4] @ ONE_LOGIT["fc.weight"][0] + 0.25
    np.testing.assert_allclose(jax.nn.softmax(output.logits)[:, 1], jax.nn.sigmoid(z), rtol=1e-5)


def test_one_logit_where_other_heads_are_wanted(tmp_path):
    path = written(tmp_path, {**STATE, **ONE_LOGIT})
    kept = pretrained.read(path, "resnet_tiny", num_classes=1)
    assert kept.variables["params"]["fc"]["kernel"].shape == (32, 1)
    assert pretrained.read(path, "resnet_tiny", num_classes=3).dropped == 1


def test_a_new_head_is_marked_and_not_evaluated(tmp_path, manifest, data_dir, dataset, capsys):
    head = {"fc.weight": np.ones((5, 32), np.float32), "fc.bias": np.ones(5, np.float32)}
    path, out = written(tmp_path, {**STATE, **head}), tmp_path / "converted"
    assert command.main([str(path), "--out", str(out), "--name=resnet_tiny"]) == 0
    assert "head of 5 classes was replaced" in capsys.readouterr().out
    assert checkpoints.new_head(out, 0) == 5
    with pytest.raises(UserError, match="a head of 5 classes, not of real and fake"):
        inference.Model.restore(out, "data")
    result = call(*tiny("hkrawp_resnet", out, manifest, data_dir), "--mode=evaluate")
    assert result.status == 1
    assert result.err.count("\n") == 1
    assert "converted from a file with a head of 5 classes" in result.err
    # The mark goes with what is exported.
    exported = tmp_path / "exported.safetensors"
    assert command.main([str(out), "--export", str(exported)]) == 0
    assert pretrained.read(exported).dropped == 5
    # The head of a detector has no mark.
    whole = tmp_path / "whole"
    pretrained.convert(written(tmp_path, STATE), whole, "resnet_tiny")
    assert checkpoints.new_head(whole, 0) is None


@pytest.mark.parametrize(
    "prefix",
    [
        *("module.", "model.", "backbone.", "net.", "encoder.", "network.", "_orig_mod."),
        *("module.model.backbone.", "_orig_mod.module.", "model._orig_mod.net.encoder."),
        "network.module._orig_mod.",
    ],
)
def test_prefixes_in_any_nesting(tmp_path, prefix):
    imported = pretrained.read(written(tmp_path, prefixed(prefix)), "resnet_tiny")
    assert_read(imported)
    assert imported.summary == "weights of resnet_tiny, head included"


def test_a_backbone_beside_a_head(tmp_path):
    state = {
        f"model.{'' if name.startswith('fc') else 'backbone.'}{name}": value
        for name, value in STATE.items()
    }
    assert_read(pretrained.read(written(tmp_path, state), "resnet_tiny"))


COUNT = {"n_averaged": np.array(7, np.int64)}
BUFFERS = ("running_mean", "running_var")
PARAMETERS = {key: value for key, value in OTHER.items() if not key.endswith(BUFFERS)}


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (COUNT | prefixed("module."), "under 'module' were taken; passed over: n_averaged"),
        ({"net": OTHER, "swa": COUNT | prefixed("module.")}, "under 'swa' were taken"),
        (
            {"state_dict": prefixed("ema.net.") | prefixed("net.", PARAMETERS)},  # most are its own
            "under 'ema' were taken; passed over: state_dict.*",
        ),
        ({"model_ema": COUNT | prefixed("module.")}, "under 'model_ema' were taken"),
        ({"model": OTHER, "model_ema": STATE}, "passed over: model.*"),
        ({"state_dict": OTHER, "state_dict_ema": STATE}, "under 'state_dict_ema' were taken"),
        ({"ema": {"state_dict": prefixed("module.")}}, "under 'ema.state_dict' were taken"),
        ({"ema_state_dict": STATE, "epoch": 3}, "under 'ema_state_dict' were taken"),
        (
            {"student": prefixed("module.", OTHER), "teacher": prefixed("backbone.")},
            "under 'teacher' were taken; passed over: student.*",
        ),
        (
            {"state_dict": prefixed("model.", OTHER) | prefixed("ema_model.module.")},
            "under 'ema_model' were taken; passed over: state_dict.*",
        ),
        # An average without the statistics of batch norm is not whole.
        ({"model": STATE, "ema": PARAMETERS}, "passed over: ema.*"),
        ({"model": STATE, "ema": {"decay": 0.99}}, "head included"),
        # mmengine swaps the two on saving.
        ({"state_dict": STATE, "ema_state_dict": OTHER, "message_hub": {}}, "head included"),
        # The weight of a class in the loss of a Lightning module.
        (
            prefixed("model.") | {"criterion.pos_weight": np.ones(1, np.float32)},
            "passed over: criterion.pos_weight",
        ),
    ],
)
def test_averages_and_what_lies_beside(tmp_path, content, note):
    imported = pretrained.read(written(tmp_path, content), "resnet_tiny")
    assert_read(imported)
    assert note in imported.summary


def test_what_is_of_no_model_is_named(tmp_path):
    state = prefixed("model.") | {"extra.weight": np.ones(2, np.float32)}
    with pytest.raises(UserError, match=r"not of this model: extra\.weight$"):
        pretrained.read(written(tmp_path, state), "resnet_tiny")


@pytest.mark.parametrize("form", [torch_files.zipped, torch_files.legacy])
def test_tensors_beside_objects_that_are_not_known(tmp_path, form):
    config = Call(Global("copyreg", "_reconstructor"), Global("my.project", "Config"), 1, None)
    config.state = {"optimizer": Call(Global("torch.optim.adam", "Adam"), 1e-3), "root": PATH}
    listed = Call(Global("omegaconf", "ListConfig"), state=[PATH, {"deep": [PATH]}])
    content = {
        "pytorch-lightning_version": "2.4.0",
        "state_dict": prefixed("model."),
        "hyper_parameters": {"root": PATH, "config": config, "all": listed, PATH: "a key"},
        "partial": Call(Call(Global("functools", "partial"), Global("my", "loss")), 2),
    }
    imported = pretrained.read(written(tmp_path, content, form), "resnet_tiny")
    assert_read(imported)
    assert "not read, and not run: pathlib.PosixPath, my.project.Config" in imported.summary


def test_a_tensor_with_attributes_of_its_own(tmp_path):
    tensor, name = STATE["fc.bias"], "torch.nn.parameter"
    typed = Call(
        Global("torch._tensor", "_rebuild_from_type_v2"),
        Global("torch._utils", "_rebuild_parameter"),
        Global(name, "Parameter"),
        (tensor, True, Call(Global("collections", "OrderedDict"))),
        {"note": PATH},
    )
    assert_read(pretrained.read(written(tmp_path, {**STATE, "fc.bias": typed}), "resnet_tiny"))


BIAS = STATE["fc.bias"]
REBUILD, PARAMETER = (
    Global("torch._utils", name) for name in ("_rebuild_tensor_v2", "_rebuild_parameter")
)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ({**STATE, "fc.bias": Call(Global("my", "tensor"), BIAS)}, r"my\.tensor"),
        ({**STATE, "fc.bias": Call(PARAMETER, PATH, True)}, r"pathlib\.PosixPath"),
        ({**STATE, "fc.bias": Call(REBUILD, PATH, 0, (2,), (1,), False)}, r"pathlib\.PosixPath"),
        ({**STATE, "fc.bias": Call(REBUILD, BIAS, PATH, (2,), (1,))}, r"pathlib\.PosixPath"),
        ({"model": Call(Global("my.nets", "Xception"), state=STATE)}, r"my\.nets\.Xception"),
        (Call(Global("my.nets", "Xception"), state=STATE), r"my\.nets\.Xception"),
    ],
)
def test_a_tensor_of_what_is_not_known_is_refused_by_name(tmp_path, content, name):
    with pytest.raises(UserError, match=f"refused: its pickle names {name}, which") as caught:
        pretrained.read(written(tmp_path, content), "resnet_tiny")
    assert "\n" not in str(caught.value)


class Trap:
    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def _chained(folder):
    """getattr(__import__('os'), 'mkdir')(folder), without a name that tells of it."""
    module = Call(Global("my", "import_module"), "os")
    return Call(Call(Global("builtins", "getattr"), module, "mkdir"), str(folder))


@pytest.mark.parametrize("form", [torch_files.zipped, torch_files.legacy])
def test_nothing_is_run(tmp_path, form):
    trap = tmp_path / "ran"
    harm = Call(Global("os", "system"), f"mkdir {trap}")
    for content in (
        {"state_dict": STATE, "hyper_parameters": {"deep": [{"er": (harm,)}]}},
        {"state_dict": STATE, "path": Call(Global("pathlib", "Path"), harm)},
        {"state_dict": STATE, "path": Call(Global("my", "Thing"), state={"x": harm})},
        {**STATE, "fc.bias": Call(PARAMETER, harm)},
        {"state_dict": STATE, "trap": Trap(trap)},
        {"state_dict": STATE, "x": Call(Global("builtins", "eval"), f"__import__({trap})")},
        {"state_dict": STATE, "x": Call(Global("os.path", "join"), "a")},
    ):
        with pytest.raises(UserError, match=r"refused: its pickle names (os|posix|nt|builtins)\."):
            pretrained.read(written(tmp_path, content, form), "resnet_tiny")
        assert not trap.exists()
    content = {"state_dict": STATE, "trap": _chained(trap)}
    imported = pretrained.read(written(tmp_path, content, form), "resnet_tiny")
    assert_read(imported)
    assert "not run: builtins.getattr, my.import_module" in imported.summary
    assert not trap.exists()


def test_more_unknown_names_than_a_checkpoint_has(tmp_path):
    content = {"state_dict": STATE, "all": [Global("m", f"n{i}") for i in range(3000)]}
    with pytest.raises(UserError, match="damaged"):
        pretrained.read(written(tmp_path, content), "resnet_tiny")
    content["all"] = content["all"][:900]
    summary = pretrained.read(written(tmp_path, content), "resnet_tiny").summary
    assert summary.endswith("m.n19 and 880 more")


def test_a_checkpoint_that_holds_itself(tmp_path):
    content = {"model": None, "ema": None}
    content["model"] = content["ema"] = content
    with pytest.raises(UserError, match="holds no state dict"):
        pretrained.read(written(tmp_path, content), "resnet_tiny")


@pytest.mark.parametrize("kind", [np.float64, np.float16, ml_dtypes.bfloat16])
def test_other_precisions_become_float32(tmp_path, kind):
    state = {name: value.astype(kind) for name, value in STATE.items()}
    expected = {name: value.astype(np.float32) for name, value in state.items()}
    assert_read(pretrained.read(written(tmp_path, state), "resnet_tiny"), expected)
    safe = tmp_path / "weights.safetensors"
    safetensors.save_file(state, safe)
    assert_read(pretrained.read(safe, "resnet_tiny"), expected)


def test_channels_last(tmp_path):
    state = {
        name: np.ascontiguousarray(value.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        if value.ndim == 4
        else value
        for name, value in STATE.items()
    }
    assert not state["conv1.weight"].flags.c_contiguous
    assert_read(pretrained.read(written(tmp_path, state), "resnet_tiny"))


def test_the_file_is_where_the_message_says(tmp_path):
    path = written(tmp_path, {"epoch": 3, "model": PATH})
    with pytest.raises(UserError, match="refused") as caught:
        pretrained.read(pathlib.Path(path), "resnet_tiny")
    assert str(path) in str(caught.value)
