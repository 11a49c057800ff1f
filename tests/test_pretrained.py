"""Weights of other projects: exact both ways, every fault named, nothing in a file is run."""

import hashlib
import io
import json
import os
import pathlib
import pickle
import re
import struct
import zipfile

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
from qad_jax.training import loop, parallel, schedule
from qad_jax.weights import command, conversion, pretrained, torch_file
from tests.commands import call, tiny
from tests.test_models import DATA, fixture, variables_from_torch

NETWORK = "--config.model.name=resnet_tiny"  # of which torch's fixtures are
TINY = ("resnet_tiny", "efficientnet_tiny", "timm_efficientnet_tiny", "tf_efficientnet_tiny")


def saved(folder, name="resnet_tiny", file="weights.safetensors", **changes):
    """A fixture's weights as a file; a change to None takes a tensor out."""
    state = fixture(name)["state"] | changes
    path = folder / file
    safetensors.save_file({key: value for key, value in state.items() if value is not None}, path)
    return path


def config_of(name, path="", **fields):
    from qad_jax import configs

    config = configs.load("common")
    config.model.name, config.model.pretrained = name, str(path)
    config.update(fields)
    return config


def assert_equal(actual, expected):
    actual, expected = (traverse_util.flatten_dict(tree) for tree in (actual, expected))
    assert actual.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(actual[path], value, err_msg="/".join(path))


@pytest.mark.parametrize("name", ["resnet_tiny", "efficientnet_tiny"])
def test_names_and_layouts_follow_the_rule(tmp_path, name):
    variables = pretrained.load(saved(tmp_path, name), name)
    assert_equal(variables, variables_from_torch(fixture(name)["state"]))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}


@pytest.mark.parametrize("name", TINY)
def test_import_then_export_gives_the_same_tensors(tmp_path, name):
    back = conversion.to_torch(pretrained.load(saved(tmp_path, name), name), name)
    counters = {key for key in back if key.endswith("num_batches_tracked")}
    state = fixture(name)["state"]
    assert {key.rpartition(".")[0] for key in counters} == {
        key.rpartition(".")[0] for key in state if key.endswith("running_mean")
    }
    assert_equal({key: back[key] for key in back.keys() - counters}, state)


def test_a_training_checkpoint_of_torch():
    """Wrapped twice, prefixed, beside an optimizer, numpy's numbers and a Namespace."""
    variables = pretrained.load(DATA / "torch_checkpoint.pth", "resnet_tiny")
    assert_equal(variables, variables_from_torch(fixture("resnet_tiny")["state"]))


@pytest.mark.parametrize("file", ["torch_kinds.pth", "torch_kinds_legacy.pth"])
def test_tensors_of_every_kind(file):
    read = torch_file.read(DATA / file, (DATA / file).read_bytes()).value
    base = np.arange(24, dtype=np.float32)
    expected = {
        "all": base,
        "transposed": base.reshape(4, 6).T,
        "slice": base.reshape(4, 6)[1:3, ::2],
        "scalar": np.float32(2.5),
        "empty": np.empty((0, 3), np.float32),
        "parameter": base[:2],
        "bool": base > 20,
        "float64": base.astype(np.float64) / 4,
        "float16": base.astype(np.float16) / 4,
        "bfloat16": (base / 4).astype(ml_dtypes.bfloat16),
        "int64": base.astype(np.int64),
        "uint8": base.astype(np.uint8),
    }
    assert read.pop("size") == (24,)
    assert read.pop("type") is None
    assert_equal(read, expected)
    assert {k: v.dtype for k, v in read.items()} == {k: v.dtype for k, v in expected.items()}
    assert not any(value.flags.writeable for value in read.values() if value.size)


