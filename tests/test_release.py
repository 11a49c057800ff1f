"""A model file: made of a run, read by others, refused where it is not one."""

import csv
import dataclasses
import json
import re
import shutil
import unicodedata

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from data_builders.errors import UserError
from data_builders.faces import Detected
from qad_jax import configs
from qad_jax.detection.conditions import Conditions
from qad_jax.detection.detector import Detector
from qad_jax.detection.marks import Marks
from qad_jax.detection.scoring import batch_size
from qad_jax.evaluation import release, release_inputs, scores
from qad_jax.evaluation.inference import predict_step_of
from qad_jax.evaluation.rates import Rates
from qad_jax.evaluation.report import model_card
from qad_jax.evaluation.verdicts import Thresholds
from qad_jax.runs import checkpoints, placement
from qad_jax.training import parallel
from qad_jax.weights import model_file, pretrained
from tests.commands import call, tiny

RECIPE = Detected().recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory, manifest, data_dir, dataset):
    """A run of two steps, with results on validation and test."""
    folder = tmp_path_factory.mktemp("release") / "run"
    arguments = tiny("hkrawp_resnet", folder, manifest, data_dir)
    arguments += ["--config.num_steps=2", "--config.head_only_epochs=0"]
    for more in ([], ["--mode=evaluate", "--split=validation"]):
        result = call(*arguments, *more)
        assert result.status == 0, result.err
    return folder


@pytest.fixture(scope="module")
def about(tmp_path_factory):
    path = tmp_path_factory.mktemp("about") / "about.json"
    sources = [{"title": "Faces of Ann", "licence": "CC0", "images": 3}]
    path.write_text(json.dumps({"name": "ours", "version": "1.0", "sources": sources}))
    return path


@pytest.fixture(scope="module")
def made(run, about):
    people = run.parent / "people.csv"
    people_of_test = sorted(set(scores.read(run / "evaluation/test/scores.csv").identity))
    rows = [f"{one},{'fm'[i % 2]}" for i, one in enumerate(people_of_test)]
    people.write_text("\n".join(["identity,sex", *rows]))
    clips = run.parent / "clips.csv"
    videos = scores.read(run / "evaluation/test/scores.csv").videos().video
    clips.write_text(f"video,size\n{videos[0]},small\n{videos[-1]},large\n")
    out = run.parent / "model.safetensors"
    result = call(
        *(run, f"--validation={run}", f"--test={run}", f"--about={about}"),
        *(f"--people={people}", f"--clips={clips}", f"--out={out}"),
        main=release.main,
    )
    assert result.status == 0, result.err
    assert "ours 1.0" in result.out
    return out


@pytest.mark.parametrize("key", ["identity", "video"])
def test_a_group_is_found_by_a_name_in_either_form(tmp_path, key):
    one, other = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    path = tmp_path / "groups.csv"
    path.write_text(f"{key},sex\n{other},f\nbob,m\nbob,m\nann,\n", encoding="utf-8")
    assert release_inputs.groups_of(path, key) == {"sex": {one: "f", "bob": "m"}}
    path.write_text(f"{key},sex\n{other},f\n{one},m\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"{one} has two groups in the column sex, 'f' and 'm'"):
        release_inputs.groups_of(path, key)


@pytest.mark.parametrize("name", ["ann\u2028lee", "ann\nlee", "ann\x0blee", 'ann "lee", jr.'])
def test_a_name_is_one_whatever_ends_of_lines_it_has(tmp_path, name):
    path = tmp_path / "groups.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["identity", "sex"], [name, "f"], ["bob", "m"]])
    assert release_inputs.groups_of(path, "identity") == {"sex": {name: "f", "bob": "m"}}


def test_a_cell_that_is_too_long_is_told(tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text('identity,sex\nann,"' + "x" * 200_000 + '"\n')
    with pytest.raises(UserError, match=r"groups\.csv: cannot be read: field larger than"):
        release_inputs.groups_of(path, "identity")


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"conditions": {"smalest_face": 200}}, "no condition 'smalest_face': did you mean"),
        ({"localisation": {"raw": {"right": 0.8}}}, "the localisation at raw must be right, found"),
        ({"localisation": {"raw": {"right": 2, "found": 0, "false": 0}}}, "from 0 to 1 each"),
        ({"localisation": {"raw": {"right": "1", "found": 0, "false": 0}}}, "from 0 to 1 each"),
        ({"localisation": {"raw": [1, 1, 1]}}, "about.json: "),
    ],
)
def test_what_is_told_of_a_detector_is_what_is_read(tmp_path, told, message):
    path = tmp_path / "about.json"
    path.write_text(json.dumps({"name": "a", "version": "1", "sources": [], **told}))
    with pytest.raises(UserError, match=re.escape(message)):
        release_inputs.about(path)


