"""Batches: right pixels, one flip a tuple, the same order whoever reads, no frame lost."""

import collections
import io
import itertools
import shutil

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from data_builders.digest import changed
from data_builders.errors import UserError
from data_builders.png import encode_png
from qad_jax.training.augmentation import Augmentation
from qad_jax.training.input_pipeline import TrainBatches, TupleSource, frames

QUALITIES = ("raw", "c23", "c40")
SIZE = 48


@pytest.fixture(scope="module")
def source(dataset):
    return TupleSource(dataset, "train", QUALITIES, SIZE)


def test_crops_are_resized_once_from_their_own_size(dataset, source):
    plain = tfds.builder_from_directory(dataset.data_dir).as_data_source("train")
    sizes = set()
    for i in range(10):
        for q, quality in enumerate(QUALITIES):
            original = plain[i]["image"][quality]
            sizes.add(original.shape[0])
            how = cv2.INTER_AREA if original.shape[0] > SIZE else cv2.INTER_CUBIC
            expected = original
            if original.shape[0] != SIZE:
                expected = cv2.resize(original, (SIZE, SIZE), interpolation=how)
            np.testing.assert_array_equal(source[i]["image"][q], expected)
    assert min(sizes) < SIZE < max(sizes)


def test_what_is_known_of_a_record_is_what_tfds_reads(dataset, source):
    plain = tfds.builder_from_directory(dataset.data_dir).as_data_source("train")
    for i in range(len(source)):
        found, expected = source[i], plain[i]
        for name in ("method", "video", "identity"):
            assert found[name] == expected[name].decode()
        for name in ("label", "frame"):
            assert found[name] == expected[name]


def test_only_the_asked_qualities_are_decoded_in_their_order(dataset, source):
    one = TupleSource(dataset, "train", ("c40", "raw"), SIZE)[3]["image"]
    np.testing.assert_array_equal(one, source[3]["image"][[2, 0]])


@pytest.mark.parametrize("what", ["noise", "one colour", "one row"])
def test_pictures_are_stored_without_loss(what):
    picture = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)
    picture = {"noise": picture, "one colour": picture * 0 + 7, "one row": picture[:1]}[what]
    stored = Image.open(io.BytesIO(encode_png(picture)))
    assert (stored.format, stored.mode) == ("PNG", "RGB")
    np.testing.assert_array_equal(stored, picture)


def test_one_quality_costs_one_decoding(dataset, monkeypatch):
    decoded = []
    decode = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda data, how: decoded.append(1) or decode(data, how))
    one, three = (TupleSource(dataset, "test", q, SIZE) for q in (("c23",), QUALITIES))
    list(frames(one, 4))
    assert len(decoded) == len(one) == 14
    three[0]
    assert len(decoded) == len(one) + len(QUALITIES)


def test_batches_are_uint8_and_the_flip_is_shared(source):
    batch = next(TrainBatches(source, 8, seed=1))
    assert batch.images.shape == (8, 3, SIZE, SIZE, 3)
    assert batch.images.dtype == np.uint8
    assert batch.labels.dtype == np.int32
    originals = [(source[i]["image"], source[i]["label"]) for i in range(len(source))]
    flips = set()
    for images, label in zip(batch.images, batch.labels, strict=True):
        plain = [y for x, y in originals if np.array_equal(x, images)]
        mirrored = [y for x, y in originals if np.array_equal(x[:, :, ::-1], images)]
        assert plain + mirrored == [label]  # all qualities as stored, or all mirrored
        flips.add(bool(mirrored))
    assert flips == {True, False}


def stream(source, count, **options):
    return list(itertools.islice(TrainBatches(source, 8, **options), count))


def test_the_seed_alone_decides_whatever_the_number_of_readers(source):
    one, four = (stream(source, 12, seed=3, threads=threads) for threads in (1, 4))
    for a, b in zip(one, four, strict=True):
        np.testing.assert_array_equal(a.images, b.images)
    other = stream(source, 1, seed=4)[0]
    assert not np.array_equal(one[0].images, other.images)


def test_going_on_in_the_middle_is_the_same_stream(source):
    whole, rest = stream(source, 9, seed=3), stream(source, 4, seed=3, start=5)
    for a, b in zip(whole[5:], rest, strict=True):
        np.testing.assert_array_equal(a.images, b.images)


def test_each_epoch_has_every_tuple_once_in_another_order(source):
    def names(batches):
        # The brightness of the untouched quality tells the 40 tuples apart, flipped or not.
        return [round(float(x.mean()), 6) for b in batches for x in b.images[:, 0]]

    batches = stream(source, 10, seed=3)
    first, second = names(batches[:5]), names(batches[5:])
    assert collections.Counter(first) == collections.Counter(second)
    assert len(set(first)) == 40
    assert first != second


