"""Detection against the reference, boxes by hand, who is followed, what a file may say."""

import importlib.metadata
import io
import json
import pickle
import sys
from pathlib import Path

import joblib
import lz4.frame
import numpy as np
import pytest

from data_builders import faces, tracks
from data_builders.errors import UserError
from data_builders.mtcnn import Detections, Detector, boxes, detector, networks, weights
from tests.data import make_mtcnn_fixtures

REFERENCE = Path(__file__).parent / "data" / "mtcnn_reference.npz"


@pytest.fixture(scope="module")
def reference():
    with np.load(REFERENCE) as file:
        return dict(file)


@pytest.fixture(scope="module")
def pictures(reference):
    return make_mtcnn_fixtures.pictures(reference["rendered"])


@pytest.fixture(scope="module")
def exact():
    """A detector with the settings of the reference."""
    return Detector(min_face=20, max_side=None)


# Detection


def test_every_case_of_the_reference_is_compared(reference, pictures):
    assert set(reference) == {"rendered", *pictures}
    counts = {name: len(found) for name, found in reference.items() if name != "rendered"}
    assert counts["group"] == 5
    assert counts["grey"] == counts["noise"] == 0
    assert all(count for name, count in counts.items() if name not in ("grey", "noise"))


def test_detection_agrees_with_the_reference(reference, pictures, exact):
    for name, picture in pictures.items():
        (found,) = exact.detect([picture])
        expected = reference[name]
        assert found.boxes.dtype == found.scores.dtype == np.float32
        assert found.boxes.shape == (len(expected), 4), name
        np.testing.assert_allclose(found.boxes, expected[:, :4], atol=0.05, err_msg=name)
        np.testing.assert_allclose(found.scores, expected[:, 4], atol=1e-4, err_msg=name)
    assert not {"mtcnn", "tensorflow"} & set(sys.modules)


def test_a_clip_is_detected_like_its_frames(pictures, exact):
    half = pictures["astronaut_half"]
    clip = np.stack([half, np.full_like(half, 96), np.roll(half, 30, axis=1)])
    together = exact.detect(clip)
    assert [len(found.boxes) for found in together] == [1, 0, 1]
    for frame, found in zip(clip, together, strict=True):
        (alone,) = exact.detect([frame])
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=0.01)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-5)
    assert exact.detect([]) == []


def test_large_frames_are_shrunk_and_boxes_are_not(reference, pictures):
    small = pictures["astronaut_half"]
    large = np.repeat(np.repeat(small, 2, axis=0), 2, axis=1)
    (found,) = Detector(max_side=256).detect([large])
    np.testing.assert_allclose(found.boxes, 2 * reference["astronaut_half"][:, :4], atol=0.05)
    # The smallest face is told in pixels of the frame: of 140 of the shrunken one, none is found.
    assert len(Detector(min_face=140, max_side=256).detect([large])[0].boxes) == 1
    # Eyes, nose and corners of the mouth, read off the photograph of 512 px by eye.
    by_eye = [(203, 101), (246, 103), (225, 127), (204, 140), (244, 141)]
    np.testing.assert_allclose(found.landmarks[0], by_eye, atol=4)


def test_small_faces_are_left_out_on_request(reference, pictures, exact):
    heights = np.diff(reference["group"][:, 1:4:2]).ravel()
    (found,) = Detector(min_face=70, max_side=None).detect([pictures["group"]])
    assert 0 < len(found.boxes) < len(heights)
    assert np.diff(found.boxes[:, 1::2]).min() > heights.min() + 10
    (found,) = exact.detect([pictures["group"][:18]])  # lower than the smallest face
    assert found.boxes.shape == (0, 4)