def test_all_that_is_read_can_be_told(tmp_path):
    for known, of in ((release_inputs.CONDITIONS, Conditions), (release_inputs.MARKS, Marks)):
        assert known == tuple(field.name for field in dataclasses.fields(of))
    shares = {"right": 0.8, "found": 0.5, "false": 0.1}
    conditions = dict.fromkeys(release_inputs.CONDITIONS, 1)
    told = {"name": "a", "version": "1", "sources": [], "conditions": conditions}
    path = tmp_path / "about.json"
    path.write_text(json.dumps({**told, "localisation": {"raw": shares}}))
    assert release_inputs.about(path)["localisation"] == {"raw": shares}


def test_a_release_whose_card_fails_leaves_nothing(tmp_path, run, about, monkeypatch):
    def fail(described):
        raise UserError("no card")

    monkeypatch.setattr(release.model_card, "render", fail)
    options = [f"--validation={run}", f"--test={run}", f"--about={about}"]
    result = call(run, *options, f"--out={tmp_path / 'a.safetensors'}", main=release.main)
    assert (result.status, list(tmp_path.iterdir())) == (1, [])


def test_the_weights_are_those_of_the_run(run, made):
    read = model_file.read(made)
    expected, config = checkpoints.restore_for_evaluation(run)
    jax.tree.map(np.testing.assert_array_equal, read.variables, jax.device_get(expected))
    assert read.description.network == config.model.name == pretrained.read(made).name
    assert read.description.image_size == 32
    assert len(read.sha256) == 64


def test_rates_and_thresholds_are_stored_for_each_quality(made):
    described = model_file.describe(made)
    assert list(described.qualities) == ["raw", "c23", "c40"]
    for of in described.qualities.values():
        thresholds, rates = Thresholds.from_dict(of["thresholds"]), Rates.from_dict(of["rates"])
        assert 0 <= thresholds.lower <= thresholds.upper <= 1
        assert rates.real_clips + rates.fake_clips == described.measured["clips"]
    groups = described.measured["groups"]
    assert set(groups["sex"]) == {"groups of fewer than 10 people"}
    assert set(groups["size"]) == {"groups of fewer than 10 people"}
    of_size = Rates.from_dict(groups["size"]["groups of fewer than 10 people"]["raw"])
    assert of_size.real_clips + of_size.fake_clips == 2
    text = json.dumps(described.training)
    assert "data_dir" not in text
    assert "/tmp" not in text


def test_small_groups_are_put_together(made):
    """Eleven people of one group and two of another, of whom there are clips."""
    people = [f"p{i}" for i in range(13)]
    clips = scores.Scores(
        ("raw",),
        np.zeros(13, int),
        ["original"] * 13,
        people,
        people,
        np.zeros(13, int),
        np.zeros((13, 1)),
    )
    groups = [*"a" * 11, "b", ""]
    assert release._large(groups, clips) == [*"a" * 11, "groups of fewer than 10 people", ""]