class Places:
    """Tuples that are nothing but their places in the order; notes how each is shown."""

    shape = (1, 2, 2, 3)

    def __init__(self, size):
        self.size, self.views = size, {}

    def __len__(self):
        return self.size

    def __getitem__(self, place):
        return place

    def ordered(self, sampling, seed):
        return self

    def fill(self, index, row, *, view):
        self.views[index] = view
        return {"label": index}


def test_an_epoch_drops_what_is_no_whole_batch():
    batches = itertools.islice(TrainBatches(Places(10), 4, seed=0, threads=1), 4)
    expected = [[0, 1, 2, 3], [4, 5, 6, 7], [10, 11, 12, 13], [14, 15, 16, 17]]
    assert [batch.labels.tolist() for batch in batches] == expected


def test_every_batch_and_every_seed_is_changed_otherwise():
    def windows(seed, start):
        source = Places(1000)
        batches = TrainBatches(
            source, 4, seed=seed, augmentation=Augmentation(crop=0.5), start=start, threads=1
        )
        for _ in range(3):
            next(batches)
        return [source.views[4 * start + i].window for i in range(12)]

    first, later, other = windows(1, 0), windows(1, 3), windows(2, 0)
    assert len({*first, *later, *other}) == 36
    assert windows(1, 2)[4:] == later[:8]  # they belong to the places of the stream


def test_evaluation_sees_every_record_once_and_pads_the_last_batch(dataset):
    source = TupleSource(dataset, "test", QUALITIES, SIZE)
    batches = list(frames(source, 4))
    assert [len(b.labels) for b in batches] == [4, 4, 4, 2]
    assert {b.images.shape for b in batches} == {(4, 3, SIZE, SIZE, 3)}
    assert not batches[-1].images[2:].any()
    seen = [(v, f) for b in batches for v, f in zip(b.video, b.frame.tolist(), strict=True)]
    assert len(seen) == len(set(seen)) == 14
    joined = np.concatenate([b.images[: len(b.labels)] for b in batches])
    for i in range(14):
        np.testing.assert_array_equal(joined[i], source[i]["image"])


def test_kept_in_memory_it_is_the_same_stream_and_decodes_once(dataset, source, monkeypatch):
    kept = TupleSource(dataset, "train", QUALITIES, SIZE, in_memory=True)
    for a, b in zip(stream(source, 7, seed=3), stream(kept, 7, seed=3), strict=True):
        np.testing.assert_array_equal(a.images, b.images)  # beyond an epoch
    read = [source[i]["image"] for i in range(len(source))]
    monkeypatch.setattr(cv2, "imdecode", None)
    for i, pictures in enumerate(read):  # nothing mirrored was kept
        np.testing.assert_array_equal(kept[i]["image"], pictures)


def test_a_damaged_file_of_records_is_named(dataset, tmp_path, monkeypatch):
    """However they are read: one by one, or all of them for an order, which decodes nothing."""
    shutil.copytree(dataset.data_dir, tmp_path / "copy")
    for file in (tmp_path / "copy").glob("*train.array_record*"):
        data = bytearray(file.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 64] = bytes(64)
        file.write_bytes(data)
    copy = tfds.builder_from_directory(tmp_path / "copy")
    monkeypatch.setattr(type(copy), "qualities", QUALITIES, raising=False)
    source = TupleSource(copy, "train", QUALITIES[:1], SIZE)
    for read in (
        lambda: [source[i] for i in range(len(source))],
        source.labels_and_identities,
        source.moments,
    ):
        with pytest.raises(UserError, match=r"copy train: .*record.* is damaged; build it again"):
            read()
    assert changed(copy, {"train": "0"}) == "train"


def test_an_image_that_no_decoder_takes_is_named(source, monkeypatch):
    decode = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda data, how: decode(data[:0], how))
    with pytest.raises(UserError, match="train: image of record 0 is damaged; build it again"):
        _ = source[0]


def test_mistakes_are_named(dataset, source):
    with pytest.raises(UserError, match="has no quality 'c4': did you mean 'c40'"):
        TupleSource(dataset, "train", ("c4",), SIZE)
    with pytest.raises(UserError, match="has no holdout split, only train"):
        TupleSource(dataset, "holdout", QUALITIES, SIZE)
    with pytest.raises(UserError, match="64 tuples are more than the 40"):
        TrainBatches(source, 64, seed=0)
