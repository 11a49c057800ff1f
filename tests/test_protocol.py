"""What is computed from the scores of a split, what is said of it, and the files."""

import json

import numpy as np
import pytest

from data_builders.errors import UserError
from qad_jax.evaluation import bootstrap, calibration, metrics, protocol, scores
from qad_jax.evaluation.calibration import Calibration
from qad_jax.evaluation.results import Report
from qad_jax.evaluation.scores import Scores
from tests.test_metrics import brute_auc


def make_scores(people=3):
    """Two methods that use the same names of videos; three frames a video."""
    rng = np.random.default_rng(4)
    rows = [
        (label, method, f"{video:03}", f"person_{video:03}", frame)
        for label, method in [(0, "original"), (1, "Deepfakes"), (1, "FaceSwap")]
        for video in range(1, people + 1)
        for frame in range(3)
    ]
    labels, method, video, identity, frame = (list(column) for column in zip(*rows, strict=True))
    spread = np.array([0.2, 0.4])
    score = rng.normal(0.4, spread, (len(rows), 2)) + 0.2 * np.array(labels)[:, None]
    return Scores(
        ("raw", "c40"),
        np.array(labels),
        method,
        video,
        identity,
        np.array(frame),
        np.clip(score, 0, 1).astype(np.float32),
    )


def complete(made, chosen=None):
    return Report("d", "test", 1, protocol.summarise(made, chosen=chosen), "0.5")


def test_equal_names_of_videos_under_two_methods_stay_apart():
    made = make_scores()
    result = protocol.summarise(made).qualities["raw"]
    assert result.frames == 27
    assert result.videos == 9
    means = made.score[:, 0].reshape(9, 3).mean(1)
    assert result.video.auc.value == pytest.approx(brute_auc([0] * 3 + [1] * 6, means))
    assert result.frame.auc.value == pytest.approx(brute_auc(made.label, made.score[:, 0]))


def test_each_method_is_set_against_all_reals():
    made = make_scores()
    methods = protocol.summarise(made).methods
    assert list(methods) == ["Deepfakes", "FaceSwap"]
    rows = np.r_[0:9, 18:27]
    result = methods["FaceSwap"]["c40"]
    assert (result.frames, result.videos) == (18, 6)
    expected = brute_auc(made.label[rows], made.score[rows, 1])
    assert result.frame.auc.value == pytest.approx(expected)
    single = made.take(rows)
    assert protocol.summarise(single).methods == {}


def test_the_mean_is_over_qualities_and_its_interval_of_the_mean():
    made = make_scores(12)
    summary = protocol.summarise(made)
    raw, c40 = (summary.qualities[q].frame.estimates() for q in ("raw", "c40"))
    mean = summary.mean.estimates()
    draws = bootstrap.bootstrap(made.label, made.score, made.identity)
    for name in metrics.NAMES:
        assert mean[name].value == pytest.approx((raw[name].value + c40[name].value) / 2)
        low, high = np.percentile(draws[name].mean(axis=1), [2.5, 97.5])
        assert (mean[name].low, mean[name].high) == pytest.approx((low, high))
    assert list(mean) == list(metrics.NAMES)


def test_what_is_stored_is_flat_in_one_order_and_is_read_again(tmp_path):
    chosen = Calibration("d", 1, {"c40": calibration.Quality(2.0, 0.7, 0.6)})
    report = complete(make_scores(), chosen)
    protocol.write(tmp_path, make_scores(), report)
    assert protocol.read(tmp_path) == report
    stored = json.loads((tmp_path / "metrics.json").read_text())
    head = ["dataset", "split", "step"]
    numbers = ["qualities", "mean", "methods", "drop", "identities", "bootstrap"]
    assert list(stored) == [*head, *numbers, "threshold_rule", "digest", "weights"]
    raw = stored["qualities"]["raw"]
    assert list(raw) == ["frames", "videos", "frame", "video", "calibration"]
    assert list(raw["calibration"]) == ["temperature", "ece_before", "ece_after"]
    assert list(stored["methods"]["FaceSwap"]["raw"]) == ["frames", "videos", "frame", "video"]
    ends = [f"{name}{end}" for name in metrics.NAMES for end in ("", "_low", "_high")]
    for level in (raw["frame"], raw["video"], stored["mean"]):
        assert list(level) == [*ends, "threshold", "undefined"]
    assert list(stored["drop"]) == ["from", "to", "frame", "video"]
    assert list(stored["drop"]["video"]) == ["difference", "low", "high"]
    auc = report.summary.qualities["raw"].frame.auc
    assert [raw["frame"][f"auc{end}"] for end in ("", "_low", "_high")] == [
        auc.value,
        auc.low,
        auc.high,
    ]