def test_a_head_of_other_classes_is_drawn_anew(tmp_path):
    random = np.random.RandomState(0)
    head = {
        "fc.weight": random.standard_normal((1000, 32)).astype(np.float32),
        "fc.bias": np.zeros(1000, np.float32),
    }
    path = saved(tmp_path, **head)
    first = pretrained.read(path, "resnet_tiny", seed=1)
    assert first.dropped == 1000
    assert "head of 1000 classes was replaced" in first.summary
    expected = variables_from_torch(fixture("resnet_tiny")["state"])
    for variables in (first.variables, expected):
        kernel = variables["params"].pop("fc")["kernel"]
        assert kernel.shape == (32, 2)
    assert_equal(first.variables, expected)
    new = [pretrained.load(path, "resnet_tiny", seed=seed)["params"]["fc"] for seed in (1, 1, 2)]
    assert_equal(new[0], new[1])
    assert not np.array_equal(new[0]["kernel"], new[2]["kernel"])
    assert 0 < np.abs(new[0]["kernel"]).max() <= 32**-0.5
    kept = pretrained.load(path, "resnet_tiny", num_classes=1000)["params"]["fc"]
    np.testing.assert_array_equal(kept["kernel"], head["fc.weight"].T)


def test_every_fault_is_named_at_once_and_nothing_is_written(tmp_path, capsys):
    faults = {
        "layer1.0.conv1.weight": None,
        "layer9.0.conv1.weight": np.zeros(3, np.float32),
        "layer2.0.conv1.weight": np.zeros((4, 16, 3, 3), np.float32),
        "bn1.bias": np.zeros(8, np.int64),
    }
    path = saved(tmp_path, **faults)
    assert command.main([str(path), "--out", str(tmp_path / "out"), "--name=resnet_tiny"]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "missing: layer1.0.conv1.weight;" in message
    assert "not of this model: layer9.0.conv1.weight;" in message
    assert "layer2.0.conv1.weight is (4, 16, 3, 3), must be (4, 16, 1, 1)" in message
    assert "bn1.bias is int64, must be floating point" in message
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


class Evil:
    """Makes a folder when it is unpickled by an unpickler that runs what it is told."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def zipped(content, storages=()):
    """The bytes of a torch.save archive around a pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        for key, data in dict(storages).items():
            archive.writestr(f"archive/data/{key}", data)
    return file.getvalue()


def legacy(content):
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    return b"".join(pickle.dumps(part, 2) for part in head) + content + pickle.dumps([], 2)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("form", [zipped, legacy, lambda content: content])
def test_a_pickle_that_would_run_code_is_refused_by_name(tmp_path, form, protocol):
    trap = tmp_path / "ran"
    content = pickle.dumps({"state_dict": Evil(trap)}, protocol)
    pickle.loads(content)
    assert trap.is_dir()  # it is a trap indeed
    trap.rmdir()
    path = tmp_path / "evil.pth"
    path.write_bytes(form(content))
    with pytest.raises(UserError, match=r"refused: its pickle names (posix|nt)\.mkdir") as caught:
        pretrained.load(path, "resnet_tiny")
    assert "\n" not in str(caught.value)
    assert not trap.exists()


def pickled_tensor(count, offset, size, stride):
    """A pickle of one tensor over a storage '0' of float32, written by hand."""

    def integers(numbers):
        return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", n) for n in numbers) + b"t"

    storage = (
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    )
    number = b"\x8a\x08" + struct.pack("<q", count)
    arguments = b"(" + storage + number + b"tQ\x8a\x08" + struct.pack("<q", offset)
    arguments += integers(size) + integers(stride) + b"\x89}t"
    return b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"Rs."


@pytest.mark.parametrize(
    ("count", "offset", "size", "stride", "good"),
    [
        (6, 1, (2, 2), (2, 1), True),
        (6, 2, (2, 2), (2, 2), False),  # its last element is one too far
        (6, 6, (1,), (1,), False),
        (6, -1, (1,), (1,), False),
        (6, 5, (2,), (-1,), False),
        (6, 0, (3, 3), (0, 1), False),  # more elements than there are numbers
        (6, 0, (2**40,), (0,), False),
        (6, 0, (2,), (2**61,), False),
        (6, 0, (2, 2), (1,), False),
        (7, 0, (1,), (1,), False),  # the storage is not as large as it says
        (2**60, 0, (1,), (1,), False),
    ],
)
def test_a_tensor_lies_within_its_storage(count, offset, size, stride, good):
    data = zipped(pickled_tensor(count, offset, size, stride), {"0": np.arange(6, dtype="f4")})
    path = pathlib.Path("crafted.pth")
    if good:
        np.testing.assert_array_equal(torch_file.read(path, data).value["w"], [[1, 2], [3, 4]])
    else:
        with pytest.raises(UserError, match=r"crafted.pth: .* damaged"):
            torch_file.read(path, data)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x05\x96" + struct.pack("<q", 2**45) + b".",  # a bytearray of 32 TiB
        b"\x80\x02})" + b"\x85" * 300_000 + b"Ns.",  # a key that takes the stack to hash
        b"\x80\x02ccollections\nOrderedDict\n}X\x01\x00\x00\x00aNsb.",  # changes a function
        pickled_tensor(2**40, 0, (1,), (1,)),  # of a file of bytes
    ],
)
@pytest.mark.parametrize("form", [zipped, legacy])
def test_a_pickle_that_would_exhaust_the_machine(content, form):
    with pytest.raises(UserError, match="damaged"):
        torch_file.read(pathlib.Path("crafted.pth"), form(content))


