"""What the command says of mistakes: one line, a status, and nothing written."""

import contextlib
import functools
import json
import re
import subprocess
import sys

import jax
import pytest

from data_builders.errors import UserError
from qad_jax import configs, main
from qad_jax.runs import configuration
from qad_jax.runs.alone import alone_in
from tests.commands import call, tiny
from tests.conftest import ROOT


@pytest.fixture
def arguments(tmp_path, manifest, data_dir, dataset):
    return tiny("hkrawp_resnet", tmp_path / "run", manifest, data_dir)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--config.learning_rat=1"], "no field 'learning_rat': did you mean 'learning_rate'"),
        (["--config.model.nam=x"], "no field 'nam': did you mean 'name'"),
        (["--config.batch_size=many"], "config.batch_size.*many"),
        (["--bogus"], "bogus"),
        (["extra"], "command line: unrecognized arguments: extra"),
        (["--mode=tset"], "mode"),
        (["--config.batch_size=12"], "config.batch_size: 12 tuples cannot be shared evenly by 8"),
        (["--config.batch_size=48"], "config.batch_size: 48 tuples are more than the 40"),
        (["--config.learning_rate=-1.0"], "config.learning_rate: is -1.0, must be positive"),
        (["--config.awp.gamma=-1.0"], "config.awp.gamma: is -1.0, must not be negative"),
        (
            ["--config.model.name=resnet5"],
            "config.model.name: unknown 'resnet5': did you mean 'resnet50'",
        ),
        (["--config.hsic.estimator=hsci"], "config.hsic.estimator: unknown 'hsci'"),
        (["--config.model.dtype=float8"], "config.model.dtype: unknown 'float8'"),
        (["--config.qualities=raw,c41"], "config.qualities: .*no quality 'c41'"),
        (["--config.qualities=raw,raw"], "config.qualities: .*different names"),
        (["--config.qualities=raw"], "config.hsic.weight: one quality has no other"),
        (["--config.hsic.layer_weights=(1.0,)"], "config.hsic.layer_weights: 1 numbers"),
        (["--config.hsic.layer_weights=(1,2,3,4,5,'a')"], "config.hsic.layer_weights: 'a' is no"),
        (["--config.hsic.layer_weights=(1,2,3,4,5,-1)"], "config.hsic.layer_weights: -1 is no"),
        (["--config.one_cycle.pct_start=1.5"], "config.one_cycle.pct_start: is 1.5"),
        (["--config.model.pretrained=no.pth"], "config.model.pretrained: no.pth: cannot be read"),
        (["--config.dataset.name=celeb"], "no builder for dataset 'celeb'"),
        (["--config.dataset.manifest=/no/data.json"], "/no/data.json: cannot read the manifest"),
        (["--config.dataset.data_dir=/proc/nowhere"], "/proc/nowhere/.*: cannot write the dataset"),
        (["--config.sampling=pair"], "config.sampling: unknown 'pair': did you mean 'pairs'"),
        (["--config.ema_decay=1.0"], "config.ema_decay: is 1.0, must be below 1"),
        (["--config.early_stop_patience=-1"], "config.early_stop_patience: is -1, must not be"),
        (["--config.hsic.warmup_epochs=-1"], "config.hsic.warmup_epochs: is -1, must not be"),
        (
            ["--config.sampling=balanced", "--config.batch_size=9"],
            "config.batch_size: 9 tuples cannot be half real, half fake .*; 10 can",
        ),
        (["--config.seed=-1"], "config.seed: is -1, must not be negative"),
        ([f"--config.seed={2**32}"], "config.seed: is 4294967296, must be at most 4294967295"),
        (["--config.learning_rate=inf"], "config.learning_rate: is inf, must be a finite number"),
        (["--config.weight_decay=nan"], "config.weight_decay: is nan, must be a finite number"),
        (["--config.one_cycle.div_factor=0.0"], "config.one_cycle.div_factor: is 0.0"),
        (["--config.qualities=23,40"], "config.qualities: .*no quality '23'"),
        (["--step=3"], "--step: only with --mode evaluate"),
        (["--config.remat", "folder"], "unrecognized arguments: folder"),
        (["--config.zzz=1"], "the configuration has no field 'zzz'"),
        (
            ["--config=configs/nothing.py"],
            "--config: configs/nothing.py: there is no such file",
        ),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(arguments, tmp_path, extra, message):
    result = call(*arguments, *extra)
    assert result.status == (2 if "error: command line: " in result.err else 1)
    lines = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.err
    assert "Traceback" not in result.err
    assert re.search(message, lines[0]), lines[0]
    assert not (tmp_path / "run").exists()


def test_without_config_or_workdir():
    assert "--config: name a configuration: a file," in call("--workdir=x").err
    assert "--workdir: name the folder of the run" in call("--config=configs/quickstart.py").err


