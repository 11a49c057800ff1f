"""Files of scores as spreadsheets and other tools write them: read right, or one line."""

import json

import numpy as np
import pytest

from data_builders.errors import UserError
from qad_jax.evaluation import compare, external_scores, protocol, scores
from tests.test_protocol import make_scores

HEADER = "method,video,frame,label,score\n"


def text_of(made, *, factor=1.0, logits=False):
    """A file of one quality."""
    p = np.clip(made.score[:, 0].astype(float), 1e-3, 1 - 1e-3)
    values = np.log(p / (1 - p)) if logits else p * factor
    rows = zip(made.method, made.video, made.frame, made.label, values, strict=True)
    return HEADER + "".join(f"{m},{v},{f},{y},{s:.4f}\n" for m, v, f, y, s in rows)


def written(folder, text, name="scores.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def assert_same(one, other):
    for name, value in one._asdict().items():
        np.testing.assert_array_equal(value, getattr(other, name))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize(
    ("delimiter", "decimal"), [(",", "."), (";", "."), (";", ","), ("\t", "."), ("\t", ",")]
)
def test_delimiters_decimal_signs_and_ends_of_lines(tmp_path, delimiter, decimal, mark, end):
    text = text_of(make_scores())
    expected = scores.read(written(tmp_path, text, "plain.csv"))
    text = text.replace(",", delimiter).replace(".", decimal).replace("\n", end)
    assert_same(scores.read(written(tmp_path, mark + text)), expected)
    excel = f"{mark}sep={delimiter}{end}{text}"
    assert_same(scores.read(written(tmp_path, excel)), expected)


def test_the_row_is_that_of_the_file(tmp_path):
    path = written(tmp_path, "sep=;\nmethod;video;frame;label;score\na;b;0;1;0,5\na;b;1;1;x\n")
    with pytest.raises(UserError, match="row 4: score is 'x'; must be a number"):
        scores.read(path)


@pytest.mark.parametrize(
    "frames",
    [
        (1700000000000, 1700000000040),
        (1700000000000000001, 1700000000000000002),  # nanoseconds: one and the same float
        (-(2**63), 2**63 - 1),
    ],
)
def test_frames_of_64_bits(tmp_path, frames):
    rows = "".join(f"a,b,{frame},1,0.5\n" for frame in frames)
    got = scores.read(written(tmp_path, HEADER + rows))
    assert got.frame.dtype == np.int64
    assert got.frame.tolist() == list(frames)
    assert_same(scores.read(written(tmp_path, scores.to_csv(got))), got)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,b,9223372036854775808,1,0.5", r"row 2: frame is .*64 bits"),
        ("a,b,1e30,1,0.5", r"row 2: frame is '1e30'; must be a whole number with all its digits"),
        ("a,b,0.04,1,0.5", r"row 2: frame is '0.04'; must be a whole number"),
        ("a,b,nan,1,0.5", "row 2: frame is 'nan'; must be a whole number"),
        ("a,b,inf,1,0.5", "row 2: frame is 'inf'; must be a whole number"),
        ("a,b,,1,0.5", "row 2: frame is ''; must be a number"),
        ("a,b,1_0,1,0.5", "row 2: frame is '1_0'; must be a number"),
        ("a,b,0,1,inf", "row 2: score is 'inf'; must be finite, or empty or nan"),
        ("a,b,0,1,-Infinity", "row 2: score is '-Infinity'; must be finite"),
        ("a,b,0,1,1e999", "row 2: score is '1e999'; must be finite"),
        ("a,b,0,1,1_0", "row 2: score is '1_0'; must be a number"),
        ("a,b,0,1,98%", "row 2: score is '98%'; must be a number"),
        ('a,b,0,1,"0,5"', "row 2: score is '0,5'; .* a decimal comma needs a file whose delim"),
        ("a,b,0,1,0,5", "row 2: 6 values, the header has 5"),
        ("a,b,0,nan,0.5", "row 2: label is 'nan'"),
        ("a,b,0,0,0.5\nc,b,0,1,0.5\na,b,1,1,0.5", "row 4: a/b is fake, and real in an earlier"),
        ("a;b;0;1;0,5\na;b;1;1;0.5", "row 3: score is '0.5'; must have the decimal sign ','"),
        ("a;b;0;1;1.234,5", "row 2: score is '1.234,5'; must be a number"),
    ],
)
def test_what_is_never_a_number_in_silence(tmp_path, rows, message):
    header = HEADER.replace(",", ";") if ";" in rows else HEADER
    path = written(tmp_path, f"{header}{rows}\n")
    with pytest.raises(UserError, match=message) as caught:
        scores.read(path)
    assert "\n" not in str(caught.value)