def test_few_shapes_are_compiled(reference):
    """Whatever the number of faces, and for frames of nearly one size."""
    stages = networks.compiled()
    face = make_mtcnn_fixtures.resized(reference["rendered"][0], 0.5)
    other = Detector(min_face=20)

    def clip(side, count):
        frames = np.full((2, side, side, 3), 96, np.uint8)
        for i in range(count):
            y, x = divmod(i, 2)
            frames[:, 75 * y : 75 * y + 72, 75 * x : 75 * x + 72] = face
        return frames

    for stage in stages:
        stage.clear_cache()
    for side in (160, 159, 158):
        for count in range(5):
            assert [len(found.boxes) for found in other.detect(clip(side, count))] == [count] * 2
        if side == 160:
            levels = stages.proposal._cache_size()
    assert stages.proposal._cache_size() == levels <= 3  # 96, 64 and 32 px: 7 levels
    # Numbers of crops are powers of two, from 16 to 512.
    assert stages.refinement._cache_size() <= 4
    assert stages.output._cache_size() <= 2
    assert stages.cut._cache_size() <= stages.refinement._cache_size() + stages.output._cache_size()


def test_more_candidates_than_fit_at_once(pictures, exact, monkeypatch):
    picture = pictures["astronaut_half"]
    (expected,) = exact.detect([picture])
    calls = []
    stages = networks.compiled()

    def counted(*args, size):
        calls.append(size)
        return stages.cut(*args, size=size)

    monkeypatch.setattr(detector, "_CROPS_AT_ONCE", (16, 16))
    monkeypatch.setattr(networks, "compiled", lambda: stages._replace(cut=counted))
    (found,) = exact.detect([picture])
    assert calls.count(24) > 1
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.01)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([np.zeros((40, 40), np.uint8)], "height, width, 3"),
        ([np.zeros((40, 40, 4), np.uint8)], "height, width, 3"),
        ([np.zeros((40, 40, 3), np.uint8), np.zeros((40, 41, 3), np.uint8)], "one size"),
        ([np.zeros((40, 40, 3), np.float32)], "uint8"),
    ],
)
def test_what_is_no_frame(exact, frames, message):
    with pytest.raises(ValueError, match=message):
        exact.detect(frames)


@pytest.mark.parametrize("options", [{"min_face": 11}, {"min_face": np.nan}, {"max_side": 0}])
def test_impossible_sizes(options):
    with pytest.raises(ValueError, match="at least 12"):
        Detector(**options)


# Weights


