"""What may happen to a build: it is stopped, starts twice, or finds a folder that it cannot use."""

import concurrent.futures
import dataclasses
import itertools
import json
import os
import shutil
import types

import cv2
import numpy as np
import PIL
import pytest
import tensorflow_datasets as tfds

from data_builders import build, paired
from data_builders.digest import digest
from data_builders.errors import UnusableClipError, UserError
from data_builders.files import alone
from data_builders.records import Clip, Pair
from data_builders.self_blended.builder import SelfBlended
from data_builders.video_builder import VideoDatasetBuilder
from qad_jax import configs
from qad_jax.training import datasets
from tests import trees
from tests.commands import until_told
from tests.faces import write_manifest


@pytest.fixture
def plain_clips(monkeypatch):
    """Clips that say what the lists say, and of which no face is looked for."""

    def read(source):
        files = source.files
        crop = np.zeros((4, 4, 3), np.uint8)
        real, fake = (
            Clip(method, files.video, files.identity, label, [0], np.zeros((1, 4)), {"raw": [crop]})
            for method, label in (("original", "real"), ("eyes", "fake"))
        )
        return Pair(real, fake)

    monkeypatch.setattr(SelfBlended, "read_clip", staticmethod(read))
    monkeypatch.setattr(VideoDatasetBuilder, "APART", False)


def test_a_kept_clip_is_made_again_where_a_list_or_a_library_is_another(
    plain_clips, monkeypatch, tmp_path
):
    """Splits are those of the lists as they are: an older identity would be in two of them."""
    trees.write(tmp_path / "people/1.png", cv2.imencode(".png", trees.frames_of(0, 6)[4])[1])
    dataset = build.builder("self_blended", data_dir=tmp_path, manual_dir=tmp_path / "people")

    def made(identity):
        (tmp_path / "people/identities.csv").write_text(f"file,identity\n1.png,{identity}\n")
        (sources,) = dataset.clip_sources().values()
        examples = dataset.clip_reader()(sources[0]).examples
        return {example["identity"] for _, example in examples}, dataset.clips_done()

    assert made("alice") == ({"alice"}, 1)
    assert made("alice") == ({"alice"}, 1)
    assert made("carol7") == ({"carol7"}, 2)
    newer = {**paired.shaping_versions(), "av": "99"}
    monkeypatch.setattr("data_builders.video_builder.shaping_versions", lambda: newer)
    assert made("carol7") == ({"carol7"}, 3)


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """The list of a few crops."""
    return write_manifest(tmp_path_factory.mktemp("crops"), {"train": 4, "val": 2})


@pytest.fixture
def opened(crops, tmp_path):
    """Opens the dataset of these crops."""
    return lambda: build.builder("manifest", data_dir=tmp_path / "data", manifest=crops)


@pytest.fixture(scope="module")
def whole(crops, tmp_path_factory):
    """The dataset, built."""
    made = build.builder("manifest", data_dir=tmp_path_factory.mktemp("whole"), manifest=crops)
    build.prepare(made)
    return made


@pytest.fixture
def copied(opened, whole):
    """The folder of a copy of it."""
    return shutil.copytree(whole.data_dir, opened().data_dir)


@pytest.mark.parametrize(
    "lost", ["*", "dataset_info.json", "metadata.json", "manifest-train.array_record-*"]
)
def test_a_folder_that_is_no_whole_dataset_is_refused(opened, copied, lost):
    """Such as one that a copy was cut in; it is left as it is."""
    gone = list(opened().data_path.glob(lost))
    for file in gone:
        os.remove(file)
    left = os.listdir(copied)
    with pytest.raises(UserError, match=r"1\.0\.0: is no whole dataset; remove this folder"):
        build.prepare(opened())
    assert gone
    assert os.listdir(copied) == left


def test_a_dataset_that_names_no_splits_is_refused(opened, copied):
    path = opened().data_path / "dataset_info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "splits": []}))
    with pytest.raises(UserError, match="is no whole dataset"):
        build.prepare(opened())


