"""Scores of other tools are evaluated as ours are; ours are read by other tools."""

import csv
import hashlib
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from data_builders import command_line
from data_builders.errors import UserError
from qad_jax.evaluation import (
    calibration,
    compare,
    external_scores,
    formats,
    matrix,
    protocol,
    report,
    scores,
)
from tests.conftest import ROOT
from tests.test_protocol import make_scores


def theirs(path, made, quality="c40"):
    """A file in the manner of another tool: its own column names, one quality, no identities."""
    column = made.qualities.index(quality)
    lines = [
        f"{path}/{i:05}.png,{m},{v},{f},{('real', 'fake')[label]},{s}\n"
        for i, (m, v, f, label, s) in enumerate(
            zip(made.method, made.video, made.frame, made.label, made.score[:, column], strict=True)
        )
    ]
    path.write_text("image,manipulation,clip,frame_index,target,y_score\n" + "".join(lines))
    return path


def test_a_file_of_another_tool_gives_the_table_the_numbers_and_the_report(tmp_path, capsys):
    made = make_scores(8)
    file, out = theirs(tmp_path / "theirs.csv", made), tmp_path / "out"
    assert external_scores.main([str(file), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    stored = protocol.read(out)
    same = made.of(("c40",))._replace(qualities=("all",), identity=made.video)
    expected = protocol.summarise(same)
    assert stored.summary.qualities["all"].frame == expected.qualities["all"].frame
    assert stored.summary.identities == 8
    assert printed.startswith("theirs test\n")
    assert protocol.table(stored) in printed
    page = (out / "report.html").read_text()
    assert protocol.headline(stored) in page
    assert "None" not in page
    assert "theirs.csv, sha256" in page
    assert (out / "metrics.csv").is_file()
    assert (out / "figures" / "roc_frame.png").is_file()
    again = scores.read(out / "scores.csv")
    np.testing.assert_allclose(again.score[:, 0], made.score[:, 1], rtol=1e-6)


def test_thresholds_are_not_chosen_on_what_is_tested(tmp_path, capsys):
    file = theirs(tmp_path / "theirs.csv", make_scores(8))
    same = tmp_path / "folder/../theirs.csv"
    (tmp_path / "folder").mkdir()
    words = [str(file), "--out", str(tmp_path / "out"), "--validation", str(same)]
    assert external_scores.main(words) == 1
    assert "the same scores as the file that is tested" in capsys.readouterr().err


def test_a_copy_of_what_is_tested_and_its_folder_choose_no_threshold(tmp_path):
    """The folder of a test in DeepfakeBench, lines in another order, and a part are still it."""
    made = make_scores(8)
    folder = tmp_path / "bench"
    formats.write(folder, "deepfakebench", made.of(("c40",)))
    turned = made.take(np.arange(len(made.label))[::-1])
    part = made.take(np.flatnonzero(np.array(made.method) != made.method[0]))
    file = tmp_path / "made.csv"
    file.write_text(scores.to_csv(made))
    pairs = [(folder / "c40", folder / "c40")]
    for name, of in (("turned", turned), ("part", part)):
        (tmp_path / name).write_text(scores.to_csv(of))
        pairs += [(file, tmp_path / name), (tmp_path / name, file)]
    for tested, validation in pairs:
        with pytest.raises(UserError, match="same scores as the file that is tested"):
            external_scores.evaluate(tested, tmp_path / "out", validation=validation)
    # Another split that counts its videos in the same way is one.
    other = made._replace(score=made.score[::-1])
    (tmp_path / "other").write_text(scores.to_csv(other))
    external_scores.evaluate(file, tmp_path / "out", validation=tmp_path / "other")
    # So is one in which a sure detector gives the frames that have the same names 0 and 1.
    sure = made._replace(score=np.where(made.label[:, None] == 1, 1.0, 0.0) * np.ones((1, 2)))
    for name in ("sure", "sure of others"):
        (tmp_path / name).write_text(scores.to_csv(sure))
    external_scores.evaluate(
        tmp_path / "sure", tmp_path / "out", validation=tmp_path / "sure of others"
    )


def test_a_whole_report_is_written_without_jax_flax_and_tfds(tmp_path):
    file, out = theirs(tmp_path / "theirs.csv", make_scores(8)), tmp_path / "out"
    other = theirs(tmp_path / "other.csv", make_scores(9))
    code = (
        "import sys\n"
        "from qad_jax.evaluation import compare, external_scores, matrix\n"
        "file, other, out = sys.argv[1:]\n"
        "assert external_scores.main([file, '--out', out, '--validation', other]) == 0\n"
        "assert compare.main([file, file, '--out', out + '/comparison']) == 0\n"
        "assert matrix.main([out, '--out', out + '/matrix']) == 0\n"
        "heavy = {'jax', 'flax', 'tensorflow_datasets', 'tensorflow'} & set(sys.modules)\n"
        "sys.exit(f'imported: {sorted(heavy)}' if heavy else 0)\n"
    )
    command = [sys.executable, "-c", code, str(file), str(other), str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in (
        "report.html",
        "metrics.json",
        "metrics.csv",
        "scores.csv",
        "figures/roc_frame.png",
    ):
        assert (out / name).is_file()
    assert (out / "comparison" / "comparison.json").is_file()
    assert (out / "matrix" / "matrix.png").is_file()


def test_thresholds_come_from_the_validation_scores(tmp_path, capsys):
    test, validation = tmp_path / "test.csv", tmp_path / "validation.csv"
    made = make_scores(8)
    held = made._replace(score=np.sqrt(made.score))
    test.write_text(scores.to_csv(made))
    validation.write_text(scores.to_csv(held))
    out = tmp_path / "out"
    arguments = ["--validation", str(validation), "--dataset", "mine", "--split", "held out"]
    assert external_scores.main([str(test), "--out", str(out), *arguments]) == 0
    assert capsys.readouterr().out.startswith("mine held out\n")
    stored = json.loads((out / "metrics.json").read_text())
    chosen = calibration.fit(held, dataset="mine", step=0).qualities
    for quality, entry in stored["qualities"].items():
        assert entry["frame"]["threshold"] == pytest.approx(chosen[quality].threshold)
        assert entry["video"]["threshold"] == pytest.approx(chosen[quality].video_threshold)
        temperature = entry["calibration"]["temperature"]
        assert temperature == pytest.approx(chosen[quality].temperature, rel=1e-4)
    assert "validation.csv" in stored["threshold_rule"]


def test_ours_is_read_by_a_plain_reader_and_comes_back_as_it_was(tmp_path):
    made = make_scores()
    awkward = ['a "b", c', "d\ne", "ü;\t", "'a;b", *made.video[4:]]
    made = made._replace(video=awkward, identity=awkward)
    made.score[0, 0], made.score[1, 1] = 1 / 3, np.nan
    path = tmp_path / "scores.csv"
    path.write_bytes(scores.to_csv(made).encode())
    with path.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    expected = [
        (made.method[i], made.video[i], made.identity[i], int(made.frame[i]), q, int(made.label[i]))
        for i in range(27)
        for q in ("raw", "c40")
    ]
    assert [
        (r["method"], r["video"], r["identity"], int(r["frame"]), r["quality"], int(r["label"]))
        for r in rows
    ] == expected
    np.testing.assert_array_equal([float(r["score"]) for r in rows], made.score.ravel())
    again = scores.read(path)
    np.testing.assert_array_equal(again.score, made.score)
    for field in ("method", "video", "identity", "qualities"):
        assert getattr(again, field) == getattr(made, field)
    assert scores.to_csv(again) == scores.to_csv(made)


def test_names_that_a_spreadsheet_would_run_come_back_as_they_were(tmp_path):
    made = make_scores()
    names = ["=1+1", "'=1+1", "-3Kd_9", "a;@b", *made.video[4:]]
    made = made._replace(video=names, identity=names, method=[f"+{name}" for name in made.method])
    path = tmp_path / "scores.csv"
    path.write_text(scores.to_csv(made))
    with path.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))[::2]
    assert [row["video"] for row in rows[:4]] == ["'=1+1", "''=1+1", "'-3Kd_9", "a;'@b"]
    again = scores.read(path)
    assert (again.video, again.identity, again.method) == (names, names, made.method)


def test_mistakes_are_one_line_and_leave_nothing(tmp_path, capsys):
    good, bad, out = tmp_path / "good.csv", tmp_path / "bad.csv", tmp_path / "out"
    good.write_text(scores.to_csv(make_scores()))
    bad.write_text("method,video,frame,label,score\na,b,0,1,0.5\na,b,1,2,0.5\n")
    one = theirs(tmp_path / "one.csv", make_scores())
    own = tmp_path / "scores.csv"
    own.write_text(good.read_text())
    for arguments, message in [
        ([bad, "--out", out], "bad.csv: row 3: label is '2'"),
        ([good, "--out", out, "--validation", bad], "bad.csv: row 3"),
        ([good, "--out", out, "--validation", one], "one.csv: has no scores at raw, c40"),
        ([good], "required: --out"),
        ([own, "--out", tmp_path], "would be overwritten"),
        ([tmp_path, "--out", out], "Is a directory"),
    ]:
        status = command_line.USAGE if "required" in message else command_line.FAILED
        assert external_scores.main([str(argument) for argument in arguments]) == status
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert message in error
    assert not out.exists()
    assert own.read_text() == good.read_text()


OUTPUTS = ("scores.csv", "metrics.csv", "metrics.json", "report.html", "figures/roc_frame.png")


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("read", ["file", "validation", "labels"])
def test_what_is_read_is_not_overwritten(tmp_path, capsys, name, read):
    """Whatever its name and its part, also where a link leads to it."""
    made, out = make_scores(8), tmp_path / "out"
    held, other = out / name, tmp_path / "other.csv"
    held.parent.mkdir(parents=True)
    held.write_text("file,label\n" if read == "labels" else scores.to_csv(made))
    other.write_text(scores.to_csv(made._replace(score=np.sqrt(made.score))))
    (tmp_path / "link").symlink_to(held)
    (tmp_path / "elsewhere").symlink_to(out)
    before = held.read_bytes()
    for path in (held, tmp_path / "link"):
        for folder in (out, tmp_path / "elsewhere"):
            given = [str(path)] if read == "file" else [str(other), f"--{read}", str(path)]
            assert external_scores.main([*given, "--out", str(folder)]) == command_line.FAILED
            error = capsys.readouterr().err
            assert error.startswith(f"error: --out: {path} is read, and would be overwritten; ")
            assert error.count("\n") == 1
    assert [path for path in out.rglob("*") if path.is_file()] == [held]
    assert held.read_bytes() == before


def test_the_page_has_the_digests_of_what_was_read(tmp_path, monkeypatch):
    """Not of what lies there when the results are written."""
    file = theirs(tmp_path / "file.csv", make_scores(8))
    held = theirs(tmp_path / "held.csv", make_scores(9))
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (file, held)]
    write = protocol.write

    def while_others_write(*arguments):
        file.write_text("other")
        held.write_text("other")
        write(*arguments)

    monkeypatch.setattr(protocol, "write", while_others_write)
    external_scores.evaluate(file, tmp_path / "out", validation=held)
    page = (tmp_path / "out" / "report.html").read_text()
    for path, digest in zip((file, held), digests, strict=True):
        assert f"{path.name}, sha256 {digest}" in page


