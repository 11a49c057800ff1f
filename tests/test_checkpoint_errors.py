"""What is said of a checkpoint that cannot be read: its cause, and when to remove it."""

import gc
import json
import shutil

import jax
import jax.numpy as jnp
import pytest

from data_builders.errors import UserError
from qad_jax import configs
from qad_jax.runs import checkpoint_errors, checkpoints
from qad_jax.runs.checkpoints import Checkpoints
from qad_jax.runs.state import TrainState, abstract_variables
from qad_jax.training import schedule

# At its first error orbax closes the loop that its other reads still want to call back.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ABOUT = {"dataset": "faces"}


def config():
    configured = configs.load("common")
    configured.model.name, configured.image_size = "resnet_tiny", 32
    return configured


def state(width=5, **others):
    """A state with the optimiser that a training has."""
    params = {"fc": {"kernel": jnp.ones((width, 2)), "bias": jnp.ones(2)}, **others}
    planned = schedule.plan(config(), 640)
    tx = schedule.optimiser(config(), planned, planned.phases[0])
    return TrainState(jnp.asarray(1), params, {"bn": jnp.ones(3)}, tx.init(params))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "saved"
    kept = Checkpoints(workdir, ABOUT)
    kept.save(state(), config(), step=1)
    kept.close()
    return workdir


@pytest.fixture
def workdir(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run")


@pytest.fixture(autouse=True)
def collected():
    """Coroutines of Orbax that end by an error are not left to be found in a later test."""
    gc.freeze()  # of what earlier tests have left, going through it takes half a second
    yield
    gc.collect()
    gc.unfreeze()


def error_of_restoring(workdir, like=None):
    with pytest.raises(UserError) as caught:
        Checkpoints(workdir, ABOUT).restore(like or state())
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{workdir / 'checkpoints' / '1'}: ")
    return message


@pytest.mark.parametrize(
    "name", ["params", "batch_stats", "opt_state/manifest.ocdbt", "data", "data/metadata"]
)
def test_what_is_missing_is_named_and_may_be_removed(workdir, name):
    path = workdir / "checkpoints" / "1" / name
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    message = error_of_restoring(workdir)
    assert f"the checkpoint is not complete: it lacks {name}; remove this folder" in message


def largest_data_file(workdir):
    folder = workdir / "checkpoints" / "1" / "params"
    return max((folder / "d").iterdir(), key=lambda path: path.stat().st_size)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 2] = b"\x55" * (
        len(content) // 2 - len(content) // 3
    )
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flip, cut])
def test_bytes_that_are_wrong_are_a_named_file_that_nobody_shall_remove(workdir, damage):
    path = largest_data_file(workdir)
    damage(path)
    message = error_of_restoring(workdir)
    assert "cannot be read: " in message
    assert str(path) in message
    assert "tensorstore_spec" not in message
    assert "remove" not in message


def test_pieces_larger_than_their_array(workdir):
    """A piece of any size takes few bytes when it is compressed."""
    import tensorstore

    folder = workdir / "checkpoints" / "1" / "params"
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{folder}/"}).result()
    about = json.loads(store.read(b"fc.bias/.zarray").result().value)
    about["chunks"] = [2**31]
    store.write(b"fc.bias/.zarray", json.dumps(about).encode()).result()
    message = error_of_restoring(workdir)
    assert "cannot be read: params/fc/bias of (2,) is in pieces of (2147483648,)" in message


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("None", "params/_METADATA: is not understood"),
        ("string", "params/fc/bias is absent there"),
        ("scalar", "params/fc/bias is () there"),
    ],
)
def test_an_array_that_is_called_something_else_does_not_hide_the_pieces_of_others(
    workdir, kind, reason
):
    import tensorstore

    folder = workdir / "checkpoints" / "1" / "params"
    described = json.loads((folder / "_METADATA").read_text())
    described["tree_metadata"]["('fc', 'bias')"]["value_metadata"]["value_type"] = kind
    (folder / "_METADATA").write_text(json.dumps(described))
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{folder}/"}).result()
    about = json.loads(store.read(b"fc.kernel/.zarray").result().value)
    about["chunks"] = [2**24, 2]
    store.write(b"fc.kernel/.zarray", json.dumps(about).encode()).result()
    assert reason in error_of_restoring(workdir)


@pytest.mark.parametrize(
    "text",
    [
        *("[" * 99_999, "[]", "3", '{"model": 3}', '{"model": {"name": []}}', '{"items": 1}'),
        *('{"dataset": 1}', '{"dataset": [1]}'),
    ],
)
def test_a_configuration_that_is_none(workdir, text):
    (workdir / "checkpoints" / "1" / "config" / "metadata").write_text(text)
    with pytest.raises(UserError, match=r"is not JSON|is of another version") as caught:
        checkpoints.restore_for_evaluation(workdir)
    assert str(workdir) in str(caught.value)