_HEADER = b'{"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}'
FLOAT8 = struct.pack("<q", len(_HEADER)) + _HEADER + b"00"  # two numbers, whole and valid


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.pth", b"", "is empty"),
        ("a.pth", b"<html>not found</html>", "not written by torch.save"),
        ("a.pth", pickle.dumps({"a": 1}), "not written by torch.save"),
        ("a.pth", zipped(pickle.dumps([1, 2])), "holds no state dict"),
        ("a.pth", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("a.safetensors", struct.pack("<q", 10**6) + b'{"a": 1}', "damaged or cut off"),
        ("a.safetensors", FLOAT8, "of a type that cannot be read here, such as float8"),
        ("resnet50-0676ba61.pth", b"something", "its sha256 begins with 0676ba61, but it begins"),
    ],
)
def test_other_files_are_one_line(tmp_path, file, content, message):
    path = tmp_path / file
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        pretrained.load(path, "resnet_tiny")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["torch_checkpoint.pth", "torch_kinds_legacy.pth", "safe"])
def test_cut_off_anywhere_it_is_one_line(tmp_path, file):
    whole = saved(tmp_path) if file == "safe" else DATA / file
    data = whole.read_bytes()
    path = tmp_path / f"cut{whole.suffix}"
    for share in (0.01, 0.1, 0.5, 0.9, 0.999):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(UserError, match=re.escape(str(path)) + ".*(damaged|cut off)"):
            pretrained.load(path, "resnet_tiny")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="it is a pipe and no file"):
        pretrained.load(tmp_path / "pipe", "resnet_tiny")
    with pytest.raises(UserError, match="cannot be read: No such file"):
        pretrained.load(tmp_path / "nowhere.pth", "resnet_tiny")


def test_the_two_of_timm_are_told_apart(tmp_path):
    kinds = ("timm_efficientnet_tiny", "tf_efficientnet_tiny")
    plain = saved(tmp_path, kinds[0], "mine.safetensors")
    with pytest.raises(
        UserError, match=r"--name timm_efficientnet_b1 or --name tf_efficientnet_b1"
    ):
        pretrained.read(plain)
    with pytest.raises(UserError, match=r"use the model name timm_.*tiny or tf_efficientnet_tiny"):
        pretrained.load(plain, "efficientnet_tiny")
    named = saved(tmp_path, kinds[1], "tf_efficientnet_tiny.safetensors")
    with pytest.raises(UserError, match=r"use the model name tf_efficientnet_tiny$"):
        pretrained.load(named, "efficientnet_tiny")
    with pytest.raises(UserError, match="is of tf_efficientnet_tiny by its name"):
        pretrained.load(named, kinds[0])
    assert pretrained.read(named, kinds[1]).name == kinds[1]
    assert pretrained.read(plain, kinds[1]).name == kinds[1]  # nothing speaks against it
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "tf_efficientnet_tiny"}))
    with pytest.raises(UserError, match="is of tf_efficientnet_tiny"):
        pretrained.load(plain, kinds[0])
    other = saved(tmp_path, "efficientnet_tiny", "efficientnet.safetensors")
    with pytest.raises(UserError, match=r"use the model name efficientnet_tiny$"):
        pretrained.load(other, kinds[1])
    with pytest.raises(
        UserError, match=r"has the tensors of efficientnet_pytorch, resnet_tiny has"
    ):
        pretrained.load(other, "resnet_tiny")