def test_what_is_written_is_what_is_guarded(tmp_path):
    file, out = theirs(tmp_path / "theirs.csv", make_scores(8)), tmp_path / "out"
    external_scores.evaluate(file, out)
    written = {path for path in out.rglob("*") if path.is_file()}
    assert written == {*protocol.files(out), *report.files(out)}


@pytest.mark.parametrize("largest", ["3.4e38", "-3.4e38"])
def test_the_largest_scores_make_a_whole_report_and_larger_ones_are_one_line(
    tmp_path, capsys, largest
):
    """The figures span the scores, so that their difference has to be a number, too."""
    file, out = tmp_path / "theirs.csv", tmp_path / "out"
    lines = ["method,video,frame,label,score", "o,a,0,0,0.5", f"o,b,0,0,{largest}", "x,c,0,1,-1e38"]
    file.write_text("\n".join([*lines, "x,d,0,1,3.4e38"]))
    assert external_scores.main([str(file), "--out", str(out)]) == 0, capsys.readouterr().err
    assert (out / "report.html").is_file()
    capsys.readouterr()
    file.write_text(file.read_text().replace("3.4e38", "1.7e308"))
    again = tmp_path / "again"
    assert external_scores.main([str(file), "--out", str(again)]) == command_line.FAILED
    error = capsys.readouterr().err
    assert error.startswith(f"error: {file}: row 3: score is '{largest[:-6]}1.7e308'; ")
    assert "must lie between -3.4e+38 and 3.4e+38" in error
    assert error.count("\n") == 1
    assert not again.exists()


