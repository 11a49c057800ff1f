"""The matrix of many runs on many datasets."""

import csv
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from data_builders import command_line
from qad_jax.evaluation import matrix, protocol
from qad_jax.evaluation.results import Estimate, Report
from tests.test_protocol import make_scores


def store(folder, dataset, made, step=5, split="test"):
    report = Report(dataset, split, step, protocol.summarise(made), "0.5")
    protocol.write(folder, made, report)
    return report


@pytest.fixture
def runs(tmp_path):
    """Two runs on two datasets, each trained on another, and the scores of another tool."""
    made = make_scores(6)
    worse = made._replace(score=1 - made.score)
    places = {
        ("a", "first/1.0.0", True): tmp_path / "a/evaluation/test",
        ("a", "second/1.0.0", False): tmp_path / "a/evaluation/second-1.0.0/test",
        ("b", "second/1.0.0", True): tmp_path / "b/evaluation/test",
        ("theirs", "first/1.0.0", None): tmp_path / "theirs",
    }
    kinds = (made, worse, made.of(("c40",)), made.of(("raw",))._replace(qualities=("all",)))
    return {
        key: store(place, key[1], scores, None if key[2] is None else 5)
        for (key, place), scores in zip(places.items(), kinds, strict=True)
    }


def test_every_run_dataset_and_quality_has_its_numbers(tmp_path, runs, capsys):
    store(tmp_path / "a/evaluation/validation", "first/1.0.0", make_scores(), split="validation")
    out = tmp_path / "out"
    folders = [str(tmp_path / name) for name in ("a", "b", "theirs")]
    assert matrix.main([*folders, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    rows = json.loads((out / "matrix.json").read_text())["rows"]
    assert [(r["run"], r["dataset"], r["own"], r["method"], r["quality"]) for r in rows] == [
        (*key, method, quality)
        for key, report in runs.items()
        for method in ("", "Deepfakes", "FaceSwap")
        for quality in report.summary.qualities
    ]
    for row in rows:
        assert list(row) == list(matrix.FIELDS)
        summary = runs[row["run"], row["dataset"], row["own"]].summary
        results = summary.methods[row["method"]] if row["method"] else summary.qualities
        for level, items, numbers in results[row["quality"]].levels():
            assert row[f"{level}s"] == items
            ends = [row[f"{level}_auc{end}"] for end in ("", "_low", "_high")]
            assert ends == [numbers.auc.value, numbers.auc.low, numbers.auc.high]
    with (out / "matrix.csv").open(newline="") as lines:
        again = list(csv.DictReader(lines))
    assert [float(r["video_auc"]) for r in again] == [r["video_auc"] for r in rows]
    first = runs["a", "first/1.0.0", True].summary.qualities["raw"].frame.auc.value
    head, line, *_ = printed.splitlines()
    assert head.split() == ["run", "dataset", "level", "raw", "c40", "all"]
    assert line.split()[:5] == ["a", "first/1.0.0", "*", "frame", f"{100 * first:.1f}"]
    assert line.split()[-1] == "-"
    assert "* the dataset that the run was trained on" in printed

    collected = matrix.collect([tmp_path / name for name in ("a", "b", "theirs")], "test")
    assert [row.as_dict() for row in collected] == rows
    runs_, columns, values = matrix.grid(collected, "frame")
    assert runs_ == ["a", "b", "theirs"]
    assert columns == [
        ("first/1.0.0", "raw"),
        ("first/1.0.0", "c40"),
        ("first/1.0.0", "all"),
        ("second/1.0.0", "raw"),
        ("second/1.0.0", "c40"),
    ]
    assert values[0, 0] == first
    np.testing.assert_array_equal(np.isnan(values).sum(1), [1, 4, 4])
    image = np.asarray(Image.open(out / "matrix.png").convert("RGB"))
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 100  # a scale of colours


def test_a_list_of_leaks_of_an_earlier_matrix_is_removed(tmp_path, runs):
    (tmp_path / "leakage.csv").write_text("of other models\n")
    rows = matrix.collect([tmp_path / "a"], "test", ["a"])
    matrix.write(tmp_path, rows)
    assert not (tmp_path / "leakage.csv").exists()


def test_better_is_brighter():
    def shade(auc):
        both = {"frame": Estimate(auc), "video": Estimate(auc)}
        row = matrix.MatrixRow("r", 1, "d", "test", None, "q", frames=1, videos=1, **both)
        image = np.asarray(Image.open(io.BytesIO(matrix.heat_map([row]))).convert("L"), float)
        height, width = image.shape
        return np.median(image[height // 10 : height // 3, width // 3 : width // 2])

    assert shade(0.95) > shade(0.75) > shade(0.55)


def test_what_is_not_defined_is_said(tmp_path):
    one = make_scores()._replace(label=np.ones(27, int))
    store(tmp_path / "a/evaluation/test", "d", one)
    rows = matrix.collect([tmp_path / "a"], "test")
    assert matrix.table(rows).count("n/a") == 4
    assert matrix.heat_map(rows).startswith(b"\x89PNG")


def test_weights_from_elsewhere_are_not_said_to_be_trained_here(tmp_path):
    store(tmp_path / "a/evaluation/test", "d", make_scores(), step=0)
    assert {row.own for row in matrix.collect([tmp_path / "a"], "test")} == {None}


def test_a_method_that_was_left_out_is_told(tmp_path):
    store(tmp_path / "a/evaluation/test", "first/1.0.0", make_scores())
    (tmp_path / "a/run.json").write_text('{"dataset": "first/1.0.0"}')
    stored = {"dataset": {"name": "first", "exclude_methods": ["FaceSwap"]}}
    (tmp_path / "a/config.json").write_text(json.dumps(stored))
    rows = matrix.collect([tmp_path / "a"], "test")
    assert {(row.method, row.own) for row in rows} == {
        ("", True),
        ("Deepfakes", True),
        ("FaceSwap", False),
    }
    printed = matrix.table(rows).splitlines()
    assert [line.split()[:2] for line in printed if "FaceSwap" in line] == [["FaceSwap", "+"]]
    assert printed[-1] == "+ a method that the run was trained without"
    (tmp_path / "a/config.json").write_text('{"dataset": 3}')  # then nothing is known
    assert all(row.own for row in matrix.collect([tmp_path / "a"], "test"))


def test_folders_of_one_name_are_told_apart(tmp_path):
    folders = [tmp_path / "x" / "run", tmp_path / "y" / "run"]
    for folder in folders:
        store(folder / "evaluation/test", "d", make_scores())
    names = list(dict.fromkeys(row.run for row in matrix.collect(folders, "test")))
    assert names == [str(folder) for folder in folders]


@pytest.mark.parametrize("field", ["auc", "auc_low", "step"])
def test_numbers_that_are_none_are_no_results(tmp_path, capsys, field):
    """Python reads NaN and Infinity, which JSON does not have, and could not write them again."""
    store(tmp_path / "bad", "d", make_scores())
    path = tmp_path / "bad" / "metrics.json"
    whole = path.read_text()
    for number in ("NaN", "-Infinity", "1e999"):
        path.write_text(re.sub(rf'"{field}": [\d.]+', f'"{field}": {number}', whole))
        assert matrix.main([str(path.parent), "--out", str(tmp_path / "out")]) == 1
        error = capsys.readouterr().err
        assert "bad/metrics.json: is not the result of an evaluation" in error
        assert error.count("\n") == 1


@pytest.mark.parametrize(
    "content",
    [
        *("{", "[]", "{}", '{"step": 1, "dataset": 1, "split": 1}'),
        '{"step": 1, "dataset": "d", "split": "test", "qualities": {}}',
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, content):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "metrics.json").write_text(content)
    store(tmp_path / "good", "d", make_scores())
    bad, good = str(tmp_path / "bad"), str(tmp_path / "good")
    for arguments, message in [
        (
            [bad, "--out", str(tmp_path / "out")],
            "bad/metrics.json: is not the result of an evaluation",
        ),
        ([str(tmp_path / "empty")], "empty: holds no results of the split 'test'"),
        ([str(tmp_path / "none")], "none: there is no such folder"),
        ([good, good], "is named twice"),
        ([good, "--no_leakage"], "--no_leakage: only with --datasets"),
        ([], "required: MODEL"),
    ]:
        usage = "required" in message or "only with" in message
        status = command_line.USAGE if usage else command_line.FAILED
        assert matrix.main([*arguments, "--out", str(tmp_path / "out")]) == status
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert message in error
    assert not (tmp_path / "out").exists()
