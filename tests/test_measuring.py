"""The measuring of labelled files: which face counts, what is kept, and what is said of people."""

import csv
import dataclasses
import itertools
import json

import numpy as np
import pytest

from data_builders.errors import UserError
from qad_jax.detection import command, measuring
from qad_jax.detection.conditions import Appearance, Conditions
from qad_jax.detection.detector import Detector
from qad_jax.detection.judging import Seen, judge
from qad_jax.detection.labels import Labels
from qad_jax.detection.looking import FoundFace, Place
from qad_jax.detection.measuring import Measurement
from qad_jax.detection.results import FrameScore, Verdict
from qad_jax.evaluation import protocol, scores
from tests.commands import call
from tests.test_detection import model, thresholds
from tests.test_many_files import ByText, labelled

# Faces that look real, fake and neither; one that is like none that was measured; one that passes.
SCORES, SIDES = (0.05, 0.95, 0.5, 0.55, 0.58), (100.0, 100.0, 100.0, 40.0, 20.0)


def seen(kind, track):
    """A face of one of the kinds, whose frames tell its number."""
    frames = (FrameScore(track, None, (0, 0, 9, 9), SCORES[kind]),)
    return Seen(frames, Appearance(SIDES[kind]))


def measured(folder, *verdicts):
    """What `scores.csv` holds of verdicts on files that are real and fake in turn."""
    rows = [f"{i}.mp4,{('real', 'fake')[i % 2]}" for i in range(len(verdicts))]
    table = folder / "labels.csv"
    table.write_text("\n".join(["file,label", *rows]))
    measurement = Measurement(Labels(table), ["raw"])
    for i, (verdict, *decisive) in enumerate(verdicts):
        measurement.add(dataclasses.replace(verdict, file=str(folder / f"{i}.mp4")), *decisive)
    measurement.write(folder / "out")
    return scores.read(folder / "out" / "scores.csv")


def test_the_face_that_decides_is_measured_whichever_of_several_it_is(tmp_path):
    """Of faces of all kinds in all orders; also of verdicts that are read from JSON."""
    verdicts, decisive = [], []
    for kinds in itertools.chain(*(itertools.permutations(range(5), n) for n in (1, 2, 3))):
        faces = [seen(kind, track) for track, kind in enumerate(kinds)]
        found = judge(faces, 1, [thresholds()], None, Conditions(smallest_face=50))
        told = (found.decisive.verdict, found.decisive.probability, "raw", found.reason)
        verdict = Verdict("", "00", *told, faces=found.faces)
        verdicts += [(verdict, found.decisive), (Verdict.from_dict(json.loads(verdict.as_json())),)]
        decisive += [found.decisive.track] * 2
    assert len(set(decisive)) == 3
    made = measured(tmp_path, *verdicts)
    assert made.frame.tolist() == decisive


def test_of_faces_that_are_told_alike_the_one_that_decides_is_measured(tmp_path):
    """The first passes by: it has the verdict and the probability of the second, and no part."""
    long = tuple(FrameScore(i, i / 25, (0, 0, 9, 9), 0.5) for i in range(32))
    faces = [Seen(long[:2], Appearance(100.0)), Seen(long, Appearance(100.0))]
    found = judge(faces, 32, [thresholds()], None, Conditions())
    assert found.decisive.track == 1
    assert len({(face.verdict, face.probability) for face in found.faces}) == 1
    told = (found.decisive.verdict, found.decisive.probability, "raw", found.reason)
    verdict = Verdict("", "00", *told, faces=found.faces)
    made = measured(tmp_path, (verdict, found.decisive), (verdict, found.decisive))
    assert made.frame.tolist() == [*range(32)] * 2


def test_a_stored_verdict_of_none_of_its_faces_is_one_line(tmp_path):
    face = judge([seen(0, 0)], 1, [thresholds()], None, Conditions()).decisive
    verdict = Verdict("", "00", face.verdict, face.probability + 0.1, "raw", faces=(face,))
    with pytest.raises(
        UserError, match=r"0\.mp4: its stored verdict is that of none of its faces;"
    ):
        measured(tmp_path, (verdict,))


@dataclasses.dataclass(frozen=True)
class TwoFaces(ByText):
    """Finds a real face before the one that the text of a file says, which is a small one here."""

    def __call__(self, task):
        found = super().__call__(task)
        if not found.faces:
            return found
        crop = np.zeros((8, 8, 3), np.uint8)
        crop[..., 0] = 8
        first = FoundFace((Place(7, None, (0, 0, 8, 8)),), (crop,), (), Appearance(100.0))
        small = dataclasses.replace(found.faces[0], appearance=Appearance(40.0))
        return dataclasses.replace(found, faces=(first, small), frames=1)


@pytest.fixture
def judge_files(monkeypatch):
    """Runs `detect` with the brightness of crops as scores, and tells if it opens a detector."""
    opened = []

    def brightness(crops):
        return np.array([np.max(crop) / 160 for crop in crops])

    def open_detector(_, frames):
        opened.append(frames)
        made = Detector(model(), frames=frames)
        made.__dict__["_score"] = brightness
        return made

    monkeypatch.setattr(Detector, "looker", lambda self, keep=True: TwoFaces())
    monkeypatch.setattr(Detector, "from_pretrained", open_detector)

    def run(*arguments):
        opened.clear()
        return call(*arguments, main=command.main), bool(opened)

    return run


