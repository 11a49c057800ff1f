"""Paths that cannot be used: one line that names the option and says what to do, at once."""

import json
import re

import pytest

from data_builders import build, lists
from data_builders.errors import UserError
from data_builders.sharing import importing
from qad_jax import cli, configs
from qad_jax.evaluation import release

_NEEDED = ("--validation", "v", "--test", "t", "--about", "a")


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Runs a command in a folder with an empty folder and an empty file."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    monkeypatch.chdir(tmp_path)

    def run(*words):
        status = cli.main(list(words))
        error = capsys.readouterr().err
        assert status != 0
        assert len(error.splitlines()) == 1, error
        return error

    return run


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (("score", "scores.csv"), "--out"),
        (("compare", "a", "b"), "--out"),
        (("matrix", "a"), "--out"),
        (("convert", "weights.pth"), "--out"),
        (("convert", "weights.pth"), "--export"),
        (("export-dataset", "synthetic_faces", "--to", "parquet"), "--out"),
    ],
)
@pytest.mark.parametrize("place", ["empty/in_it", "empty/in_it/deeper"])
def test_what_cannot_be_written_is_told_first(call, words, flag, place):
    """Before anything is read: none of these inputs is there."""
    error = call(*words, flag, f"{place}.onnx" if flag == "--export" else place)
    assert f"{flag}: cannot write to " in error
    assert "Not a directory; name another folder, or mend that" in error


def test_datasets_are_in_folders_of_names_in_utf_8(call, tmp_path):
    """The library of their files has no other: it failed after the first of them."""
    place = "caf\udce9/data"
    told = r"--data_dir: .*/caf\udce9/data: is no path in UTF-8, which files of datasets need; name"
    assert told.replace(".*", str(tmp_path)) in call(
        "build", "synthetic_faces/tiny", "--data_dir", place
    )
    with pytest.raises(UserError, match="is no path in UTF-8"):
        importing.restore(tmp_path / "folder", tmp_path / place)


@pytest.mark.parametrize("value", ["", "mine"])
def test_an_empty_variable_names_no_folder(value, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", value and str(tmp_path / value))
    dataset = build.builder("synthetic_faces/tiny")
    assert dataset.data_path.parents[2] == tmp_path / (value or "tensorflow_datasets")


def test_a_release_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "empty").touch()
    assert release.main(["run", *_NEEDED, "--out", str(tmp_path / "empty/x.safetensors")]) == 1
    assert "--out: cannot write to " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("evaluate", "nothing"), "nothing: holds no run; name the folder of a run, or train"),
        (("evaluate", "folder"), "folder: holds no run; "),
        (("build", "manifest", "--data_dir", "x"), "--manifest: name the list of manifest"),
        (("build", "deepfakebench", "--data_dir", "x"), "--manifest: name the list of deepfakeb"),
        (("build", "ffiw10k", "--manual_dir", "empty", "--data_dir", "x"), "empty: is no folder; "),
        (
            ("train", "--config", "folder", "--workdir", "x"),
            "folder: is a folder that holds no run",
        ),
        (("train", "--config", "empty", "--workdir", "x"), "empty: has no function get_config()"),
        (("matrix", "nothing"), "nothing: there is no such folder; name the folder of a run"),
        (("matrix", "empty"), "empty: is no folder; "),
        (("compare", "empty", "empty"), "empty: is empty"),
        (("detect", ""), "PATH: is an empty name"),
    ],
)
def test_what_is_no_input_is_named(call, words, reason):
    assert reason in call(*words)


def test_a_model_that_is_no_run(tmp_path):
    with pytest.raises(UserError, match="holds no run; name the folder of a run, or a model file"):
        release.of_run(tmp_path)
    (tmp_path / configs.STORED).write_text(json.dumps({}))
    with pytest.raises(UserError, match="was not evaluated on its validation split"):
        release.of_run(tmp_path)


def test_an_empty_list(tmp_path):
    (tmp_path / "a.json").write_text(" \n")
    with pytest.raises(UserError, match=r"a\.json: is empty; get the file again"):
        lists.read_json(tmp_path / "a.json", "list")


@pytest.mark.parametrize(
    "words",
    [
        ("train", "--config", "quickstart", "--workdir", "~no_such_user/run"),
        ("detect", "empty", "--out", "~no_such_user/pages"),
        ("detect", "empty", "--results=~no_such_user/verdicts.jsonl"),
        ("detect", "--labels=~no_such_user/labels.csv"),
        ("serve", "--store=~no_such_user/results.db"),
        ("serve", "--token_file=~no_such_user/token"),
        ("serve", "--folder=~no_such_user/private"),
        ("score", "empty", "--out=~no_such_user/results"),
        ("compare", "empty", "empty", "--out=~no_such_user/results"),
        ("matrix", "empty", "--out=~no_such_user/results"),
        ("convert", "empty", "--export=~no_such_user/detector.onnx"),
        ("detect", "empty", "--model", "~no_such_user/model.safetensors"),
        ("convert", "~no_such_user/weights.pth", "--out", "run"),
        ("release", "~no_such_user/run", *_NEEDED, "--out", "x.safetensors"),
        ("build", "celeb_df_v2", "--manual_dir", "~no_such_user/faces"),
        ("build", "synthetic_faces", "--data_dir", "~no_such_user/data"),
        ("import-dataset", "~no_such_user/exported"),
    ],
)
def test_a_home_folder_of_nobody_is_told(call, words):
    """A shell leaves such a name as it is."""
    assert re.search(
        r"error: ~no_such_user/\w+(\.\w+)?: the home folder that ~ stands for", call(*words)
    )