@pytest.mark.parametrize(
    ("file", "content"),
    [
        *itertools.product(
            ["metadata.json", "dataset_info.json"],
            ["", '{"notes": [', "[1]"],
        ),
        ("dataset_info.json", '{"version": "2.0.0"}'),
    ],
)
def test_damaged_information_is_one_line(opened, copied, file, content):
    (opened().data_path / file).write_text(content)
    with pytest.raises(
        UserError, match=r"1\.0\.0: what it says of its dataset is damaged: .*again"
    ):
        opened()


def test_a_dataset_has_its_digest_as_soon_as_it_is_there(opened, whole, monkeypatch):
    def killed(self, place):
        raise KeyboardInterrupt

    dataset = opened()
    with monkeypatch.context() as patch:
        patch.setattr("data_builders.paired.digest", killed)
        with pytest.raises(KeyboardInterrupt):
            build.prepare(dataset)
    assert not dataset.data_path.parent.exists()
    build.prepare(opened())
    for file in sorted(os.listdir(whole.data_dir)):
        assert (dataset.data_path / file).read_bytes() == (whole.data_path / file).read_bytes()
    stored = json.loads((dataset.data_path / "metadata.json").read_text())["digest"]
    assert stored == {split: digest(opened(), split) for split in ("train", "validation")}


def test_what_a_build_left_that_was_killed_at_its_end_is_removed(opened, copied, monkeypatch):
    dataset = opened()
    finished = []
    monkeypatch.setattr(type(dataset), "finish", lambda self: finished.append(self))
    build.prepare(dataset)
    assert finished == [dataset]


def test_what_a_killed_build_was_writing_is_removed(opened):
    place = opened().data_path
    place.with_name(f"incomplete.KILLED_{place.name}").mkdir(parents=True)
    place.with_name(f".{place.name}.lock").touch()
    build.prepare(opened())
    assert os.listdir(place.parent) == [place.name]


def test_a_second_build_waits_for_the_first_and_opens_what_that_made(opened, whole, capsys):
    first, second = opened(), opened()
    place = first.data_path
    with concurrent.futures.ThreadPoolExecutor() as pool:
        with alone(place.with_name(f".{place.name}.lock")):
            waiting = pool.submit(build.prepare, second)
            until_told(waiting, capsys, f"{place}: another process builds it; this one waits")
            assert os.listdir(place.parent) == [f".{place.name}.lock"]
            shutil.copytree(whole.data_dir, place)
        waiting.result()
    assert second.info.splits["train"].num_examples == 4
    assert second.info.metadata["digest"] == whole.info.metadata["digest"]
    assert os.listdir(place.parent) == [place.name]
    build.prepare(first)  # which was made before the dataset was
    assert first.info.splits["train"].num_examples == 4


def test_a_training_opens_what_another_process_has_built_meanwhile(opened, whole, monkeypatch):
    dataset = opened()
    shutil.copytree(whole.data_dir, dataset.data_dir)
    monkeypatch.setattr(datasets, "_builder", lambda field, fields: dataset)
    (found,) = datasets.open_datasets(configs.load("common"), may_build=True)
    assert found.info.splits["train"].num_examples == 4


def spoilt(folder, counts, bad):
    """A list of crops in this order of splits, of which the first of each split are no images."""
    path = write_manifest(folder, counts)
    for split, lists in json.loads(path.read_text()).items():
        for name in lists["raw"][: bad.get(split, 0)]:
            (folder / name).write_bytes(b"no image")
    return path


