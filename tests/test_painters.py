"""Painters: what they are, how they learn, and the fakes that they paint."""

import dataclasses
import hashlib
import json
import shutil
from functools import partial

import cv2
import flax.linen as nn
import jax
import numpy as np
import pytest
import safetensors.numpy

from data_builders import build
from data_builders.errors import BrokenBuildError, UserError
from data_builders.self_blended import (
    blend,
    clip,
    judge,
    learning,
    painter,
    painter_files,
    recipes,
)
from data_builders.self_blended.face import HEAD, JAW
from tests import trees
from tests.test_blends import UPRIGHT
from tests.test_self_blended_folders import people_of, picture, write

pytestmark = pytest.mark.usefixtures("pairs_in_this_process")

SMALLEST = "shuffle64"


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A folder of nine rendered people of the train split, and two of the test split."""
    folder = tmp_path_factory.mktemp("people")
    for name in people_of("test", 2):
        write(folder / name / "a.png", picture(0))
    for number, name in enumerate(people_of("train", 9)):
        light = 1 - 0.005 * number  # no two files alike
        write(folder / name / "a.png", np.uint8(picture(2 * (number % 2)) * light))
    return folder


@pytest.fixture(scope="module")
def painters(people, tmp_path_factory):
    """A folder with one painter, which the command has taught for two steps."""
    folder = tmp_path_factory.mktemp("painters")
    arguments = ["--manual_dir", str(people), "--out", str(folder), "--steps", "2", "--batch", "2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(painter, "KINDS", {SMALLEST: painter.KINDS[SMALLEST]})
        assert learning.main(arguments) == 0
    return folder


# The network


@pytest.mark.parametrize(("name", "kind"), painter.KINDS.items())
def test_a_painter_paints_a_square_of_its_own_size(name, kind):
    """Shapes alone, and between them a code of as many channels as are said."""
    assert name == f"{kind.enlarging}{kind.side}"
    assert kind.side in kind.sides
    init = painter.network(kind).init_with_output
    shapes = []
    for side in kind.sides:
        square = jax.ShapeDtypeStruct((2, side, side, 3), np.float32)
        made, params = jax.eval_shape(init, jax.random.key(0), square)
        assert made.shape == square.shape
        shapes.append(jax.tree.map(lambda leaf: leaf.shape, params))
    assert all(one == shapes[0] for one in shapes)  # one file is for all sides
    kernels = [leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim == 4]
    before = {4: 192, 3: 128}[kind.halvings]
    assert (1, 1, before, kind.code) in kernels
    assert (1, 1, kind.code, 128) in kernels


def test_the_code_is_as_small_as_the_halvings_say():
    """Three make it an eighth as wide and high as the square, four a sixteenth."""
    for halvings in (3, 4):
        kind = painter.Kind(64, 8, "nearest", "edges", halvings)
        model = painter.network(kind)
        square = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
        params = jax.eval_shape(model.init, jax.random.key(1), square)
        apply = partial(model.apply, capture_intermediates=True)
        _, state = jax.eval_shape(apply, params, square)
        codes = [one for one in jax.tree.leaves(state) if one.shape[-1] == 8]
        assert [one.shape for one in codes] == [(1, 64 >> halvings, 64 >> halvings, 8)]


def test_pixels_become_channels_and_come_back():
    picture = np.arange(2 * 8 * 8 * 3, dtype=np.float32).reshape(2, 8, 8, 3)
    folded = painter.fold(picture, 4)
    assert folded.shape == (2, 2, 2, 48)
    np.testing.assert_array_equal(folded[1, 1, 0].reshape(4, 4, 3), picture[1, 4:, :4])
    np.testing.assert_array_equal(painter.unfold(folded, 4), picture)


# Painting


def test_the_square_is_where_it_is_said_to_be():
    """Eyes of a distance of 40, on the middle line; their middle lies above that of the square."""
    matrix = painter.square_of(UPRIGHT, 66, 3.3)
    assert matrix[:, :2] == pytest.approx(np.diag([20 / 40, 20 / 50]))  # the mouth is 50 below
    eyes = UPRIGHT.landmarks[:2] @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(eyes, [(23, 33 - 9), (43, 33 - 9)])


def test_a_painter_that_copies_changes_little():
    """Only its resolution is lost: a smooth image stays as it is."""
    smooth = cv2.GaussianBlur(np.random.default_rng(0).uniform(0, 255, (200, 200, 3)), (0, 0), 9)
    image = np.uint8(cv2.normalize(smooth, None, 40, 210, cv2.NORM_MINMAX))
    copied = painter.painted(image, UPRIGHT, lambda square: square, 128)
    assert np.abs(copied - image).max() <= 3
    grey = painter.painted(image, UPRIGHT, np.zeros_like, 128)
    np.testing.assert_allclose(grey[90:110, 90:110], 127.5, atol=1)
    np.testing.assert_array_equal(grey[:10], image[:10])


@pytest.mark.parametrize(("size", "side"), [(1.0, 64), (8.0, 64), (3.0, 128), (0.4, 128)])
def test_what_is_painted_lies_where_it_was(size, side):
    """Whatever is larger, the face or the square: a copy is not moved by a fifth of a pixel."""
    face = UPRIGHT.moved(np.array([[size, 0, 0], [0, size, 0]]))
    rows, columns = np.mgrid[: round(200 * size), : round(200 * size)].astype(np.float32)
    image = np.stack([columns, rows, rows + columns], axis=2) * (127 / rows.max())
    copied = painter.painted(image, face, lambda square: square, side)
    inside = face.landmarks[2].astype(int)  # the nose
    reach = max(2, round(20 * size))
    piece = (
        slice(inside[1] - reach, inside[1] + reach),
        slice(inside[0] - reach, inside[0] + reach),
    )
    moved = (copied[piece] - image[piece]).mean(axis=(0, 1)) * rows.max() / 127
    assert np.abs(moved[:2]).max() < 0.2 * max(1, size)


def test_a_small_face_is_painted_without_moire():
    """A finer pattern than pixels of the image can show is their mean."""
    face = UPRIGHT.moved(np.array([[0.4, 0, 0], [0, 0.4, 0]]))  # eyes 16 px apart
    grid = np.indices((128, 128)).sum(axis=0)[None, ..., None] % 2 * np.ones(3) - 0.5
    image = np.full((80, 80, 3), 90, np.uint8)
    made = painter.painted(image, face, lambda square: grid, 128)
    x, y = face.landmarks[2].astype(int)
    assert made[y - 8 : y + 8, x - 8 : x + 8].std() < 3
    assert made[y, x].mean() == pytest.approx(127.5, abs=3)


def test_a_blend_shows_what_was_painted():
    """A painter that inverts turns a dark face on light ground into a light one, inside alone."""
    image = np.full((200, 200, 3), 200, np.uint8)
    cv2.circle(image, (100, 100), 45, (40, 40, 40), -1)
    plain = recipes.draw("painted", 110, 1, np.random.default_rng(0), 3)
    recipe = dataclasses.replace(
        plain,
        **{"part": "inner", "strength": 1.0, "gain": (1, 1, 1), "bias": (0, 0, 0), "jpeg": 0},
        **{"shift": (0, 0), "scale": 1.0, "angle": 0.0, "elastic": 0.0, "resolution": 0},
        **{"sharpen": 0.0, "smooth": 0.0, "double": False},
    )
    fake = blend.apply(image, UPRIGHT, recipe, paint=lambda one, face: 255 - one)
    np.testing.assert_allclose(fake[95:105, 95:105], 215, atol=1)
    np.testing.assert_array_equal(fake[:20], image[:20])


# What is drawn


def test_half_of_the_swaps_are_painted_and_the_rest_is_drawn_as_before():
    counts = np.zeros(4, int)
    painted, rectangles, details = 0, 0, list[float]()
    for seed in range(400):
        for family in ("swap", "painted", "colour"):
            one = recipes.draw(family, 200, 1, np.random.default_rng(seed), 4)
            if family != "painted":  # it cannot be drawn without painters
                without = recipes.draw(family, 200, 1, np.random.default_rng(seed))
                assert dataclasses.replace(one, painter=None, detail=0.0) == without
                assert without.painter is None
            if family == "colour":
                assert one.painter is None
            elif one.painter is not None:
                counts[one.painter] += 1
                details.append(one.detail)
                rectangles += one.part in (HEAD, JAW)
                painted += family == "swap"
    assert 160 < painted < 240
    assert counts.sum() == 400 + painted
    assert counts.min() > 0.2 * counts.sum()
    assert 120 < rectangles < 200  # two fifths of the family, and no swap
    quarters, _ = np.histogram(details, 4, (0, 1))
    assert quarters.min() > 0.2 * counts.sum()


# Files


def test_what_was_learned_is_saved_and_read(painters, people, capsys):
    """Painting by the file is painting by the parameters; a second call teaches nothing anew."""
    path = painters / f"{SMALLEST}.safetensors"
    kind = painter.KINDS[SMALLEST]
    squares = learning.faces_of(people, kind.side)
    assert [square.shape for square in squares] == [(80, 80, 3)] * 9  # of the train split alone
    params = learning.learn(
        painter.network(kind), squares, side=kind.side, loss=kind.loss, steps=2, batch=2
    )
    (file,) = painter_files.find(painters)
    square = np.random.default_rng(0).uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32)
    shown = painter.network(kind).apply(params, square)
    np.testing.assert_allclose(file.load().paint(square), shown, atol=1e-4)
    before = path.stat().st_mtime_ns
    arguments = ["--manual_dir", str(people), "--out", str(painters), "--steps", "2", "--batch"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(painter, "KINDS", {SMALLEST: kind})
        assert learning.main([*arguments, "2"]) == 0
        assert learning.main([*arguments, "3"]) == 1
    assert "has learned from other faces, or otherwise; remove it" in capsys.readouterr().err
    assert path.stat().st_mtime_ns == before


def test_losses_by_hand():
    """An error of 0.5 in one of four pixels, in a channel; its two neighbours differ by that."""
    error = np.zeros((1, 2, 2, 1), np.float32)
    error[0, 0, 0] = -0.5
    assert learning._loss("squared")(error) == pytest.approx(0.25 / 4)
    assert learning._loss("edges")(error) == pytest.approx(0.5 / 4 + 0.5 / 2 + 0.5 / 2)


def test_a_painter_learns():
    """After 40 steps on two flat faces it paints their greys, which it did not before."""
    kind = painter.Kind(32, 16, "nearest", "edges")
    squares = [np.full((40, 40, 3), grey, np.uint8) for grey in (60, 190)]
    model = painter.network(kind)
    off = {}
    for steps in (1, 40):
        params = learning.learn(model, squares, side=32, loss=kind.loss, steps=steps, batch=4)
        shown = np.stack([np.full((32, 32, 3), grey / 127.5 - 1, np.float32) for grey in (60, 190)])
        off[steps] = float(np.abs(model.apply(params, shown) - shown).mean())
    assert off[40] < 0.3 * off[1]


def test_a_judge_wants_marks_apart_by_two():
    """Photographs 2 and 0: only the second costs, 1. Paintings -3 and 0.5: the second, 1.5."""
    real, made = np.float32([2, 0]), np.float32([-3, 0.5])
    assert judge.hinge(real, made) == pytest.approx(1 / 2 + 1.5 / 2)


def test_a_painting_is_disliked_for_its_features_and_its_marks():
    """Nothing but the mark is left where it is the photograph."""
    rng = np.random.default_rng(0)
    real, other = rng.uniform(-1, 1, (2, 2, 32, 32, 3)).astype(np.float32)
    network = judge.network()
    params = network.init(jax.random.key(0), real)
    marks, features = network.apply(params, real)
    assert marks.shape == (2, 4, 4, 1)
    assert judge.dislike(params, real, real) == pytest.approx(-0.1 * float(marks.mean()), abs=1e-6)
    theirs, seen = network.apply(params, other)
    off = sum(np.abs(np.float64(a) - b).mean() for a, b in zip(features, seen, strict=True))
    expected = off - 0.1 * float(theirs.mean())
    assert judge.dislike(params, real, other) == pytest.approx(expected, abs=1e-5)


class Least(nn.Module):
    """A painter that keeps two numbers of each patch of 8 by 8 pixels."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(2, (1, 1))(painter.fold(x, 8))
        x = nn.leaky_relu(nn.Conv(64, (3, 3))(x))
        return painter.unfold(nn.Conv(192, (1, 1))(x), 8)