def test_an_empty_identity_is_not_one_person(tmp_path):
    """A cell that says nothing says no more than a column that is not there."""
    made = make_scores(4)
    file = tmp_path / "theirs.csv"
    for nothing in ("", " "):
        file.write_text(scores.to_csv(made._replace(identity=[nothing, *made.identity[1:]])))
        assert scores.read(file).identity == [made.video[0], *made.identity[1:]]


def test_a_name_is_one_in_either_unicode_form(tmp_path):
    """Systems write an accent as a part of its letter, or behind it."""
    made = make_scores(4)
    texts = {
        form: scores.to_csv(
            made._replace(
                video=[unicodedata.normalize(form, f"José {v}") for v in made.video],
                method=[unicodedata.normalize(form, f"é {m}") for m in made.method],
            )
        )
        for form in ("NFC", "NFD")
    }
    assert texts["NFC"] != texts["NFD"]
    keys = []
    for form, text in texts.items():
        (tmp_path / form).write_text(text)
        keys.append(list(scores.read(tmp_path / form).keys()))
    assert keys[0] == keys[1]


def test_a_quality_of_the_validation_alone_changes_nothing(tmp_path, capsys):
    """Here the one has logits, and the other is not defined."""
    made = make_scores(8)
    logits = made.of(("c40",))._replace(score=20 * made.score[:, 1:] - 10)
    more = made._replace(score=np.stack([np.nan * made.score[:, 0], -logits.score[:, 0]], axis=1))
    for name, of in (("test", logits), ("validation", more)):
        (tmp_path / name).write_text(scores.to_csv(of))
    out = tmp_path / "out"
    external_scores.evaluate(tmp_path / "test", out, validation=tmp_path / "validation")
    assert protocol.read(out).threshold_rule == f"{calibration.RULE} (validation)"
    assert "thresholds are those of the validation file" in capsys.readouterr().err


