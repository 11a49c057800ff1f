"""Lists of scores of DFDC and GRIP: the labels the right way round, written and read again."""

import csv
import json
import os

import numpy as np
import pytest

from data_builders import command_line
from data_builders.errors import UserError
from qad_jax.evaluation import external_scores, formats, protocol, scores
from qad_jax.evaluation.formats import listed
from tests.test_protocol import make_scores


def test_a_submission_is_the_probability_of_fake_and_the_truth_stands_elsewhere(tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "file,label,method,identity\nset/b.mp4,fake,Swap,ann\na.mp4,0,,ann\nc.mp4,1,,\n"
    )
    for text in (
        "filename,label\nb.mp4,0.75\na.mp4,0.25\nc.mp4,\n",
        "filename;label\nb.mp4;0,75\na.mp4;0,25\nc.mp4;nan\n",
        "sep=;\r\nFilename;Label\r\nb.mp4;7,5e-1\r\n\r\n./a.mp4;0,25\r\nset\\c.mp4;\r\n",
    ):
        path = tmp_path / "submission.csv"
        path.write_text(text)
        made = formats.read(path, labels=labels)
        assert (made.method, made.video) == (
            ["Swap", "original", "fake"],
            ["set/b.mp4", "a.mp4", "c.mp4"],
        )
        assert made.label.tolist() == [1, 0, 1]
        assert made.identity == ["ann", "ann", "c.mp4"]
        np.testing.assert_array_equal(made.score, [[0.75], [0.25], [np.nan]])


def test_labels_of_dfdc_and_of_lists_of_images_are_read(tmp_path):
    path, metadata = tmp_path / "submission.csv", tmp_path / "metadata.json"
    path.write_text("filename,label\nb.mp4,1\na.mp4,0\n")
    metadata.write_text(
        json.dumps(
            {
                "a.mp4": {"label": "REAL", "split": "train", "original": None},
                "b.mp4": {"label": "FAKE", "split": "train", "original": "a.mp4"},
                "c.mp4": {"label": "FAKE", "split": "train", "original": "a.mp4"},
            }
        )
    )
    with pytest.warns(UserWarning, match=r"no score for 1 of 3 files in .*: c\.mp4"):
        made = formats.read(path, labels=metadata)
    assert (made.label.tolist(), made.identity) == ([1, 0], ["a.mp4", "a.mp4"])
    metadata.write_text('{"a.mp4": {"split": "train"}}')
    with pytest.raises(UserError, match=r"metadata.json: a\.mp4: label is ''"):
        formats.read(path, labels=metadata)


def test_results_of_grip_are_logits_of_one_detector_or_of_their_fusion(tmp_path):
    labels, path = tmp_path / "list.csv", tmp_path / "results.csv"
    labels.write_text("filename,typ\nr/0.png,real\ng/0.png,Glide\ng/1.png,Glide\n")
    path.write_text(
        "filename,clipdet,Corvi2023,fusion\n"
        "r/0.png,-2.0,0.0,-1.5\ng/0.png,0.0,1.0,2.0\ng/1.png,50.0,,-800\n"
    )
    made = formats.read(path, labels=labels)
    assert made.method == ["original", "Glide", "Glide"]
    assert made.label.tolist() == [0, 1, 1]
    np.testing.assert_allclose(made.score[:, 0], [1 / (1 + np.e**1.5), 1 / (1 + np.e**-2), 0])
    made = formats.read(path, labels=labels, column="Corvi2023")
    np.testing.assert_allclose(made.score[:, 0], [0.5, 1 / (1 + 1 / np.e), np.nan])
    path.write_text("filename,one\nr/0.png,0\ng/0.png,1\ng/1.png,2\n")
    assert formats.read(path, labels=labels).score[0, 0] == 0.5