@pytest.mark.parametrize(
    "change", [{"label": np.ones(27, int)}, {"identity": ["one"] * 27}, {"score": np.ones((27, 2))}]
)
def test_what_is_not_defined_is_stored_and_read_again(tmp_path, change):
    made = make_scores()._replace(**change)
    report = complete(made)
    protocol.write(tmp_path, made, report)
    assert protocol.read(tmp_path) == report


def test_the_drop_is_paired():
    made = make_scores(12)
    drop = protocol.summarise(made).drop
    assert (drop.first, drop.weakest) == ("raw", "c40")
    raw, c40 = (brute_auc(made.label, column) for column in made.score.T)
    assert drop.frame.difference == pytest.approx(raw - c40)
    draws = bootstrap.bootstrap(made.label, made.score, made.identity)["auc"]
    expected = np.percentile(draws[:, 0] - draws[:, 1], [2.5, 97.5])
    assert (drop.frame.low, drop.frame.high) == pytest.approx(tuple(expected))
    text = protocol.headline(complete(made))
    assert f"weakest quality is c40: frame AUC {100 * c40:.1f} %" in text
    assert f"{100 * (raw - c40):.1f} points below raw" in text


def error_of_15_bins(labels, p):
    """The expected calibration error, bin by bin."""
    inside = [(p >= i / 15) & ((p < (i + 1) / 15) | (i == 14)) for i in range(15)]
    return sum(abs(np.sum(labels[one] - p[one])) for one in inside) / len(p)


def test_thresholds_of_validation_are_used_at_their_quality_and_level():
    made = make_scores()
    chosen = Calibration("d", 1, {"c40": calibration.Quality(2.0, 0.7, 0.6)})
    qualities = protocol.summarise(made, chosen=chosen).qualities
    for level, threshold, values, labels in [
        ("frame", 0.7, made.score[:, 1], made.label),
        ("video", 0.6, made.score[:, 1].reshape(9, 3).mean(1), made.label[::3]),
    ]:
        numbers = getattr(qualities["c40"], level)
        assert numbers.threshold == threshold
        assert numbers.fpr_at_threshold.value == pytest.approx(
            np.mean(values[labels == 0] >= threshold)
        )
        assert numbers.accuracy.value == pytest.approx(np.mean((values >= 0.5) == labels))
    assert qualities["raw"].frame.threshold == 0.5
    assert qualities["c40"].calibration.temperature == 2.0
    # A temperature of two takes the root of the odds.
    p = np.clip(made.score[:, 1].astype(float), 1e-7, 1 - 1e-7)
    rooted = np.sqrt(p / (1 - p))
    expected = error_of_15_bins(made.label, rooted / (1 + rooted))
    assert qualities["c40"].calibration.ece_after == pytest.approx(expected)
    assert qualities["c40"].calibration.ece_before == pytest.approx(error_of_15_bins(made.label, p))
    assert abs(expected - qualities["c40"].calibration.ece_before) > 0.01
    assert qualities["raw"].calibration.ece_after is None


def test_a_split_of_one_class_gives_the_rest_of_the_report():
    made = make_scores()
    report = complete(made._replace(label=np.ones(27, int)))
    assert report.summary.mean.auc.value is None
    assert report.summary.mean.accuracy.value is not None
    assert report.summary.drop is None
    assert "one class only: all 27 are fake" in protocol.table(report)
    assert "95 %: intervals over 3 identities" in protocol.table(complete(make_scores()))
    assert protocol.headline(report).startswith("AUC is not defined: one class only")
    json.dumps(report.as_dict(), allow_nan=False)