ROWS = ["r.mp4,real,,ann,real c23", "f.mp4,fake,,bob,fake c23"]


@pytest.mark.parametrize("stored", [False, True])
def test_the_command_measures_the_second_of_two_faces(judge_files, tmp_path, stored):
    """Nothing can be told of it, as it is smaller than what was measured. The first looks real."""
    table, out = labelled(tmp_path, ROWS), tmp_path / "out"
    given = ["--labels", table, "--out", out, "--results", tmp_path / "results.jsonl"]
    for _ in range(1 + stored):
        result, _ = judge_files(*given)
        assert result.status == 0, result.err
    made = scores.read(out / "scores.csv")
    assert set(made.frame.tolist()) == {0, 1}
    np.testing.assert_allclose(made.score, 99 / 160, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "verdicts.csv",
        "scores.csv",
        "metrics.csv",
        "metrics.json",
        "report.html",
        "figures/roc_x.png",
    ],
)
@pytest.mark.parametrize("read", ["--labels", "--results", "--model", "file"])
def test_nothing_that_is_read_is_overwritten_and_nothing_is_judged(
    judge_files, tmp_path, name, read
):
    table, held = labelled(tmp_path, ROWS), tmp_path / "out" / name
    held.parent.mkdir(parents=True)
    held.write_bytes(table.read_bytes())
    before = held.read_bytes()
    words = {"--labels": table, "--out": tmp_path / "out"}
    words |= {} if read == "file" else {read: held}
    files = [held] if read == "file" else []
    result, opened = judge_files(*files, *itertools.chain(*words.items()))
    assert result.status == 1
    assert result.err == (
        f"error: --out: {held} is read, and would be overwritten; name another folder\n"
    )
    assert not opened
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [held]
    assert held.read_bytes() == before


def test_results_that_are_not_there_yet_are_not_overwritten_either(judge_files, tmp_path):
    table, out = labelled(tmp_path, ROWS), tmp_path / "out"
    for words, name, why in (
        (["--labels", table], "scores.csv", "is read, and would be overwritten"),
        ([tmp_path], "verdicts.jsonl", "is in the folder of --out, whose files are replaced"),
    ):
        result, _ = judge_files(*words, "--out", out, "--results", out / name)
        assert (result.status, result.out) == (1, "")
        assert f"{out / name}" in result.err
        assert why in result.err
        assert not out.exists()


def test_the_scores_of_a_run_that_judges_are_not_overwritten(judge_files, tmp_path):
    table, place = labelled(tmp_path, ROWS), tmp_path / "run/evaluation/test"
    place.mkdir(parents=True)
    (place / "scores.csv").write_text("of the run")
    result, opened = judge_files("--labels", table, "--model", tmp_path / "run", "--out", place)
    assert (result.status, opened) == (1, False)
    assert f"{place / 'scores.csv'} is read, and would be overwritten" in result.err
    assert [path.read_text() for path in place.iterdir()] == ["of the run"]


def test_a_report_that_cannot_be_written_is_told_before_the_work(judge_files, tmp_path):
    table = labelled(tmp_path, ROWS)
    result, opened = judge_files("--labels", table, "--out", table / "out")
    assert (result.status, opened) == (1, False)
    assert result.err.startswith("error: --out: cannot write to ")
    assert result.err.count("\n") == 1


def test_what_is_written_is_what_is_guarded(judge_files, tmp_path):
    table, out = labelled(tmp_path, ROWS), tmp_path / "out"
    result, _ = judge_files("--labels", table, "--out", out)
    assert result.status == 0, result.err
    assert {path for path in out.rglob("*") if path.is_file()} == set(measuring.files(out))
    assert protocol.read(out).split == "labels"


@pytest.mark.parametrize(
    ("header", "cells", "said"),
    [
        ("file,label", ["", "", ""], "in 3 of 3 files (column identity), so each"),
        ("file,label,identity", [",", ",", ", "], "in 3 of 3 files (column identity), so each"),
        ("file,label,person", [",ann", ",", ",ann"], "in 1 of 3 files (column identity), so each"),
        ("file,label,identity", [",ann", ",bob", ",ann"], ""),
    ],
)
def test_who_is_not_named_is_told_whether_or_not_there_is_a_column(tmp_path, header, cells, said):
    table = tmp_path / "labels.csv"
    rows = [f"{i}.mp4,real{cell}" for i, cell in enumerate(cells)]
    table.write_text("\n".join([header, *rows]))
    labels = Labels(table)
    remarks = [line for line in Measurement(labels, ["raw"]).remarks() if "identity" in line]
    assert len(remarks) == bool(said)
    assert all(said in remark for remark in remarks)
    assert all("\n" not in remark for remark in remarks)
    with table.open(newline="") as lines:
        named = [row.get("identity") or row.get("person") for row in csv.DictReader(lines)]
    assert [row.is_known for row in labels.files()] == [bool((one or "").strip()) for one in named]
