"""A disk that takes no more: one line, and what was whole stays whole."""

import contextlib
import gc
import json
import resource

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c

from data_builders import build
from data_builders.errors import UserError
from qad_jax import configs
from qad_jax.runs.checkpoints import Checkpoints
from qad_jax.runs.writer import MetricsWriter
from qad_jax.training.step import TrainState
from qad_jax.weights import command
from tests.faces import write_manifest
from tests.test_pretrained import saved


@contextlib.contextmanager
def no_file_larger_than(size):
    """The kernel refuses to write on, as a full disk does, and needs no privilege for it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def state(step):
    noise = {"w": jax.random.normal(jax.random.key(step), (100_000,))}
    return TrainState(jnp.asarray(step), noise, {"m": noise["w"][:3]}, {"v": noise["w"][:5]})


def test_the_newest_whole_checkpoint_is_named_and_intact(tmp_path):
    checkpoints = Checkpoints(tmp_path, {"dataset": "data"})
    checkpoints.save(state(1), configs.load("common"), step=1)
    checkpoints._manager.wait_until_finished()

    def save():
        checkpoints.save(state(2), configs.load("common"), step=2)
        checkpoints.close()  # saving is asynchronous: it fails here or there

    message = "cannot save a checkpoint: File too large; the newest whole one is step 1; "
    with no_file_larger_than(50_000), pytest.raises(UserError, match=message):
        save()
    again = Checkpoints(tmp_path, {"dataset": "data"})
    assert again.latest == 1
    restored, _ = again.restore(state(0))
    np.testing.assert_array_equal(restored.params["w"], state(1).params["w"])
    again.save(state(2), configs.load("common"), step=2)
    again.close()
    assert again.latest == 2


# Where several arrays fail, tensorstore calls back into loops that Orbax has closed by then.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("averaged", [False, True])
def test_weights_that_cannot_be_converted_leave_nothing(tmp_path, averaged, capfd):
    weights = saved(tmp_path)
    source, out = tmp_path / "run", tmp_path / "new"
    assert command.main([str(weights), "--out", str(source), "--name=resnet_tiny"]) == 0
    arguments = [str(weights), "--name=resnet_tiny"]
    if averaged:
        arguments = [str(source), "--average", str(weights)]
    with no_file_larger_than(5000):
        assert command.main([*arguments, "--out", str(out)]) == 1
    assert capfd.readouterr().err == (
        f"error: --out: {out}: cannot save a checkpoint: File too large; nothing is left of it; "
        "mend that, and give the same command again\n"
    )
    assert {path.name for path in tmp_path.iterdir()} == {weights.name, source.name}
    gc.collect()  # what those calls leave behind is not found in a later test


def test_logs_that_cannot_be_written_stop_the_run(tmp_path):
    writer = MetricsWriter(tmp_path, 0)
    writer.write(1, "train", {"loss": 0.5})

    def write():
        for step in range(2, 20):
            writer.write(step, "train", {"loss": 0.5})

    message = "cannot write the logs: File too large"
    with no_file_larger_than(200), pytest.raises(UserError, match=message):
        write()
    writer.close()
    again = MetricsWriter(tmp_path, 1)
    again.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 1, "split": "train", "loss": 0.5}]


def events(path):
    """Reads TensorBoard's record format: length, its checksum, the event, its checksum."""
    data = path.read_bytes()
    while data:
        length = int.from_bytes(data[:8], "little")
        assert int.from_bytes(data[8:12], "little") == masked_crc32c(data[:8])
        yield event_pb2.Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


def test_tensorboard_has_the_numbers_and_forgets_what_is_logged_again(tmp_path):
    writer = MetricsWriter(tmp_path, 7)
    writer.write(8, "validation", {"auc": 0.75, "raw/auc": None})
    writer.close()
    (path,) = (tmp_path / "tensorboard").iterdir()
    first, start, number = events(path)
    assert first.file_version
    assert (start.step, start.session_log.status) == (8, event_pb2.SessionLog.START)
    (value,) = number.summary.value
    assert (number.step, value.tag, value.simple_value) == (8, "validation/auc", 0.75)


def test_a_dataset_that_cannot_be_written_is_one_line(tmp_path):
    crops = write_manifest(tmp_path / "crops", {"train": 2})
    dataset = build.builder("manifest", data_dir=tmp_path / "data", manifest=crops)
    message = r"1\.0\.0: cannot write the dataset: .*File too large; .*name another folder"
    with no_file_larger_than(20_000), pytest.raises(UserError, match=message):
        build.prepare(dataset)
    assert not (tmp_path / "data").exists()
    build.prepare(dataset)
    assert dataset.info.splits["train"].num_examples == 2
