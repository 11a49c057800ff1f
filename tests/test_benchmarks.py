"""What benchmarks write, what is told of two such files, and the page that is made of them."""

import argparse
import importlib
import json
import sys

import pytest

from data_builders.errors import UserError
from tests.commands import call
from tests.conftest import ROOT

pytestmark = pytest.mark.checkout


def script(name):
    """A file of benchmarks/, imported as it imports the others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        return importlib.import_module(name)


def row(name, low, median, high, *, better="lower", rounds=3, unit="s", digits=2):
    table, _, rest = name.partition(": ")
    line, _, column = rest.partition(", ")
    return {
        **{"name": name, "unit": unit, "better": better, "digits": digits},
        **{"median": median, "low": low, "high": high, "rounds": rounds},
        **{"table": table, "row": line, "column": column},
    }


def write(path, *rows, **changes):
    content = {
        "benchmark": "speed",
        "command": "python benchmarks/speed.py",
        "machine": {"processor": "Zen", "cores": 2, "flags": ["avx2"]},
        "versions": {"Python": "3.11.7", "jax": "0.10.2"},
        "commit": "0123456789abcdef",
        "date": "2026-01-02T03:04:05+00:00",
        "rows": list(rows),
    }
    path.write_text(json.dumps({**content, **changes}))
    return path


def compared(*files):
    return call(*files, main=script("compare").main)


HEAD = "| what | old | new | unit | new / old | |\n|---|---|---|---|---|---|\n"


def test_what_changed_beyond_the_spread_of_both_is_told(tmp_path):
    old = write(
        tmp_path / "old.json",
        row("r50: step, here", 2.0, 2.5, 3.0),
        row("r50: awp, here", 4.0, 5.0, 6.0),
        row("r50: reading, here", 90, 100, 110, better="higher", unit="images/s", digits=0),
        row("r50: start, here", 7.0, 7.0, 7.0, rounds=1),
        row("r50: gone, here", 1.0, 1.0, 1.0),
    )
    new = write(
        tmp_path / "new.json",
        row("r50: step, here", 3.1, 4.0, 5.0),
        row("r50: awp, here", 5.9, 6.0, 6.1),
        row("r50: reading, here", 120, 200, 220, better="higher", unit="images/s", digits=0),
        row("r50: start, here", 70.0, 70.0, 70.0, rounds=1),
        row("r50: added, here", 1.0, 1.0, 1.0),
    )
    told = compared(old, new)
    assert told.out == (
        f"{HEAD}"
        "| r50: step, here | 2.50 (2.00 to 3.00) | 4.00 (3.10 to 5.00) | s "
        "| 1.60 (1.03 to 2.50) | WORSE |\n"
        "| r50: awp, here | 5.00 (4.00 to 6.00) | 6.00 (5.90 to 6.10) | s "
        "| 1.20 (0.98 to 1.52) | the same |\n"
        "| r50: reading, here | 100 (90 to 110) | 200 (120 to 220) | images/s "
        "| 2.00 (1.09 to 2.44) | better |\n"
        "| r50: start, here | 7.00 | 70.00 | s | 10.00 (10.00 to 10.00) | one round |\n"
        "| r50: added, here | none | 1.00 | s | | only new |\n"
        "| r50: gone, here | 1.00 | none | s | | only old |\n"
        "\n"
        "worse beyond the spread of both: 1 of 5 rows\n"
    )
    assert (told.status, told.err) == (1, "")


def test_a_lower_rate_is_worse_and_a_higher_one_is_not(tmp_path):
    many = write(tmp_path / "many.json", row("a: b, c", 9, 10, 11, better="higher"))
    few = write(tmp_path / "few.json", row("a: b, c", 4, 5, 6, better="higher"))
    assert compared(many, few).status == 1
    assert compared(few, many).status == 0
    assert compared(many, many).out.endswith("\nnothing is worse beyond the spread of both\n")


def test_what_else_differs_is_told_first(tmp_path):
    one = write(tmp_path / "one.json", row("a: b, c", 1, 1, 1))
    other = write(
        tmp_path / "other.json",
        row("a: b, c", 1, 1, 1),
        command="python benchmarks/speed.py --rounds 9",
        machine={"processor": "Xeon", "cores": 2, "flags": [], "gpu": "1 x H100"},
        versions={"Python": "3.11.7", "jax": "0.12.0"},
        commit="fedcba9876543210",
    )
    told = compared(one, other)
    assert told.out == (
        "command differs: python benchmarks/speed.py and python benchmarks/speed.py --rounds 9\n"
        "machine differs: flags: avx2 and none\n"
        "machine differs: gpu: none and 1 x H100\n"
        "machine differs: processor: Zen and Xeon\n"
        "versions differs: jax: 0.10.2 and 0.12.0\n"
        "\n"
        f"{HEAD}"
        "| a: b, c | 1.00 | 1.00 | s | 1.00 (1.00 to 1.00) | the same |\n"
        "\n"
        "nothing is worse beyond the spread of both\n"
    )
    assert told.status == 0


def test_two_benchmarks_are_not_compared(tmp_path):
    one = write(tmp_path / "one.json", row("a: b, c", 1, 1, 1))
    other = write(tmp_path / "other.json", row("a: b, c", 1, 1, 1), benchmark="hsic_cost")
    told = compared(one, other)
    assert told.err == (
        f"error: {other}: it is of the benchmark 'hsic_cost', and {one} of 'speed': they cannot be "
        "compared\n"
    )
    assert (told.status, told.out) == (1, "")
    unlike = write(tmp_path / "unlike.json", row("a: b, d", 1, 1, 1))
    told = compared(one, unlike)
    assert (told.status, told.out) == (1, "")
    assert "the two files have no row in common" in told.err


BAD_ROW = row("a: b, c", 1, 1, 1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not the result of a benchmark: "),
        ("[]", "not the result of a benchmark: it is not a JSON object"),
        ("{}", "not the result of a benchmark: there is no 'benchmark'"),
        ({"date": 3}, "not the result of a benchmark: 'date' is not a text"),
        ({"commit": 7}, "not the result of a benchmark: 'commit' is neither a text nor null"),
        ({"machine": []}, "not the result of a benchmark: 'machine' is not an object"),
        ({"rows": {}}, "not the result of a benchmark: 'rows' is not a list of objects"),
        ({"rows": [{"name": "a"}]}, "not the result of a benchmark: there is no 'unit'"),
        ({"rows": [{**BAD_ROW, "low": "1"}]}, "row 'a: b, c' has a value that is no number"),
        ({"rows": [{**BAD_ROW, "low": True}]}, "row 'a: b, c' has a value that is no number"),
        ({"rows": [{**BAD_ROW, "high": float("nan")}]}, "has a value that is no number"),
        ({"rows": [{**BAD_ROW, "low": 2}]}, "low, median and high are not in this order"),
        ({"rows": [{**BAD_ROW, "digits": 10**9}]}, "'digits' is no number from 0 to 9"),
        ({"rows": [{**BAD_ROW, "better": "faster"}]}, "'better' is none of lower, higher"),
        ({"rows": [BAD_ROW, BAD_ROW]}, "two rows have the same name"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path, text, reason):
    good, bad = write(tmp_path / "good.json", BAD_ROW), tmp_path / "bad.json"
    if isinstance(text, str):
        bad.write_text(text)
    else:
        write(bad, BAD_ROW, **text)
    told = compared(good, bad)
    assert told.err.startswith(f"error: {bad}: ")
    assert reason in told.err
    assert (told.status, told.out, told.err.count("\n")) == (1, "", 1)


def test_a_missing_file_is_one_line(tmp_path):
    told = compared(tmp_path / "none.json", tmp_path / "none.json")
    none = tmp_path / "none.json"
    assert (told.status, told.err) == (1, f"error: {none}: No such file or directory\n")
    assert compared(tmp_path / "none.json").status == 2


def test_a_benchmark_writes_its_numbers_with_the_machine(tmp_path, monkeypatch):
    measured = script("measured")
    file = tmp_path / "out.json"
    words = [
        str(ROOT / "benchmarks/speed.py"),
        "--rounds",
        "5",
        "--json",
        str(file),
        "--python=/a/b",
    ]
    monkeypatch.setattr(sys, "argv", words)
    results = measured.Measured("speed")
    results.versions["torch"] = "2.0"
    results.add("r50", "step", "here, s", [3.0, 1.0, 2.0, 10.0], unit="s", digits=1)
    results.write(file)
    content = json.loads(file.read_text())
    assert content == measured.read(file)
    assert content["command"] == "python benchmarks/speed.py --rounds 5 --python=b"
    assert content["versions"]["torch"] == "2.0"
    assert content["versions"]["jax"]
    assert content["machine"]["cores"] >= 1
    assert content["rows"] == [
        {
            **{"name": "r50: step, here, s", "unit": "s", "better": "lower", "median": 2.5},
            **{"low": 1.0, "high": 10.0, "rounds": 4, "digits": 1},
            **{"table": "r50", "row": "step", "column": "here, s"},
        }
    ]
    with pytest.raises(ValueError, match="it is there already"):
        results.add("r50", "step", "here, s", [1.0], unit="s")
    with pytest.raises(ValueError, match="no measured values"):
        results.add("r50", "plain", "here, s", [float("nan")], unit="s")


def test_a_folder_that_is_not_there_is_told_before_anything_is_measured(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    script("measured").add_option(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--json", str(tmp_path / "none" / "out.json")])
    assert f"argument --json: there is no folder {tmp_path / 'none'}" in capsys.readouterr().err


COUNT = "tables of measured figures: 1\n"
PAGE = """# Title