def test_a_judge_learns_and_painters_learn_from_it():
    """Noise that no small code holds is painted flat without a judge, and with one is not."""
    rng = np.random.default_rng(0)
    squares = [np.uint8(128 + 60 * rng.choice([-1, 1], (40, 40, 1)) * np.ones(3)) for _ in range(8)]
    spread = {}
    for loss in ("edges", "judged"):
        params = learning.learn(Least(), squares, side=32, loss=loss, steps=160, batch=8)
        shown = np.stack([one[4:36, 4:36] for one in squares]).astype(np.float32) / 127.5 - 1
        spread[loss] = float(np.asarray(Least().apply(params, shown)).std(axis=(1, 2)).mean())
    assert spread["judged"] > 2 * spread["edges"]


def test_a_file_paints_squares_of_every_side_that_its_kind_has(tmp_path):
    kind = painter.KINDS["nearest128"]
    params = painter.network(kind).init(jax.random.key(0), np.zeros((1, 128, 128, 3), np.float32))
    (tmp_path / "one.safetensors").write_bytes(painter_files.save(params, "nearest128", {}))
    (file,) = painter_files.find(tmp_path)
    assert [file.load(detail).side for detail in (0, 0.3, 0.5, 0.999)] == [96, 128, 192, 256]
    image = np.full((200, 200, 3), 90, np.uint8)
    made = file.load(0.999)(image, UPRIGHT)
    assert made.shape == image.shape
    np.testing.assert_array_equal(made[:10], image[:10])
    assert (made[90:110, 90:110] != 90).any()


