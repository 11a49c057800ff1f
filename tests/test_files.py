"""Files that are there in full or not at all."""

import csv
import errno
import fcntl
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_builders.errors import UserError
from data_builders.files import (
    alone,
    check_kept,
    csv_text,
    marked,
    read_json,
    unmarked,
    whole_folder,
    write_csv,
    write_json,
    write_whole,
)


def test_text_and_bytes_are_written_as_they_are(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    write_whole(path, "é\r\n\n")
    assert path.read_bytes() == b"\xc3\xa9\r\n\n"
    write_whole(str(path), b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert os.listdir(path.parent) == ["a.txt"]


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": "\\ud800"}',
        b'{"a": "\xed\xa0\x80"}',
        '{"a": "\\ud800"}'.encode("utf-16"),
        '{"a": "\ud800"}'.encode("utf-16", "surrogatepass"),
    ],
)
def test_half_of_a_character_is_refused_however_it_is_written(tmp_path, data):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(ValueError, match=r"can't (de|en)code"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_of_other_systems(tmp_path, encoding):
    (tmp_path / "a.json").write_bytes('{"a": "\\u00e9 \u03b1 \\ud83d\\ude00"}'.encode(encoding))
    assert read_json(tmp_path / "a.json") == {"a": "\u00e9 \u03b1 \U0001f600"}


@pytest.mark.parametrize("call", ["write_bytes", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call):
    path = tmp_path / "a.txt"
    write_whole(path, "old")

    def full(*arguments):
        if call == "write_bytes":
            with open(arguments[0], "wb") as file:  # half of it is on the disk by then
                file.write(arguments[1][:1])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*((pathlib.Path, call) if call == "write_bytes" else (os, call)), full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new content")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_two_that_make_one_folder_do_not_see_each_other(tmp_path):
    out = tmp_path / "new[1]"

    def make(content, meanwhile=lambda: None):
        with whole_folder(out) as part:
            write_whole(part / "a.txt", content)
            meanwhile()
            assert (part / "a.txt").read_text() == content

    with pytest.raises(OSError, match="not empty"):
        make("first", lambda: make("second"))
    assert os.listdir(tmp_path) == [out.name]
    assert (out / "a.txt").read_text() == "second"


def test_a_folder_that_was_left_behind_is_removed_after_a_day(tmp_path):
    names = [f".new.{digit * 32}.part" for digit in "0a"]
    names += [".newer." + "0" * 32 + ".part", ".new.mine.part"]
    now = time.time()
    for i, name in enumerate(names):
        write_whole(tmp_path / name / "a.txt", "")
        os.utime(tmp_path / name, (now, now - (3600 if i == 1 else 25 * 3600)))
    with whole_folder(tmp_path / "new") as part:
        part.mkdir()
    assert {path.name for path in tmp_path.iterdir()} == {*names[1:], "new"}


def test_readers_see_one_of_the_contents_in_full(tmp_path):
    path = tmp_path / "a.txt"
    contents = [letter * 200_000 for letter in "abcd"]
    write_whole(path, contents[0])

    def write(content):
        for _ in range(20):
            write_whole(path, content)

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert path.read_text() in contents
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_lock_is_of_one_process_and_ends_with_it(tmp_path):
    path = tmp_path / "locks" / "one"
    other = subprocess.Popen(
        [sys.executable, "-c", _HOLD, path], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    with other:
        assert other.stdout.readline() == b"True\n"
        with alone(path, wait=False) as held:
            assert not held
        with alone(path.with_name("two"), wait=False) as held:
            assert held
        waiting = threading.Thread(target=lambda: _enter(path))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        other.kill()
        waiting.join()
    with alone(path, wait=False) as held:
        assert held


def test_a_lock_leaves_no_file_and_is_one_where_its_file_was_removed(tmp_path):
    path = tmp_path / "new/lock"
    held, end = threading.Event(), threading.Event()

    def hold():
        with alone(path):
            held.set()
            end.wait()

    waiting = threading.Thread(target=hold)
    with alone(path):
        waiting.start()
        waiting.join(0.2)
        assert not held.is_set()
    held.wait()  # it had opened the file that is removed by now
    with alone(path, wait=False) as also:
        assert not also
    end.set()
    waiting.join()
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks(tmp_path, monkeypatch, code):
    def refuse(*arguments):
        raise OSError(code, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with alone(tmp_path / "lock") as held:
        assert held


_HOLD = """
import pathlib, sys
from data_builders.files import alone
with alone(pathlib.Path(sys.argv[1]), wait=False) as held:
    print(held, flush=True)
    sys.stdin.read()
"""


def _enter(path):
    with alone(path) as held:
        assert held


def test_json_is_indented_and_ends_with_a_line_feed(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": [1], "b": None})
    assert path.read_bytes() == b'{\n  "a": [\n    1\n  ],\n  "b": null\n}\n'
    write_json(path, {"b": 1, "a": 2}, sort_keys=True, indent=None)
    assert path.read_text() == '{"a": 2, "b": 1}\n'


def test_json_without_numbers_that_are_none(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": float("nan")})
    assert path.read_text() == '{\n  "a": NaN\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("inf")}, allow_nan=False)
    assert "NaN" in json.dumps(json.loads(path.read_text()))  # as it was


def test_csv_is_read_back_and_its_lines_end_in_line_feeds(tmp_path):
    rows = [["a,b", 'say "c"', "two\nlines"], [1, 0.5, None]]
    text = csv_text(("x", "y", "z"), iter(rows))
    assert text.startswith("x,y,z\n")
    assert "\r" not in text
    write_csv(tmp_path / "a.csv", ["x", "y", "z"], (tuple(row) for row in rows))
    assert (tmp_path / "a.csv").read_bytes() == text.encode()
    with (tmp_path / "a.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["x", "y", "z"],
            ["a,b", 'say "c"', "two\nlines"],
            ["1", "0.5", ""],
        ]


@pytest.mark.parametrize("sign", "=+-@\uff1d\uff0b\uff0d\uff20")
def test_no_spreadsheet_takes_a_name_for_a_formula(sign):
    formula = f"{sign}cmd|' /C calc'!A0"
    name = f"a;{formula}"  # the comma of this file ends no cell where the semicolon does
    texts = [formula, name, f"a\t{formula}", f"\t{formula}", f"a\r\n{formula}", f"'{formula}"]
    text = csv_text(("file", "x"), [(text, -0.5) for text in texts])
    (_, *rows) = csv.reader(io.StringIO(text, newline=""))
    for cell, number in rows:
        for begin in re.split("[;\\t\\r\\n]", cell):
            assert not begin.startswith(sign)
        assert number == "-0.5"
    assert [unmarked(cell) for cell, _ in rows] == texts
    exact = list(csv.reader(io.StringIO(csv_text(("x",), [(t,) for t in texts], exact=True), "")))
    assert [cell for (cell,) in exact[1:]] == texts


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(st.text("=+-@';,\t\r\na0.5e\uff1d"))
def test_a_marked_text_comes_back_exactly(text):
    assert unmarked(marked(text)) == text


def test_texts_that_are_harmless_and_numbers_are_not_marked():
    for text in ("", "a=b", "a-b", "it's", "'a", "-1", "+2,5", "-1.5e-07", "a; b", "a;1"):
        assert marked(text) == unmarked(text) == text
    assert (marked("-1 "), marked("-a"), marked("-inf")) == ("'-1 ", "'-a", "'-inf")


def test_what_is_read_is_kept_under_each_of_its_names(tmp_path):
    """Links in both directions, folders that are links, and a file that is not there yet."""
    (tmp_path / "out").mkdir()
    held, there = tmp_path / "held", tmp_path / "out/there"
    for path in (held, there):
        path.write_text(path.name)
    (tmp_path / "folder").symlink_to("out")
    (tmp_path / "link").symlink_to(there)
    (tmp_path / "out/link").symlink_to(held)
    os.link(there, tmp_path / "hard")
    written = [tmp_path / "out" / name for name in ("there", "link", "new")]
    for name in (
        "out/there",
        "out/../out/there",
        "folder/there",
        "link",
        "hard",
        "held",
        "out/new",
    ):
        with pytest.raises(UserError, match=rf"^--out: .*/{name} is read, and would be overwr"):
            check_kept(["none", f"{tmp_path}/{name}"], written, "--out")
    check_kept(["none", "a\0b", tmp_path / "out", tmp_path / "new"], written, "--out")