def test_the_card_says_what_the_file_says(run, made):
    card = made.with_suffix(".md").read_text()
    described = model_file.describe(made)
    rates = Rates.from_dict(described.qualities["c40"]["rates"])
    auc = f"{100 * rates.auc.value:.1f} ({100 * rates.auc.low:.1f} to {100 * rates.auc.high:.1f})"
    (row,) = re.findall(r"^\| c40 \| \d+ \| \d+ \|.*$", card, re.MULTILINE)
    assert auc in row
    assert "Faces of Ann: CC0 (images: 3)" in card
    assert "no evidence against a person" in card
    assert "20 of 1000 real clips are called fake" in card
    chosen_on = scores.read(run / "evaluation/validation/scores.csv")
    people = {
        who for who, label in zip(chosen_on.identity, chosen_on.label, strict=True) if not label
    }
    few = "" if len(people) >= 49 else ", who are too few to promise it"
    assert f"They rest on real clips of {len(people)} people{few}" in card
    assert "By sex:" in card
    frames = scores.read(run / "evaluation/test/scores.csv")
    each = len(frames.label) / len(set(frames.video))
    assert 1 < each < 10
    assert f"A clip has {each:.3g} frames on average." in card
    # A manifest lists crops, and not how they were made.
    assert "How the faces were cut out is not known." in card
    assert "it calls every file with a face inconclusive" in card
    shipped = model_file.SHIPPED.with_suffix(".md").read_text()
    assert "inconclusive, and tells no error rates" not in shipped
    assert "| low resolution | " in shipped
    assert "Trained on: self\\_blended/d06e26c4/3.4.0, self\\_blended/af431675/3.4.0\n" in shipped


def test_no_bound_of_a_share_is_rounded_down(made):
    described = model_file.describe(made)
    rates = described.qualities["c40"]["rates"]
    none = {
        f"false_positive_rate{end}": v for end, v in (("", 0.0), ("_low", 0.0), ("_high", 0.00735))
    }
    qualities = {"c40": {**described.qualities["c40"], "rates": {**rates, **none}}}
    card = model_card.render(dataclasses.replace(described, qualities=qualities))
    assert "At c40, fewer than 8 of 1000 (none of" in card


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "its format is 2, and this version of qad-jax knows 1"),
        ({"image_size": 10**6}, "image_size is 1000000"),
        ({"image_size": 32.0}, "image_size is 32.0, must be a whole number from 32 to 1024"),
        ({"image_size": True}, "image_size is True"),
        ({"crop": {**RECIPE, "scale": "x"}}, "crop: scale is 'x', must be a number from 0.1 to 10"),
        ({"crop": {**RECIPE, "scale": -1}}, "crop: scale is -1"),
        ({"crop": {**RECIPE, "min_face": 5}}, "crop: min_face is 5, must be a number from 12 to"),
        ({"crop": {**RECIPE, "min_face": {}}}, "crop: min_face is {}"),
        ({"crop": {**RECIPE, "max_side": 10**9}}, "crop: max_side is 1000000000, must be a whole"),
        ({"crop": {**RECIPE, "max_side": 640.0}}, "crop: max_side is 640.0"),
        ({"crop": {**RECIPE, "max_gap": None}}, "crop: max_gap is None"),
        ({"normalisation": {"mean": [10**400] * 3, "std": [1] * 3}}, "normalisation is not that"),
        ({"name": "\ud800"}, "surrogates not allowed"),
        ({"training": {"config": {"model": {"dtype": "int4"}}}}, "config.model.dtype is 'int4'"),
        ({"sources": ["a"]}, "sources is no list of objects"),
        ({"network": "vit"}, "network 'vit' is not known"),
        ({"normalisation": {"mean": [0, 0, 0], "std": [1, 1, 1]}}, "normalisation is not that of"),
        ({"qualities": {}}, "no measured quality"),
        ({"name": 3}, "name is no text"),
        ({"crop": []}, "crop is no object"),
        ({"sources": None}, "is not a model file that can be used"),
        ({"version": None}, "version is no text"),
    ],
)
def test_what_a_stranger_claims_is_checked(tmp_path, made, change, message):
    path = changed(made, tmp_path, lambda text: json.dumps({**json.loads(text), **change}))
    with pytest.raises(UserError, match=re.escape(message)) as error:
        model_file.read(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"false_positive_rate": 7.5}, "c23: rates: false_positive_rate is 7.5, no share from 0"),
        ({"false_positive_rate": -1 / 99}, "no share from 0 to 1"),
        ({"inconclusive_fake": [0.1]}, "no share from 0 to 1"),
        ({"auc_low": 0.9, "auc_high": 0.8}, "the interval of auc is from 0.9 to 0.8"),
        ({"real_clips": -1}, "real_clips is -1, no number of clips"),
        ({"fake_clips": 2.5}, "fake_clips is 2.5, no number of clips"),
        ({"fake_clips": None}, "fake_clips is None, no number of clips"),
    ],
)
def test_rates_are_shares(tmp_path, made, change, message):
    def changing(text):
        told = json.loads(text)
        told["qualities"]["c23"]["rates"].update(change)
        return json.dumps(told)

    with pytest.raises(UserError, match=re.escape(message)):
        model_file.describe(changed(made, tmp_path, changing))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 16}, "image_size is 16, must be a whole number from 32 to 1024"),
        ({"image_size": 1100}, "image_size is 1100"),
        ({"version": "1" * (1 << 20)}, "longer than 1,048,576"),
        ({"training": {"values": [0] * 50_001}}, "more than 50,000 values"),
        ({"measured": {"clips": float("nan")}}, "not JSON compliant"),
    ],
)
def test_no_file_is_written_that_cannot_be_read(tmp_path, made, change, message):
    read = model_file.read(made)
    described = dataclasses.replace(read.description, **change)
    with pytest.raises(UserError, match=rf"^ours: no model file can be made of it: .*{message}"):
        model_file.write(tmp_path / "a.safetensors", read.variables, described)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (lambda text: text[:-1], "is not a model file"),
        (lambda text: "[" * 10**4, "lie too deep"),
        (lambda text: "[]", "is not a model file"),
        (lambda text: "{}", "'format' is missing"),
        (lambda text: text.replace("32", "NaN", 1), "NaN is not a number"),
        (lambda text: " " * (1 << 20) + text, "longer than 1,048,576"),
    ],
)
def test_damaged_descriptions(tmp_path, made, text, message):
    with pytest.raises(UserError, match=re.escape(message)):
        model_file.describe(changed(made, tmp_path, text))