def test_submissions_and_results_come_back_as_they_went(tmp_path):
    made = make_scores(6)
    made = made._replace(score=made.score.astype(np.float64))
    made.score[:5, 0] = 1, 0, 1e-12, np.nan, 1 - 2**-53
    made.score[5, 1] = 1 / 3
    formats.write(tmp_path / "d", "dfdc", made)
    formats.write(tmp_path / "g", "grip", made)
    videos = made.videos()
    # The methods share names of videos, so the methods come before them.
    files = [f"{m}/{v}.mp4" for m, v in zip(videos.method, videos.video, strict=True)]
    for column, quality in enumerate(made.qualities):
        with (tmp_path / "d" / quality / "submission.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["filename"] for row in rows] == files
        read = [float(row["label"] or "nan") for row in rows]
        np.testing.assert_array_equal(read, videos.score[:, column])
        again = formats.read(
            tmp_path / "d" / quality / "submission.csv", labels=tmp_path / "d" / "labels.csv"
        )
        assert (again.video, again.identity) == (videos.video, videos.identity)
        np.testing.assert_array_equal(again.score[:, 0], videos.score[:, column])

        results = tmp_path / "g" / quality / "results.csv"
        with results.open(newline="") as file:
            logits = [float(row["qad_jax"] or "nan") for row in csv.DictReader(file)]
        assert not np.isinf(logits).any()  # compute_metrics.py leaves a detector out that has one
        p = made.score[:, column]
        inside = (p > 1e-9) & (p < 1 - 1e-9)
        assert inside.sum() > 12
        expected = np.log(p[inside] / (1 - p[inside]))
        np.testing.assert_allclose(np.array(logits)[inside], expected, rtol=1e-6, atol=1e-9)
        again = formats.read(results, labels=tmp_path / "g" / "list.csv")
        assert (again.video, again.identity) == (made.video, made.identity)
        assert (again.method, again.frame.tolist()) == (made.method, made.frame.tolist())
        np.testing.assert_array_equal(again.label, made.label)
        np.testing.assert_allclose(
            again.score[:, 0], made.score[:, column], rtol=1e-12, atol=1e-307
        )
    with (tmp_path / "g" / "list.csv").open(newline="") as file:
        types = [row["typ"] for row in csv.DictReader(file)]
    assert types == [
        "real" if not of else name for of, name in zip(made.label, made.method, strict=True)
    ]


def test_names_that_two_files_would_have_get_the_method_or_are_refused(tmp_path):
    made = make_scores(4)
    same = made._replace(
        video=["v"] * len(made.video), method=["M" if of else "r" for of in made.label]
    )
    assert listed.video_names(same.take(np.array([0, 26]))) in (
        ["r/v.mp4", "M/v.mp4"],
        ["M/v.mp4", "r/v.mp4"],
    )
    twice = same.take(np.array([0, 0]))._replace(video=["v", "v.mp4"])
    with pytest.raises(UserError, match=r"two files would be called '\w/v\.mp4'"):
        formats.write(tmp_path, "dfdc", twice)
    assert not list(tmp_path.iterdir())


def test_mistakes_with_lists_are_one_line(tmp_path, capsys):
    path, labels, out = tmp_path / "s.csv", tmp_path / "labels.csv", tmp_path / "out"
    labels.write_text("file,label\na.mp4,real\nx/b.mp4,fake\ny/b.mp4,fake\n")
    own, header = tmp_path / "own.csv", tmp_path / "header.csv"
    own.write_text(scores.to_csv(make_scores()))
    header.write_text(f"file,{'x' * 200_000}\n")
    for text, arguments, message in [
        ("filename,label\na.mp4,0.5\n", [], "the truth is missing; give it with --labels"),
        ("filename,one\na.mp4,0.5\n", [], "the truth is missing; give it with --labels"),
        ("filename,\na.mp4,0.5\n", ["--labels", labels], "has no column 'method'"),
        ("filename,label\nc.mp4,0.5\n", ["--labels", labels], "has no row for it"),
        ("filename,label\nb.mp4,0.5\n", ["--labels", labels], "has 2 files of this name"),
        ("filename,label\na.mp4,0.5\na.mp4,0.5\n", ["--labels", labels], "score already, in row 2"),
        ("filename,label\na.mp4,FAKE\n", ["--labels", labels], "label is 'FAKE'; must be a number"),
        ("filename,label\na.mp4,inf\n", ["--labels", labels], "must be finite"),
        ('filename,label\na.mp4,"0,5"\n', ["--labels", labels], "decimal sign '.'"),
        ("filename,label\na.mp4\n", ["--labels", labels], "1 values, the header has 2"),
        ("filename,label\n", ["--labels", labels], "holds no scores"),
        ("filename,label\na.mp4,1\n", ["--labels", header], "field larger than field limit"),
        ("filename,one,two\na.mp4,1,2\n", ["--labels", labels], "choose by --column NAME"),
        ("filename,one,two\na.mp4,1,2\n", ["--labels", labels, "--column", "t"], "has no 't'"),
        ("filename,one,one\na.mp4,1,2\n", ["--labels", labels], "two columns have one name"),
        (
            "filename,label\na.mp4,1\n",
            ["--labels", labels, "--column", "t"],
            "one score for each row",
        ),
        (own.read_text(), ["--labels", labels], "has the labels of its scores"),
        (own.read_text(), ["--export", "grip", "--validation", own], "leave --validation out"),
        (own.read_text().replace("raw", "../raw"), ["--export", "dfdc"], "cannot be the name of"),
        (own.read_text().replace(",0.", ",7."), ["--export", "grip"], "make them probabilities"),
        (
            own.read_text().replace(",0,raw", ",-3,raw"),
            ["--export", "deepfakebench"],
            "no score at",
        ),
    ]:
        path.write_text(text)
        status = external_scores.main([str(path), "--out", str(out), *map(str, arguments)])
        error = capsys.readouterr().err
        clash = "--export" in arguments and "--validation" in arguments
        assert status == (command_line.USAGE if clash else command_line.FAILED), text
        assert error.count("\n") == 1, error
        assert message in error
        assert not out.exists()


def test_the_command_evaluates_them_and_writes_them(tmp_path, capsys):
    own, out = tmp_path / "scores.csv", tmp_path / "bench"
    made = make_scores(8)
    own.write_text(scores.to_csv(made))
    assert external_scores.main([str(own), "--export", "deepfakebench", "--out", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert str(out / "raw" / "metric_dict_best.pickle") in printed
    folder, results = out / "c40", tmp_path / "results"
    held = tmp_path / "held"
    formats.write(held, "deepfakebench", made._replace(score=np.sqrt(made.score)))
    arguments = [str(folder), "--validation", str(held / "c40"), "--out", str(results)]
    assert external_scores.main(arguments) == 0
    assert capsys.readouterr().out.startswith("c40 test\n")
    frame = protocol.read(results).summary.qualities["c40"].frame
    expected = protocol.summarise(made).qualities["c40"].frame
    assert frame.auc.value == pytest.approx(expected.auc.value)
    assert "metric_dict_best.pickle, sha256" in (results / "report.html").read_text()
    # No file that was read is replaced.
    arguments = [str(own), "--export", "qad", "--out", str(tmp_path)]
    assert external_scores.main(arguments) == command_line.FAILED
    assert "would be overwritten" in capsys.readouterr().err
    assert own.read_text() == scores.to_csv(made)


def test_a_list_without_end_is_refused_and_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(scores, "_MOST_LINES", 3)
    path, labels = tmp_path / "s.csv", tmp_path / "labels.csv"
    labels.write_text("file,label\n" + "".join(f"{i},{i % 2}\n" for i in range(9)))
    path.write_text("filename,label\n" + "".join(f"{i},0.5\n" for i in range(9)))
    with pytest.raises(UserError, match="more than 3 lines"):
        formats.read(path, labels=labels)


def test_a_pipe_is_not_waited_for(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    pipe, out = str(tmp_path / "pipe"), str(tmp_path / "out")
    for more in ([], ["--export", "qad"]):
        assert external_scores.main([pipe, "--out", out, *more]) == command_line.FAILED
        assert "pipe: is a pipe; it is read several times" in capsys.readouterr().err
