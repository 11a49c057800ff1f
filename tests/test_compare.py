"""The comparison of two files of scores: what is compared, what is left out, what is said."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from data_builders import command_line
from data_builders.errors import UserError
from qad_jax.evaluation import bootstrap, compare, delong, scores
from tests.test_full_disk import no_file_larger_than
from tests.test_metrics import brute_auc
from tests.test_protocol import make_scores


def other(made, seed=0):
    noise = np.random.default_rng(seed).normal(0, 0.2, made.score.shape)
    return made._replace(score=made.score + noise)


def save(path, made):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(scores.to_csv(made))
    return path


def shuffled(made, seed=1):
    return made.take(np.random.default_rng(seed).permutation(len(made.label)))


def test_each_quality_and_level_is_paired_by_method_video_and_frame():
    a = make_scores(10)
    b = other(a)
    compared = compare.compare(a, shuffled(b).of(("c40", "raw")))
    for i, quality in enumerate(("raw", "c40")):
        for level, one, two in (("frame", a, b), ("video", a.videos(), b.videos())):
            got = getattr(compared.qualities[quality], level)
            first, second = one.score[:, i], two.score[:, i]
            assert got.items == len(one.label)
            assert got.auc_a == pytest.approx(brute_auc(one.label, first))
            assert got.auc_b == pytest.approx(brute_auc(one.label, second))
            assert got.difference == pytest.approx(got.auc_a - got.auc_b)
            tested = delong.compare(one.label, first, second)
            assert (got.delong_low, got.delong_high, got.delong_p) == pytest.approx(
                (tested.low, tested.high, tested.p)
            )
            drawn = bootstrap.bootstrap(one.label, np.stack([first, second], 1), one.identity)
            ends = np.percentile(drawn["auc"][:, 0] - drawn["auc"][:, 1], [2.5, 97.5])
            assert (got.identity_low, got.identity_high) == pytest.approx(tuple(ends))


def test_the_clips_that_differ_most_come_first():
    a, b = make_scores(5), other(make_scores(5))
    clips = compare.compare(a, b).clips
    apart = (a.score.astype(float) - b.score).reshape(15, 3, 2).mean(1)
    order = np.argsort(-np.abs(apart).ravel())[: compare.CLIPS]
    videos = a.videos()
    for clip, at in zip(clips, order, strict=True):
        video, quality = divmod(at, 2)
        names = (videos.method[video], videos.video[video], a.qualities[quality])
        assert (clip.method, clip.video, clip.quality) == names
        assert clip.difference == pytest.approx(apart[video, quality])
        assert clip.difference == pytest.approx(clip.score_a - clip.score_b)
        assert clip.label == videos.label[video]


def test_what_only_one_has_is_left_out_and_said():
    a, b = make_scores(6), other(make_scores(6))
    b.score[7, 1] = np.nan
    compared = compare.compare(a.take(np.arange(2, 54)), b.take(np.arange(50)))
    assert dataclasses.asdict(compared.left_out) == {
        "frames_of_a": 4,
        "frames_of_b": 2,
        "qualities_of_a": (),
        "qualities_of_b": (),
    }
    raw, c40 = (compared.qualities[q] for q in ("raw", "c40"))
    assert (raw.frames, c40.frames, c40.not_numbers) == (48, 47, 1)
    rows = [i for i in range(2, 50) if i != 7]
    expected = brute_auc(a.label[rows], a.score[rows, 1])
    assert c40.frame.auc_a == pytest.approx(expected)
    text = compare.table(compared)
    assert f"\nnumber of identities: {len(set(a.identity))}\n" in text
    assert "left out: 4 frames that only A has" in text
    assert "left out at c40: 1 frames whose score is not a number" in text
    only = compare.compare(a.of(("raw",)), b)
    assert "left out: c40, which only B has" in compare.table(only)


def test_a_file_without_identities_takes_those_of_the_other():
    a, b = make_scores(6), other(make_scores(6))
    people = [str(int(video) // 2) for video in a.video]
    expected = compare.compare(a._replace(identity=people), b._replace(identity=people))
    compared = compare.compare(a, b._replace(identity=people))
    assert compared.identities_of == "B"
    assert compared.qualities == expected.qualities
    assert compared.qualities["raw"].identities == 4
    assert "the identities are those of B" in compare.table(compared)


def test_identical_scores_do_not_differ():
    a = make_scores()
    compared = compare.compare(a, a)
    assert compared.clips == ()
    assert "A and B differ on no clip." in compare.table(compared)
    for level in ("frame", "video"):
        got = getattr(compared.qualities["c40"], level)
        assert (got.difference, got.delong_p) == (0, 1)
        assert (got.identity_low, got.identity_high) == (0, 0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"label": np.ones(27, int)}, "one class only: all 27 are fake"),
        ({"identity": ["one"] * 27}, "one identity only"),
        ({"identity": [*"aaabbbccc", *["one"] * 18]}, "one class is of one identity"),
        ({"identity": [*["one"] * 9, *"aaabbbcccaaabbbccc"]}, "one class is of one identity"),
        ({"score": np.full((27, 2), np.nan)}, "there are no items"),
    ],
)
def test_what_is_not_defined_says_why(change, reason):
    a = make_scores()._replace(**change)
    compared = compare.compare(a, other(a))
    for level in (compared.qualities["raw"].frame, compared.qualities["raw"].video):
        assert (level.identity_low, level.identity_high) == (None, None)
    assert f"not defined at raw, frame level: {reason}" in compare.table(compared).replace(
        "no interval over identities: ", ""
    )
    json.dumps(compared.as_dict(), allow_nan=False)


def test_the_command_takes_folders_and_files_and_writes_what_it_prints(tmp_path, capsys):
    a, b = make_scores(), other(make_scores())
    ours = save(tmp_path / "run/evaluation/validation/scores.csv", a)
    file, out = save(tmp_path / "theirs.csv", b), tmp_path / "out"
    arguments = [str(tmp_path / "run"), str(file), "--split", "validation", "--out", str(out)]
    assert compare.main(arguments) == 0
    printed = capsys.readouterr().out
    read = (scores.read(path) for path in (ours, file))
    compared = compare.compare(*read, names=(str(ours), str(file)))
    assert compare.table(compared) + "\n" == printed
    stored = json.loads((out / "comparison.json").read_text())
    assert stored == json.loads(json.dumps(compared.as_dict()))
    assert list(stored) == ["a", "b", "left_out", "identities_of", "qualities", "clips"]
    assert list(stored["qualities"]["raw"]["frame"]) == list(compare.FIELDS)
    with (out / "comparison.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["quality"], row["level"]) for row in rows] == [
        (quality, level) for quality in ("raw", "c40") for level in ("frame", "video")
    ]
    for row in rows:
        numbers = stored["qualities"][row["quality"]][row["level"]]
        assert float(row["delong_p"]) == numbers["delong_p"]
        assert float(row["identity_low"]) == numbers["identity_low"]
    with (out / "clips.csv").open(newline="") as lines:
        clips = list(csv.DictReader(lines))
    assert len(clips) == compare.CLIPS
    assert clips == [{key: str(of[key]) for key in of} for of in stored["clips"]]
    assert sorted(path.name for path in out.iterdir()) == [
        "clips.csv",
        "comparison.csv",
        "comparison.json",
    ]


@pytest.mark.parametrize("name", ["clips.csv", "comparison.csv", "comparison.json"])
def test_what_is_compared_is_not_overwritten(tmp_path, capsys, name):
    good = save(tmp_path / "good.csv", make_scores())
    held = save(tmp_path / "out" / name, other(make_scores()))
    before = held.read_bytes()
    for pair in ((held, good), (good, held)):
        assert compare.main([*map(str, pair), "--out", str(tmp_path / "out")]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"error: --out: {held} is read, and would be overwritten; ")
        assert error.count("\n") == 1
    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [before]


def test_a_full_disk_leaves_no_half_of_a_file(tmp_path, capsys):
    file = save(tmp_path / "a.csv", make_scores())
    with no_file_larger_than(500):
        assert compare.main([str(file), str(file), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "File too large" in error
    assert not list((tmp_path / "out").glob("comparison.*"))


def test_mistakes_are_one_line(tmp_path, capsys):
    a = make_scores()
    good = save(tmp_path / "good.csv", a)
    turned = save(tmp_path / "turned.csv", a._replace(label=1 - a.label))
    elsewhere = save(tmp_path / "else.csv", a._replace(video=[f"x{v}" for v in a.video]))
    renamed = save(tmp_path / "renamed.csv", a._replace(qualities=("a", "b")))
    bad = tmp_path / "bad.csv"
    bad.write_text("method,video,frame,label,score\na,b,0,1,0.5\na,b,1,1,high\n")
    save(tmp_path / "run/evaluation/other-data/test/scores.csv", a)
    save(tmp_path / "held/evaluation/other-data/validation/scores.csv", a)
    for second, message in [
        (tmp_path / "held", "evaluate it first"),
        (turned, "original/001 frame 0: label is 0 in A and 1 in B (27 frames"),
        (elsewhere, "no frame in common: A has original/001 frame 0, B original/x001 frame 0"),
        (renamed, "no quality in common: A has raw, c40, B a, b"),
        (bad, "row 3: score is 'high'; must be a number"),
        (tmp_path / "none.csv", "No such file"),
        (tmp_path / "run", "other-data/test"),
        (tmp_path, "evaluate it first"),
    ]:
        assert compare.main([str(good), str(second)]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert message in error
    assert compare.main([str(good)]) == command_line.USAGE
    assert "arguments are required: b" in capsys.readouterr().err
    with pytest.raises(UserError, match="evaluate it first"):
        compare.find(tmp_path, "test")