class Malicious:
    """Leaves a file where it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("name", ["pnet.lz4", "rnet.lz4", "onet.lz4"])
def test_other_weights_are_refused_before_they_can_run_code(tmp_path, name):
    for path in weights.folder().iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    trace = tmp_path / "trace"
    joblib.dump(Malicious(trace), tmp_path / name, compress="lz4")
    joblib.load(io.BytesIO(lz4.frame.decompress((tmp_path / name).read_bytes())))
    assert trace.exists()  # it does harm where it is read
    trace.unlink()
    with pytest.raises(UserError, match=rf"{name}: is not the file .*sha256.*--force-reinstall"):
        weights.load(tmp_path)
    assert not trace.exists()


def test_weights_that_are_not_there(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"pnet\.lz4: cannot be read .*pip install mtcnn==1\.0\.0"):
        weights.load(tmp_path)

    def distribution(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    with pytest.raises(UserError, match=r"not installed: run `pip install mtcnn==1\.0\.0 lz4`"):
        weights.load()


# Boxes


@pytest.mark.parametrize(
    ("box", "frame_size", "expected"),
    [
        # 1.3 x 40 is 52, about (120, 65)
        ((100, 50, 140, 80), (200, 300), (94, 39, 146, 91)),
        ((100.4, 49.6, 140.4, 79.6), (200, 300), (94, 39, 146, 91)),
        # out at the left, out at the top
        ((10, 20, 30, 60), (200, 300), (0, 14, 52, 66)),
        ((100, 0, 140, 30), (200, 300), (94, 0, 146, 52)),
        # out at the right and the bottom
        ((270, 165, 310, 205), (200, 300), (248, 148, 300, 200)),
        # larger than the frame is high, and larger than the frame
        ((10, 10, 190, 90), (100, 200), (50, 0, 150, 100)),
        ((-50, -50, 500, 500), (100, 200), (100, 0, 200, 100)),
        ((5, 5, 5.1, 5.1), (100, 200), (5, 5, 6, 6)),
    ],
)
def test_square_box(box, frame_size, expected):
    assert faces.square_box(box, frame_size) == expected
    assert all(type(edge) is int for edge in faces.square_box(np.array(box), frame_size))


def test_square_box_of_another_scale():
    assert faces.square_box((100, 50, 140, 80), (200, 300), scale=1) == (100, 45, 140, 85)


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (9, 5, 5, 9), (0, 0, np.nan, 9), (0, 0, np.inf, 9)])
def test_no_square_of_no_box(box):
    with pytest.raises(ValueError, match="x0 < x1"):
        faces.square_box(box, (100, 100))


def test_crop():
    frame = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    cut = faces.crop(frame, (1, 2, 4, 4))
    np.testing.assert_array_equal(cut, frame[2:4, 1:4])
    assert not np.shares_memory(cut, frame)
    np.testing.assert_array_equal(faces.crop(frame, (0, 0, 6, 4)), frame)
    for box in ((0, 0, 7, 4), (-1, 0, 3, 3), (2, 2, 2, 3)):
        with pytest.raises(ValueError, match="not within the frame of 6x4"):
            faces.crop(frame, box)


def test_overlap_by_hand():
    pair = np.array([[0, 0, 4, 2], [2, 0, 4, 4], [9, 9, 9, 9]], np.float64)
    shared = boxes.overlap(pair, pair)
    np.testing.assert_allclose(shared, [[1, 4 / 12, 0], [4 / 12, 1, 0], [0, 0, 0]])
    assert boxes.overlap(pair[:1], pair[1:2], of_smaller=True) == 0.5


def test_suppression_by_hand(monkeypatch):
    # Along a line: 1 covers most of 0 and of 2, and is the second strongest.
    line = np.array([[0, 0, 10, 1], [2, 0, 12, 1], [4, 0, 14, 1], [0, 0, 10, 1]], np.float64)
    which, scores = np.array([0, 0, 0, 1]), np.array([0.9, 0.8, 0.7, 0.1])
    for rows in (1, 2, 256):  # however many are compared at a time
        monkeypatch.setattr(boxes, "_ROWS", rows)
        # 2 falls to 1 although 1 falls to 0; another picture's box is no rival
        assert boxes.strongest(which, line, scores, limit=0.5).tolist() == [0, 3]
        assert boxes.strongest(which, line, scores[::-1], limit=0.5).tolist() == [2, 3]
        assert boxes.strongest(which, line, scores, limit=0.7).tolist() == [0, 1, 2, 3]


# Tracks


def square(x, y, side):
    return (x, y, x + side, y + side)


def seen(*found):
    """Detections of one frame, from boxes or (box, score)."""
    pairs = [one if len(one) == 2 else (one, 1.0) for one in found]
    return Detections(
        np.array([box for box, _ in pairs], np.float32).reshape(-1, 4),
        np.array([score for _, score in pairs], np.float32),
    )


def test_the_track_does_not_jump_to_a_bystander():
    """Larger for a fifth of the time, surer, and the only one while the subject is not found."""
    subject = [square(100 + 3 * i, 100, 60) for i in range(20)]
    clip = [seen(box) for box in subject]
    for i in range(8, 12):
        bystander = square(300 - 35 * (i - 8), 80, 110)
        clip[i] = seen((bystander, 1.0), (subject[i], 0.9))
    clip[10] = seen(clip[10].boxes[0])
    track = faces.choose_track(clip)
    np.testing.assert_allclose(track.boxes, subject, atol=1e-4)
    np.testing.assert_array_equal(track.found, np.arange(20) != 10)


def test_the_subject_is_large_or_long_in_the_picture():
    large, small = square(0, 0, 100), square(300, 0, 80)
    clip = [seen(small, large)] * 4 + [seen(small)] * 2
    np.testing.assert_allclose(faces.choose_track(clip).boxes, [large] * 6)
    clip += [seen(small)] * 2  # 4 * 100**2 against 8 * 80**2
    np.testing.assert_allclose(faces.choose_track(clip).boxes, [small] * 8)
    # The less sure the less it counts.
    clip = [seen((large, 0.8), (square(300, 0, 95), 1.0))]
    np.testing.assert_allclose(faces.choose_track(clip).boxes[0], square(300, 0, 95))


def test_two_that_sit_close_are_not_exchanged():
    left, right = square(100, 50, 60), square(165, 45, 75)
    clip = [seen(left, right), seen(right, left), seen(left), seen(right, left)]
    track = faces.choose_track(clip)
    np.testing.assert_allclose(track.boxes, [right] * 4)
    np.testing.assert_array_equal(track.found, [True, True, False, True])


def test_gaps_are_filled_between_and_held_at_the_ends():
    clip = [seen(), seen(square(10, 0, 40)), seen(), seen(), seen(square(22, 6, 46)), seen()]
    track = faces.choose_track(clip)
    np.testing.assert_array_equal(track.found, [False, True, False, False, True, False])
    edges = [10, 10, 14, 18, 22, 22], [0, 0, 2, 4, 6, 6], [50, 50, 56, 62, 68, 68]
    np.testing.assert_allclose(track.boxes[:, :3], np.transpose(edges), atol=1e-5)
    # Frames that are not evenly spread
    uneven = faces.choose_track(clip[1:5], times=[0, 1, 2, 4])
    np.testing.assert_allclose(uneven.boxes[:, 0], [10, 13, 16, 22], atol=1e-5)


def test_frames_are_kept_in_short_gaps_alone():
    face = square(10, 0, 40)
    clip = [seen(), seen(face), seen(), seen(face), seen(), seen(), seen(face), seen()]
    times = [0, 10, 20, 30, 40, 50, 61, 70]
    for gap, kept in ((0, [1, 3, 6]), (19, [1, 3, 6]), (20, [1, 2, 3, 6]), (31, range(1, 7))):
        track = faces.choose_track(clip, times=times, max_gap=gap)
        assert np.flatnonzero(track.kept).tolist() == list(kept)
        assert np.flatnonzero(track.found).tolist() == [1, 3, 6]
    assert faces.Detected().recipe["max_gap"] == 30
    assert faces.Detected(max_gap=0).recipe != faces.Detected().recipe


def test_faces_that_might_have_been_meant_are_counted():
    large, small, tiny = square(0, 0, 100), square(200, 0, 50), square(300, 0, 20)
    clip = [seen(large, small, tiny)] * 4
    assert faces.choose_track(clip).rivals == 1
    assert faces.choose_track([seen(large, tiny)] * 4).rivals == 0
    assert faces.choose_track([seen(large)] * 9 + [seen(large, small)]).rivals == 0  # passes by
    masks = np.zeros((4, 200, 400), bool)
    masks[:, 10:40, 210:240] = True
    assert faces.choose_track(clip, masks=masks).rivals == 0  # the mask has decided


def test_a_mask_that_touches_the_neighbour_does_not_mean_the_neighbour():
    """The swapped face is not found here, and a corner of its mask is in another one's box."""
    masks = np.zeros((1, 200, 300), bool)
    masks[0, 50:100, 90:140] = True
    assert faces.choose_track([seen(square(0, 20, 100))], masks=masks) is None
    masks[0, 50:100, 60:140] = True  # more than a third of it
    assert faces.choose_track([seen(square(0, 20, 100))], masks=masks) is not None
    masks[:] = True  # whatever is found is in it
    assert faces.choose_track([seen(square(0, 20, 100))], masks=masks) is not None