def broken(path, painters):
    """Files that are no painters, by what is wrong with them."""
    good = (painters / f"{SMALLEST}.safetensors").read_bytes()
    tensors = safetensors.numpy.load(good)
    first = next(iter(tensors))

    def saved(changed, kind=SMALLEST):
        return safetensors.numpy.save(tensors | changed, {"kind": kind, "learned": "{}"})

    yield b"no safetensors", "cannot be read as a painter"
    yield good[:-5], "cannot be read as a painter"
    yield saved({}, "shuffel64"), "'shuffel64': did you mean 'shuffle64'"
    yield saved({}, "nearest96"), "its tensors are not those of a painter 'nearest96'"
    yield saved({"more": np.zeros(3, np.float32)}), "its tensors are not those"
    yield saved({first: np.full_like(tensors[first], np.nan)}), "has numbers that are not finite"
    yield saved({first: tensors[first].astype(np.float64)}), "its tensors are not those"
    yield good.replace(b'"F32"', b'"F16"'), "its tensors are not those"
    yield safetensors.numpy.save(tensors), "it names no kind"


def test_a_file_that_is_no_painter_is_refused(painters, people, tmp_path, monkeypatch):
    path = tmp_path / "bad.safetensors"
    arguments = {"manual_dir": people, "data_dir": tmp_path, "painters": tmp_path}
    with pytest.raises(UserError, match=r"--painters: .*: holds no painter; "):
        build.builder("self_blended", **arguments)
    for content, message in broken(path, painters):
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            build.builder("self_blended", **arguments)
    monkeypatch.setattr(painter_files, "_LARGEST_FILE", 2**20)
    path.write_bytes(bytes(2**20 + 1))
    with pytest.raises(UserError, match="has more than 1 MB"):
        build.builder("self_blended", **arguments)
    path.write_bytes(safetensors.numpy.save({}, {"learned": json.dumps([1])}))
    assert painter_files.notes_of(path) == {}
    header = b'{"__metadata__": {"learned": 5}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert painter_files.notes_of(path) == {}


