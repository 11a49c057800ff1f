"""Balanced and paired batches: who is in them, and that they are the same wherever one starts."""

import collections
import itertools

import numpy as np
import pytest

from data_builders.errors import UserError
from qad_jax.training.augmentation import Augmentation
from qad_jax.training.input_pipeline import TrainBatches, TupleSource
from qad_jax.training.sampling import Moment, ordered


class Split:
    """Records that are nothing but who is in them; 1 is fake."""

    def __init__(self, records):
        self.records = records

    def __len__(self):
        return len(self.records)

    def labels_and_identities(self):
        return np.array([r[0] for r in self.records], np.int32), [r[1] for r in self.records]

    def moments(self):
        return [Moment(*r[2:]) for r in self.records]


# As lopsided as Celeb-DF: one real to nine fakes; one more identity of each kind alone.
LOPSIDED = Split(
    [(label, f"{i:02d}") for i in range(4) for label in [0, *[1] * 9]] + [(0, "r"), (1, "f")]
)


def take(split, sampling, count, seed=0, first=0):
    """So many records of the order, from a place on."""
    order = ordered(split, sampling, seed)
    indices = [order[first + i] for i in range(count)]
    return [
        {"index": i, "label": split.records[i][0], "identity": split.records[i][1]} for i in indices
    ]


def test_balanced_batches_are_half_real_and_no_record_is_forgotten():
    records = take(LOPSIDED, "balanced", 2 * 37 * 2)
    labels = np.array([r["label"] for r in records])
    assert (labels.reshape(-1, 2).sum(1) == 1).all()
    counts = collections.Counter(r["index"] for r in records)
    fakes = [i for i, (label, _) in enumerate(LOPSIDED.records) if label]
    reals = [i for i, (label, _) in enumerate(LOPSIDED.records) if not label]
    assert len(reals) == 5
    assert len(fakes) == 37
    assert {counts[i] for i in fakes} == {2}
    assert {counts[i] for i in reals} == {14, 15}  # 74 of 5


@pytest.mark.parametrize("sampling", ["balanced", "pairs"])
def test_the_order_is_shuffled_anew_and_follows_the_seed(sampling):
    def fakes(seed, first):
        records = take(LOPSIDED, sampling, 72, seed, first)
        return [r["index"] for r in records if r["label"]]

    assert fakes(0, 0) == fakes(0, 0)
    assert fakes(0, 0) != fakes(1, 0)
    assert fakes(0, 0) != fakes(0, 72 if sampling == "pairs" else 74)
    assert fakes(0, 0) != sorted(fakes(0, 0))


def test_pairs_are_of_one_identity_and_say_who_is_left_out(capsys):
    records = take(LOPSIDED, "pairs", 2 * 36)
    assert "leaves out 2 of 6 identities" in capsys.readouterr().err
    pairs = list(zip(records[::2], records[1::2], strict=True))
    assert all((a["label"], b["label"]) == (1, 0) for a, b in pairs)
    assert all(a["identity"] == b["identity"] for a, b in pairs)
    assert len({a["index"] for a, _ in pairs}) == 36  # each fake once


def test_twins_are_of_one_video_frame_and_box(capsys):
    here, there = (0.0, 0.0, 8.0, 8.0), (1.0, 0.0, 9.0, 8.0)
    split = Split(
        [
            (0, "a", "a_1", 0, here),
            (0, "a", "a_1", 4, here),
            (1, "a", "a_1", 4, here),  # of the second
            (1, "a", "a_1", 5, here),  # of none: another frame
            (1, "a", "a_1", 0, there),  # of none: another box
            (0, "b", "000", 0, here),
            (1, "b", "000_003", 0, here),  # of the video that its name begins with
            (1, "b", "0001", 0, here),  # of none
        ]
    )
    records = take(split, "twins", 20)
    assert "leaves out 3 of 5 fake tuples of the train split" in capsys.readouterr().err
    assert {(a["index"], b["index"]) for a, b in zip(records[::2], records[1::2], strict=True)} == {
        (2, 1),
        (6, 5),
    }


def test_each_real_of_an_identity_is_drawn():
    split = Split([(0, "a"), (0, "a"), (0, "a"), (1, "a")])
    drawn = [r["index"] for r in take(split, "pairs", 120) if not r["label"]]
    counts = collections.Counter(drawn)
    assert set(counts) == {0, 1, 2}
    assert min(counts.values()) > 8  # of 60 draws among three


@pytest.mark.parametrize(
    ("records", "sampling", "message"),
    [
        ([(1, "a"), (1, "b")], "balanced", "the train split has no real tuple"),
        ([(0, "a"), (0, "b")], "pairs", "the train split has no fake tuple"),
        ([(0, "a"), (1, "b")], "pairs", "no identity .* both real and fake tuples; set it"),
        (
            [(0, "a", "v", 0, ()), (1, "a", "w", 0, ())],
            "twins",
            "no fake tuple of the train split has a real one of the same video",
        ),
    ],
)
def test_splits_that_do_not_suit(records, sampling, message):
    with pytest.raises(UserError, match=message):
        ordered(Split(records), sampling, seed=0)


@pytest.mark.parametrize("sampling", ["balanced", "pairs", "twins"])
def test_batches_of_a_dataset_go_on_in_the_middle(paired_source, sampling):
    def stream(start, count, threads):
        batches = TrainBatches(
            paired_source, 4, seed=3, sampling=sampling, start=start, threads=threads
        )
        return list(itertools.islice(batches, count))

    whole, rest = stream(0, 9, 1), stream(5, 4, 2)
    for a, b in zip(whole[5:], rest, strict=True):
        np.testing.assert_array_equal(a.images, b.images)
    assert all(batch.labels.tolist() == [1, 0, 1, 0] for batch in whole)


def test_twins_are_shown_alike(paired_source):
    options = {"sampling": "twins", "augmentation": Augmentation(crop=0.5, colour=0.3)}
    batch = next(TrainBatches(paired_source, 8, seed=3, **options))
    # Around the face nothing was changed; another view would differ there in most pixels.
    edges = batch.images[:, 0, :3].astype(float)
    assert np.abs(edges[::2] - edges[1::2]).mean() < 3
    assert np.abs(edges[::2] - edges[::-2]).mean() > 10
    assert np.abs(np.diff(batch.images[:2, 0].astype(float), axis=0)).max() > 10


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    """`synthetic_faces/tiny`: four identities, each real and fake."""
    from data_builders import build

    made = build.builder("synthetic_faces/tiny", data_dir=tmp_path_factory.mktemp("tfds"))
    build.prepare(made)
    return made


@pytest.fixture(scope="module")
def paired_source(synthetic):
    """Its train split."""
    return TupleSource(synthetic, "train", ("raw", "c40"), 32)


def test_labels_and_identities_are_those_of_the_records(paired_source):
    labels, identities = paired_source.labels_and_identities()
    records = [paired_source[i] for i in range(len(paired_source))]
    assert labels.tolist() == [r["label"] for r in records]
    assert identities == [r["identity"] for r in records]
    assert len(set(identities)) == 4