def lite(name, layout):
    """A state dict of zeros for a Lite, with ImageNet's thousand classes."""
    return {
        key: np.zeros(leaf.shape, np.float32)
        for key, leaf in conversion.table(name, 1000, layout).items()
    }


@pytest.mark.parametrize("layout", [conversion.EFFICIENTNET_PYTORCH, conversion.TIMM])
def test_a_lite_is_known_by_its_tensors(tmp_path, layout):
    for name in ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"):
        path = tmp_path / "mine.safetensors"
        path.write_bytes(safetensors.save(lite(name, layout)))
        assert pretrained.read(path).name == name
    with pytest.raises(
        UserError, match=r"is of efficientnet_lite2 by its tensors.*name efficientnet_lite2$"
    ):
        pretrained.load(path, "efficientnet_lite1")
    with pytest.raises(UserError, match=r"use the model name efficientnet_lite2$"):
        pretrained.load(path, "resnet50")


@pytest.mark.checkout
def test_published_names_agree_with_their_models():
    assert set(pretrained.PUBLISHED.values()) <= set(models.NAMES)
    readme = (DATA.parents[1] / "weights/README.md").read_text()
    assert set(re.findall(r"-([0-9a-f]{8})\.", readme)) == set(pretrained.PUBLISHED)


@pytest.mark.parametrize("name", TINY)
def test_training_begins_at_the_imported_function(tmp_path, name):
    """The state of step 0 says of pictures what torch said of them."""
    config = config_of(name, saved(tmp_path, name), batch_size=8, image_size=32)
    state = loop.initial_state(config, schedule.plan(config, 80))
    assert int(state.step) == 0
    images = fixture(name)["images_odd"]
    scores = inference.predict_step_of(config)(
        {"params": state.params, "batch_stats": state.batch_stats},
        parallel.shard(np.tile(images, (8, 1, 1, 1))[:, None]),
    )
    expected = np.tile(fixture(name)["fake_odd"], 8)
    np.testing.assert_allclose(np.ravel(scores), expected, rtol=0, atol=2e-6)


