"""One line for every mistake, one meaning for every exit status."""

import errno
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import textwrap

import pytest

from data_builders import build, command_line
from data_builders.command_line import Parser, UsageError, command, describe, quoted, run
from data_builders.errors import UserError
from qad_jax.detection.results import Verdict
from tests.conftest import ROOT


def full():
    return OSError(errno.ENOSPC, "No space left on device")


def job_that_raises(error):
    def job(argv):
        parser = Parser(prog="a job")
        parser.add_argument("rest", nargs="*")
        parser.parse_args(argv)
        raise error

    return job


def process(body, *arguments, **options):
    """Runs a job in a process of its own, whose streams are files."""
    code = "import sys\nfrom data_builders.command_line import *\n" + textwrap.dedent(body)
    code += "\nsys.exit(run(job))"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.parametrize(
    ("outcome", "status", "printed"),
    [(0, 0, ""), (3, 3, ""), ("a table", 0, "a table\n"), (("a gap", 3), 3, "a gap\n")],
)
def test_what_a_job_returns(outcome, status, printed, capsys):
    assert run(lambda argv: outcome, []) == status
    assert capsys.readouterr() == (printed, "")


def test_a_warning_for_the_user_is_one_line():
    body = """
        import warnings
        def job(argv):
            warnings.warn("a.json:\\n odd \\x1b[2J", stacklevel=1)
            warnings.warn("of a library", ImportWarning, stacklevel=1)
            return "done"
        warnings.simplefilter("always")
    """
    out, err = process(body).communicate()
    assert (out, err.splitlines()[0]) == ("done\n", r"warning: a.json: odd \x1b[2J")
    assert "ImportWarning: of a library" in err


@pytest.mark.parametrize(
    ("encoding", "errors", "printed"),
    [
        ("utf-8", "strict", b"caf\\udce9 \xce\xb1\n"),
        ("latin-1", "strict", b"caf\\udce9 \\u03b1\n"),
        ("utf-8", "surrogateescape", b"caf\xe9 \xce\xb1\n"),
    ],
)
def test_what_the_output_cannot_show_is_an_escape(encoding, errors, printed, monkeypatch):
    """Where names of files come out as they are, as in the C locale, they stay so."""
    file = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(file, encoding, errors))
    assert run(lambda argv: os.fsdecode(b"caf\xe9") + " \u03b1", []) == 0
    assert file.getvalue() == printed


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_is_json_whatever_the_output_can_show(encoding):
    verdict = Verdict("caf\xe9 \u03b1 \U0001f600.mp4", None, "error")
    line = verdict.as_json(encoding)
    assert json.loads(line.encode(encoding))["file"] == verdict.file


def test_statuses_are_those_that_shells_and_the_readme_know():
    names = ("DONE", "FAILED", "USAGE", "PARTLY", "INTERRUPTED", "TERMINATED")
    assert [int(getattr(command_line, name)) for name in names] == [0, 1, 2, 3, 130, 143]


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("a.csv: row 3:\n   no score"), 1, "a.csv: row 3: no score"),
        (UserError("my  file.mp4: is empty"), 1, "my  file.mp4: is empty"),
        (UsageError("command line: what?"), 2, "command line: what?"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a b.csv"), 1, "a b.csv: No such file"),
        (PermissionError(errno.EACCES, "Permission denied", b"a"), 1, "a: Permission denied"),
        (full(), 1, "input/output: No space left on device"),
        (OSError("image file is truncated"), 1, "input/output: image file is truncated"),
        (OSError(errno.EBADF, "Bad file descriptor", 7), 1, "input/output: Bad file descriptor"),
        (OSError(), 1, "input/output: OSError"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe", "fifo"), 1, "fifo: Broken pipe"),
        (MemoryError("Unable to allocate 3 GiB"), 1, "not enough memory: Unable to allocate 3 GiB"),
        (MemoryError(), 1, "not enough memory"),
    ],
)
def test_an_error_is_one_line(error, status, line, capsys):
    assert run(job_that_raises(error), []) == status
    assert capsys.readouterr() == ("", f"error: {line}\n")
    assert describe(error) == line