@pytest.mark.parametrize("splits", [("test", "train"), ("train", "test")])
@pytest.mark.parametrize("most", [0.1, 0.09])
def test_the_order_of_splits_does_not_count_for_what_may_be_skipped(splits, most, tmp_path):
    counts = {split: {"train": 16, "test": 4}[split] for split in splits}
    listed = spoilt(tmp_path, counts, {"test": 2})
    dataset = build.builder(
        "manifest", data_dir=tmp_path / "data", manifest=listed, max_skipped=most
    )
    if most < 0.1:
        with pytest.raises(UserError, match=r"2 of 20 tuples are unusable, more than .*0\.09"):
            build.prepare(dataset)
    else:
        build.prepare(dataset)
        assert len(dataset.info.metadata["skipped"]) == 2


@pytest.mark.parametrize("beam", [None, []])
def test_a_split_of_which_nothing_is_left_is_named(beam, tmp_path, monkeypatch):
    def piped(dataset, *arguments):
        """What a pipeline does, which takes a minute: TFDS fails in it where a split is empty."""
        dataset._split_generators(None)
        for split, sources in dataset.clip_sources().items():
            told = {"skipped": [], "failed": [], "noted": []}
            clips = map(dataset.clip_reader(), sources)
            unusable = [(i, clip) for i, clip in enumerate(clips) if isinstance(clip, UserError)]
            told["skipped"] = [(i, (str(error), [])) for i, error in unusable]
            for kind, values in told.items():
                pipelines._write(values, f"{dataset._report_of(split)}.{kind}")
        raise ValueError("The total number of generated examples is 0 for split validation.")

    if beam is not None:
        pipelines = pytest.importorskip("data_builders.beam")
        monkeypatch.setattr(tfds.core.GeneratorBasedBuilder, "_generate_splits", piped)
    listed = spoilt(tmp_path, {"train": 22, "val": 2}, {"val": 2})
    dataset = build.builder("manifest", data_dir=tmp_path / "data", manifest=listed)
    message = r"the validation split has no tuples that .*of 2: .*0000\.png: not a readable image"
    with pytest.raises(UserError, match=message):
        build.prepare(dataset, beam=beam)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("beam", [None, []])
def test_data_that_cannot_be_read_are_not_taken_for_what_is_written(opened, beam, monkeypatch):
    def refuse():
        raise PermissionError(13, "Permission denied", "/folder/of/another")

    dataset = opened()
    monkeypatch.setattr(dataset, "clip_sources", refuse)
    with pytest.raises(UserError, match=r"^/folder/of/another: Permission denied; the data canno"):
        build.prepare(dataset, beam=beam)


def test_its_versions_are_those_of_all_that_shapes_pixels(whole):
    versions = whole.info.metadata["versions"]
    assert (versions["pillow"], versions["numpy"]) == (PIL.__version__, np.__version__)


def test_options_do_not_go_with_a_dataset_that_is_built(opened, copied, tmp_path, capsys):
    name = opened().info.full_name.rpartition("/")[0]
    words = [name, "--data_dir", str(tmp_path / "data"), "--max_skipped", "0.2"]
    assert build.main(words) == 1
    told = f"error: --max_skipped: {name} is built already; leave this out\n"
    assert capsys.readouterr().err == told
    assert build.main(words[:3]) == 0


def test_what_a_built_dataset_says_moves_no_cursor(opened, copied, crops, tmp_path, capsys):
    path = opened().data_path / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "skipped": ["a\n\x1b[2J"]}))
    words = ["manifest", "--manifest", str(crops), "--data_dir", str(tmp_path / "data")]
    assert build.main(words) == 3
    assert capsys.readouterr().err.endswith("skipped: a \\x1b[2J\n")


@pytest.mark.parametrize("kept", [False, True])
def test_an_interrupted_build_goes_on_where_clips_are_kept(kept, tmp_path, monkeypatch, capsys):
    def interrupted(dataset, beam):
        if kept:
            dataset.staging.mkdir(parents=True)
            (dataset.staging / "0.npz").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "prepare", interrupted)
    name = "uadfv" if kept else "synthetic_faces/tiny"
    assert build.main([name, "--data_dir", str(tmp_path)]) == 130
    err = capsys.readouterr().err
    assert ("the same command goes on" in err) == kept
    assert err.endswith("interrupted\n")


