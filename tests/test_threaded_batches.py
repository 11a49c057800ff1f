"""Batches that many threads fill: in order, every reader at work, and none left behind."""

import itertools
import threading

import cv2
import numpy as np
import pytest

from data_builders.errors import UserError
from qad_jax.training.input_pipeline import TrainBatches, TupleSource
from qad_jax.training.threaded_batches import filled


def in_twos():
    """Batches of places 0 and 1, 2 and 3, ..."""
    return (range(2 * n, 2 * n + 2) for n in itertools.count())


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_rows_are_in_their_places_and_what_is_not_filled_is_zero(threads):
    def fill(place, row):
        row[:] = place + 1
        return -place

    found = list(filled(fill, [[0, 1, 2], [3]], rows=3, shape=(2,), threads=threads))
    images, known = zip(*found, strict=True)
    expected = [[[1, 1], [2, 2], [3, 3]], [[4, 4], [0, 0], [0, 0]]]
    np.testing.assert_array_equal(images, expected)
    assert list(known) == [[0, -1, -2], [-3]]
    assert images[0].dtype == np.uint8


def test_every_reader_is_at_work_at_once():
    """However small the batches are: each waits here until all others have come."""
    readers = 9
    met = threading.Barrier(readers)
    batches = filled(lambda place, row: met.wait(30), in_twos(), 2, (1,), threads=readers)
    next(batches)
    met.abort()


def test_what_a_reader_raises_is_raised_for_its_batch():
    def fill(place, row):
        if place == 3:
            raise UserError("record 3")

    batches = filled(fill, in_twos(), 2, (1,), threads=2)
    next(batches)
    with pytest.raises(UserError, match="record 3"):
        next(batches)


def test_no_reader_outlives_its_batches(dataset):
    def readers():
        return {t for t in threading.enumerate() if t.name.startswith("reader")}

    before = readers()
    batches = TrainBatches(TupleSource(dataset, "train", ("raw",), 16), 4, seed=0, threads=3)
    next(batches)
    own = readers() - before
    assert own
    del batches
    for thread in own:
        thread.join(30)
        assert not thread.is_alive()


def test_a_damaged_image_is_named(dataset, monkeypatch):
    batches = TrainBatches(TupleSource(dataset, "train", ("raw",), 16), 4, seed=0)
    monkeypatch.setattr(cv2, "imdecode", lambda data, how: None)
    with pytest.raises(UserError, match=r"train: image of record .* is damaged; build it again"):
        next(batches)
