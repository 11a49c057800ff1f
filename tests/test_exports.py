"""Detectors for other runtimes: they give torch's own numbers, and say what they are."""

import hashlib
import json
import os
import re
import sys

import cv2
import jax
import jax.export
import numpy as np
import pytest
import safetensors.numpy

from qad_jax import cli, models
from qad_jax.detection.scoring import Scorer
from qad_jax.models.layers import Normalisation
from qad_jax.weights import model_file, pretrained
from tests import tiny_detector
from tests.commands import call
from tests.conftest import ROOT
from tests.test_models import TIMM, fixture, tiny, variables_of
from tests.test_pretrained import saved

# What make test installs; without them, every other test can still run.
onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("flatbuffers")

from qad_jax.weights import onnx_graph  # noqa: E402

FIXTURES = ("resnet_tiny", "resnet_basic", "efficientnet_tiny", *TIMM)
#: One network of each family, and the side of its crops here.
FAMILIES = {"resnet_tiny": 33, "efficientnet_tiny": 32, "efficientnet_lite_tiny": 33}
SOURCES = ({"title": "Faces of Ann", "licence": "CC0"},)


def session(file):
    given = os.fspath(file) if isinstance(file, os.PathLike) else file
    alone = runtime.SessionOptions()
    alone.intra_op_num_threads = 1  # its threads wait busily, and tests run beside each other
    return runtime.InferenceSession(given, alone, providers=["CPUExecutionProvider"])


def convert(*arguments):
    return call("convert", *arguments, main=cli.main)


def images(count, side, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def probability_of(logits):
    return 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))


@pytest.mark.parametrize("name", FIXTURES)
def test_onnx_equals_torch(name):
    """Logits and probabilities, at even and at odd sizes, for batches of one, two and three."""
    arrays = fixture(name)
    variables = variables_of(name, arrays["state"])
    # The stored logits are of images that were normalised as x / 64 - 2.
    halves = Normalisation((128 / 255,) * 3, (64 / 255,) * 3)
    for case in sorted(key for key in arrays if key.startswith("eval_")):
        network = tiny(name, nominal_size=60) if case == "eval_nominal60" else tiny(name)
        pixels = arrays["images_odd" if case == "eval_odd" else "images_even"]
        expected = arrays[case]["5"]
        data = onnx_graph.build(
            network.clone(normalisation=halves), variables, pixels.shape[1:3], {}
        )
        onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
        opened = session(data)
        for rows in ([0], [-1, 0], [0, -1, 0]):
            probability, logits = opened.run(None, {"images": pixels[rows]})
            np.testing.assert_allclose(logits, expected[rows], rtol=0, atol=1e-4)
            np.testing.assert_allclose(
                probability, probability_of(expected[rows].astype(float)), rtol=0, atol=1e-4
            )
    # And as the model itself normalises them.
    pixels = arrays["images_odd"]
    opened = session(onnx_graph.build(tiny(name), variables, pixels.shape[1:3], {}))
    (probability,) = opened.run(["probability"], {"images": pixels})
    np.testing.assert_allclose(probability, arrays["fake_odd"], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "side", "millions"),
    [
        # Multiplications for one image, as the authors count them: with those of batch norm.
        ("resnet50", 224, 4089),
        ("efficientnet_b1", 240, 700),
        ("tf_efficientnet_b1", 240, 700),
        ("timm_efficientnet_b1", 240, 700),
        ("efficientnet_lite0", 224, 407),
        ("efficientnet_lite1", 240, 631),
        ("efficientnet_lite2", 260, 899),
    ],
)
def test_the_published_networks_can_be_written(name, side, millions):
    network = models.create(name)
    image = jax.ShapeDtypeStruct((1, side, side, 3), np.float32)
    shapes = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), image)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    file = onnx.load_from_string(onnx_graph.build(network, zeros, (side, side), {}))
    graph = onnx.shape_inference.infer_shapes(file, check_type=True, strict_mode=True).graph
    shape = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in graph.value_info
    }
    weights = {constant.name: list(constant.dims) for constant in graph.initializer}
    counted = sum(
        np.prod(shape[node.output[0]][1:]) * np.prod(weights[node.input[1]][1:])
        for node in graph.node
        if node.op_type == "Conv"
    )
    assert counted / 1e6 == pytest.approx(millions, rel=0.06)
    assert shape["averaged"][1:] == [weights["fc/kernel"][0], 1, 1]


