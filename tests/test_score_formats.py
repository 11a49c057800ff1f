"""Scores as other projects write them: read with the labels the right way round, and written."""

import csv
import json
import os
import pickle

import numpy as np
import pytest

from data_builders import command_line
from data_builders.errors import UserError
from qad_jax.evaluation import external_scores, formats, protocol, scores
from qad_jax.evaluation.formats import deepfakebench, listed
from qad_jax.weights import array_pickle, pickle_machine
from tests.test_protocol import make_scores

#: Two reals and two fakes of two methods, in an order that is shuffled as theirs is.
FRAMES = [
    ("./FF/manipulated_sequences/Deepfakes/c23/frames/000_003/012.png", 0.75, 1),
    ("./FF/original_sequences/youtube/c23/frames/000/004.png", 0.125, 0),
    ("./FF/manipulated_sequences/Face2Face/c23/frames/000_003/012.png", 0.875, 2),
    ("./FF/manipulated_sequences/Deepfakes/c23/frames/000_003/004.png", 0.25, 1),
    (".\\FF\\original_sequences\\youtube\\c23\\frames\\003\\004.png", 0.5, 0),
]


def bench(folder, frames=FRAMES, *, protocol=3, **changed):
    """The two files of a test, as trainer.py of DeepfakeBench pickles them."""
    paths, made, labels = zip(*frames, strict=True)
    stored = {
        "acc": 0.5,
        "auc": np.float64(0.5),
        "pred": np.array(made, np.float32),
        "label": np.minimum(labels, 1),
        **changed,
    }
    folder.mkdir(exist_ok=True)
    for name, content in (
        ("metric_dict_best.pickle", stored),
        ("data_dict_test.pickle", {"image": paths, "label": list(labels)}),
    ):
        data = pickle.dumps(content, protocol=protocol)
        if protocol == 3:  # names of modules as NumPy 1 writes them, which has no `_core`
            data = data.replace(b"cnumpy._core.", b"cnumpy.core.")
            assert b"numpy._core" not in data
        (folder / name).write_bytes(data)
    return folder


def table(made):
    """Every fact of scores with one quality, by frame."""
    columns = (made.method, made.video, made.frame.tolist(), made.label.tolist())
    return dict(zip(zip(*columns, strict=True), made.score[:, 0].tolist(), strict=True))


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_test_in_deepfakebench_is_read_with_the_frames_beside_it(tmp_path, protocol):
    folder = bench(tmp_path / "FaceForensics++", protocol=protocol)
    for path in (folder, folder / "metric_dict_best.pickle", folder / "data_dict_test.pickle"):
        made = formats.read(path)
        assert table(made) == {
            ("Deepfakes", "000_003", 12, 1): 0.75,
            ("youtube", "000", 4, 0): 0.125,
            ("Face2Face", "000_003", 12, 1): 0.875,
            ("Deepfakes", "000_003", 4, 1): 0.25,
            ("youtube", "003", 4, 0): 0.5,
        }
    assert made.qualities == ("c23",)
    assert made.identity == ["000", "000", "000", "000", "003"]


def test_frames_without_numbers_are_counted_and_clips_begin_where_they_say(tmp_path):
    named = [("a/x.png", 0.5, 0), ("a/y.png", 0.25, 0), ("D/fake/raw/b/z.mp4", 1.0, 7)]
    made = formats.read(bench(tmp_path / "named", named))
    assert list(table(made)) == [
        ("original", "a", 0, 0),
        ("original", "a", 1, 0),
        ("fake", "b", 0, 1),
    ]
    assert made.qualities == ("all",)  # one frame says raw, the others nothing
    clips = [
        (["v/frames/a/08.png", "v/frames/a/09.png"], 0.5, 0),
        (["v/c0/frames/b/1.png"], 0.5, 1),
    ]
    assert list(table(formats.read(bench(tmp_path / "clips", clips)))) == [
        ("v", "a", 8, 0),
        ("v", "b", 1, 1),
    ]


def test_what_deepfakebench_gets_is_what_its_scripts_take(tmp_path):
    made = make_scores(8)
    made.score[0, 0] = np.nan
    made = made._replace(video=[f"{name}/%" for name in made.video])
    files = formats.write(tmp_path, "deepfakebench", made)
    assert sorted(str(file.relative_to(tmp_path)) for file in files) == [
        f"{quality}/{name}.pickle"
        for quality in ("c40", "raw")
        for name in ("data_dict_test", "metric_dict_best")
    ]
    for column, quality in enumerate(made.qualities):
        # Python's own machine, with the NumPy that is installed, as curve_draw.py does.
        stored = pickle.loads((tmp_path / quality / "metric_dict_best.pickle").read_bytes())
        frames = pickle.loads((tmp_path / quality / "data_dict_test.pickle").read_bytes())
        assert stored["pred"].dtype == np.float64
        assert stored["label"].dtype == np.int64
        np.testing.assert_array_equal(stored["pred"], made.score[:, column])
        np.testing.assert_array_equal(stored["label"], made.label)
        assert frames["label"] == made.label.tolist()
        # Their rule for the video of a frame is the name of its folder.
        folders = [name.split("/")[-2] for name in frames["image"]]
        assert folders == [name.replace("%", "%25").replace("/", "%2F") for name in made.video]
        if column:
            reals, fakes = (made.score[made.label == i, column] for i in (0, 1))
            pairs = np.sign(fakes[:, None] - reals[None]) / 2 + 0.5
            assert stored["auc"] == pytest.approx(pairs.mean())
            assert stored["acc"] == ((made.score[:, column] >= 0.5) == made.label).mean()
        else:
            assert np.isnan(stored["auc"])
    # NumPy 1, which they ask for, has no module of this name.
    assert b"numpy._core" not in (tmp_path / "raw" / "metric_dict_best.pickle").read_bytes()


