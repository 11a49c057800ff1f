"""Scores that DeepfakeBench pickles: read with the labels the right way round, and written."""

import os
import pickle
import re

import numpy as np
import pytest

from data_builders import command_line
from data_builders.errors import UserError
from qad_jax.evaluation import external_scores, formats
from qad_jax.evaluation.formats import deepfakebench
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
    for score in (np.inf, -np.inf, 1e39):
        fails(
            re.escape(f"pred 2 is {score:.4g}; must lie"), pred=np.array([0, 0, score, np.nan, 0])
        )
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


def test_frames_without_the_folder_of_a_video_are_refused(tmp_path):
    """All of them would be one video."""
    frames = [(name.rpartition("/")[2], made, label) for name, made, label in FRAMES[:2]]
    folder = bench(tmp_path / "bench", frames)
    with pytest.raises(UserError, match="without the folder of its video"):
        formats.read(folder)
    made = formats.read(bench(tmp_path / "named", [("a/_b/0.png", 0.5, 0), ("c/_d/0.png", 0.5, 1)]))
    assert made.identity == ["_b", "_d"]


def test_a_path_that_is_no_text_is_one_line(tmp_path):
    """Pickles hold halves of characters, which no file of this project could."""
    folder = bench(tmp_path / "test", [*FRAMES, ("./FF/a/c23/frames/\ud800/1.png", 0.5, 1)])
    with pytest.raises(UserError, match=r"data_dict_test.pickle: the path .*half of a character"):
        formats.read(folder)