def test_a_header_that_is_none_is_one_short_line(tmp_path):
    path = written(tmp_path, f'method,"{"x;" * 10**4}\n' + "\n" * 50 + '",label\n')
    with pytest.raises(UserError, match="has no column 'video'") as caught:
        scores.read(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_another_encoding_is_one_line(tmp_path):
    path = written(tmp_path, text_of(make_scores()).encode("utf-16"))
    with pytest.raises(UserError, match="save the file as CSV in UTF-8"):
        scores.read(path)


@pytest.mark.parametrize(
    ("kind", "low"), [({"factor": 100}, "0.1 to 9"), ({"logits": True}, r"-\d")]
)
def test_other_ranges_are_told(tmp_path, capsys, kind, low):
    made = make_scores(8)
    path, out = written(tmp_path, text_of(made, **kind)), tmp_path / "out"
    assert external_scores.main([str(path), "--out", str(out)]) == 0
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1
    assert f"warning: {path}: scores run from " in warning
    assert "accuracy and FPR at 0.5 have no meaning: give --validation" in warning
    stored = protocol.read(out)
    assert "at 0.5, accuracy and FPR have no meaning" in stored.threshold_rule
    assert stored.threshold_rule in (out / "report.html").read_text()
    assert compare.main([str(path), str(path)]) == 0
    assert f"warning: {path}: scores run from " in capsys.readouterr().err


def test_validation_gives_a_threshold_whatever_the_range(tmp_path, capsys):
    made = make_scores(16)
    first = np.array(made.video) <= "008"
    halves = {"t": made.take(np.flatnonzero(first)), "v": made.take(np.flatnonzero(~first))}
    files = {
        name: [
            written(tmp_path, text_of(half, factor=of), f"{name}_{x}.csv")
            for x, half in halves.items()
        ]
        for name, of in (("percent", 100), ("plain", 1))
    }
    stored = {}
    for name, (test, validation) in files.items():
        out = tmp_path / name
        arguments = [str(test), "--out", str(out), "--validation", str(validation)]
        assert external_scores.main(arguments) == 0
        stored[name] = json.loads((out / "metrics.json").read_text())["qualities"]["all"]["frame"]
    warned = capsys.readouterr().err
    assert warned.count("\n") == 1
    assert "thresholds are those of the validation file" in warned
    ratio = stored["percent"]["threshold"] / stored["plain"]["threshold"]
    assert ratio == pytest.approx(100, rel=1e-3)  # the files have four digits behind the point
    accuracy = [of["accuracy_at_threshold"] for of in stored.values()]
    assert accuracy[0] == accuracy[1]
    # A threshold of one kind has no meaning for the other.
    arguments = [str(files["percent"][0]), "--out", str(tmp_path / "no")]
    arguments += ["--validation", str(files["plain"][1])]
    assert external_scores.main(arguments) == 1
    assert "the scores are of two kinds" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_probabilities_are_not_warned_of(tmp_path, capsys):
    path = written(tmp_path, text_of(make_scores(8)))
    assert external_scores.main([str(path), "--out", str(tmp_path / "out")]) == 0
    assert not capsys.readouterr().err