def test_a_quality_with_scores_that_are_no_numbers_leaves_the_others():
    made = make_scores()
    made.score[:2, 1] = np.nan
    report = complete(made)
    raw, c40 = (report.summary.qualities[q].frame for q in ("raw", "c40"))
    assert c40.auc.value is None
    assert c40.undefined == {metrics.ALL: "2 of 27 scores are not numbers"}
    assert raw.auc.low is not None
    assert report.summary.mean.auc.value == raw.auc.value
    assert "not defined at c40: 2 of 27 scores are not numbers" in protocol.table(report)
    assert "no other quality" in protocol.headline(report)
    json.dumps(report.as_dict(), allow_nan=False)


def test_one_identity_gives_numbers_and_no_interval():
    made = make_scores()
    report = complete(made._replace(identity=["one"] * 27))
    numbers = report.summary.qualities["raw"].frame
    assert numbers.auc.value is not None
    assert numbers.auc.low is None
    assert numbers.undefined == {"intervals": "one identity only"}
    assert "no interval: one identity only" in protocol.headline(report)


def ends_of(stored):
    """All ends of intervals in what is stored as JSON."""
    if isinstance(stored, dict):
        for name, value in stored.items():
            if name.endswith(("low", "high")):
                yield value
            yield from ends_of(value)


@pytest.mark.parametrize("alone", [0, 1])
@pytest.mark.parametrize("qualities", [("raw", "c40"), ("c40",)])
def test_one_identity_in_a_class_gives_no_interval_of_anything(alone, qualities):
    """Neither of the numbers, nor of the drop, nor in the words."""
    made = make_scores(12).of(qualities)
    assert any(end is not None for end in ends_of(complete(made).as_dict()))
    people = zip(made.identity, made.label, strict=True)
    report = complete(made._replace(identity=["x" if y == alone else who for who, y in people]))
    assert set(ends_of(report.as_dict())) == {None}
    assert report.summary.bootstrap == 0
    assert report.summary.qualities["c40"].video.auc.value is not None
    text = protocol.headline(report)
    assert text == protocol.headline(Report.from_dict(report.as_dict()))
    assert "(no interval: one class is of one identity)" in text
    assert "95 %" not in text
    assert "chance" not in text
    if len(qualities) == 2:
        assert report.summary.drop.frame.difference > 0


def test_files_hold_every_frame_at_every_quality_and_are_read_again(tmp_path):
    made = make_scores()
    protocol.write(tmp_path, made, complete(made))
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    assert lines[0] == "method,video,identity,frame,quality,label,score"
    assert len(lines) == 1 + 27 * 2
    assert len(set(lines)) == len(lines)
    first = lines[1].split(",")
    assert first[:6] == ["original", "001", "person_001", "0", "raw", "0"]
    again = scores.read(tmp_path / "scores.csv")
    np.testing.assert_array_equal(again.score.astype(np.float32), made.score)
    np.testing.assert_array_equal(again.label, made.label)
    for field in ("qualities", "method", "video", "identity"):
        assert getattr(again, field) == getattr(made, field)


