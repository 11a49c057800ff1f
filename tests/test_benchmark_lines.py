"""Mistakes of whoever calls a benchmark are one line, and are told before any work."""

import importlib
import json
import re

import pytest

from data_builders.command_line import FAILED, USAGE
from data_builders.errors import UserError
from qad_jax.weights import model_file
from tests.commands import call
from tests.conftest import ROOT
from tests.test_benchmarks import script

pytestmark = pytest.mark.checkout

SOURCES = {
    path.stem: text
    for path in sorted((ROOT / "benchmarks").glob("*.py"))
    if "__main__" in (text := path.read_text())
    if path.stem != "torch_twin"  # which torch is needed to import, and `speed.py` calls alone
}


def main_of(name):
    """The entry of a script, imported as its own text says that it is called."""
    if f"python -m benchmarks.{name}" in SOURCES[name]:
        return importlib.import_module(f"benchmarks.{name}").main
    return script(name).main


@pytest.mark.parametrize("name", SOURCES)
def test_a_command_line_that_is_wrong_is_one_line(name):
    told = call("--no-such-flag", main=main_of(name))
    assert (told.status, told.out) == (USAGE, "")
    assert re.fullmatch(r"error: command line: [^\n]+; --help has the options\n", told.err)
    for flag in re.findall(r'"--(\w+)", type=positive', SOURCES[name]):
        told = call(f"--{flag}", 0, main=main_of(name))
        assert told.status == USAGE
        assert f"argument --{flag}: is 0, must be at least 1; " in told.err
    assert "type=int" not in SOURCES[name].replace('"--people", type=int', "")


def test_two_people_are_needed_where_one_of_them_is_in_training():
    told = call("--people", 1, main=main_of("leaked_videos"))
    assert told.err.startswith("error: command line: --people: is 1, must be at least 2")


def test_a_sheet_that_cannot_be_written_is_told_before_faces_are_judged(tmp_path):
    for sheet, reason in (
        (tmp_path / "none" / "a.png", f"there is no folder {tmp_path / 'none'}"),
        (tmp_path, f"{tmp_path} is a folder"),
        (tmp_path / "a.nothing", "no picture can be written with such an ending"),
        (tmp_path / "a", "no picture can be written with such an ending"),
    ):
        told = call(tmp_path, "--sheet", sheet, main=main_of("harmless_changes"))
        assert told.status == USAGE
        assert reason in told.err
    told = call(tmp_path, "--sheet", tmp_path / "a.PNG", main=main_of("harmless_changes"))
    assert (told.status, told.err.count("\n")) == (FAILED, 1)
    assert f"{tmp_path}: holds no images or videos" in told.err


def test_a_quality_that_a_model_was_not_measured_at_is_named(tmp_path):
    table = tmp_path / "scores.csv"
    table.write_text("method,video,frame,label,score,quality\na,b,0,0,0.5,c99\n")
    told = call(model_file.SHIPPED, table, main=main_of("verdict_calibration"))
    assert (told.status, told.out, told.err.count("\n")) == (FAILED, "", 1)
    assert "was not measured at c99, only at raw, c23, c30, c40" in told.err
    of = script("thresholds").of(model_file.describe(model_file.SHIPPED), ("c40", "raw"))
    assert list(of) == ["c40", "raw"]


def test_a_dataset_that_is_not_built_or_lacks_something_is_named(tmp_path, dataset, data_dir):
    opened = script("held_out").opened
    with pytest.raises(UserError, match=f"sweep is not built in {tmp_path}"):
        opened("synthetic_faces/sweep", str(tmp_path))
    name = f"manifest/{dataset.builder_config.name}"
    assert opened(name, str(data_dir), ("train", "test"), ("raw", "c40")).qualities
    with pytest.raises(UserError, match="has no quality 'c99', only raw, c23, c40"):
        opened(name, str(data_dir), qualities=("c99",))
    with pytest.raises(UserError, match="has no split 'more', only "):
        opened(name, str(data_dir), ("test", "more"))


def test_a_run_that_is_not_there_is_one_line(tmp_path):
    words = tmp_path / "none", "synthetic_faces/sweep", "--data_dir", tmp_path
    told = call(*words, main=main_of("localisation"))
    assert (told.status, told.err.count("\n")) == (FAILED, 1)
    assert "there are no checkpoints" in told.err


def test_a_description_of_a_gpu_that_is_not_there_is_one_line(tmp_path):
    memory = importlib.import_module("benchmarks.memory")
    with pytest.raises(UserError, match=f"--target: {tmp_path}/none: "):
        memory.described_gpu(f"{tmp_path}/none")


def test_a_report_of_no_run_to_compare_with_is_one_line(tmp_path):
    main = main_of("detector_ablation")
    told = call("--report", "--out", tmp_path / "none", main=main)
    reason = "has no run of 'all qualities', with which all are compared\n"
    assert (told.status, told.err) == (FAILED, f"error: {tmp_path / 'none'}: {reason}")
    (tmp_path / "runs.json").write_text(
        json.dumps([{"row": "raw only", "seed": 0, "seconds": 9.0}])
    )
    told = call("--report", "--out", tmp_path, main=main)
    assert (told.status, told.err) == (FAILED, f"error: {tmp_path}: {reason}")
    assert [path.name for path in tmp_path.iterdir()] == ["runs.json"]


def test_what_was_measured_is_written_where_a_later_model_fails(tmp_path, monkeypatch):
    speed, file = script("speed"), tmp_path / "out.json"

    def compare(options, name, dtype, twin, results):
        if name == "efficientnet_b1":
            raise UserError("the second model")
        results.add(name, "plain", "here, s", [1.0], unit="s")

    monkeypatch.setattr(speed, "compare", compare)
    monkeypatch.setattr(speed, "has_torch", lambda python: False)
    words = ["--json", file, "--rows", "plain", "--dtypes", "float32", "--models"]
    told = call(*words, "resnet50", "efficientnet_b1", main=speed.main)
    assert (told.status, told.err) == (FAILED, "error: the second model\n")
    before = file.read_bytes()
    assert [row["table"] for row in json.loads(before)["rows"]] == ["resnet50"]
    # Nothing replaces it where nothing was measured.
    assert call(*words, "efficientnet_b1", main=speed.main).status == FAILED
    assert file.read_bytes() == before