def test_a_dataset_that_is_not_built_names_the_command(arguments, tmp_path, manifest):
    place = tmp_path / "an empty folder"
    result = call(*arguments, "--mode=evaluate", f"--config.dataset.data_dir={place}")
    assert result.status == 1
    expected = f"python -m data_builders.build manifest --data_dir '{place}' --manifest {manifest}"
    assert expected in result.err
    assert not place.exists()


def test_the_folder_of_a_run_is_a_configuration(arguments, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text('{"seed": 7, "awp": {"gamma": 0.5}, "qualities": ["raw"]}')
    config = configs.load(folder)
    assert (config.seed, config.awp.gamma, config.qualities) == (7, 0.5, ("raw",))
    assert config.batch_size == 64  # a field that the file lacks has its default
    (folder / "config.json").write_text("[]")
    result = call(f"--workdir={folder}", "--mode=evaluate")
    assert result.status == 1
    assert result.err.startswith("error: --config: ")
    assert "is not the configuration of a run" in result.err


def test_the_folder_of_a_run_may_have_the_name_of_a_packaged_configuration(tmp_path, monkeypatch):
    (tmp_path / "quickstart").mkdir()
    (tmp_path / "quickstart" / "config.json").write_text('{"seed": 7}')
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr("qad_jax.run.run", lambda config, *_, **__: seen.append(config))
    before = list(sys.argv)
    assert call("--workdir=quickstart", "--mode=evaluate").status == 0
    assert call("--workdir=quickstart", "--config=quickstart").status == 0
    own, packaged = seen
    assert (own.seed, own.model.name) == (7, "resnet50")
    assert (packaged.seed, packaged.model.name) == (41, "resnet_small")
    assert sys.argv == before


def test_evaluating_where_nothing_was_trained(arguments, tmp_path):
    result = call(*arguments, "--mode=evaluate")
    assert result.status == 1
    assert "there are no checkpoints; train first" in result.err
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert "holds no whole checkpoint" in call(*arguments, "--mode=evaluate").err


def test_the_folder_of_another_configuration_is_left_alone(arguments, tmp_path):
    (tmp_path / "run").mkdir()
    config = tmp_path / "run" / "config.json"
    config.write_text('{"seed": 7, "awp": {"gamma": 1.0}}')
    result = call(*arguments)
    assert result.status == 1
    assert "holds a run of another configuration" in result.err
    assert "awp.gamma is 1.0 there and 0.002 here" in result.err
    assert "seed is 7 there and 41 here" in result.err
    assert config.read_text() == '{"seed": 7, "awp": {"gamma": 1.0}}'
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]


