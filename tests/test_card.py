"""The model card: what it says, of what, and that names of strangers are text in it."""

import json
import re

import pytest

from data_builders import build
from qad_jax.evaluation import protocol
from qad_jax.evaluation.report import card
from tests.test_protocol import complete, make_scores

CONFIG = {
    "model": {"name": "resnet_tiny", "dtype": "float32", "pretrained": "a/b/start.pth"},
    "image_size": 32,
    "qualities": ["raw"],
    "dataset": {"name": "d", "data_dir": "/home/someone/data"},
}


def rendered(
    dataset, *, made=None, trained_on="d/1.0.0", methods=("Deepfakes", "FaceSwap"), **more
):
    report = complete(make_scores() if made is None else made)
    parts = [card.Part(dataset, report, methods)]
    options = {"config": CONFIG, "provenance": {"versions": "Python 3"}, **more}
    on = None if trained_on is None else [trained_on]
    return card.render(parts, step=report.step, trained_on=on, **options), report


def section(text, heading):
    return re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)[1]


def test_every_number_is_there_with_its_interval(dataset):
    text, report = rendered(dataset)
    numbers = section(text, "Numbers")
    rows = [line.split(" | ") for line in numbers.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 2 * 2
    assert len({len(row) for row in rows}) == 1
    for quality in ("raw", "c40"):
        for level in ("frame", "video"):
            numbers_of = getattr(report.summary.qualities[quality], level).estimates()
            (row,) = (r for r in rows if r[0] == f"| {quality}" and r[1] == level)
            for cell, name in zip(row[3:], protocol.TITLES, strict=True):
                number = numbers_of[name]
                expected = (
                    f"{100 * number.value:.1f} ({100 * number.low:.1f} to {100 * number.high:.1f})"
                )
                assert cell.removesuffix(" |") == expected
    assert protocol.headline(report) in numbers
    stored = json.loads(section(text, "Configuration").strip().strip("`").removeprefix("json"))
    assert stored["image_size"] == 32


def test_what_it_is_for_and_where_it_ends(dataset):
    text, _ = rendered(dataset)
    assert "Not evidence against a person" in section(text, "Intended use")
    limits = section(text, "Limits")
    assert "of Deepfakes, FaceSwap" in limits
    assert "3 identities" in limits
    assert "not trained on c40" in limits
    assert "cannot be used on real video" not in limits
    model = section(text, "Model")
    assert "resnet\\_tiny, 32 px" in model
    assert "Trained on: d/1.0.0" in model
    assert "Started from: start.pth" in model
    assert "/home/someone" not in text
    assert "a/b" not in text
    imported, _ = rendered(dataset, trained_on=None)
    assert "Trained on: not known" in imported


def test_the_terms_are_those_of_the_dataset_s_own_card(dataset, tmp_path):
    assert "Its terms are not recorded" in section(rendered(dataset)[0], "Data and its terms")
    for name, word in [
        ("face_forensics/all", "research and\neducation without commercial interest"),
        ("synthetic_faces", "rendered by this project"),
    ]:
        made = build.builder(name, data_dir=tmp_path)
        text, _ = rendered(made)
        assert word in section(text, "Data and its terms")
        assert "What is read" not in section(text, "Data and its terms")
    assert "cannot be used on real video" in section(text, "Limits")


@pytest.mark.parametrize("name", sorted({*build.names()} - {"manifest", "synthetic_faces"}))
def test_every_card_has_terms(name, monkeypatch, dataset):
    """But for those that have none: a list of one's own, and what is rendered here."""
    path = build._HERE / name / "builder.py"
    assert path.with_name("README.md").exists()
    monkeypatch.setattr(card.inspect, "getfile", lambda _: str(path))
    assert "says nothing of terms" not in section(rendered(dataset)[0], "Data and its terms")


def test_what_was_skipped_and_made_is_said(tmp_path):
    made = build.builder("face_forensics/all", data_dir=tmp_path)
    made.info.metadata["skipped"] = [f"file <{i}>|: no face was found" for i in range(7)]
    made.info.metadata["missing_count"] = 4
    made.info.metadata["reencoded"] = {"raw": 0, "c40": 12}
    crops = section(rendered(made)[0], "Crops")
    assert "7 videos could not be used" in crops
    assert "- file \\<4\\>\\|: no face was found" in crops
    assert "<5" not in crops
    assert "- and 2 more" in crops
    assert "4 listed files were missing" in crops
    assert "c40 of 12 videos" in crops
    assert "raw of" not in crops
    assert "- qualities: raw, c23, c40\n- frames per video: 32\n" in crops


def test_names_of_strangers_are_text(dataset):
    bad = "<script>x</script>|\n## Limits"
    made = make_scores()._replace(qualities=("raw", bad))
    text, _ = rendered(dataset, made=made, methods=[bad])
    assert not re.search(r"(?<!\\)<script", text)
    assert text.count("\n## Limits") == 1
    rows = [line for line in section(text, "Numbers").splitlines() if line.startswith("| ")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