def test_the_scores_of_another_tool(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text(
        "\ufeffVideo_ID,frame_id,manipulation,target,prob\n"
        '001,0,original,real,0.25\n"a,b",1,FaceSwap,fake,0.75\n001,0,FaceSwap,1,nan\n'
    )
    got = scores.read(path)
    assert got.qualities == ("all",)
    assert got.method == ["original", "FaceSwap", "FaceSwap"]
    assert got.video == got.identity == ["001", "a,b", "001"]
    np.testing.assert_array_equal(got.label, [0, 1, 1])
    np.testing.assert_array_equal(got.score[:, 0], [0.25, 0.75, np.nan])


def test_where_no_quality_is_named_none_is_told(tmp_path):
    """Three of the four pairs of a real and a fake score are in order."""
    path = tmp_path / "plain.csv"
    rows = ["a,real,0.1", "b,real,0.6", "c,fake,0.5", "d,fake,0.9"]
    path.write_text(
        "\n".join(
            [
                "video,method,label,score,frame",
                *(
                    f"{video},m,{label},{score},0"
                    for video, label, score in (row.split(",") for row in rows)
                ),
            ]
        )
    )
    said = protocol.headline(complete(scores.read(path)))
    assert said.startswith("Frame AUC is 75.0 % (95 % interval ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty, or begins with an empty line; get the file again"),
        ("\nmethod,video\n", "is empty, or begins with an empty line"),
        ("video,frame,label\n", "has no column 'method'"),
        ("method,video,frame,label\n", "has no column 'score' .or prob"),
        ("method,video,frame,label,score,prob\n", "more than one column could be 'score'"),
        ("method,video,frame,label,score\n", "holds no scores"),
        ("method,video,frame,label,score\na,b,0,1,0.5\na,b,1,1\n", "row 3: 4 values, .* has 5"),
        ("method,video,frame,label,score\na,b,0,2,0.5\n", "row 2: label is '2'; must be 0 or"),
        ("method,video,frame,label,score\na, ,0,1,0.5\n", "row 2: names no video"),
        ("method,video,frame,label,score\na,b,x,1,0.5\n", "row 2: frame is 'x'; must be a number"),
        ("method,video,frame,label,score\na,b,0,1,high\n", "row 2: score is 'high'; must be a num"),
        ("method,video,frame,label,score\na,b,0,1,1\na,b,0,1,1\n", "row 3: a/b .* occurs twice"),
        ("method,video,frame,label,score\na,b,0,1,1\na,b,0,0,1\n", "row 3: .* another label"),
        (
            "method,video,frame,label,score,quality\na,b,0,1,1,raw\na,b,1,1,1,c40\n",
            "a/b frame 0 has no score at c40",
        ),
        ('method,video,frame,label,score\n"a\x00', "row 2: 1 values, the header has 5"),
        pytest.param(
            f"method,video,frame,label,score\n{'a' * 200_000}\n",
            "cannot read the scores: field larger than field limit",
            id="long",
        ),
    ],
)
def test_mistakes_in_a_file_of_scores_name_the_row(tmp_path, text, message):
    path = tmp_path / "scores.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        scores.read(path)
    assert str(path) in str(error.value)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        scores.read(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot read the scores"):
        scores.read(tmp_path / "bytes.csv")


def test_no_numbers_stay_beside_scores_that_they_are_not_of(tmp_path, monkeypatch):
    """`release` takes the scores, and from the numbers whose they are."""
    made = make_scores()
    protocol.write(tmp_path, made, complete(made))
    later = made._replace(score=np.sqrt(made.score))

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(protocol, "write_json", stopped)
    with pytest.raises(KeyboardInterrupt):
        protocol.write(tmp_path, later, complete(later))
    assert (tmp_path / "scores.csv").read_text() == scores.to_csv(later)
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize(
    ("column", "names", "message"),
    [
        ("quality", [f"q{i}" for i in range(201)], "has 201 qualities, and at most 200"),
        ("quality", ["x" * 101], "qualities have names of at most 100 characters, .*'x{40}'"),
        ("method", [f"m{i}" for i in range(2001)], "has 2001 methods, and at most 2000"),
        ("method", ["x" * 256], "methods have names of at most 255 characters"),
    ],
)
def test_columns_that_hold_something_else_are_told(tmp_path, column, names, message):
    """A figure for each of a million bit rates would take days."""
    path = tmp_path / "scores.csv"
    rows = [{"method": "m", "quality": "raw", column: name} for name in names]
    lines = [f"{row['method']},v,0,{row['quality']},1,0.5\n" for row in rows]
    path.write_text("method,video,frame,quality,label,score\n" + "".join(lines))
    with pytest.raises(UserError, match=message):
        scores.read(path)
    path.write_text("method,video,frame,quality,label,score\n" + "".join(lines[:200]))
    if len(names) > 1:
        scores.read(path)
