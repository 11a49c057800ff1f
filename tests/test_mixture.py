"""Mixtures of datasets: whose turn it is, in which order, and where a run goes on."""

import collections
import itertools

import cv2
import numpy as np
import pytest

from data_builders import build
from data_builders.errors import UserError
from qad_jax import configs
from qad_jax.evaluation import inference
from qad_jax.runs import configuration
from qad_jax.training import mixture
from qad_jax.training.augmentation import View
from qad_jax.training.input_pipeline import TrainBatches
from qad_jax.training.mixture import Mixture
from qad_jax.training.sampling import ordered
from tests import test_sampling
from tests.faces import write_manifest, write_methods


class Split(test_sampling.Split):
    """Records that are nothing but who is in them, in the order of a sampling."""

    def ordered(self, sampling, seed):
        return ordered(self, sampling, seed)


def split_of(people, fakes):
    """For each of so many people a real record and so many fakes."""
    return Split([(label, str(i)) for i in range(people) for label in [0, *[1] * fakes]])


def taken(sizes, weights, count, sampling="natural", first=0):
    """The dataset and the record of each place of a mixture."""
    splits = [split_of(people, 1) for people in sizes]
    order = Mixture(splits, weights).ordered(sampling, seed=0)
    starts = np.cumsum([0, *map(len, splits)])
    for place in range(first, first + count):
        which = int(np.searchsorted(starts, order[place], side="right")) - 1
        yield which, int(order[place] - starts[which])


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ((1.0, 1.0), (0.5, 0.5)),
        ((3.0, 1.0), (0.75, 0.25)),
        ((0.3, 0.7), (0.3, 0.7)),
        ((1.0, 1.5, 2.5), (0.2, 0.3, 0.5)),
    ],
)
def test_shares_follow_the_weights_whatever_the_sizes(weights, shares):
    drawn = [which for which, _ in taken((400, 40, 70)[: len(weights)], weights, 100)]
    for which, share in enumerate(shares):
        counts = np.cumsum([which == each for each in drawn])
        assert counts[-1] == pytest.approx(100 * share, abs=1.01)
        # Evenly, too: no batch has much more of one dataset than another batch has.
        assert np.abs(counts - share * np.arange(1, 101)).max() < 2


def test_each_dataset_has_its_own_order_and_forgets_no_record():
    drawn = list(taken((4, 10), (1.0, 1.0), 80))
    for which, size in enumerate((8, 20)):
        records = [record for of, record in drawn if of == which]
        assert len(records) == 40
        for first in range(0, 40, size):
            assert sorted(records[first : first + size]) == list(range(size))[: 40 - first]
        assert records[:size] != records[size : 2 * size]


@pytest.mark.parametrize("sampling", ["balanced", "pairs"])
def test_fake_and_real_stay_side_by_side(sampling):
    splits = [split_of(5, 3), split_of(9, 2)]
    records = [(i, *r) for i, split in enumerate(splits) for r in split.records]
    order = Mixture(splits, (1.0, 2.0)).ordered(sampling, seed=3)
    drawn = [records[order[place]] for place in range(120)]
    for fake, real in zip(drawn[::2], drawn[1::2], strict=True):
        assert (fake[0], fake[1], real[1]) == (real[0], 1, 0)
        if sampling == "pairs":
            assert fake[2] == real[2]
    assert collections.Counter(of for of, _, _ in drawn) == {0: 40, 1: 80}


def test_datasets_that_do_not_suit_the_sampling_are_named():
    class Named(Split):
        def ordered(self, sampling, seed):
            return ordered(self, sampling, seed, of="the train split of b/1.0.0")

    with pytest.raises(UserError, match=r"'pairs', but the train split of b/1.0.0 has no real"):
        Mixture([split_of(3, 1), Named([(1, "a")])], (1.0, 1.0)).ordered("pairs", seed=0)


@pytest.fixture(scope="module")
def methods(tmp_path_factory):
    """A dataset of 24 / 12 / 12 tuples: original, Deepfakes and FaceSwap, in test also NewFakes."""
    folder = tmp_path_factory.mktemp("methods")
    manifest = write_methods(folder / "crops")
    made = build.builder("manifest", data_dir=folder / "tfds", manifest=manifest)
    build.prepare(made)
    return made


