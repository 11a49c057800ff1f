"""Files of one video that do not fit together: sizes, shifts, rates, masks; and those that do."""

from fractions import Fraction

import numpy as np
import pytest
import skimage.data
from PIL import Image

from data_builders import alignment, clips, faces, h264
from data_builders.errors import UnusableClipError
from data_builders.tracks import Track
from tests import trees

COUNT = 24
HALF = Fraction(25, 2)
FILES = {"raw": 0, "c23": 23, "c40": 40}


@pytest.fixture(scope="module")
def film():
    return [frame.copy() for frame in trees.frames_of(1, COUNT, size=96)]


@pytest.fixture(scope="module")
def still():
    return [skimage.data.astronaut()[:96, 150:246].copy()] * COUNT


@pytest.fixture(scope="module")
def cuts():
    astronaut = skimage.data.astronaut()
    return [np.roll(astronaut, 90 * (i // 5), axis=1)[50:146, 150:246].copy() for i in range(COUNT)]


def resized(frames, width, height):
    return [np.asarray(Image.fromarray(f).resize((width, height), Image.BOX)) for f in frames]


def read(folder, wanted=8, fps=(25, 25), source=None, **frames):
    """The clip of a video whose qualities show these frames."""
    files = {}
    for (quality, shown), rate in zip(frames.items(), fps, strict=True):
        files[quality] = folder / f"{quality}.mp4"
        files[quality].write_bytes(h264.encode(shown, crf=FILES[quality], fps=rate))
    video = clips.VideoFiles("original", "071", "071", "real", files)
    recipe = clips.Recipe(tuple(files), wanted, source or faces.Whole())
    return clips.read(clips.ClipSource(video, recipe))


class Middle:
    """A face that is in the same place of every frame, and is not seen in some of them."""

    chooses = False

    def __init__(self, box, unseen=()):
        self.box, self.unseen = box, unseen
        self.recipe = {"faces": "middle"}

    def __call__(self, video, indices, frames, *, masks=None):
        kept = ~np.isin(indices, self.unseen)
        return Track(np.array([self.box] * len(frames)), kept, kept)


# Sizes


@pytest.mark.parametrize("factor", [2, 0.5])
def test_boxes_grow_with_the_frames(film, tmp_path, factor):
    box = 20, 32, 56, 68
    side = round(96 * factor)
    clip = read(tmp_path, source=Middle(box), raw=film, c23=resized(film, side, side))
    np.testing.assert_array_equal(clip.boxes, [box] * 8)
    for index, large, small in zip(clip.frames, clip.crops["raw"], clip.crops["c23"], strict=True):
        np.testing.assert_array_equal(large, film[index][32:68, 20:56])
        assert small.shape == (36 * factor, 36 * factor, 3)
        common = min(36, len(small))
        one, other = (
            Image.fromarray(c).resize((common, common), Image.BOX) for c in (large, small)
        )
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).mean() < 10


@pytest.mark.parametrize("size", [(96, 64), (64, 96), (96, 90)])
def test_another_shape_is_refused(film, tmp_path, size):
    with pytest.raises(UnusableClipError) as error:
        read(tmp_path, raw=film, c23=resized(film, *size))
    width, height = size
    assert str(error.value).startswith(f"{tmp_path / 'c23.mp4'}: has {width}x{height} pixels, ")
    assert f"than the 96x96 of {tmp_path / 'raw.mp4'}" in str(error.value)


@pytest.mark.parametrize(
    ("boxes", "size", "other", "expected"),
    [
        ([(10, 20, 30, 40)], (100, 200), (50, 100), [(5, 10, 15, 20)]),
        ([(0, 0, 200, 100)], (100, 200), (49, 99), [(0, 0, 99, 49)]),  # the whole frame stays whole
        ([(179, 79, 200, 100)], (100, 200), (50, 100), [(90, 40, 100, 50)]),
        ([(0, 0, 1, 1)], (100, 200), (10, 20), [(0, 0, 1, 1)]),
        # Squares of one size are squares of one size, wherever they are.
        ([(1, 1, 34, 34), (2, 2, 35, 35)], (96, 96), (64, 64), [(1, 1, 23, 23), (1, 1, 23, 23)]),
    ],
)
def test_boxes_of_another_size_by_hand(boxes, size, other, expected):
    np.testing.assert_array_equal(faces.moved_to(np.array(boxes), size, other), expected)


# Shifts and rates


@pytest.mark.parametrize("quality", ["c23", "c40"])
@pytest.mark.parametrize("wanted", [1, 8, 32])
@pytest.mark.parametrize(
    ("ours", "theirs", "fps", "says"),
    [
        (slice(None), slice(3, None), (25, 25), "begins 3 frames later than"),
        (slice(2, None), slice(None), (25, 25), "begins 2 frames earlier than"),
        (slice(None), slice(None, None, 2), (25, HALF), "has 0.5 times as many frames a second as"),
        (slice(None), slice(None, None, 2), (25, 25), "has 0.5 times as many frames a second as"),
        (slice(None, None, 2), slice(None), (25, 50), "has 2 times as many frames a second as"),
    ],
)
def test_frames_that_do_not_pair(film, tmp_path, quality, wanted, ours, theirs, fps, says):
    with pytest.raises(UnusableClipError) as error:
        read(tmp_path, wanted, fps, raw=film[ours], **{quality: film[theirs]})
    assert str(error.value).startswith(f"{tmp_path / f'{quality}.mp4'}: {says} {tmp_path}")


def test_another_film_is_refused(film, tmp_path):
    other = [frame[::-1, ::-1].copy() for frame in trees.frames_of(0, COUNT, size=96)]
    with pytest.raises(UnusableClipError, match=r"c23\.mp4: shows other images than .*raw\.mp4"):
        read(tmp_path, raw=film, c23=other)


@pytest.mark.parametrize("name", ["film", "still", "cuts"])
@pytest.mark.parametrize("less", [0, 2, 12])
@pytest.mark.parametrize("fps", [(25, 25), (25, 50)])  # a header may lie: the images count
def test_honest_files_are_kept(name, less, fps, tmp_path, request):
    frames = request.getfixturevalue(name)
    clip = read(tmp_path, fps=fps, raw=frames, c40=frames[: COUNT - less])
    assert clip.frames == clips.spread(COUNT - less, 8)
    assert clip.notes == ({"frames_without_pair": less} if less else {})


def test_noise_and_the_darkest_frames_are_kept(tmp_path):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (96, 96, 3), np.uint8) for _ in range(COUNT)]
    for frames in (noise, [frame // 16 for frame in noise], [frame * 0 for frame in noise]):
        read(tmp_path, raw=frames, c40=frames)


def test_a_still_film_says_nothing_of_a_shift(still, tmp_path):
    assert len(read(tmp_path, raw=still, c40=still[3:]).frames) == 8


def test_a_quality_that_grows_better_is_no_shift():
    """The first frames of a still film are often coarse: later ones then fit all frames better."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (32, 32)).astype(np.uint8)
    coarse = {
        i: np.clip(image + rng.normal(0, 12 - i, (32, 32)), 0, 255).astype(np.uint8)
        for i in range(12)
    }
    rules = alignment.rules((25, 25), (12, 12))
    assert alignment.misfit(dict.fromkeys(range(12), image), coarse, range(6), rules) is None


def test_damage_behind_the_last_chosen_frame_does_not_matter(film, tmp_path, monkeypatch):
    decoded = h264._decoded

    def broken(video):
        for number, frame in enumerate(decoded(video)):
            if number == COUNT - 1:
                raise h264.BrokenVideoError("x.mp4: frame 23 is damaged")
            yield frame

    monkeypatch.setattr(h264, "_decoded", broken)
    assert len(read(tmp_path, 4, raw=film, c23=film).frames) == 4
    with pytest.raises(h264.BrokenVideoError):
        read(tmp_path, COUNT, raw=film, c23=film)
    video = clips.VideoFiles("original", "071", "071", "real", {"raw": tmp_path / "raw.mp4"})
    made = clips.ClipSource(video, clips.Recipe(("raw", "c40"), 4, faces.Whole()))
    with pytest.raises(h264.BrokenVideoError):  # the encoder of c40 looks there
        clips.read(made)


# Frames without a face


def test_frames_without_a_face_are_no_records(film, tmp_path):
    source = Middle((10, 10, 50, 50), unseen=(4, 7, 10, 13, 22))
    clip = read(tmp_path, source=source, raw=film, c23=film)
    assert clip.frames == [1, 16, 19]
    assert clip.notes == {"frames_without_face": 5}
    for crops in clip.crops.values():
        assert len(crops) == 3
    np.testing.assert_array_equal(clip.crops["raw"][1], film[16][10:50, 10:50])
    assert [key for key, _ in clip.finished().examples] == [
        f"original/071/{index:06d}" for index in (1, 16, 19)
    ]
    with pytest.raises(UnusableClipError, match=r"raw\.mp4: no face was found"):
        read(tmp_path, source=Middle((10, 10, 50, 50), range(COUNT)), raw=film, c23=film)


# Masks


def marked(folder, size, box, count=COUNT):
    mask = np.zeros((*size, 3), np.uint8)
    mask[box[1] : box[3], box[0] : box[2]] = 255
    path = folder / "mask.mp4"
    path.write_bytes(h264.encode([mask] * count, crf=23))
    return path


@pytest.mark.parametrize("size", [(96, 144), (48, 72), (192, 288), (128, 194)])
def test_masks_have_the_size_of_their_video(tmp_path, size):
    box = [round(edge * size[0] / 96) for edge in (24, 48, 72, 96)]
    path = marked(tmp_path, size, box)
    masks = clips._masks(path, [0, 5], (96, 144))
    expected = np.zeros((96, 144), bool)
    expected[48:96, 24:72] = True
    for mask in masks:
        assert mask.shape == (96, 144)
        assert ((mask >= 128) != expected).mean() < 0.02


def test_a_mask_of_another_shape_is_named(tmp_path):
    path = marked(tmp_path, (96, 96), (24, 48, 72, 96))
    with pytest.raises(UnusableClipError, match=r"mask\.mp4: the mask has 96x96 .* video 144x96"):
        clips._masks(path, [0, 5], (96, 144))


def test_a_mask_marks_nothing_behind_its_end(tmp_path):
    path = marked(tmp_path, (96, 96), (24, 48, 72, 96), count=4)
    first, last = clips._masks(path, [2, 20], (96, 96))
    assert (first >= 128).any()
    assert not last.any()
    with pytest.raises(UnusableClipError, match=r"mask\.mp4: the mask ends before"):
        clips._masks(path, [4, 20], (96, 96))
