"""More official trees, from folders to datasets, with what goes wrong in them; and to a training.

Few films are under many names: of each content, the face is searched and the qualities are made
once. All else of a build is done for each video.
"""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from data_builders import (
    celeb_df_v1,
    clips,
    deep_fake_detection,
    dfdc,
    uadfv,
    workers,
)
from data_builders.video_builder import VideoDatasetBuilder
from qad_jax import configs
from qad_jax.evaluation import inference
from qad_jax.runs import configuration
from qad_jax.training import loop
from qad_jax.training.datasets import open_datasets
from tests import trees
from tests.commands import call
from tests.test_builds import check, make, names_of, read
from tests.test_more_readers import READERS, trees_of_all

FRAMES = 3
PARTS = {**READERS, deep_fake_detection: "by_actor"}
# The truncated file of its own that a tree has, and those without a face, as method and name.
TRUNCATED = {dfdc: ("DFDC", "bafake"), celeb_df_v1: ("original", "YouTube-real_00002")}
FACELESS = {dfdc: ("DFDC", "bbfake"), celeb_df_v1: ("original", "YouTube-real_00001")}
NO_RAW = {deep_fake_detection: ("DeepFakeDetection", "01_02__kitchen_pan__0102ABCD")}
SMALL = (trees.SIZE + 60, 60, 2 * trees.SIZE - 60, trees.SIZE - 60)  # the second of two faces


@pytest.fixture(scope="module", autouse=True)
def one_look_at_each_film():
    known, reading = {}, clips.read

    def read_once(source):
        files = source.files
        key = (*(path.read_bytes() for path in source.inputs), *files.files)
        if key not in known:
            known[key] = reading(source)
        about = {name: getattr(files, name) for name in ("method", "video", "identity", "label")}
        return dataclasses.replace(known[key], **about)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VideoDatasetBuilder, "APART", False)
        patch.setattr(workers, "POOL_PAYS_FROM", 1000)
        patch.setattr(clips, "read", read_once)
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The dataset of each tree, what was listed, and three of its fakes, which are spoilt.

    They show a second face, have two frames, and are truncated.
    """
    place = tmp_path_factory.mktemp("built")
    made = {}
    for module, (root, _) in trees_of_all(place / "trees").items():
        layout = module.Builder.find(root, PARTS[module])
        has_own = {TRUNCATED.get(module), FACELESS.get(module), NO_RAW.get(module)}
        fakes = [v for v in layout.videos if v.label == "fake" and which(v) not in has_own]
        fakes = [v for v in fakes if not v.mask]
        two, shorter, truncated = fakes[0], fakes[1], fakes[-1]
        for path in two.files.values():
            trees.write(path, trees.two_faces(4, "target", SMALL))
        for path in shorter.files.values():
            trees.write(path, trees.rendered(shorter.video, 2, fake=True))
        trees.truncate(truncated.best)
        name = "/".join(filter(None, (module.Builder.name, PARTS[module])))
        made[module] = (
            make(name, root, place / "data", frames_per_video=FRAMES),
            layout,
            tuple(map(which, (two, shorter, truncated))),
        )
    return made


def which(video):
    return video.method, video.video


@pytest.mark.parametrize("module", READERS)
def test_a_tree_is_built(module, built):
    dataset, layout, (two, shorter, truncated) = built[module]
    found = read(dataset)
    check(found)
    listed = {which(v): (split, v) for split, videos in layout.splits.items() for v in videos}
    why = {
        truncated: "cannot be decoded",
        TRUNCATED.get(module): "cannot be decoded",
        FACELESS.get(module): "no face was found",
        NO_RAW.get(module): "raw cannot be made of c23",
    }
    why.pop(None, None)
    for split, records in found.items():
        assert names_of(records) == {w for w, (s, _) in listed.items() if s == split} - {*why}
        for record in records:
            video = listed[record["method"], record["video"]][1]
            assert (record["identity"], record["label"]) == (video.identity, video.label == "fake")
    metadata = dataset.info.metadata
    assert metadata["missing"] == list(layout.missing)
    assert len(metadata["skipped"]) == len(why), metadata["skipped"]
    for (method, name), reason in why.items():
        told = f"{listed[method, name][1].best}: {reason}"
        assert any(told in line for line in metadata["skipped"]), metadata["skipped"]
    assert metadata["faces"] == {"/".join(two): 2}
    records = [record for records in found.values() for record in records]
    boxes = [r["box"] for r in records if (r["method"], r["video"]) == two]
    assert boxes
    assert all(box[0] < trees.SIZE / 2 < box[2] < SMALL[0] for box in boxes)
    frames = [r["frame"] for r in records if (r["method"], r["video"]) == shorter]
    assert sorted(frames) == [0, 1]


def test_both_qualities_end_where_the_shorter_one_does(built):
    dataset, *_ = built[deep_fake_detection]
    frames = {video: set() for video in ("02__kitchen_pan", "05__kitchen_pan")}
    for record in itertools.chain(*read(dataset).values()):
        frames.get(record["video"], set()).add(int(record["frame"]))
    assert frames == {"02__kitchen_pan": {0, 1, 2}, "05__kitchen_pan": {0, 2, 3}}


def train(datasets, folder, **changes):
    """Trains three steps on a mixture; gives the last lines of the log by split."""
    config = configs.load("hkrawp_resnet")
    config.dataset = [fields(dataset) for dataset in datasets]
    config.model.name, config.image_size, config.batch_size = "resnet_least", 32, 8
    config.num_steps, config.head_only_epochs, config.awp.warmup_epochs = 3, 0, 0
    config.log_every_steps = 1
    config.update(changes)
    config = configuration.check(config)
    opened = open_datasets(config, may_build=False)
    assert [o.info.full_name for o in opened] == [d.info.full_name for d in datasets]
    loop.train(config, folder, opened, inference.validator(config, opened))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    logged = {line["split"]: line for line in lines}
    assert {line["step"] for line in logged.values()} == {3}
    assert np.isfinite(logged["train"]["cross_entropy"])
    return logged


def fields(dataset):
    """What a configuration names a dataset by."""
    name = dataset.info.full_name.rpartition("/")[0]
    place = dataset.data_path.parents[name.count("/") + 1]
    return {"name": name, "data_dir": str(place)}


def test_a_training_on_all_that_may_be_trained_on(built, tmp_path):
    """On each in turn; a dataset that is all test is evaluated."""
    datasets = [dataset for dataset, *_ in built.values() if "train" in dataset.info.splits]
    assert len(datasets) == len(built) - 1
    logged = train(datasets, tmp_path / "run")
    for dataset in datasets:
        name = dataset.info.full_name.rpartition("/")[0]
        assert 0 <= logged["validation"][f"{name}/c40/auc"] <= 1
    dataset, *_ = built[uadfv]
    changed = [f"--config.dataset.{key}={value}" for key, value in fields(dataset).items()]
    result = call(f"--workdir={tmp_path / 'run'}", "--mode=evaluate", *changed)
    assert result.status == 0, result.err
    assert f"{dataset.info.full_name} test, step 3" in result.out
