"""Every model against every dataset by one command, from a run and a model file to the table."""

import csv
import json
from types import SimpleNamespace

import pytest

from data_builders import build
from qad_jax import configs
from qad_jax.evaluation import cross_dataset, evaluate_run, matrix
from qad_jax.runs import configuration
from tests import tiny_detector
from tests.commands import call, tiny
from tests.faces import write_methods


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder; the pages of the evaluations, which take seconds each, are left out."""
    with pytest.MonkeyPatch.context() as patch:
        page = "qad_jax.evaluation.evaluate_run.reports.write"
        patch.setattr(page, lambda folder, *_, **__: folder / "report.html")
        yield tmp_path_factory.mktemp("cross")


@pytest.fixture(scope="module")
def other(place):
    """A dataset of several methods that the run was not trained on."""
    made = build.builder("manifest", data_dir=place, manifest=write_methods(place / "crops"))
    build.prepare(made)
    return made


@pytest.fixture(scope="module")
def run(place, dataset, manifest, data_dir):
    """A run of one phase and few steps, which has evaluated its own test split."""
    arguments = tiny("quickstart", place / "run", manifest, data_dir)
    fields = ("num_epochs=1", "head_only_epochs=0", "awp.gamma=0", "hsic.weight=0")
    result = call(*arguments, *(f"--config.{field}" for field in fields))
    assert result.status == 0, result.err
    return place / "run"


@pytest.fixture(scope="module")
def command(place, run, other, manifest, data_dir):
    """The words of the command, which has not been run."""
    file = tiny_detector.write(place / "blue.safetensors")
    return [
        *(str(run), str(file), "--out", str(place / "out"), "--datasets"),
        *(f"manifest:{manifest}@{data_dir}", f"manifest:{place / 'crops/data.json'}@{place}"),
    ]


@pytest.fixture(scope="module")
def first(command, run, place):
    """What the first call has printed and written; later ones write it anew."""
    result = call(*command, main=matrix.main)
    assert result.status == 0, result.err
    with (place / "out/leakage.csv").open(newline="") as file:
        leakage = list(csv.DictReader(file))
    return SimpleNamespace(out=result.out, rows=rows_of(place), leakage=leakage)


def rows_of(place):
    return json.loads((place / "out/matrix.json").read_text())["rows"]


def test_all_models_are_evaluated_on_all_datasets(first, place, dataset, other):
    names = dataset.info.full_name, other.info.full_name
    rows = [row for row in first.rows if not row["method"]]
    assert sorted(
        (row["run"], row["dataset"] == names[0], row["own"], row["quality"]) for row in rows
    ) == sorted(
        (name, own_data, own_data if name == "run" else None, quality)
        for name in ("run", "blue.safetensors")
        for own_data in (True, False)
        for quality in ("raw", "c23", "c40")
    )
    assert {row["frames"] for row in rows if row["dataset"] == names[0]} == {14}
    assert {row["frames"] for row in rows if row["dataset"] == names[1]} == {12}
    methods = [row for row in first.rows if row["method"]]
    assert {(row["dataset"], row["method"]) for row in methods} == {
        (names[1], "Deepfakes"),
        (names[1], "NewFakes"),
    }
    assert "mean of 2 methods" in first.out
    (folder,) = (place / "out/models").iterdir()
    assert (folder / "evaluation").is_dir()


def test_leakage_is_looked_for_where_the_training_data_are_known(first, dataset, other):
    lines = [line for line in first.out.splitlines() if line.startswith("leakage: ")]
    assert [line.partition(" of ")[2] for line in lines[:2]] == [
        f"{count} videos in the test split of {tested.info.full_name} with the source of a video "
        f"in the train split of {dataset.info.full_name}"
        for tested, count in ((dataset, 8), (other, 9))
    ]
    assert lines[2:] == [
        "leakage: blue.safetensors: not compared with its training data: it is not known what it "
        "was trained on"
    ]
    assert {row["runs"] for row in first.leakage} == {"run"}
    fields = ("test_dataset", "test_method", "test_video")
    seen = sum(int(line.split(" of ")[0].split()[-1]) for line in lines[:2])
    assert len({tuple(row[name] for name in fields) for row in first.leakage}) == seen > 0


def test_the_same_command_evaluates_nothing_again(first, command, place, monkeypatch):
    def never(*_, **__):
        raise AssertionError("is evaluated already")

    monkeypatch.setattr("qad_jax.evaluation.cross_dataset.evaluate_model", never)
    again = call(*command, main=matrix.main)
    assert (again.status, again.out) == (0, first.out)
    fewer = call(*command, "--qualities=c23", "--no_leakage", main=matrix.main)
    assert fewer.status == 0
    assert "leakage" not in fewer.out
    assert {row["quality"] for row in rows_of(place)} == {"c23"}


@pytest.mark.parametrize("field", ["step", "digest", "dataset", "weights"])
def test_what_is_of_another_checkpoint_or_of_other_records_is_evaluated_again(
    first, command, run, monkeypatch, field
):
    path = run / "evaluation/test/metrics.json"
    whole = path.read_text()
    path.write_text(json.dumps({**json.loads(whole), field: "x"}))
    done = []

    def noted(model, config, folder, datasets, *, split):
        done.append((folder, [each.info.full_name for each in datasets], split))
        path.write_text(whole)

    monkeypatch.setattr("qad_jax.evaluation.cross_dataset.evaluate_model", noted)
    again = call(*command, main=matrix.main)
    assert (again.status, again.out) == (0, first.out)
    assert done == [(run, [json.loads(whole)["dataset"]], "test")]


def test_a_quality_that_is_named_twice_is_evaluated_once(command):
    (one,) = cross_dataset.open_tested(command[-2:-1], ["c23", "raw", "c23"])
    assert one.qualities == ("c23", "raw")


def test_qualities_that_are_there_are_kept_where_another_is_evaluated(
    first, command, run, monkeypatch
):
    path = run / "evaluation/test/metrics.json"
    whole = path.read_text()
    content = json.loads(whole)
    del content["qualities"]["raw"]
    path.write_text(json.dumps(content))
    done = []

    def noted(model, config, folder, datasets, *, split):
        done.append(tuple(config.qualities))
        path.write_text(whole)

    monkeypatch.setattr("qad_jax.evaluation.cross_dataset.evaluate_model", noted)
    assert call(*command, "--qualities=raw", "--no_leakage", main=matrix.main).status == 0
    assert [set(names) for names in done] == [{"raw", "c23", "c40"}]


def test_training_data_that_are_not_here_are_told():
    """A dataset may have been imported without the split that a run was trained on."""
    info = SimpleNamespace(full_name="celeb_df_v2/1.0.0", splits={"test": None})
    imported = SimpleNamespace(info=info, is_prepared=lambda: True)
    tested = [cross_dataset.Tested({}, imported, ("raw",))]
    entry = SimpleNamespace(name="a", trained_on=(info.full_name,), fields_of=lambda name: None)
    assert cross_dataset.look_for_leakage([entry], tested, "test").text() == (
        "leakage: a: not compared with its training data: the train split of celeb_df_v2/1.0.0 is "
        "not here; name a folder that holds it with --datasets celeb_df_v2@DATA_DIR"
    )


def test_weights_from_elsewhere_are_evaluated_as_they_are(dataset, other):
    """What they were trained on is not known, so that each dataset has a folder of its own."""
    assert evaluate_run.folder_of(other.info.full_name, ()) != ""
    assert evaluate_run.folder_of(dataset.info.full_name, (dataset.info.full_name,)) == ""


def test_mistakes_are_one_line(first, command, run, place, tmp_path):
    (tmp_path / "empty").mkdir()
    known = command[-1]
    for words, message in [
        ([run, "--datasets", "celeb_df"], "--datasets: there is no builder for dataset 'celeb_df'"),
        ([run, "--datasets", f"synthetic_faces@{tmp_path}"], "--datasets: synthetic_faces is not "),
        ([run, "--datasets", known, known], "is named twice; name each dataset once"),
        ([run, "--datasets", known, "--qualities=c41"], "has no quality 'c41'"),
        ([run, "--datasets", known, "--split=tset"], "has no tset split, only"),
        ([tmp_path / "empty", "--datasets", known], "empty: is no run, no model file"),
        ([place / "blue.safetensors", "--datasets", known], "--out: name a folder"),
        ([run, "--datasets", "manifest"], "--datasets: "),
    ]:
        result = call(*words, main=matrix.main)
        assert result.status == 1, words
        assert message in result.err
        assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "excluded"),
    [
        ("faceforensics_c23", ()),
        ("leave_one_out:FaceSwap", ("FaceSwap",)),
        ("leave_one_out:FaceSwap,FaceShifter", ("FaceSwap", "FaceShifter")),
    ],
)
def test_the_protocols_of_the_field(given, excluded):
    config = configs.load(given)
    configs.complete(config)
    checked = configuration.check(config)
    assert (checked.dataset.name, checked.qualities) == ("face_forensics/all", ("c23",))
    assert checked.dataset.exclude_methods == excluded


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("leave_one_out", "--config: name the method to leave out: leave_one_out:FaceSwap"),
        ("leave_one_out:Faceswap", "leave_one_out:Faceswap: did you mean 'FaceSwap'?"),
    ],
)
def test_a_protocol_without_a_method_is_one_line(given, message, tmp_path):
    result = call(f"--config={given}", f"--workdir={tmp_path}")
    assert (result.status, result.err.count("\n")) == (1, 1)
    assert message in result.err