def test_an_unknown_part_is_refused():
    arrays = fixture("resnet_tiny")
    variables = variables_of("resnet_tiny", arrays["state"])
    more = {**variables["params"], "gate": {"kernel": np.zeros((1, 1, 4, 4), np.float32)}}
    with pytest.raises(ValueError, match="weights of no known part: gate/kernel"):
        onnx_graph.build(tiny("resnet_tiny"), {**variables, "params": more}, (33, 35), {})
    other = models.create("efficientnet_tiny").clone(activation=jax.nn.gelu)
    variables = variables_of("efficientnet_tiny", fixture("efficientnet_tiny")["state"])
    with pytest.raises(ValueError, match=r"the activation .*gelu.* cannot be written"):
        onnx_graph.build(other, variables, (33, 35), {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A configuration for each family, whose crops are small."""
    made = tmp_path_factory.mktemp("exports")
    for name, side in FAMILIES.items():
        (made / f"{name}.py").write_text(
            "from qad_jax import configs\n\n\ndef get_config():\n"
            f'    config = configs.load("common")\n    config.image_size = {side}\n'
            "    return config\n"
        )
    return made


@pytest.mark.parametrize(("name", "side"), FAMILIES.items())
def test_weights_in_both_formats(folder, tmp_path, name, side):
    """StableHLO and ONNX share no code: they must give the same, for any batch."""
    path = saved(tmp_path, name)
    options = ["--name", name, "--config", folder / f"{name}.py"]
    for suffix in ("onnx", "stablehlo"):
        result = convert(path, "--export", tmp_path / f"a.{suffix}", *options)
        assert result.status == 0, result.err
        assert f"a.{suffix}: {name}, crops of {side} x {side} px" in result.out
    opened = session(tmp_path / "a.onnx")
    exported = jax.export.deserialize(bytearray((tmp_path / "a.stablehlo").read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    for count in (1, 3):
        pixels = images(count, side, seed=count)
        probability, logits = exported.call(pixels)
        assert (probability.shape, logits.shape) == ((count,), (count, 2))
        expected = opened.run(["probability", "logits"], {"images": pixels})
        np.testing.assert_allclose(probability, expected[0], rtol=0, atol=1e-5)
        np.testing.assert_allclose(logits, expected[1], rtol=1e-5, atol=1e-5)
    beside = json.loads((tmp_path / "a.stablehlo.json").read_text())
    (stored,) = onnx.load(tmp_path / "a.onnx").metadata_props
    inside = json.loads(stored.value)
    assert stored.key == "qad_jax"
    assert beside == {**inside, "jax": jax.__version__, "platforms": ["cpu", "cuda", "tpu"]}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert inside["source"] == {"file": path.name, "sha256": digest}
    assert (inside["network"], inside["image_size"]) == (name, side)


def test_a_run(folder, tmp_path):
    name = "resnet_tiny"
    run = tmp_path / "run"
    pretrained.convert(saved(tmp_path, name), run, name, folder / f"{name}.py")
    for file in ("a.onnx", "a.safetensors"):
        result = convert(run, "--export", tmp_path / file)
        assert result.status == 0, result.err
    opened = session(tmp_path / "a.onnx")
    about = json.loads(opened.get_modelmeta().custom_metadata_map["qad_jax"])
    tensors = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    digest = hashlib.sha256(safetensors.numpy.save(tensors)).hexdigest()
    assert about["source"] == {"run": "run", "step": 0, "sha256": digest}
    assert str(tmp_path) not in json.dumps(about)  # nothing of the machine
    assert opened.get_inputs()[0].shape[1:] == [33, 33, 3]
    result = convert(run, "--export", tmp_path / "b.onnx", "--step", "7")
    assert result.status == 1
    assert "there is no checkpoint of step 7" in result.err
    assert not (tmp_path / "b.onnx").exists()


def test_the_detector_of_the_package(tmp_path):
    """As docs/deployment.md has it; it also marks places, which the file leaves out."""
    result = convert("detector", "--export", tmp_path / "a.onnx")
    assert result.status == 0, result.err
    read = model_file.read(model_file.SHIPPED)
    assert "localiser" in read.variables
    side = read.description.image_size
    smooth = cv2.resize(images(1, 8)[0], (side, side), interpolation=cv2.INTER_CUBIC)
    expected = Scorer(read.description.network, side, read.variables)([smooth])
    opened = session(tmp_path / "a.onnx")
    (probability,) = opened.run(["probability"], {"images": smooth[None]})
    np.testing.assert_allclose(probability, expected, rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A model file with everything that one says, and its ONNX file."""
    made = tmp_path_factory.mktemp("detector")
    tiny_detector.write(made / "detector.safetensors", SOURCES)
    result = convert(made / "detector.safetensors", "--export", made / "detector.onnx")
    assert result.status == 0, result.err
    return made


def test_a_model_file_says_the_same_in_onnx(detector):
    opened = session(detector / "detector.onnx")
    about = json.loads(opened.get_modelmeta().custom_metadata_map["qad_jax"])
    read = model_file.read(detector / "detector.safetensors")
    expected = json.loads(read.description.as_text())
    assert {name: about[name] for name in expected} == expected
    assert about["source"] == {"file": "detector.safetensors", "sha256": read.sha256}
    assert about["crop"]["scale"] == 1.3
    assert about["sources"] == [{"title": "Faces of Ann", "licence": "CC0"}]
    assert set(about["qualities"]) == {"raw", "c23", "c40"}
    assert opened.get_modelmeta().producer_name == "qad-jax"


@pytest.mark.checkout
@pytest.mark.parametrize("shape", [(80, 80, 3), (20, 20, 3), (32, 32, 3)])
def test_the_code_of_the_page_gives_what_the_detector_gives(detector, monkeypatch, shape):
    """A crop that shrinks, one that grows, and one that fits."""
    page, _, _ = (ROOT / "docs/deployment.md").read_text().partition("\n## A service\n")
    code = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    assert len(code) == 3
    monkeypatch.chdir(detector)
    crop = np.random.default_rng(2).integers(0, 256, shape, np.uint8)
    read = model_file.read(detector / "detector.safetensors")
    expected = Scorer("resnet_least", 32, read.variables)([crop])
    assert 0.001 < expected[0] < 0.999
    result = convert("detector.safetensors", "--export", f"detector{shape[0]}.stablehlo")
    assert result.status == 0, result.err
    defined: dict = {}
    compared = 0
    for text in code:  # each goes on from the one before
        exec(text.replace("detector.stablehlo", f"detector{shape[0]}.stablehlo"), defined)
        if "def score" in text:
            np.testing.assert_allclose(defined.pop("score")([crop]), expected, rtol=0, atol=1e-5)
            compared += 1
    assert compared == 2
    assert defined["about"]["name"] == "blue"


def test_the_same_source_gives_the_same_bytes(detector, tmp_path):
    again = tmp_path / "detector.onnx"
    assert convert(detector / "detector.safetensors", "--export", again).status == 0
    assert again.read_bytes() == (detector / "detector.onnx").read_bytes()


def files(folder):
    return sorted(path.name for path in folder.rglob("*"))


@pytest.mark.parametrize(("suffix", "package"), [("onnx", "onnx"), ("stablehlo", "flatbuffers")])
def test_a_missing_package_is_told(detector, tmp_path, monkeypatch, suffix, package):
    monkeypatch.setitem(sys.modules, package, None)
    result = convert(detector / "detector.safetensors", "--export", tmp_path / f"a.{suffix}")
    assert result.status == 1
    assert result.err == (
        f"error: --export: {tmp_path}/a.{suffix}: {package} is not installed; "
        f"pip install 'qad-jax[{suffix}]' brings it\n"
    )
    assert not files(tmp_path)


def test_what_cannot_be_written(detector, tmp_path):
    source = detector / "detector.safetensors"

    def refused(export, given=source):
        before = files(tmp_path)
        result = convert(given, "--export", export)
        assert result.status == 1
        assert result.err.count("\n") == 1
        assert files(tmp_path) == before
        return result.err

    unknown = refused(tmp_path / "a.tflite")
    assert "a.tflite: must end in .safetensors, .onnx or .stablehlo" in unknown
    assert "a: must end in" in refused(tmp_path / "a")
    (tmp_path / "blocked").write_text("")
    for suffix in ("onnx", "stablehlo"):
        assert str(tmp_path / "blocked") in refused(tmp_path / f"blocked/a.{suffix}")
    (tmp_path / "there.onnx").write_text("mine")
    assert "there.onnx exists; name a new file" in refused(tmp_path / "there.onnx")
    assert (tmp_path / "there.onnx").read_text() == "mine"
    (tmp_path / "b.stablehlo.json").write_text("mine")
    assert "b.stablehlo.json exists; name a new file" in refused(tmp_path / "b.stablehlo")
    assert "none: cannot be read" in refused(tmp_path / "a.onnx", tmp_path / "none")
    (tmp_path / "empty.pth").write_bytes(b"")
    assert "empty.pth: is empty" in refused(tmp_path / "a.onnx", tmp_path / "empty.pth")
    (tmp_path / "cut.safetensors").write_bytes(source.read_bytes()[:2000])
    assert "cut.safetensors: is no safetensors file, or is cut off" in refused(
        tmp_path / "a.onnx", tmp_path / "cut.safetensors"
    )
    (tmp_path / "empty").mkdir()
    assert "holds no whole checkpoint" in refused(tmp_path / "a.onnx", tmp_path / "empty")


def test_a_head_that_is_not_trained_is_refused(tmp_path, folder):
    """Of weights with other classes, and of a run that was converted from them."""
    name = "resnet_tiny"
    state = fixture(name)["state"]
    head = {
        "fc.weight": np.zeros((5, state["fc.weight"].shape[1]), np.float32),
        "fc.bias": np.zeros(5, np.float32),
    }
    path = saved(tmp_path, name, **head)
    pretrained.convert(path, tmp_path / "run", name, folder / f"{name}.py")
    for source, more in ((path, ["--name", name]), (tmp_path / "run", [])):
        result = convert(source, "--export", tmp_path / "a.onnx", *more)
        assert result.status == 1
        assert "its head has 5 classes, not real and fake; train it first" in result.err
    assert not (tmp_path / "a.onnx").exists()


def test_a_full_disk_leaves_nothing_that_looks_whole(detector, tmp_path, monkeypatch):
    replace = os.replace

    def full(source, target):
        if str(target).endswith((".onnx", ".stablehlo")):
            raise OSError(28, "No space left on device", str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    for suffix in ("onnx", "stablehlo"):
        result = convert(detector / "detector.safetensors", "--export", tmp_path / f"a.{suffix}")
        assert result.status == 1
        assert f"a.{suffix}: No space left on device" in result.err
    assert files(tmp_path) == []