def test_a_name_that_is_not_utf_8_is_shown_by_escapes(tmp_path, capsys):
    """Linux allows any bytes; the page and the numbers are UTF-8."""
    file, held = (Path(os.fsdecode(bytes(tmp_path) + end)) for end in (b"/a\xff.csv", b"/b\xff"))
    file.write_text(scores.to_csv(make_scores(8)))
    held.write_text(scores.to_csv(make_scores(9)))
    out = tmp_path / "out"
    assert external_scores.main([str(file), "--out", str(out), "--validation", str(held)]) == 0
    assert capsys.readouterr().out.startswith("a\\udcff test\n")
    assert protocol.read(out).dataset == "a\\udcff"
    page = (out / "report.html").read_text()
    assert "a\\udcff.csv, sha256" in page
    assert f"({held.name.encode('utf-8', 'backslashreplace').decode()})" in page


def test_no_name_in_a_file_moves_the_cursor_of_a_terminal(tmp_path, capsys):
    made = make_scores(8)
    turned = made._replace(
        qualities=("raw\x1b[2J", "c40\x1b]0;a\x07"),
        method=[f"{name}\x1b[1A" for name in made.method],
        video=[f"{name}\n\x9b2J" for name in made.video],
    )
    for name, of in (("a.csv", turned), ("b.csv", turned._replace(score=np.sqrt(made.score)))):
        (tmp_path / name).write_text(scores.to_csv(of))
    a, b, out = (str(tmp_path / name) for name in ("a.csv", "b.csv", "out"))
    assert external_scores.main([a, "--out", out]) == 0
    assert compare.main([a, b]) == 0
    assert matrix.main([out]) == 0
    printed = capsys.readouterr().out
    assert "raw\\x1b[2J" in printed
    assert "\\n\\x9b2J" in printed
    assert all(line.isprintable() for line in printed.split("\n"))