def test_no_face_at_all():
    assert faces.choose_track([]) is None
    assert faces.choose_track([seen(), seen()]) is None


@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_the_mask_picks_the_smaller_face(dtype):
    large, small = square(10, 10, 120), square(200, 40, 50)
    clip = [seen(large, small), seen(large), seen(small, large)]
    masks = np.zeros((3, 200, 300), dtype)
    masks[0, 50:85, 208:242] = masks[2, 50:85, 208:242] = True if dtype is bool else 255
    if dtype is np.uint8:
        masks[:, 10:130, 10:130] = 40  # what compression leaves
    np.testing.assert_allclose(faces.choose_track(clip).boxes, [large] * 3)
    track = faces.choose_track(clip, masks=masks)
    np.testing.assert_allclose(track.boxes, [small] * 3)
    np.testing.assert_array_equal(track.found, [True, False, True])


def test_the_mask_decides_between_faces_that_overlap():
    """A head behind a head: the box in front contains the mask, the one behind fits it."""
    front, behind = square(0, 0, 150), square(90, 20, 50)
    masks = np.zeros((1, 200, 200), bool)
    masks[0, 25:68, 94:136] = True
    np.testing.assert_allclose(
        faces.choose_track([seen(front, behind)], masks=masks).boxes, [behind]
    )


