"""The whole command on small datasets: trained on all of them, each evaluated for itself."""

import json
import re
import shlex
import shutil

import numpy as np
import pytest

from data_builders import build
from data_builders.errors import UserError
from qad_jax.detection.detector import Detector
from qad_jax.evaluation import matrix, release, scores
from qad_jax.runs import checkpoints
from tests.commands import call
from tests.faces import write_manifest, write_methods

CONFIG = """
from qad_jax import configs


def get_config():
    config = configs.load("common")
    config.dataset = [
        {{"name": "manifest", "manifest": {first!r}, "weight": 2}},
        {{"name": "manifest", "manifest": {second!r}, "exclude_methods": ("FaceSwap",)}},
        {{"name": "manifest", "manifest": {third!r}}},
    ]
    config.model.name = "resnet_least"
    config.qualities = ("raw", "c40")
    config.sampling = "balanced"
    config.image_size = 16
    config.batch_size = 8
    config.num_steps = 8
    config.head_only_epochs = 0
    config.awp.gamma = 0.0
    config.log_every_steps = 4
    return config
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory, dataset, manifest, data_dir):
    """The folder of a run on a mixture, its datasets, its arguments, and what was printed.

    The third dataset has nothing but a train split.
    """
    place = tmp_path_factory.mktemp("mixture")
    second = write_methods(place / "crops")
    third = write_manifest(place / "more", {"train": 8})
    files = {"first": str(manifest), "second": str(second), "third": str(third)}
    (place / "own.py").write_text(CONFIG.format(**files))
    workdir = place / "run"
    arguments = [
        f"--config={place / 'own.py'}",
        f"--workdir={workdir}",
        f"--config.dataset[0].data_dir={data_dir}",
        f"--config.dataset[1].data_dir={place / 'tfds'}",
        f"--config.dataset[2].data_dir={place / 'tfds'}",
    ]
    result = call(*arguments)
    assert result.status == 0, result.err
    others = [
        build.builder("manifest", data_dir=place / "tfds", manifest=path)
        for path in (second, third)
    ]
    return workdir, [dataset, *others], arguments, result


def short(dataset):
    return dataset.info.full_name.rpartition("/")[0]


def results(workdir, dataset):
    return workdir / "evaluation" / re.sub(r"[^\w.-]+", "-", dataset.info.full_name)


def test_each_dataset_is_validated_for_itself(run):
    workdir, datasets, _, result = run
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    (line,) = [line for line in lines if line["split"] == "validation"]
    assert line["step"] == 8  # an epoch has 40, 18 and 8 tuples
    means = []
    for each in datasets[:2]:
        name = short(each)
        aucs = [line[f"{name}/{quality}/auc"] for quality in ("raw", "c40")]
        assert line[f"{name}/auc"] == pytest.approx(np.mean(aucs))
        means.append(line[f"{name}/auc"])
    assert line["auc"] == pytest.approx(np.mean(means))
    left_out = f"note: {datasets[2].info.full_name} takes no part in validation: it has no valid"
    assert left_out in result.err


def test_each_dataset_is_evaluated_in_a_folder_of_its_own(run):
    workdir, datasets, _, result = run
    assert {path.name for path in (workdir / "evaluation").iterdir()} == {
        results(workdir, each).name for each in datasets[:2]
    }
    for each, count in zip(datasets, (14, 12), strict=False):
        folder = results(workdir, each)
        stored = json.loads((folder / "test" / "metrics.json").read_text())
        assert (stored["dataset"], stored["qualities"]["raw"]["frames"]) == (
            each.info.full_name,
            count,
        )
        assert (folder / "test" / "report.html").exists()
        chosen = json.loads((folder / "calibration.json").read_text())
        assert (chosen["dataset"], chosen["step"]) == (each.info.full_name, stored["step"])
        assert each.info.full_name in stored["threshold_rule"]
        assert f"{each.info.full_name} test, step {stored['step']}" in result.out
    assert f"{datasets[2].info.full_name} has no test split: not evaluated" in result.out
    assert not (workdir / "calibration.json").exists()
    # The test split shows all methods; the thresholds come from validation without the excluded.
    tested = scores.read(results(workdir, datasets[1]) / "test" / "scores.csv")
    assert set(tested.method) == {"original", "Deepfakes", "NewFakes"}
    assert "without FaceSwap" in stored["threshold_rule"]


def test_the_thresholds_are_those_of_validation_without_the_excluded_methods(run, tmp_path):
    workdir, datasets, arguments, _ = run
    chosen = json.loads((results(workdir, datasets[1]) / "calibration.json").read_text())
    copied = tmp_path / "run"
    shutil.copytree(workdir, copied)
    arguments = [*arguments, f"--workdir={copied}", "--config.dataset[1].exclude_methods=Deepfakes"]
    again = call(*arguments, "--mode=evaluate", "--split=validation")
    assert again.status == 0, again.err
    assert "[1].exclude_methods changes no evaluation: the model was trained without" in again.err
    folder = results(copied, datasets[1])
    shown = scores.read(folder / "validation" / "scores.csv")
    assert set(shown.method) == {"original", "Deepfakes", "FaceSwap"}
    assert json.loads((folder / "calibration.json").read_text()) == chosen
    fakes = sorted(
        score
        for score, method in zip(shown.score[:, 0], shown.method, strict=True)
        if method == "Deepfakes"
    )
    reals = shown.score[np.array(shown.label) == 0, 0]
    threshold = chosen["qualities"]["raw"]["threshold"]
    # At equal error rates: 6 reals and 3 fakes, none of which is of the excluded method.
    missed, called = np.mean(np.array(fakes) < threshold), np.mean(reals >= threshold)
    assert abs(missed - called) <= 1 / 3


def test_the_run_says_what_it_was_trained_on(run):
    workdir, datasets, _, _ = run
    names = [each.info.full_name for each in datasets]
    known = json.loads((workdir / "run.json").read_text())
    assert known["dataset"] == names
    assert known["digest"] == [dict(each.info.metadata["digest"]) for each in datasets]
    assert checkpoints.datasets_of(workdir, 8) == tuple(names)
    card = (workdir / "MODEL_CARD.md").read_text()
    assert f"- Trained on: {', '.join(names)}" in card
    assert "- Methods left out of training: FaceSwap" in card
    assert "a person is in several of these datasets is not known" in card
    assert f"{names[2]} has no test split." in card
    for name in names[:2]:
        assert f"Test split of {name}." in card
        assert f"The test split of {name} has " in card
    assert "/home" not in card
    assert str(workdir) not in card


def test_the_matrix_knows_that_both_are_its_own(run):
    workdir, datasets, _, _ = run
    rows = matrix.collect([workdir], "test")
    assert all(row.own for row in rows)
    assert {row.dataset for row in rows} == {each.info.full_name for each in datasets[:2]}


def test_the_same_command_goes_on_and_other_weights_are_refused(run):
    workdir, _, arguments, result = run
    again = call(*arguments)
    assert again.status == 0, again.err
    assert again.out == result.out
    assert len(json.loads((workdir / "run.json").read_text())["starts"]) == 2
    other = call(*arguments, "--config.dataset[0].weight=0.5")
    assert other.status == 1
    assert "dataset[0].weight is 2.0 there and 0.5 here" in other.err


def test_other_records_of_one_dataset_are_refused(run, tmp_path):
    from data_builders.errors import UserError
    from qad_jax.runs import resumption

    here = resumption.circumstances(run[1])
    there = json.loads(json.dumps({**here, "batches": 8}))
    resumption.check(there, here, tmp_path)
    there["digest"][1]["train"] = "another"
    message = rf"{run[1][1].info.full_name} with other records \(digest of train\).*dataset\[1\]"
    with pytest.raises(UserError, match=message):
        resumption.check(there, here, tmp_path)
    with pytest.raises(UserError, match=r"holds a run on .*, manifest/.*, the dataset here is"):
        resumption.check(there, resumption.circumstances(run[1][:1]), tmp_path)


def test_it_is_evaluated_on_another_dataset_by_name(run, tmp_path):
    workdir, _, _, _ = run
    copied = tmp_path / "run"
    shutil.copytree(workdir, copied)
    result = call(
        f"--workdir={copied}",
        "--mode=evaluate",
        "--config.dataset.name=synthetic_faces/tiny",
        f"--config.dataset.data_dir={tmp_path / 'none'}",
    )
    assert result.status == 1  # it is not built, and nothing else is tried in its place
    assert "config.dataset.name: synthetic_faces/tiny is not built in" in result.err
    other = write_methods(tmp_path / "crops")
    build.prepare(build.builder("manifest", data_dir=tmp_path / "tfds", manifest=other))
    result = call(
        f"--workdir={copied}",
        "--mode=evaluate",
        "--config.dataset.name=manifest",
        f"--config.dataset.manifest={other}",
        f"--config.dataset.data_dir={tmp_path / 'tfds'}",
    )
    assert result.status == 0, result.err
    new = {path.name for path in (copied / "evaluation").iterdir()} - {
        path.name for path in (workdir / "evaluation").iterdir()
    }
    (folder,) = new
    stored = json.loads((copied / "evaluation" / folder / "test" / "metrics.json").read_text())
    assert stored["threshold_rule"].startswith("0.5: the model was trained on several datasets")
    assert (copied / "MODEL_CARD.md").read_text() == (workdir / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (
            "dataset.data_dir=x",
            r"config\.dataset\.data_dir: the datasets are config\.dataset\[0\],",
        ),
        ("dataset[3].name=x", r"\.dataset\[3\]\.name: the datasets are config\.dataset\[0\], conf"),
        ("dataset[1].nmae=x", "no field 'nmae': did you mean 'name'"),
        ("dataset[1].weight=much", "weight.*much"),
        ("dataset[1].exclude_methods=Face", "has no method 'Face': did you mean 'FaceSwap'"),
    ],
)
def test_fields_of_a_mixture_on_the_command_line(run, tmp_path, field, message):
    _, _, arguments, _ = run
    result = call(*arguments, f"--workdir={tmp_path / 'new'}", f"--config.{field}")
    # Only what the dataset lacks is no mistake of the command line.
    assert result.status == (1 if "exclude_methods" in field else 2)
    (line,) = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert re.search(message, line), line
    assert not (tmp_path / "new").exists()


def test_an_index_where_there_is_one_dataset():
    result = call("--config=quickstart", "--workdir=x", "--config.dataset[0].name=y")
    assert result.status == 2
    assert "there is one dataset: name its field as config.dataset.name" in result.err


def test_a_detector_is_made_of_the_results_on_one_dataset(run, tmp_path):
    """There is no `evaluation/test` to advise: the results of a mixture lie by dataset."""
    workdir, datasets, arguments, _ = run
    with pytest.raises(UserError, match="was trained on several datasets") as error:
        Detector.from_pretrained(workdir)
    advised = shlex.split(re.search(r"\((qad-jax release .*?)\)", str(error.value))[1])[2:]
    folder = results(workdir, datasets[0])
    assert advised[1:3] == [f"--{split}={folder / split}" for split in ("validation", "test")]
    assert call(*arguments, "--mode=evaluate", "--split=validation").status == 0
    (tmp_path / "about.json").write_text('{"name": "d", "version": "1", "sources": []}')
    places = [f"--about={tmp_path / 'about.json'}", f"--out={tmp_path / 'd.safetensors'}"]
    made = call(*advised[:3], *places, main=release.main)
    # All fits together, but the images of this test are smaller than those of any detector.
    assert "no model file can be made of it: image_size is 16" in made.err