def test_a_build_that_fails_leaves_no_folder(tmp_path, monkeypatch):
    """Before it begins, TFDS says in a folder which of the configurations is the first."""

    def fails():
        assert (tmp_path / "data/synthetic_faces/.config").exists()
        raise UserError("no faces")

    dataset = build.builder("synthetic_faces/tiny", data_dir=tmp_path / "data")
    monkeypatch.setattr(dataset, "clip_sources", fails)
    with pytest.raises(UserError, match="no faces"):
        build.prepare(dataset)
    assert not os.listdir(tmp_path)


def test_a_share_is_compared_as_it_is_written():
    """0.29 * 100 is less than 29 in floating point."""
    for hundredths in range(101):
        limits = types.SimpleNamespace(max_skipped=float(f"{hundredths / 100:.2f}"))
        for total in (0, 1, 7, 100, 1000):
            spared = paired.PairedDatasetBuilder.spared(limits, total)
            assert spared == hundredths * total // 100


def test_qualities_keep_their_order(tmp_path):
    listed = write_manifest(tmp_path, {"train": 2})
    lists = json.loads(listed.read_text())["train"]
    order = ("png", "jpeg", "c5", "c23")
    crops = {**dict.fromkeys(order, lists["raw"]), "labels": lists["labels"]}
    listed.write_text(json.dumps({"train": crops}))
    made = build.builder("manifest", data_dir=tmp_path, manifest=listed)
    build.prepare(made)
    path = made.data_path / "metadata.json"
    metadata = json.loads(path.read_text())

    def opened():
        return build.builder(made.info.full_name.rpartition("/")[0], data_dir=tmp_path)

    assert made.qualities == opened().qualities == order
    path.write_text(json.dumps({**metadata, "qualities": ["png", "c23"]}))
    with pytest.raises(UserError, match=r"its metadata\.json is damaged"):
        opened()
    del metadata["qualities"]  # an older dataset
    path.write_text(json.dumps(metadata))
    assert opened().qualities == tuple(sorted(order))


def test_a_dataset_that_is_built_already_is_said_to_be(opened, copied, crops, tmp_path, capsys):
    words = ["manifest", "--manifest", str(crops), "--data_dir", str(tmp_path / "data")]
    assert build.main(words) == 0
    out, err = capsys.readouterr()
    assert err == f"{copied}: is built already; remove it to build it anew\n"
    assert "train: 4 tuples" in out


@pytest.mark.parametrize("name", ["boxes.txt", "file", "mtccn"])
def test_sources_of_faces_are_those_of_the_command(name, tmp_path, capsys):
    words = ["uadfv", "--manual_dir", str(tmp_path), "--data_dir", str(tmp_path), "--faces", name]
    assert build.main(words) == 1
    hint = "did you mean 'mtcnn'?" if name == "mtccn" else "known: mtcnn, none"
    told = f"error: --faces: there is no source of faces {name!r}: {hint} (a file of boxes has"
    assert capsys.readouterr().err == f"{told} a name that ends in .json)\n"


def test_a_name_that_no_record_can_have_costs_its_file_alone(plain_clips, tmp_path):
    trees.write(tmp_path / "people/1.png", cv2.imencode(".png", trees.frames_of(0, 6)[4])[1])
    dataset = build.builder("self_blended", data_dir=tmp_path, manual_dir=tmp_path / "people")
    (sources,) = dataset.clip_sources().values()
    files = dataclasses.replace(sources[0].files, video=os.fsdecode(b"caf\xe9"))
    clip = dataset.clip_reader()(dataclasses.replace(sources[0], files=files))
    assert isinstance(clip, UnusableClipError)
    assert "caf\\udce9" in str(clip)
    assert "its name is not UTF-8" in str(clip)