<!-- measured: a.json: r50 -->
anything
<!-- end of measured -->

text
"""


def test_a_table_is_put_between_its_marks(tmp_path):
    write(
        tmp_path / "a.json",
        row("r50: step, here", 2, 2.5, 3),
        row("other: step, here", 9, 9, 9),
        row("r50: awp, here", 4, 4, 4),
        row("r50: step, torch", 5, 5, 5, digits=0),
        by_hand="nobody knows.",
    )
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    tables = script("tables")
    assert call(tmp_path, page, main=tables.main).out == f"{page}: written; {COUNT}"
    assert page.read_text() == (
        "# Title\n\n<!-- measured: a.json: r50 -->\n"
        "| r50 | here | torch |\n"
        "|---|---|---|\n"
        "| step | 2.50 (2.00 to 3.00) | 5 |\n"
        "| awp | 4.00 |  |\n"
        "\n"
        "`python benchmarks/speed.py`: Zen, 2 cores, Python 3.11.7, jax 0.10.2, commit 012345678, "
        "2026-01-02. Entered by hand: nobody knows.\n"
        "<!-- end of measured -->\n\ntext\n"
    )
    assert call(tmp_path, page, main=tables.main).out == f"{page}: unchanged; {COUNT}"


def test_a_column_of_several_files_stands_side_by_side(tmp_path):
    def told(table, row, value):
        parts = {"table": table, "row": row, "column": "ratio", "name": f"{table}: {row}, ratio"}
        return {**globals()["row"]("", value, value, value), **parts}

    float32, bfloat16 = "r50, float32, 4 images", "r50, bfloat16, 4 images"
    seconds = {**told(float32, "step", 9), "column": "here, s", "name": "another column"}
    rows = told(float32, "step", 1), seconds, told(bfloat16, "step", 0.5), told(float32, "awp", 2)
    write(tmp_path / "a.json", *rows)
    newer = {"Python": "3.13.0", "jax": "0.12"}
    write(tmp_path / "b.json", told(bfloat16, "step", 0.25), versions=newer)
    write(tmp_path / "c.json", told(float32, "step", 4), command="X=1 python benchmarks/speed.py")
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace("a.json: r50", "a.json + b.json + c.json: all, ratio"))
    tables = script("tables")
    assert call(tmp_path, page, main=tables.main).out == f"{page}: written; {COUNT}"
    lines = page.read_text().splitlines()
    assert lines[3:7] == [
        "| ratio | jax 0.10.2, float32 | jax 0.10.2, bfloat16 | jax 0.12, bfloat16 "
        "| jax 0.10.2, float32, `X=1` |",
        "|---|---|---|---|---|",
        "| r50 step | 1.00 | 0.50 | 0.25 | 4.00 |",
        "| r50 awp | 2.00 | - | - | - |",
    ]
    assert [line[:20] for line in lines[7:13]] == [
        *("", "`python benchmarks/s", "", "`python benchmarks/s", "", "`X=1 python benchmar"),
    ]
    assert call(tmp_path, page, main=tables.main).out == f"{page}: unchanged; {COUNT}"
    write(tmp_path / "b.json", *rows)
    assert "is there twice" in call(tmp_path, page, main=tables.main).err
    write(tmp_path / "b.json", told("judging", "step", 1))
    assert "not called after a model" in call(tmp_path, page, main=tables.main).err
    write(tmp_path / "b.json", seconds)
    assert "there is no column 'ratio'" in call(tmp_path, page, main=tables.main).err


def test_a_page_that_cannot_be_made_stays(tmp_path):
    tables, page = script("tables"), tmp_path / "page.md"
    page.write_text(PAGE)
    told = call(tmp_path, page, main=tables.main)
    assert told.err == f"error: {page}: {tmp_path / 'a.json'}: No such file or directory\n"
    write(tmp_path / "a.json", row("r18: step, here", 1, 1, 1))
    told = call(tmp_path, page, main=tables.main)
    assert told.err == (
        f"error: {page}: {tmp_path / 'a.json'}: there is no table 'r50', only r18\n"
    )
    assert page.read_text() == PAGE
    with pytest.raises(UserError, match="a mark 'measured' without its 'end of measured'"):
        tables.generated(PAGE.replace("end of", "end"), tmp_path)


def test_the_page_of_speed_is_what_the_files_say():
    page = (ROOT / "docs/speed.md").read_text()
    folder = ROOT / "docs/measured"
    assert script("tables").generated(page, folder) == page, (
        "python benchmarks/tables.py docs/measured docs/speed.md"
    )
    marks = [line.split(": ")[1] for line in page.splitlines() if line.startswith("<!-- measured:")]
    named = {name for mark in marks for name in mark.split(" + ")}
    assert {path.name for path in folder.glob("*.json")} == named