def configured(*datasets, **fields):
    config = configs.load("common")
    config.qualities, config.image_size, config.batch_size = ("raw", "c40"), 16, 8
    config.dataset = list(datasets) if len(datasets) > 1 else datasets[0]
    for name, value in fields.items():
        config[name] = value
    return configuration.check(config)


def test_a_training_on_two_datasets_goes_on_in_the_middle(dataset, methods):
    config = configured({"weight": 2}, {"exclude_methods": ("FaceSwap",)}, sampling="balanced")
    source = mixture.open_training(config, [dataset, methods])
    assert len(source) == 40 + 24 - 6

    def stream(start, count, **options):
        batches = TrainBatches(source, 8, seed=3, sampling="balanced", start=start, **options)
        return list(itertools.islice(batches, count))

    whole, rest = stream(0, 9, threads=1), stream(5, 4, threads=2)
    for a, b in zip(whole[5:], rest, strict=True):
        np.testing.assert_array_equal(a.images, b.images)
    assert all(batch.labels.tolist() == [1, 0] * 4 for batch in whole)
    halves = [stream(5, 4, rows=slice(first, first + 4)) for first in (0, 4)]
    for a, *parts in zip(rest, *halves, strict=True):  # of two processes
        np.testing.assert_array_equal(a.images, np.concatenate([p.images for p in parts]))
    first, second = (
        mixture.open_split(config, which, made, "train")
        for which, made in enumerate([dataset, methods])
    )
    order = source.ordered("balanced", 3)
    drawn = [order[place] for place in range(72)]
    assert sum(index < len(first) for index in drawn) == 48  # two in three
    row = np.empty(source.shape, np.uint8)
    for index, split, own in [(39, first, 39), (40, second, 0), (57, second, 17)]:
        record = source.fill(index, row, view=View(mirrored=True))
        assert record["video"] == split[own]["video"]
        # As it is to be shown, also where methods are left out.
        np.testing.assert_array_equal(row, split[own]["image"][:, :, ::-1])


def test_excluded_methods_are_left_out_without_decoding_an_image(methods, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", None)
    config = configured({"exclude_methods": ("Deepfakes", "NewFakes")})  # the latter only in test
    source = mixture.open_training(config, [methods])
    labels, identities = source.labels_and_identities()
    assert len(source) == len(labels) == len(identities) == 18
    assert labels.tolist().count(1) == 6
    order = source.ordered("natural", 0)
    assert sorted(order[place] for place in range(18)) == list(range(18))
    monkeypatch.undo()
    kept = {source[i]["method"] for i in range(len(source))}
    assert kept == {"original", "FaceSwap"}
    assert [source[i]["label"] for i in range(18)] == labels.tolist()
    assert [source[i]["identity"] for i in range(18)] == identities
    moments = [moment[:2] for moment in source.moments()]
    assert moments == [(source[i]["video"], source[i]["frame"]) for i in range(18)]


@pytest.mark.parametrize(
    ("excluded", "message"),
    [
        (["Deepfake"], r"config\.dataset\.exclude_methods: manifest/.* has no method 'Deepfake': "
            "did you mean 'Deepfakes'"),
        (["x"], "has no method 'x': known: Deepfakes, FaceSwap, NewFakes, original"),
        (["Deepfakes", "FaceSwap"], "exclude_methods: leaves no fake tuple to train on"),
        (["original"], "exclude_methods: leaves no real tuple to train on"),
        (["original", "Deepfakes", "FaceSwap"], "leaves nothing of the train split of manifest/"),
    ],
)  # fmt: skip
def test_methods_that_cannot_be_excluded(excluded, message, methods):
    config = configured({"exclude_methods": excluded})
    with pytest.raises(UserError, match=message):
        mixture.open_training(config, [methods])


def test_reals_of_one_dataset_and_fakes_of_another_are_a_mixture(dataset, methods):
    config = configured({}, {"exclude_methods": ["original"]})
    assert len(mixture.open_training(config, [dataset, methods])) == 40 + 12


def test_a_validation_without_a_class_takes_no_part(dataset, methods, capsys):
    config = configured({}, {"exclude_methods": ["Deepfakes", "FaceSwap"]})
    assert inference.validator(config, [dataset, methods]) is not None
    note = f"note: {methods.info.full_name} takes no part in validation: config.dataset[1].exclude_"
    assert note in capsys.readouterr().err
    alone = configured({"exclude_methods": ["original"]})
    assert inference.validator(alone, [methods]) is None
    assert "leaves no reals or no fakes of its validation split" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ([{"name": "a"}, {"nmae": "b"}], r"config\.dataset\[1\]\.nmae: .* did you mean "
            r"'dataset\[1\]\.name'"),
        ([{"name": "a"}, {"name": 3}], r"config\.dataset\[1\]\.name: is 3, must be of type str"),
        ([{"weight": "2"}, {}], r"config\.dataset\[0\]\.weight: is '2', must be of type float"),
        ([{"weight": 0}, {}], r"config\.dataset\[0\]\.weight: is 0.0, must be a positive number"),
        ([{}, {"weight": -1.0}], r"config\.dataset\[1\]\.weight: is -1.0, must be a positive"),
        ([{}, {"weight": float("nan")}], r"\[1\]\.weight: is nan, must be a finite number"),
        ([{}, {"weight": float("inf")}], r"\[1\]\.weight: is inf, must be a finite number"),
        ([{}, {"weight": 1e-7}], r"\[1\]\.weight: is 1e-07, less than a millionth of .*\[0\]"),
        ([{}, {"exclude_methods": "a"}], r"\[1\]\.exclude_methods: is 'a', must be of type tuple"),
        (["celeb", "ffiw"], r"config\.dataset\[0\]: is 'celeb', must be the fields of a dataset"),
        ([{}, None], r"config\.dataset\[1\]: is None, must be the fields of a dataset"),
        ([], r"config\.dataset: the list is empty"),
        ("celeb_df_v2", r"config\.dataset: is 'celeb_df_v2', must be the fields of a dataset"),
        ({"weight": 0.0}, r"config\.dataset\.weight: is 0.0, must be a positive number"),
    ],
)  # fmt: skip
def test_mistakes_in_a_mixture_are_named(datasets, message):
    config = configs.load("common")
    config.dataset = datasets
    with pytest.raises(UserError, match=message):
        configuration.check(config)


