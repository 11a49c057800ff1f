"""NaN and infinity: no weights, no bound, no threshold, no score and no JSON may be one."""

import ast
import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors
from flax import traverse_util

import qad_jax
from data_builders.errors import UserError
from qad_jax import configs
from qad_jax.detection import command
from qad_jax.detection.conditions import Conditions
from qad_jax.detection.detector import Detector
from qad_jax.detection.journal import Journal
from qad_jax.detection.looking import Task
from qad_jax.detection.results import Face, FrameScore, Verdict
from qad_jax.evaluation import release_inputs
from qad_jax.runs import checkpoints
from qad_jax.weights import conversion, model_file, pretrained
from tests import tiny_detector
from tests.commands import call
from tests.test_detection import by_colour, film, filmed, model
from tests.test_models import fixture

NO_NUMBERS = (math.nan, math.inf, -math.inf)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tiny_detector.write(tmp_path_factory.mktemp("model") / "tiny.safetensors")


def opened(file):
    with safetensors.safe_open(file, framework="numpy") as tensors:
        return tensors.get_tensors(), dict(tensors.metadata())


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_a_model_file_with_one_such_weight_is_refused_by_the_name_of_the_tensor(
    file, tmp_path, value
):
    state, about = opened(file)
    path = tmp_path / "bad.safetensors"
    for name in ("fc.weight", "bn1.running_var"):
        wrong = state[name].copy()
        wrong.flat[-1] = value
        path.write_bytes(pretrained.as_safetensors({**state, name: wrong}, about))
        with pytest.raises(UserError) as error:
            Detector.from_pretrained(path)
        assert str(error.value).startswith(f"{path}: holds NaN or infinity in {name}, so ")
    assert call("--model", path, "any.png", main=command.main).status == 1


def test_weights_that_are_infinite_as_float32(tmp_path):
    state = {**fixture("resnet_tiny")["state"]}
    state["conv1.weight"] = np.full(state["conv1.weight"].shape, 1e300)
    path = tmp_path / "a.safetensors"
    path.write_bytes(pretrained.as_safetensors(state, {"format": "pt"}))
    with pytest.raises(UserError, match=r"a\.safetensors: holds NaN or infinity in conv1\.weight"):
        pretrained.read(path, "resnet_tiny")


def test_a_negative_variance_gives_no_score_either(file, tmp_path):
    state, about = opened(file)
    wrong = state["bn1.running_var"].copy()
    wrong[-1] = -1
    path = tmp_path / "bad.safetensors"
    path.write_bytes(pretrained.as_safetensors({**state, "bn1.running_var": wrong}, about))
    with pytest.raises(UserError, match=r"holds a negative variance in bn1\.running_var, so "):
        Detector.from_pretrained(path)


def test_a_checkpoint_with_such_weights_is_refused(tmp_path):
    """It is what `--model RUN`, `release` and the exports read."""
    state = fixture("resnet_tiny")["state"]
    variables = conversion.to_flax(state, "resnet_tiny", 2).variables
    config = configs.load("hkrawp_resnet")
    config.model.name = "resnet_tiny"
    flat = traverse_util.flatten_dict(variables)
    flat["params", "fc", "bias"] = np.array([0, math.nan], np.float32)
    checkpoints.save_for_evaluation(tmp_path, traverse_util.unflatten_dict(flat), config)
    with pytest.raises(UserError, match=r"step 0: holds NaN or infinity in fc\.bias"):
        pretrained.of_run(tmp_path)


def described(file, folder, change):
    state, about = opened(file)
    told = json.loads(about[model_file.KEY])
    change(told)
    text = json.dumps(told).replace('"TOO LARGE"', "1e999")
    path = folder / "changed.safetensors"
    path.write_bytes(pretrained.as_safetensors(state, {**about, model_file.KEY: text}))
    return path


@pytest.mark.parametrize("value", ["nan", "0.5", "TOO LARGE", True, 10**400])
@pytest.mark.parametrize(
    "place",
    [
        ("measured", "conditions", "smallest_face"),
        ("measured", "conditions", "largest_turn"),
        ("qualities", "c23", "thresholds", "temperature"),
        ("qualities", "raw", "thresholds", "upper"),
        ("qualities", "c40", "rates", "false_positive_rate"),
    ],
)
def test_what_is_told_of_a_model_is_numbers(file, tmp_path, place, value):
    def change(told):
        for name in place[:-1]:
            told = told[name]
        told[place[-1]] = value

    path = described(file, tmp_path, change)
    with pytest.raises(UserError, match=rf"{place[-1]} is .*, no finite number"):
        Detector.from_pretrained(path)