# The dataset


def test_a_dataset_of_painted_faces(painters, people, tmp_path, monkeypatch):
    options = {"manual_dir": people, "qualities": ("raw", "c40"), "variants": 2}
    with pytest.raises(UserError, match="--families: painted needs --painters"):
        build.builder("self_blended", data_dir=tmp_path, families=["painted"], **options)
    with pytest.raises(UserError, match="--painters: none of these families is painted"):
        build.builder(
            "self_blended", data_dir=tmp_path, families=["eyes"], painters=painters, **options
        )
    plain = build.builder("self_blended", data_dir=tmp_path, **options)
    assert "painters" not in plain.recipe.describe()
    assert "painted" not in plain.recipe.describe()["families"]
    every = build.builder("self_blended", data_dir=tmp_path, painters=painters, **options)
    assert every.recipe.families == tuple(recipes.FAMILIES)
    dataset = build.builder(
        "self_blended",
        data_dir=tmp_path,
        families=["painted", "swap"],
        painters=painters,
        **options,
    )
    content = (painters / f"{SMALLEST}.safetensors").read_bytes()
    assert dataset.recipe.describe()["painters"] == [hashlib.sha256(content).hexdigest()[:8]]
    calls = []

    def green(square):
        calls.append(square)
        return GREEN.paint(square)

    monkeypatch.setattr(painter_files, "_loaded", lambda file: (green, (GREEN.side,)))
    build.prepare(dataset)
    found = list(dataset.as_data_source("train"))
    assert len(found) == 2 * 2 * 9
    of = {(r["video"], r["method"]): r["image"]["raw"] for r in found}
    for (video, method), image in of.items():
        if method == b"painted":
            assert is_greener(image, of[video, b"original"])
    assert 11 < len(calls) < 22  # all of 11 pairs, and some of 11 swaps