def test_a_defect_is_not_taken_for_a_mistake():
    with pytest.raises(KeyError):
        run(job_that_raises(KeyError("x")), [])
    assert describe(KeyError("x")) == "KeyError: 'x'"


def test_ctrl_c(capsys):
    assert run(job_that_raises(KeyboardInterrupt()), [], interrupted="stopped; go on so") == 130
    assert capsys.readouterr() == ("", "stopped; go on so\n")


def test_debug_shows_where_it_comes_from(capsys):
    assert run(job_that_raises(UserError("wrong")), ["--debug"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "in job" in err
    assert err.endswith("\nerror: wrong\n")
    run(job_that_raises(UserError("wrong")), ["--", "--debug"])  # is not ours
    assert capsys.readouterr().err == "error: wrong\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: file"),
        (["a", "--nubmer", "3"], "unrecognized arguments: --nubmer 3"),
        (["a", "--number", "x"], "argument --number: invalid int value: 'x'"),
        (["a", "--kind", "c"], "argument --kind: invalid choice: 'c'"),
    ],
)
def test_a_wrong_command_line_is_one_line(argv, message, capsys):
    def job(argv):
        parser = Parser(prog="python -m job")
        parser.add_argument("file")
        parser.add_argument("--number", type=int)
        parser.add_argument("--kind", choices=["a", "b"])
        return str(parser.parse_args(argv))

    assert run(job, argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: command line: {message}")
    assert err.endswith("; --help has the options\n")
    assert err.count("\n") == 1


def test_subcommands_have_the_same_frame(capsys):
    def job(argv):
        parser = Parser(prog="tool")
        commands = parser.add_subparsers(dest="command", required=True)
        commands.add_parser("count").add_argument("number", type=int)
        args = parser.parse_args(argv)
        return str(getattr(args, "debug", False))

    assert run(job, ["count", "x"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    for argv in (["--debug", "count", "3"], ["count", "3", "--debug"]):
        assert run(job, argv) == 0
        assert capsys.readouterr().out == "True\n"


@pytest.mark.parametrize("argv", [[], ["manifest", "--manifst", "x"], ["ffiw10k", "--", "--x"]])
def test_the_build_command_has_this_frame(argv, capsys):
    assert build.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: command line: ")
    assert err.count("\n") == 1


def test_help_has_debug(capsys):
    with pytest.raises(SystemExit) as stop:
        run(lambda argv: str(Parser().parse_args(argv)), ["--help"])
    assert stop.value.code == 0
    assert "--debug" in capsys.readouterr().out


def test_a_reader_that_ends_early_is_no_error():
    job = """
        def job(argv):
            for i in range(100_000):
                print(i)
            return DONE
        """
    with process(job) as done:
        assert done.stdout.readline() == "0\n"
        done.stdout.close()
        assert done.stderr.read() == ""
    assert done.returncode == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_output_that_cannot_be_written_is_one_line():
    job = "job = lambda argv: 'a line'"
    with open("/dev/full", "w") as device, process(job, stdout=device) as done:
        assert done.stderr.read() == "error: input/output: No space left on device\n"
    assert done.returncode == 1


def test_suggested_commands_survive_a_shell(tmp_path):
    words = ["printf", "%s\\n", tmp_path / "a b", "it's", "$HOME", "", "--x=1;2", 3]
    line = command(*words)
    assert shlex.split(line) == [str(word) for word in words]
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(word) for word in words[2:]]
    assert quoted(tmp_path / "a b") == f"'{tmp_path}/a b'"
    assert quoted("plain.csv") == "plain.csv"


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this system")
def test_suggested_commands_have_what_cannot_be_printed():
    """A page shows it by escapes, which would be another name."""
    words = [b"a\nb.mp4", b"it's \\n 7\x017", "\u202e\u00a0\u00e9".encode(), b"\xff1.mp4"]
    line = command("printf", r"%s\0", *map(os.fsdecode, words))
    assert line.isprintable()
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
    assert done.stdout.split(b"\0")[:-1] == words
    assert quoted("\ud800\udfff") == r"$'\355\240\200\355\277\277'"  # of no file