def test_a_list_of_thresholds_and_a_rate_that_is_not_known(file, tmp_path):
    def change(told):
        told["qualities"]["c23"]["thresholds"]["real"][3] = "0.1"

    with pytest.raises(UserError, match=r"c23: thresholds: real is '0\.1', no finite number"):
        model_file.describe(described(file, tmp_path, change))

    def unknown(told):
        told["qualities"]["c23"]["rates"]["auc"] = None

    read = model_file.describe(described(file, tmp_path, unknown))
    assert read.qualities["c23"]["rates"]["auc"] is None


@pytest.mark.parametrize("value", [*NO_NUMBERS, "nan", "60", None, False])
def test_a_condition_is_a_finite_number(value):
    with pytest.raises(ValueError, match="the condition most_compression is"):
        Conditions.of({"conditions": {"most_compression": value}})


@pytest.mark.parametrize("text", ['"nan"', "NaN", "1e999"])
def test_no_such_condition_is_released(tmp_path, text):
    path = tmp_path / "about.json"
    start = '{"name": "a", "version": "1", "sources": [], "conditions": {"largest_turn": '
    path.write_text(start + text + "}}")
    with pytest.raises(UserError, match=re.escape(f"--about: {path}: the condition largest_turn")):
        release_inputs.about(path)


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_a_score_that_is_no_number_is_an_error_and_costs_its_file_alone(
    tmp_path, monkeypatch, value
):
    detector = Detector(model(), frames=4)
    bad, good = film(tmp_path / "bad.mp4", filmed(6)), film(tmp_path / "good.mp4", filmed(6))
    broken = [True]

    def score(crops):
        scores = by_colour(crops)
        if broken and len(scores):
            broken.clear()
            scores[1] = value
        return scores

    detector.__dict__["_score"] = score
    monkeypatch.setattr(Detector, "from_pretrained", lambda model, frames: detector)
    result = call(bad, good, "--json", main=command.main)
    assert result.status == 3
    first, second = map(strict, result.out.splitlines())
    assert first["verdict"] == "error"
    assert "scores are NaN or infinite, so nothing can be told" in first["reason"]
    assert (first["probability"], first["faces"]) == (None, [])
    assert second["verdict"] == "real"


def test_another_number_that_json_has_not_is_an_error(tmp_path):
    detector = Detector(model(), frames=4)
    detector.__dict__["_score"] = by_colour
    found = detector.looker()(Task(str(film(tmp_path / "a.mp4", filmed(6)))))
    found = dataclasses.replace(found, facts={**found.facts, "rate": math.nan})
    verdict = detector.look(found, detector.scores(found.crops())).verdict
    assert verdict.verdict == "error"
    assert strict(verdict.as_json())["file"] == found.file


def strict(line):
    """Reads JSON as other programs do."""

    def refused(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(line, parse_constant=refused)


def test_a_verdict_with_such_a_number_has_no_json():
    frame = FrameScore(0, None, (0, 0, 9, 9), math.nan)
    for name in ("a.mp4", "\udcff.mp4"):  # the second has no UTF-8
        verdict = Verdict(name, None, "real", faces=(Face(0, "real", 0.1, "", (frame,)),))
        with pytest.raises(ValueError, match="JSON"):
            verdict.as_json()


def test_a_journal_with_such_a_number_is_no_journal(tmp_path):
    path = tmp_path / "results.jsonl"
    made = Verdict("a", "0a", "real", 0.25, model={"sha256": "m", "frames": 8}).as_json()
    path.write_text(made.replace("0.25", "NaN") + "\n")
    with pytest.raises(UserError, match="line 1 is no verdict"):
        Journal(path, model="m", frames=8)


def test_all_json_of_detection_is_strict():
    loose, seen = [], 0
    for path in sorted(Path(qad_jax.__file__).parent.glob("detection/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.dumps", "json.dump"):
                seen += 1
                options = {one.arg: ast.unparse(one.value) for one in node.keywords}
                if options.get("allow_nan") != "False":
                    loose.append(f"{path.name}:{node.lineno}")
    assert seen > 1
    assert loose == []