def changed(made, folder, text):
    with safetensors.safe_open(made, framework="numpy") as file:
        about, state = dict(file.metadata()), file.get_tensors()
    path = folder / "changed.safetensors"
    about[model_file.KEY] = text(about[model_file.KEY])
    path.write_bytes(safetensors.numpy.save(state, about))
    return path


def test_files_that_are_none(tmp_path, made):
    plain = tmp_path / "plain.safetensors"
    with safetensors.safe_open(made, framework="numpy") as file:
        plain.write_bytes(safetensors.numpy.save(file.get_tensors()))
    with pytest.raises(UserError, match="weights alone, without the thresholds"):
        model_file.read(plain)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(made.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"cut\.safetensors"):
        model_file.read(cut)
    long = tmp_path / "long.safetensors"
    long.write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    with pytest.raises(UserError, match="header takes more than"):
        model_file.describe(long)
    with pytest.raises(UserError, match="cannot be read"):
        model_file.read(tmp_path / "none.safetensors")


def test_a_run_that_was_evaluated_is_a_detector(run, made, tmp_path):
    detector, released = Detector.from_pretrained(run), model_file.read(made)
    # As a file holds it: JSON has no tuples.
    of_run = model_file._checked(json.loads(detector.model.description.as_text()))
    for name in ("qualities", "crop", "network", "image_size", "normalisation", "training"):
        assert getattr(of_run, name) == getattr(released.description, name)
    assert (of_run.name, of_run.version) == ("run", "unreleased")
    jax.tree.map(np.testing.assert_array_equal, detector.model.variables, released.variables)
    assert detector.model.sha256 == Detector.from_pretrained(str(run)).model.sha256
    part = tmp_path / "part"
    shutil.copytree(run, part)
    shutil.rmtree(part / "evaluation" / "validation")
    with pytest.raises(
        UserError, match=r"not evaluated on its validation split.*qad-jax evaluate .*part --split"
    ):
        Detector.from_pretrained(part)
    with pytest.raises(UserError, match=r"evaluation: holds no run"):
        Detector.from_pretrained(run / "evaluation")


