"""Evaluation of checkpoints end to end, without training: corruptions, a second run, other data."""

import csv
import dataclasses
import functools
import json
import re

import cv2
import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.metrics import roc_auc_score

from qad_jax import models
from qad_jax.evaluation import protocol, robustness, robustness_curves
from qad_jax.evaluation.corruptions import CORRUPTIONS
from qad_jax.evaluation.results import Estimate
from qad_jax.evaluation.robustness import CorruptedSource
from qad_jax.evaluation.robustness_curves import Aucs, Point, Robustness, RunCurves
from qad_jax.runs import checkpoints
from qad_jax.runs.weights_digest import weights_digest
from qad_jax.training.step import normalise
from tests.commands import call, tiny
from tests.test_protocol import make_scores

SIZE = 32
QUALITIES = ("raw", "c23", "c40")


@pytest.fixture(scope="module")
def folders(tmp_path_factory, manifest, data_dir, dataset):
    """Two folders with the checkpoints of random networks, evaluated one against the other."""
    from qad_jax import configs

    config = configs.load("common").copy_and_resolve_references()
    config.model.name, config.image_size = "resnet_least", SIZE
    made = []
    init = jax.jit(functools.partial(models.create("resnet_least").init, train=False))
    for seed, name in enumerate(("mine", "theirs")):
        variables = init(jax.random.key(seed), np.zeros((1, SIZE, SIZE, 3), np.float32))
        made.append(tmp_path_factory.mktemp("runs") / name)
        checkpoints.save_for_evaluation(made[-1], dict(variables), config)
    arguments = evaluating(made[0], manifest, data_dir)
    result = call(*arguments, "--robustness", f"--against={made[1]}")
    assert result.status == 0, result.err
    return made


def evaluating(workdir, manifest, data_dir):
    """The best quality is not the first."""
    tested = "--config.qualities=c40,raw,c23"
    return [*tiny("hkrawp_resnet", workdir, manifest, data_dir), "--mode=evaluate", tested]


@pytest.fixture(scope="module")
def measured(folders):
    return robustness_curves.read(folders[0] / "evaluation/test", step=0)


def test_the_stored_crop_is_corrupted_before_it_is_resized(dataset):
    plain = tfds.builder_from_directory(dataset.data_dir).as_data_source("test")
    source = CorruptedSource(dataset, "test", "raw", SIZE)
    assert len(source.qualities) == sum(len(one.strengths) for one in CORRUPTIONS.values())
    column = source.qualities.index("jpeg 10")
    for i in range(4):
        original = plain[i]["image"]["raw"]
        assert original.shape[:2] != (SIZE, SIZE)
        settings = (cv2.IMWRITE_JPEG_QUALITY, 10)
        lossy = cv2.imdecode(cv2.imencode(".jpg", original[..., ::-1], settings)[1], 1)[..., ::-1]
        shrinks = min(original.shape[:2]) > SIZE
        how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        expected = cv2.resize(lossy, (SIZE, SIZE), interpolation=how)
        np.testing.assert_array_equal(source[i]["image"][column], expected)


def test_noise_is_the_record_s_own_and_the_same_again(dataset):
    source, other = (CorruptedSource(dataset, "test", "raw", SIZE) for _ in range(2))
    column = source.qualities.index("noise 40")
    clean = source.qualities.index("jpeg 95")
    noises = []
    for i in (2, 1):
        image = source[i]["image"]
        np.testing.assert_array_equal(image, other[i]["image"])
        noises.append((image[column].astype(float) - image[clean]).ravel())
    assert abs(np.corrcoef(noises)[0, 1]) < 0.5
    assert min(noise.std() for noise in noises) > 5


def scores_of(folder, source, column):
    variables, config = checkpoints.restore_for_evaluation(folder)
    images = np.stack([source[i]["image"][column] for i in range(len(source))])
    apply = jax.jit(functools.partial(models.create(config.model.name).apply, train=False))
    output = apply(jax.device_get(variables), normalise(images))
    return np.asarray(output.logits[:, 1] - output.logits[:, 0])


def test_a_point_of_each_run_is_the_auc_of_its_network(folders, measured, dataset):
    source = CorruptedSource(dataset, "test", "raw", SIZE)
    labels = [source[i]["label"] for i in range(len(source))]
    for folder, run in zip(folders, measured.runs, strict=True):
        points = {point.strength: point.auc.frame for point in run.curves["blur"]}
        expected = roc_auc_score(
            labels, scores_of(folder, source, source.qualities.index("blur 4"))
        )
        assert points[4].value == pytest.approx(expected, abs=1e-6)
        assert points[4].low <= points[4].value <= points[4].high