def test_images_that_are_too_small_for_the_model(arguments, tmp_path):
    result = call(*arguments, "--config.model.name=efficientnet_tiny", "--config.image_size=7")
    assert result.status == 1
    assert result.err == (
        "error: config.image_size: is 7, too small for efficientnet_tiny; set it to 32 or more\n"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", [b'{"dataset": [1]}', b"[1]", b"3", b"\xff\xfe{", b"[" * 99_999])
def test_the_folder_of_something_else_is_left_alone(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(UserError, match=r"config\.json: is not a configuration; name another"):
        configuration.check_workdir(configs.load("common"), tmp_path)


def fields(values, before=()):
    """The path of each field of a configuration, and its value."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from fields(value, (*before, name))
        else:
            yield (*before, name), value


def test_a_run_goes_on_with_other_places_and_logs_and_with_nothing_else_changed(tmp_path):
    config = configs.load("common")
    configuration.claim_workdir(config, tmp_path)
    free = {f"dataset.{name}" for name in ("data_dir", "manual_dir", "manifest", "in_memory")}
    free |= {"log_every_steps", "checkpoint_every_steps"}
    names = {".".join(path): path for path, _ in fields(configs.to_dict(config))}
    assert free < names.keys()
    for name, (*parents, last) in names.items():
        changed = configs.to_dict(config)
        place = functools.reduce(dict.__getitem__, parents, changed)
        value = place[last]
        place[last] = [*value, 1] if isinstance(value, list | tuple) else f"{value}1"
        refused = pytest.raises(UserError, match=re.escape(f"({name} is "))
        with contextlib.nullcontext() if name in free else refused:
            configuration.check_workdir(configs.from_dict(changed), tmp_path)


def test_the_folder_of_a_run_says_where_its_data_are_by_now(tmp_path):
    config = configs.load("common")
    configuration.claim_workdir(config, tmp_path)
    path = tmp_path / "config.json"
    older = json.loads(path.read_text())
    del older["augment"]["overlay"]  # as a version wrote that did not have it yet
    path.write_text(json.dumps(older))
    before = path.read_bytes()
    configuration.renew_workdir(config, tmp_path)
    assert path.read_bytes() == before
    config.dataset.data_dir = "elsewhere"
    configuration.claim_workdir(config, tmp_path)
    assert path.read_bytes() == before
    configuration.renew_workdir(config, tmp_path)
    assert configs.load(tmp_path).dataset.data_dir == "elsewhere"
    assert json.loads(path.read_text()) == configs.to_dict(config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:", "SyntaxError"),
        ("import nowhere", "ModuleNotFoundError"),
        ("def get_config():\n    raise KeyError('boom')", "KeyError: 'boom'"),
    ],
)
def test_a_configuration_file_that_fails(text, message, tmp_path):
    config = tmp_path / "own.py"
    config.write_text(text)
    result = call(f"--config={config}", f"--workdir={tmp_path / 'run'}")
    assert result.status == 1
    assert str(config) in result.err
    assert message in result.err
    assert result.err.count("\n") == 1


def test_a_configuration_of_wrong_types(arguments, tmp_path):
    config = tmp_path / "own.py"
    config.write_text(
        "from qad_jax import configs\n"
        "def get_config():\n"
        "    config = configs.load('common').copy_and_resolve_references()\n"
        "    with config.ignore_type():\n"
        "        config.batch_size = '64'\n"
        "    return config\n"
    )
    result = call(f"--config={config}", f"--workdir={tmp_path / 'run'}")
    assert "config.batch_size: is '64', must be of type int" in result.err


def test_nothing_is_built_for_a_command_that_cannot_run(arguments, tmp_path):
    place = tmp_path / "fresh"
    (tmp_path / "run").write_text("a file")
    options = [f"--config.dataset.data_dir={place}"]
    assert "is a file, not a folder" in call(*arguments, *options).err
    assert not place.exists()


def test_a_loss_that_is_no_number_stops_the_run(arguments):
    result = call(*arguments, "--config.learning_rate=1e30", "--config.head_only_epochs=0")
    assert result.status == 1
    assert re.search(r"training diverged: cross_entropy is nan, .* at step 2;", result.err)
    assert "last good checkpoint: " in result.err
    assert "try a lower config.learning_rate in a new --workdir" in result.err


def test_a_folder_in_which_another_process_trains_is_left_to_it(arguments, tmp_path):
    """Both would write one log, and remove each other's checkpoints."""
    folder = tmp_path / "run"
    folder.mkdir()
    with alone_in(folder):
        result = call(*arguments)
        assert result.status == 1
        assert f"{folder}: another process trains there; wait for its end" in result.err
    with alone_in(folder):
        pass  # it is free again


def test_too_little_memory_of_a_device_is_one_line(arguments, monkeypatch):
    def full(*_, **__):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

    monkeypatch.setattr("qad_jax.training.loop.train", full)
    result = call(*arguments)
    assert result.status == 1
    assert result.err.splitlines()[-1].startswith("error: the devices have too little memory")
    assert "Traceback" not in result.err
    assert "lower config.batch_size, raise config.accumulate_steps, or set config.re" in result.err
    assert "in a new --workdir" in result.err
    assert "Out of memory allocating 9 bytes" in result.err


def test_a_home_folder_that_a_shell_leaves_is_found(tmp_path, monkeypatch):
    """Shells put it in place of `~` at the start of a word, and not behind `=`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"seed": 7}')
    (tmp_path / "mine.py").write_text(
        "from qad_jax import configs\n\n\ndef get_config(seed='1'):\n"
        "    config = configs.load('common')\n    config.seed = int(seed)\n    return config\n"
    )
    seen = []
    monkeypatch.setattr("qad_jax.run.run", lambda config, *_, **__: seen.append(config.seed))
    assert call("--workdir=~/run", "--mode=evaluate").status == 0
    assert call("--workdir=a", "--config=~/run").status == 0
    assert call("--workdir=a", "--config=~/mine.py:3").status == 0
    assert seen == [7, 7, 3]


def test_evaluate_takes_one_folder_and_switches_take_no_word(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"seed": 7}')
    seen = []
    monkeypatch.setattr(
        "qad_jax.run.run",
        lambda config, folder, **_: seen.append((config.dataset.in_memory, folder)),
    )
    evaluate = functools.partial(main.main, mode="evaluate")
    run = str(tmp_path / "run")
    assert evaluate([run, "--workdir", str(tmp_path / "other")]) == 2
    assert evaluate(["--config.dataset.in_memory", run]) == 0
    assert seen == [(True, run)]


def test_help_comes_without_jax():
    """Which modules are loaded decides how long it takes."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "qad_jax.main", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "--workdir" in done.stdout
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.split("\n")}
    assert "ml_collections" in loaded
    assert not loaded & {"jax", "flax", "optax", "orbax", "tensorflow_datasets", "grain", "cv2"}


def test_the_command_exits_with_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "qad_jax.main", "--config=configs/quickstart.py", "--workdr=x"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: command line: ")
    assert done.stderr.count("\n") == 1