def test_scores_come_back_from_deepfakebench_as_they_went(tmp_path):
    made = make_scores(6)
    made.score[1, 1] = 1 / 3
    formats.write(tmp_path, "deepfakebench", made)
    for quality in made.qualities:
        again = formats.read(tmp_path / quality)
        assert again.qualities == (quality,)
        assert table(again) == table(made.of((quality,)))


def test_nothing_that_a_pickle_names_is_run(tmp_path, capsys):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    folder = bench(tmp_path / "a", acc=Harmful())
    status = external_scores.main([str(folder), "--out", str(tmp_path / "out")])
    assert status == command_line.FAILED
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "refused: its pickle names posix.mkdir" in error
    assert not (tmp_path / "ran").exists()
    pickle.loads((folder / "metric_dict_best.pickle").read_bytes())  # Python's own machine runs it
    assert (tmp_path / "ran").is_dir()


def test_pickles_that_do_not_fit_say_so(tmp_path, monkeypatch):
    def fails(message, frames=FRAMES, damage=None, **changed):
        folder = bench(tmp_path / "a", frames, **changed)
        if damage:
            damage(folder)
        with pytest.raises(UserError, match=message) as error:
            formats.read(folder)
        assert "\n" not in str(error.value)

    fails("'pred' must be 5 numbers", pred=np.zeros(4, np.float32))
    fails("'pred' must be 5 numbers", pred=np.zeros((5, 2), np.float32))
    fails("'label' must be 5 numbers", label=["real"] * 5)
    fails("label 1 is not that of", label=np.ones(5, np.int64))
    fails("label 0 is not that of", label=1 - np.minimum([of for _, _, of in FRAMES], 1))
    fails("labels must be whole numbers", label=np.array([1, 0, 0.5, 1, 0]))
    fails("pred 2 is infinite", pred=np.array([0, 0, np.inf, 0, 0]))
    fails("occurs twice", [*FRAMES, FRAMES[0]])
    fails("list of paths", [(7, 0.5, 0)])
    fails("list of paths", [("x" * 5000, 0.5, 0)])
    fails("has no 'pred'", damage=lambda at: _metrics(at).write_bytes(pickle.dumps({"label": 1})))
    fails("has no 'pred'", damage=lambda at: _metrics(at).write_bytes(pickle.dumps([1])))
    fails(
        "damaged, cut off",
        damage=lambda at: _metrics(at).write_bytes(_metrics(at).read_bytes()[:90]),
    )
    fails("is not there", damage=lambda at: (at / "data_dict_test.pickle").unlink())
    with monkeypatch.context() as patch:
        patch.setattr(deepfakebench, "_MOST_CHARACTERS", 1000)
        one = "\\".join(["x"] * 99)
        fails("paths are too long", [(one, 0.5, 0)] * 9)  # one text in the pickle, nine of ours
    monkeypatch.setattr(pickle_machine, "MOST_STEPS", 20)
    fails("more than 2,000,000 steps")


def _metrics(folder):
    return folder / "metric_dict_best.pickle"


def test_an_array_takes_no_more_memory_than_its_file(tmp_path):
    honest = array_pickle.dump({"pred": np.zeros(4)})
    assert array_pickle.numbers(array_pickle.load(honest)["pred"], 4).tolist() == [0, 0, 0, 0]
    for wrong in (
        honest.replace(b"J\x04\x00\x00\x00\x85", b"J\xff\xff\xff\x7f\x85"),  # two thousand millions
        honest.replace(b"f8", b"O8"),  # objects, whose bytes would be addresses
        honest.replace(b"X\x01\x00\x00\x00<", b"X\x01\x00\x00\x00?"),
    ):
        assert wrong != honest
        with pytest.raises(pickle_machine.DamagedError):
            array_pickle.load(wrong)


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
    own = tmp_path / "own.csv"
    own.write_text(scores.to_csv(make_scores()))
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
        assert status in (command_line.FAILED, command_line.USAGE), text
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
    arguments = [str(folder), "--validation", str(folder), "--out", str(results)]
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