@pytest.mark.parametrize("split", ["validation", "test"])
def test_results_of_another_checkpoint_are_refused(run, about, tmp_path, split):
    """What one step was measured to do says nothing of another's weights."""
    part = tmp_path / "part"
    shutil.copytree(run, part)
    numbers = part / "evaluation" / split / "metrics.json"
    told = json.loads(numbers.read_text())
    for step, of in ((told["step"] + 1, f"of step {told['step'] + 1}"), (None, "of another tool")):
        numbers.write_text(json.dumps({**told, "step": step}))
        with pytest.raises(UserError, match=rf"{of}, and the weights of step 2; run: ") as error:
            Detector.from_pretrained(part)
        assert f"qad-jax evaluate {part} --split {split} --step 2" in str(error.value)
        assert str(numbers) in str(error.value)
    numbers.write_text(json.dumps({**told, "weights": "0" * 64}))
    with pytest.raises(UserError, match=r"of other weights of step 2 than those of .*; run: "):
        Detector.from_pretrained(part)
    older = {name: value for name, value in told.items() if name != "weights"}
    numbers.write_text(json.dumps(older))
    Detector.from_pretrained(part)
    numbers.unlink()
    options = [f"--validation={part}", f"--test={part}", f"--about={about}"]
    result = call(part, *options, f"--out={tmp_path / 'a.safetensors'}", main=release.main)
    assert result.status == 1
    assert f"{numbers}: does not tell of which checkpoint the scores are" in result.err
    assert not (tmp_path / "a.safetensors").exists()


def test_excluded_methods_choose_no_thresholds(monkeypatch):
    """As docs/training.md promises it, and as `evaluate` does it."""
    config = configs.load("leave_one_out:Deepfakes")
    names = ["original", "Deepfakes", "FaceSwap"]
    read = scores.Scores(
        ("raw",), np.array([0, 1, 1]), names, names, names, np.zeros(3, int), np.zeros((3, 1))
    )
    monkeypatch.setattr(checkpoints, "datasets_of", lambda run, step: ("face_forensics/all/1.0.0",))
    kept = {
        dataset: release_inputs.without_excluded(read, dataset, run=None, step=2, config=config)
        for dataset in ("face_forensics/all/1.0.0", "celeb_df_v2/1.0.0")
    }
    assert kept["face_forensics/all/1.0.0"].method == ["original", "FaceSwap"]
    assert kept["celeb_df_v2/1.0.0"].method == names


def test_scores_are_computed_in_the_arithmetic_of_the_evaluation(made):
    """In the other one they differ from those that the thresholds were chosen on."""
    read = model_file.read(made)
    config = configs.from_dict({**configs.to_dict(configs.load("hkrawp_resnet")), "image_size": 32})
    config.model.name, config.model.dtype = read.description.network, "bfloat16"
    training = {**read.description.training, "config": {"model": {"dtype": "bfloat16"}}}
    described = dataclasses.replace(read.description, training=training)
    images = np.random.default_rng(3).integers(0, 256, (batch_size(), 1, 32, 32, 3), np.uint8)
    step = predict_step_of(config)
    expected = step(placement.replicate(read.variables), parallel.shard(images))
    got = Detector(model_file.ModelFile(described, read.variables, "0" * 64)).scores(images[:, 0])
    np.testing.assert_array_equal(got, np.asarray(expected, np.float32).reshape(-1))


def test_mistakes_of_a_release(tmp_path, run, about, made):
    good = {"validation": run, "test": run, "about": about, "out": tmp_path / "a.safetensors"}

    def refused(**change):
        given = {**good, **change}
        options = [f"--{name}={value}" for name, value in given.items()]
        result = call(run, *options, main=release.main)
        assert result.status == 1
        assert not list(tmp_path.glob("*.safetensors"))
        return result.err

    test = run / "evaluation/test/scores.csv"
    assert "identities are in --validation, too" in refused(validation=test)
    assert "must end in .safetensors" in refused(out=tmp_path / "a.pth")
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"name": "a", "version": "1", "sources": [{"title": "x"}]}')
    assert "each of the sources needs a title and a licence" in refused(about=wrong)
    wrong.write_text('{"name": "a"}')
    assert f"--about: {wrong}: 'version' is missing" in refused(about=wrong)
    people = tmp_path / "people.csv"
    people.write_text("name,sex\nann,f\n")
    assert "needs a column identity" in refused(people=people)
    assert "--hold_in: --people has no column 'age'" in refused(hold_in="age")