def test_a_list_is_completed_stored_and_read_again(tmp_path):
    config = configured({"name": "a", "weight": 2}, {"name": "b", "exclude_methods": ["x,y", "z"]})
    first, second = config.dataset
    assert (first.weight, first.exclude_methods, first.in_memory) == (2.0, (), False)
    assert (second.weight, second.exclude_methods) == (1.0, ("x", "y", "z"))
    assert list(configs.datasets(config)) == ["config.dataset[0]", "config.dataset[1]"]
    configuration.claim_workdir(config, tmp_path)
    again = configs.load(tmp_path)
    assert configs.to_dict(again) == configs.to_dict(config)
    assert configuration.check(again).dataset[1].exclude_methods == ("x", "y", "z")
    again.dataset[1].data_dir = "elsewhere"  # where data is may change
    configuration.check_workdir(again, tmp_path)
    again.dataset[1].weight = 3.0
    with pytest.raises(UserError, match=r"dataset\[1\]\.weight is 1.0 there and 3.0 here"):
        configuration.check_workdir(again, tmp_path)
    one = configured({"name": "a"})
    with pytest.raises(UserError, match=r"dataset\[0\]\.name is 'a' there and None here"):
        configuration.check_workdir(one, tmp_path)


def test_a_list_of_one_is_this_dataset():
    config = configs.load("common")
    config.dataset = [{"name": "a"}]
    assert configuration.check(config).dataset.name == "a"


def test_no_dataset_of_a_mixture_may_be_missing(tmp_path):
    from qad_jax.training.datasets import open_datasets

    manifest = write_manifest(tmp_path / "crops", {"train": 4, "val": 2, "test": 2})
    here = {"name": "manifest", "manifest": str(manifest), "data_dir": str(tmp_path / "data")}
    celeb = {"name": "celeb_df_v2", "data_dir": str(tmp_path)}
    for second, message in [
        (celeb, r"config\.dataset\[1\]\.name: celeb_df_v2 is not built in .*; run: python -m"),
        ({"name": "celeb"}, r"config\.dataset\[1\]: there is no builder for dataset 'celeb'"),
        (here, r"config\.dataset\[1\]\.name: manifest/data-.* is in the mixture already"),
    ]:
        with pytest.raises(UserError, match=message):
            open_datasets(configured(here, second), may_build=True)
    assert not (tmp_path / "data").exists()  # nothing is built for a mixture that is not whole