def test_masks_without_a_face_and_without_a_mask():
    clip = [seen(square(10, 10, 60))]
    masks = np.zeros((1, 200, 300), np.uint8)
    np.testing.assert_allclose(faces.choose_track(clip, masks=masks).boxes, [square(10, 10, 60)])
    masks[0, 150:190, 200:240] = 255
    assert faces.choose_track(clip, masks=masks) is None
    with pytest.raises(ValueError, match="1 masks for 2 frames"):
        faces.choose_track(clip * 2, masks=masks)


# Sources


def test_the_detected_source_follows_a_face_through_frames(reference):
    face = make_mtcnn_fixtures.resized(reference["rendered"][1], 0.5)
    passer = reference["rendered"][0]
    frames = np.full((6, 150, 260, 3), 96, np.uint8)
    masks = np.zeros((6, 150, 260), bool)
    for i, frame in enumerate(frames):
        frame[40:112, 10 + 2 * i : 82 + 2 * i] = face
    frames[2, :144, 110:254] = passer
    masks[2, 40:110, 140:220] = True
    frames[4] = 96
    source = faces.source("mtcnn")
    track = pickle.loads(pickle.dumps(source))("a", range(0, 60, 10), frames)
    np.testing.assert_array_equal(track.found, np.arange(6) != 4)
    assert track.boxes.dtype == np.int64
    sides = track.boxes[:, 2:] - track.boxes[:, :2]
    assert (sides[:, 0] == sides[:, 1]).all()
    centres = track.boxes.reshape(-1, 2, 2).mean(axis=1)
    np.testing.assert_allclose(np.diff(centres[:, 0]), 2, atol=1.6)
    assert faces.crop(frames[0], track.boxes[0]).shape == (sides[0, 0], sides[0, 0], 3)
    chosen = source("a", range(6), frames, masks=masks)
    assert chosen.boxes[0, 0] > 110
    assert source("a", range(2), frames[4:5].repeat(2, axis=0)) is None
    with pytest.raises(ValueError, match="a mask of"):
        source("a", range(6), frames, masks=masks[:, :-1])


def test_sources_do_what_their_recipe_says(tmp_path, monkeypatch):
    """The detector is told its sizes; a gap of ten frames is left out where five are the most."""
    told = []

    class Scripted:
        def detect(self, frames):
            return [seen(), seen(square(100, 60, 40)), seen(), seen(square(100, 60, 40))]

    def made(min_face, max_side):
        told.append((min_face, max_side))
        return Scripted()

    monkeypatch.setattr(faces, "detector", made)
    frames = np.zeros((4, 200, 300, 3), np.uint8)
    for gap, kept in ((5, [False, True, False, True]), (10, [False, True, True, True])):
        source = faces.Detected(min_face=33, max_side=500, scale=2.0, max_gap=gap)
        track = source("a", [0, 10, 15, 20], frames)
        assert track.kept.tolist() == kept
        np.testing.assert_array_equal(track.boxes, [(80, 40, 160, 120)] * 4)
    assert told == [(33, 500)] * 2
    path = tmp_path / "boxes.json"
    path.write_text('{"a": {"0": [100, 60, 140, 100]}}')
    track = faces.FromFile(str(path), scale=2.0)("a", [0], frames[:1])
    np.testing.assert_array_equal(track.boxes, [(80, 40, 160, 120)])


