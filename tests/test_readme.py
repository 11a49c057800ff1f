"""The README: its code runs, its commands are understood, its JSON is a manifest."""

import importlib
import json
import re
import shlex

import jax
import numpy as np
import pytest

from data_builders import build
from data_builders.manifest import reader
from qad_jax import cli, configs, main
from tests.commands import call, tiny
from tests.conftest import ROOT

pytestmark = pytest.mark.checkout
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "weights/README.md")
    if path.exists()  # this file is also collected where there is no checkout
}
README = PAGES.get("README.md", "")


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands(text):
    """The command lines of a page, without comments; a backslash joins lines."""
    for block in blocks(text, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["qad-jax"] or words[:2] == ["python", "-m"]:
                yield words


@pytest.fixture(scope="module")
def ran(manifest, data_dir, tmp_path_factory):
    """What each block of code has left behind, run in order in a folder with a tiny quickstart."""
    folder = tmp_path_factory.mktemp("reader")
    arguments = tiny("quickstart", folder / "runs/quickstart", manifest, data_dir)
    # A run of one phase is restored as one of three is.
    fields = ("num_epochs=1", "head_only_epochs=0", "awp.gamma=0", "hsic.weight=0")
    trained = call(*arguments, *(f"--config.{field}" for field in fields))
    assert trained.status == 0, trained.err
    faces = build.builder("synthetic_faces/tiny", data_dir=folder / "runs/data")
    build.prepare(faces)
    left = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for code in blocks(README, "python"):
            variables = {}
            exec(code.replace("synthetic_faces/small", "synthetic_faces/tiny"), variables)
            left.append(variables)
    return left


def test_a_verdict(ran, tmp_path):
    verdict, probability, reason = ran[0]["judge"](tmp_path / "clip.mp4")
    assert (verdict, probability) == ("error", None)
    assert "clip.mp4: cannot be read" in reason


def test_a_trained_model(ran):
    assert ran[1]["logits"].shape == (1, 2)
    assert len(ran[1]["features"]) == 6


def test_the_training_loop_learns(ran):
    first = ran[2]["cross_entropy"]
    last, _ = ran[2]["losses"](ran[2]["params"])
    assert last < first
    moved = jax.tree.map(lambda x: bool(np.isfinite(x).all()), ran[2]["params"])
    assert all(jax.tree.leaves(moved))


def test_a_record(ran):
    assert set(ran[3]["record"]) == {
        *("image", "label", "method", "video"),
        "identity",
        "frame",
        "box",
    }


def test_the_json_is_a_manifest(tmp_path):
    (text,) = blocks(README, "json")
    content = json.loads(text)
    for path in (p for lists in content.values() for q in ("raw", "c23", "c40") for p in lists[q]):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"x")
    (tmp_path / "data.json").write_text(json.dumps({"train": content["train"]}))
    (tuples,) = reader.read(tmp_path / "data.json").splits.values()
    assert [(item.label, len(item.paths)) for item in tuples] == [("real", 3), ("fake", 3)]


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(words, id=" ".join(words))
        for text in PAGES.values()
        for words in commands(text)
    ],
)
def test_a_command_is_understood(words, monkeypatch, tmp_path):
    """Its subcommand, flags, packaged configuration and fields are there; it goes no further."""
    module = words[2] if words[0] == "python" else cli.COMMANDS.get(words[1])
    if module is None:
        assert words[1].startswith("--")
        assert cli.main(words[1:]) == 0
        return
    if getattr(module, "module", module) != "qad_jax.main":
        assert_parses(words)
        return
    seen = []
    monkeypatch.setattr("qad_jax.run.run", lambda config, *_, **__: seen.append(config))
    given = words[3:] if words[0] == "python" else words[2:]
    settings = module.settings if words[0] == "qad-jax" else {}
    for own, packaged in (
        ("configs/X.py", "configs/common.py"),
        *(
            (f"{name}.py", "configs/detector.py")
            for name in ("both", "two", "three", "four", "five")
        ),
    ):
        given = [word.replace(own, packaged) for word in given]
    if settings.get("mode") == "evaluate" and "--config" not in given:
        folder = tmp_path / "run"
        folder.mkdir()
        stored = configs.to_dict(configs.load("common"))
        (folder / configs.STORED).write_text(json.dumps(stored))
        given = [str(folder), *given[1:]]
    monkeypatch.chdir(ROOT)
    result = call(*given, main=lambda argv: main.main(argv, **settings))
    assert result.status == 0, result.err
    assert len(seen) == 1


def assert_parses(words):
    """`--help` behind the words is reached only where all words before it are known."""
    given = words[3:] if words[0] == "python" else words[2:]
    if "--" in given:
        given = given[: given.index("--")]
    name = words[2] if words[0] == "python" else cli.COMMANDS[words[1]].module
    parse = importlib.import_module(name).main
    result = call(*given, "--no-such-flag", main=parse)
    # Of `detect` 1 says that no file could be judged.
    assert result.status == (1 if name == "qad_jax.detect" else 2), result.err
    assert result.err.startswith("error: command line: unrecognized arguments: --no-such-flag"), (
        words
    )


def test_the_benchmarks_that_pages_name_are_there_with_their_flags():
    seen = 0
    for page, text in PAGES.items():
        text = " ".join(text.replace("\\\n", " ").split())
        for name, rest in re.findall(r"python (?:-m )?benchmarks[./](\w+)(?:\.py)?([^`]*)", text):
            source = (ROOT / "benchmarks" / f"{name}.py").read_text()
            for flag in re.findall(r"--(\w+)", re.split(r" (?:python|qad-jax) ", rest)[0]):
                seen += 1
                added = "measured.add_option" in source and flag == "json"
                known = added or f'"--{flag}"' in source or f'("{flag}", ' in source
                assert known, (page, name, flag)
    assert seen > 10