def test_converted_evaluated_trained_and_exported(tmp_path, manifest, data_dir, dataset, capsys):
    path = saved(tmp_path)
    option = f"--config.model.pretrained={path}"
    converted, direct, trained = (tmp_path / name for name in ("converted", "direct", "trained"))

    # Converted once, and read as it is: the same scores, of the same function.
    assert command.main([str(path), "--out", str(converted), "--name=resnet_tiny"]) == 0
    variables, config = checkpoints.restore_for_evaluation(converted)
    assert_equal(variables, variables_from_torch(fixture("resnet_tiny")["state"]))
    assert config.model.name == "resnet_tiny"
    assert command.main([str(path), "--out", str(converted)]) == 1
    assert f"--out: {converted} exists" in capsys.readouterr().err
    small = ["--config.image_size=224", "--mode=evaluate"]
    for workdir, more in ((converted, []), (direct, [option])):
        result = call(*tiny("hkrawp_resnet", workdir, manifest, data_dir), NETWORK, *small, *more)
        assert result.status == 0, result.err
    scores = [folder / "evaluation/test/scores.csv" for folder in (converted, direct)]
    assert scores[0].read_text() == scores[1].read_text()
    assert json.loads((direct / "evaluation/test/metrics.json").read_text())["step"] == 0
    with pytest.raises(UserError, match="holds converted weights, not a training"):
        checkpoints.Checkpoints(converted, {"dataset": "data"}).restore(None)

    # Trained from it; started again after its end, the file is not needed any more.
    arguments = [*tiny("hkrawp_resnet", trained, manifest, data_dir), NETWORK]
    arguments += [option, "--config.num_steps=2", "--config.awp.warmup_epochs=0"]
    result = call(*arguments)
    assert result.status == 0, result.err
    assert f"{path}: weights of resnet_tiny, head included" in result.err
    path.unlink()
    result = call(*arguments)
    assert result.status == 0, result.err
    result = call(*arguments[:1], f"--workdir={tmp_path / 'no'}", *arguments[2:])
    assert f"error: config.model.pretrained: {path}: cannot be read" in result.err
    assert not (tmp_path / "no").exists()

    # Exported and imported: the same logits to the bit.
    exported = tmp_path / "exported.safetensors"
    for status in (0, 1):  # the second time it is there already
        assert command.main([str(trained), "--export", str(exported)]) == status
    digest = hashlib.sha256(exported.read_bytes()).hexdigest()
    again = pretrained.read(exported)
    assert (again.name, again.dropped) == ("resnet_tiny", None)
    assert digest == hashlib.sha256(exported.read_bytes()).hexdigest()
    variables, _ = checkpoints.restore_for_evaluation(trained)
    assert_equal(again.variables, variables)
    images = fixture("resnet_tiny")["images_odd"].astype(np.float32)
    apply = jax.jit(lambda v: models.create("resnet_tiny").apply(v, images, train=False).logits)
    before, after = (apply(jax.device_get(v)) for v in (variables, again.variables))
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("widths", [(), (24, 32)])
def test_a_configuration_of_a_detector_goes_with_any_weights(tmp_path, widths):
    """It names averages, which weights never have, and a localiser, which some have."""
    draw = np.random.default_rng(5)
    located = {}
    for i, width in enumerate(widths):
        located[f"localiser.map_{i}.weight"] = draw.normal(size=(1, width)).astype(np.float32)
        located[f"localiser.map_{i}.bias"] = draw.normal(size=1).astype(np.float32)
    path, run, exported = (tmp_path / name for name in ("config.py", "run", "e.safetensors"))
    path.write_text(
        "from qad_jax import configs\n\n\ndef get_config():\n"
        '    config = configs.load("detector")\n    config.image_size = 32\n    return config\n'
    )
    state = saved(tmp_path, **located)
    options = ["--name=resnet_tiny", f"--config={path}"]
    assert command.main([str(state), "--out", str(run), *options]) == 0
    variables, config = checkpoints.restore_for_evaluation(run)
    found = variables.pop("localiser", {})
    assert_equal(variables, variables_from_torch(fixture("resnet_tiny")["state"]))
    assert (config.ema_decay, config.localise.weight > 0) == (0, bool(widths))
    for i in range(len(widths)):
        expected = located[f"localiser.map_{i}.weight"].T
        np.testing.assert_array_equal(found[f"map_{i}"]["kernel"], expected)
    assert command.main([str(run), "--export", str(exported)]) == 0
    tensors = safetensors.load_file(exported)
    for key, value in fixture("resnet_tiny")["state"].items():
        np.testing.assert_array_equal(tensors[key], value)


def test_a_head_of_imagenet_cannot_be_evaluated(tmp_path, manifest, data_dir, dataset):
    head = {"fc.weight": np.ones((5, 32), np.float32), "fc.bias": np.ones(5, np.float32)}
    option = f"--config.model.pretrained={saved(tmp_path, **head)}"
    arguments = [*tiny("hkrawp_resnet", tmp_path / "run", manifest, data_dir), NETWORK]
    result = call(*arguments, option, "--mode=evaluate")
    assert result.status == 1
    assert "has a head of 5 classes, not of real and fake: train from it" in result.err
    assert not (tmp_path / "run").exists()


def test_a_safetensors_file_has_the_same_bytes_for_the_same_content():
    state = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(1, np.float32)}
    about = {name: name.upper() for name in "wxyz"}
    made = pretrained.as_safetensors(state, about)
    assert made == pretrained.as_safetensors(state, dict(reversed(about.items())))
    start = 8 + int.from_bytes(made[:8], "little")
    assert start % 8 == 0  # as the format wants it
    assert list(json.loads(made[8:start])["__metadata__"].items()) == sorted(about.items())
    read = safetensors.load(made)
    assert read.keys() == state.keys()
    for name, tensor in state.items():
        np.testing.assert_array_equal(read[name], tensor)