def test_recipes_tell_sources_apart(tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text("{}")
    made = [
        faces.source("mtcnn"),
        faces.source("file", path=path),
        faces.source("none"),
        faces.Detected(min_face=40),
        faces.Detected(scale=1.5),
    ]
    recipes = [json.dumps(one.recipe, sort_keys=True) for one in made]
    assert len(set(recipes)) == len(recipes)
    assert all(pickle.loads(pickle.dumps(one)) == one for one in made)
    with pytest.raises(UserError, match=r"no source of faces 'mtcn': did you mean 'mtcnn'\?"):
        faces.source("mtcn")
    with pytest.raises(UserError, match="'file' needs the path"):
        faces.source("file")


def test_crops_already():
    frames = [np.zeros((40, 30, 3), np.uint8), np.zeros((50, 60, 3), np.uint8)]
    track = faces.source("none")("a", [0, 1], frames)
    np.testing.assert_array_equal(track.boxes, [(0, 0, 30, 40), (0, 0, 60, 50)])
    assert track.found.all()


def test_boxes_from_a_file(tmp_path):
    path = tmp_path / "boxes.json"
    content = {
        "original/000": {"10": [100, 50, 140, 80], "0": [80.0, 50, 120.0, 80]},
        "original/001": {},
    }
    path.write_text(json.dumps(content))
    source = faces.source("file", path=path)
    frames = np.zeros((3, 200, 300, 3), np.uint8)
    track = source("original/000", [0, 5, 20], frames)
    np.testing.assert_array_equal(
        track.boxes, [(74, 39, 126, 91), (84, 39, 136, 91), (94, 39, 146, 91)]
    )
    np.testing.assert_array_equal(track.found, [True, False, False])
    assert track.kept.all()
    assert source("original/001", [0, 5, 20], frames) is None
    with pytest.raises(UserError, match=r"boxes\.json: has no video 'orignal/000'; did you mean"):
        source("orignal/000", [0], frames[:1])
    with pytest.raises(UserError, match=r"has no video 'x'; it has 2 others"):
        source("x", [0], frames[:1])
    with pytest.raises(UserError, match=r"frame 10 has its centre outside the frame of 90x60"):
        source("original/000", [0], frames[:1, :60, :90])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("\xff", "not valid JSON"),
        ("[]", 'must be an object {"video"'),
        ('{"a": [1, 2, 3, 4]}', r"'a' must be an object .*\[1, 2, 3, 4\]"),
        ('{"a": {"first": [1, 2, 3, 4]}}', "a frame 'first'"),
        ('{"a": {"-1": [1, 2, 3, 4]}}', "a frame '-1'"),
        ('{"a": {"0": [1, 2, 3]}}', r"'a' frame 0 must be four numbers.*\[1, 2, 3\]"),
        ('{"a": {"0": [1, 2, 3, "4"]}}', "four numbers"),
        ('{"a": {"0": [1, 2, 3, NaN]}}', "four numbers"),
        ('{"a": {"0": [1, 2, 3, true]}}', "four numbers"),
        ('{"a": {"0": {"x": 1}}}', "four numbers"),
        ('{"a": {"0": [1, 2, 3, 1' + 400 * "0" + "]}}", "four numbers"),
        ('{"a": {"0": [100, 50, 40, 80]}}', "is empty.*not width and height"),
    ],
)
def test_mistakes_in_a_file_of_boxes(tmp_path, content, message):
    path = tmp_path / "boxes.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=message) as caught:
        faces.source("file", path=path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_file_of_boxes_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"none\.json: cannot read the file of boxes"):
        faces.source("file", path=tmp_path / "none.json")


def test_the_track_is_one_type():
    assert faces.choose_track is tracks.choose_track


def test_a_file_of_boxes_in_the_home_folder(tmp_path, monkeypatch):
    """A shell leaves the tilde of `--faces=~/boxes.json` as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "boxes.json").write_text("{}")
    assert faces.source("file", path="~/boxes.json").path == str(tmp_path / "boxes.json")