def test_curves_are_stored_for_both_runs(folders, measured):
    assert measured.quality == "raw"
    assert [run.name for run in measured.runs] == ["mine", "theirs"]
    report = protocol.read(folders[0] / "evaluation/test")
    assert (measured.dataset, measured.split) == (report.dataset, report.split)
    for run in measured.runs:
        assert set(run.curves) == {*CORRUPTIONS, "h264"}
        for name, one in CORRUPTIONS.items():
            assert [point.strength for point in run.curves[name]] == list(one.strengths)
    mine = measured.runs[0]
    aucs = [mine.clean, *(point.auc for point in mine.curves["h264"])]
    for quality, got in zip(QUALITIES, aucs, strict=True):
        result = report.summary.qualities[quality]
        for auc, numbers in ((got.frame, result.frame), (got.video, result.video)):
            for end in ("value", "low", "high"):
                expected = getattr(numbers.auc, end)
                assert getattr(auc, end) == pytest.approx(expected, abs=1e-12)
    assert [point.strength for point in mine.curves["h264"]] == [23, 40]
    assert not (folders[1] / "evaluation").exists()
    with (folders[0] / "evaluation/test/robustness.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * (sum(len(c.strengths) for c in CORRUPTIONS.values()) + 2)
    assert float(rows[0]["auc"]) == mine.curves["jpeg"][0].auc.frame.value


def test_results_tell_the_weights_that_they_are_of(folders, measured):
    mine, theirs = (checkpoints.restore_for_evaluation(folder)[0] for folder in folders)
    digests = [weights_digest(mine), weights_digest(theirs)]
    assert [run.weights for run in measured.runs] == digests
    assert protocol.read(folders[0] / "evaluation/test").weights == digests[0] != digests[1]
    assert json.loads((folders[0] / "calibration.json").read_text())["weights"] == digests[0]
    copied = jax.tree.map(np.array, mine)
    assert weights_digest(copied) == digests[0]
    jax.tree.leaves(copied["batch_stats"])[0][0] += 1e-3
    assert weights_digest(copied) != digests[0]


def test_the_report_draws_both_and_says_what_costs_most(folders, measured):
    folder = folders[0] / "evaluation/test"
    text = (folder / "report.html").read_text()
    assert robustness_curves.headline(measured) in text
    for name in robustness_curves.TITLES:
        drawn = text[text.index(f'<figure id="robustness_{name}"') :]
        drawn = drawn[: drawn.index("</figure>")]
        assert ">mine, step 0<" in drawn
        assert ">theirs, step 0<" in drawn
        assert (folder / "figures" / f"robustness_{name}.png").exists()


def test_the_folder_has_a_model_card(folders, measured):
    text = (folders[0] / "MODEL_CARD.md").read_text()
    report = protocol.read(folders[0] / "evaluation/test")
    assert protocol.headline(report) in text
    assert robustness_curves.headline(measured) in text
    assert "Trained on: not known" in text  # nothing was: the weights came from elsewhere
    assert '"image_size": 32' in text


def test_the_worst_is_named():
    text = robustness_curves.headline(curves_of(clean=0.9))
    assert "blur (Gaussian blur, standard deviation in px: 0) costs most" in text
    assert "frame AUC from 90.0 % to 70.0 %, 20.0 points down" in text
    assert "not defined" in robustness_curves.headline(curves_of(clean=None))


def curves_of(clean):
    def aucs(value):
        return Aucs(Estimate(value, 0.0, 1.0), Estimate(0.4))

    def points(*values):
        return tuple(Point(i, aucs(value)) for i, value in enumerate(values))

    curves = {"jpeg": points(0.9, 0.8), "blur": points(0.7, None), "h264": points(0.1)}
    return Robustness("d/1.0.0", "test", "raw", (RunCurves("run", 7, aucs(clean), curves),))


@pytest.mark.parametrize(
    ("lowest", "said"),
    [
        (0.52, "No corruption of raw lowers frame AUC, which is 50.0 % without one; it is lowest"),
        (0.5, "blur (Gaussian blur, standard deviation in px: 0): 50.0 %."),
        (0.4999, "from 50.0 % to 50.0 %, less than 0.1 points down."),
        (0.499, "from 50.0 % to 49.9 %, 0.1 points down."),
    ],
)
def test_nothing_is_said_to_cost_what_it_does_not(lowest, said):
    def aucs(value):
        return Aucs(Estimate(value), Estimate(value))

    curves = {"blur": (Point(0, aucs(lowest)),), "jpeg": (Point(0, aucs(0.6)),)}
    run = RunCurves("run", 7, aucs(0.5), curves)
    text = robustness_curves.headline(Robustness("d", "test", "raw", (run,)))
    assert said in text
    assert ("costs most" in text) == (lowest < 0.5)
    assert "-" not in text


def test_a_curve_of_one_person_in_a_class_has_no_intervals():
    made = make_scores(6)
    whole = [level for aucs in robustness._aucs(made) for _, level in aucs.levels()]
    assert all(level.low <= level.value <= level.high for level in whole)
    one = made._replace(identity=[*made.identity[:18], *["x"] * 36])
    levels = [level for aucs in robustness._aucs(one) for _, level in aucs.levels()]
    assert levels == [Estimate(level.value) for level in whole]


@pytest.mark.parametrize("clean", [0.9, None])
def test_curves_are_stored_in_one_order_and_read_again_for_their_step(tmp_path, clean):
    measured = curves_of(clean)
    robustness_curves.write(tmp_path, measured)
    assert robustness_curves.read(tmp_path, step=7) == measured
    assert robustness_curves.read(tmp_path, step=8) is None
    assert robustness_curves.read(tmp_path / "none", step=7) is None
    assert robustness_curves.read(tmp_path, step=7, weights="a") == measured  # an older file
    (curves,) = measured.runs
    told = dataclasses.replace(measured, runs=(dataclasses.replace(curves, weights="a"),))
    robustness_curves.write(tmp_path / "told", told)
    assert robustness_curves.read(tmp_path / "told", step=7, weights="a") == told
    assert robustness_curves.read(tmp_path / "told", step=7, weights="b") is None
    of_records = dataclasses.replace(measured, digest="a")
    robustness_curves.write(tmp_path / "records", of_records)
    assert robustness_curves.read(tmp_path / "records", step=7, digest="a") == of_records
    assert robustness_curves.read(tmp_path / "records", step=7, digest="b") is None
    stored = json.loads((tmp_path / "robustness.json").read_text())
    assert list(stored) == ["dataset", "split", "quality", "digest", "runs"]
    (run,) = stored["runs"]
    assert list(run) == ["name", "step", "weights", "clean", "curves"]
    assert run["clean"]["frame"] == {"auc": clean, "auc_low": 0.0, "auc_high": 1.0}
    assert run["curves"]["jpeg"][1] == {
        "strength": 1,
        "frame": {"auc": 0.8, "auc_low": 0.0, "auc_high": 1.0},
        "video": {"auc": 0.4, "auc_low": None, "auc_high": None},
    }
    lines = (tmp_path / "robustness.csv").read_text().splitlines()
    assert lines[0] == "run,corruption,strength,level,auc,low,high"
    assert lines[1:3] == ["run,jpeg,0,frame,0.9,0.0,1.0", "run,jpeg,0,video,0.4,,"]


def test_results_on_other_data_lie_apart_and_leave_the_own(
    folders, manifest, data_dir, monkeypatch
):
    own = folders[0] / "evaluation/test"
    before = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
    shared = [folders[0] / name for name in ("calibration.json", "MODEL_CARD.md")]
    before.update({path: path.read_bytes() for path in shared})
    monkeypatch.setattr(checkpoints, "datasets_of", lambda *_: ("elsewhere/all/1.0.0",))
    result = call(*evaluating(folders[0], manifest, data_dir))
    assert result.status == 0, result.err
    report = json.loads((own / "metrics.json").read_text())
    slug = re.sub(r"[^\w.-]+", "-", report["dataset"])
    apart = folders[0] / "evaluation" / slug / "test"
    assert {"metrics.json", "scores.csv", "report.html", "metrics.csv"} <= {
        path.name for path in apart.iterdir()
    }
    assert not (apart / "robustness.json").exists()
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--robustness"], "--robustness: only with --mode evaluate"),
        (["--mode=evaluate", "--against=x"], "--against: only with --robustness"),
        (["--mode=evaluate", "--robustness", "--against=/no/run"], "/no/run: there are no check"),
    ],
)
def test_flags_that_do_not_fit(extra, message, folders, manifest, data_dir):
    result = call(*tiny("hkrawp_resnet", folders[0], manifest, data_dir), *extra)
    assert result.status == 1
    assert "test:" not in result.err  # nothing was scored
    assert message in result.err