#: Paints all faces green.
GREEN = painter.Loaded(lambda square: np.zeros_like(square) + np.float32([-1, 1, -1]), 64)


def is_greener(fake, real):
    """Whether a part of a fake has more green, beside red, than any light would add."""
    green, before = (image[..., 1].astype(int) - image[..., 0] for image in (fake, real))
    return bool((green - before > 50).any())


def all_painted(people, data_dir, painters, **recipe):
    """The builder of a dataset whose fakes are all of the family."""
    options = {"manual_dir": people, "data_dir": data_dir, "painters": painters}
    return build.builder("self_blended", families=["painted"], **options, **recipe)


def test_a_video_is_painted_frame_by_frame(painters, tmp_path, monkeypatch):
    trees.write(tmp_path / "ann/a.mp4", trees.rendered("2", 12, crf=10))
    dataset = all_painted(tmp_path, tmp_path, painters, qualities=("raw",), frames_per_video=2)
    (sources,) = dataset.clip_sources().values()
    monkeypatch.setattr(painter_files, "_loaded", lambda file: (GREEN.paint, (GREEN.side,)))
    pair = clip.read(sources[0])
    for fake, real in zip(pair.fake.crops["raw"], pair.real.crops["raw"], strict=True):
        assert is_greener(fake, real)


def test_a_painter_that_is_changed_ends_the_build(painters, people, tmp_path):
    """It is not counted as a mistake of a photograph, whatever share of pairs it would paint."""
    folder = tmp_path / "painters"
    shutil.copytree(painters, folder)
    path = folder / f"{SMALLEST}.safetensors"
    dataset = all_painted(people, tmp_path, folder, max_skipped=1.0)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(BrokenBuildError, match="was changed while it was used; build again"):
        build.prepare(dataset)
    path.unlink()
    with pytest.raises(BrokenBuildError, match="No such file"):
        build.prepare(dataset)


def test_too_few_faces_teach_nothing(tmp_path, capsys):
    write(tmp_path / people_of("train", 1)[0] / "a.png", picture(0))
    arguments = ["--manual_dir", str(tmp_path), "--out", str(tmp_path / "out")]
    assert learning.main(arguments) == 1
    assert "1 of its files of the train split show a face, and a painter needs 8" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()
    for option, value in (("steps", "0"), ("batch", "9999"), ("seed", "-1")):
        assert learning.main([*arguments, f"--{option}={value}"]) == 1
        assert f"--{option}: is {value}, must be from " in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert learning.main([*arguments[:3], str(tmp_path / "file")]) == 1
    assert "--out: " in capsys.readouterr().err