@pytest.mark.parametrize("text", ["[1]", "3", '"a"', '{"new_head_instead_of": "abc"}', '{"a": 1}'])
def test_an_origin_that_is_none(workdir, text):
    origin = workdir / "checkpoints/1/origin"
    shutil.copytree(origin.with_name("data"), origin)
    (origin / "metadata").write_text(text)
    if text == '{"a": 1}':
        assert checkpoints.new_head(workdir, 1) is None
        return
    with pytest.raises(UserError, match="item origin is of another version") as caught:
        checkpoints.new_head(workdir, 1)
    assert str(workdir / "checkpoints/1") in str(caught.value)


@pytest.mark.parametrize(
    "text", ["[1]", '{"dataset": 5}', '{"dataset": "faces", "batches": 1, "pending": 5}']
)
def test_data_that_are_none(workdir, text):
    (workdir / "checkpoints/1/data/metadata").write_text(text)
    assert "item data is of another version" in error_of_restoring(workdir)
    if "pending" not in text:
        with pytest.raises(UserError, match="item data is of another version"):
            checkpoints.datasets_of(workdir, 1)


def test_json_that_is_cut_off_is_named(workdir):
    path = workdir / "checkpoints" / "1" / "data" / "metadata"
    cut(path)
    message = error_of_restoring(workdir)
    assert f"cannot be read: {path}: is not JSON: " in message
    assert "remove" not in message


@pytest.mark.parametrize("name", ["params/manifest.ocdbt", "data/metadata"])
def test_the_error_of_the_system_is_named(workdir, name):
    """A folder in place of the file: no permission keeps root from reading."""
    path = workdir / "checkpoints" / "1" / name
    path.unlink()
    path.mkdir()
    message = error_of_restoring(workdir)
    assert f"cannot be read: {path}: Is a directory; restore that file" in message
    assert "remove" not in message


def test_a_permission_is_named(workdir, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied", "the file")

    kept = Checkpoints(workdir, ABOUT)
    monkeypatch.setattr(kept._manager, "restore", refused)
    with pytest.raises(UserError, match="cannot be read: the file: Permission denied; restore"):
        kept.restore(state())


def test_another_shape_is_of_another_version(workdir):
    message = error_of_restoring(workdir, state(width=7))
    assert "params/fc/kernel is (5, 2) there and (7, 2) here; " in message
    assert "it is not damaged: use the version of qad-jax that made it, which run.json" in message
    assert "remove" not in message
    assert "--mode=evaluate" not in message  # the model itself is another


def test_another_array_is_of_another_version(workdir):
    message = error_of_restoring(workdir, state(extra=jnp.ones(3)))
    assert "params/extra is absent there and (3,) here; " in message
    assert "remove" not in message


def test_another_optimiser_leaves_the_model_to_be_evaluated(workdir):
    other = state()
    other = other.replace(opt_state=(*other.opt_state, {"memory": jnp.ones(4)}))
    message = error_of_restoring(workdir, other)
    assert "memory is absent there and (4,) here; it is not damaged: evaluate it with" in message
    assert "--mode=evaluate, or use the version of qad-jax that made it" in message
    assert "remove" not in message


def test_an_average_that_the_run_never_had(workdir):
    wanted = state()
    message = error_of_restoring(workdir, wanted.replace(average=wanted.params))
    assert "of another configuration: it has no average of the parameters; set" in message
    assert "remove" not in message


def test_an_average_that_is_gone(tmp_path):
    averaging = config()
    averaging.ema_decay = 0.9
    kept, wanted = Checkpoints(tmp_path, ABOUT), state()
    wanted = wanted.replace(average=wanted.params)
    kept.save(wanted, averaging, step=1)
    kept.close()
    shutil.rmtree(tmp_path / "checkpoints" / "1" / "average")
    assert "it lacks average; remove this folder" in error_of_restoring(tmp_path, wanted)


def test_the_same_state_differs_in_nothing(workdir):
    like = state()
    trees = {"params": like.params, "opt_state": like.opt_state}
    assert not checkpoint_errors._differences(workdir / "checkpoints" / "1", trees)
    assert Checkpoints(workdir, ABOUT).restore(like)[1] == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("efficientnet_tiny", r"another version or configuration: .*blocks_0/bn1/mean is absent"),
        ("resnet_future", r"configuration is of another version: no model is called 'resnet_fut"),
        (None, r"another version or configuration: .*bn1/mean is"),
    ],
)
def test_a_model_of_another_version(tmp_path, name, message):
    abstract = abstract_variables(config())
    variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract)
    checkpoints.save_for_evaluation(tmp_path, variables, config())
    path = tmp_path / "checkpoints" / "0" / "config" / "metadata"
    stored = json.loads(path.read_text())
    stored["model"] = {} if name is None else {**stored["model"], "name": name}
    path.write_text(json.dumps(stored))
    with pytest.raises(UserError, match=message) as caught:
        checkpoints.restore_for_evaluation(tmp_path)
    assert "use the version of qad-jax that made it" in str(caught.value)
    assert "remove" not in str(caught.value)
