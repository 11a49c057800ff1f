"""Files of odd shapes through `qad-jax detect`: each gets the verdict, or the reason, it should.

`test_detection` has the usual ones: a real clip, a fake, a forged smaller face, a cut between two
people, no face.
"""

import json
import re

import cv2
import numpy as np
import pytest

from data_builders import clips, h264
from qad_jax.detection import command
from qad_jax.detection.detector import Detector
from tests.commands import call
from tests.test_detection import FAKE, by_colour, film, filmed, model, tinted
from tests.test_h264 import with_index_first
from tests.test_odd_videos import sound, written

FRAMES = 8


@pytest.fixture
def judged(monkeypatch):
    """The object that the command prints of one file, with the network of `test_detection`."""
    detector = Detector(model(), frames=FRAMES)
    detector.__dict__["_score"] = by_colour
    monkeypatch.setattr(Detector, "from_pretrained", lambda model, frames: detector)

    def run(path, status):
        result = call(path, "--json", main=command.main)
        assert result.status == status, result.err
        assert "Traceback" not in result.err
        return json.loads(result.out)

    return run


def on_grey(face, height, width):
    """A frame with a face in its middle."""
    frame = np.full((height, width, 3), 110, np.uint8)
    top, left = (height - len(face)) // 2, (width - len(face)) // 2
    frame[top : top + len(face), left : left + len(face)] = face
    return frame


def test_a_face_of_20_pixels(judged, tmp_path):
    """Between hat and chin are three eighths of the picture: 21 of 56 pixels."""
    faces = tinted(filmed(4, 56))
    found = judged(film(tmp_path / "a.mp4", [on_grey(f, 96, 96) for f in faces], crf=10), 0)
    assert found["verdict"] == found["faces"][0]["verdict"] == "inconclusive"
    pixels = re.match(r"the face has (\d+) pixels, and nothing was measured", found["reason"])
    assert 18 <= int(pixels[1]) <= 24
    # In a large frame nobody looks for so small a face, and the answer is not "real".
    lost = judged(film(tmp_path / "b.mp4", [on_grey(f, 720, 1280) for f in faces[:1]], crf=10), 0)
    assert (lost["verdict"], lost["reason"]) == ("no_face", "no face was found")
    assert (lost["probability"], lost["faces"]) == (None, [])


def test_one_frame(judged, tmp_path):
    verdict = judged(film(tmp_path / "a.mp4", tinted(filmed(1))), 0)
    assert verdict["verdict"] == "fake"
    assert verdict["probability"] == pytest.approx(FAKE)
    (face,) = verdict["faces"]
    assert [(frame["frame"], frame["time"]) for frame in face["frames"]] == [(0, 0)]
    assert verdict["media"]["frames"] == 1


def test_ten_minutes(judged, tmp_path):
    """Two frames a second and a key frame every two minutes: the frames are of the whole length."""
    few = tinted(filmed(12, 144))
    path = film(tmp_path / "a.mp4", (few[i % 12] for i in range(1200)), crf=30, fps=2)
    verdict = judged(path, 0)
    assert verdict["verdict"] == "fake"
    assert (verdict["media"]["frames"], verdict["media"]["duration"]) == (1200, 600)
    (face,) = verdict["faces"]
    expected = clips.spread(1200, FRAMES)
    assert [frame["frame"] for frame in face["frames"]] == expected
    assert [frame["time"] for frame in face["frames"]] == [index / 2 for index in expected]
    assert expected[-1] - expected[0] > 1000


def test_4k_held_upright(judged, tmp_path):
    """A telephone stores it lying: what a player shows is judged, and the box is a place in it."""
    large = cv2.resize(tinted(filmed(1))[0], (1152, 1152))
    shown = on_grey(large, 3840, 2160)
    path = written(
        tmp_path / "a.mp4",
        [np.rot90(shown, -1)] * 2,
        lambda stream: stream.set_display_rotation(90),
        codec="libx264",
        crf="20",
    )
    assert h264.probe(path).frames == 2
    verdict = judged(path, 0)
    assert verdict["verdict"] == "fake"
    media = verdict["media"]
    assert (media["width"], media["height"]) == (2160, 3840)
    assert "turned" in " ".join(media["notes"])
    left, top, right, bottom = verdict["faces"][0]["frames"][0]["box"]
    assert 504 < left < right < 2160 - 504
    assert 1344 < top < bottom < 3840 - 1344


def test_only_sound(judged, tmp_path):
    verdict = judged(sound(tmp_path / "a.mp4"), 1)
    assert (verdict["verdict"], verdict["probability"]) == ("error", None)
    assert "a.mp4: holds no video stream (only sound)" in verdict["reason"]


@pytest.mark.parametrize(
    ("index_first", "reason"),
    [
        (False, "it is damaged or not complete; fetch it again"),
        (True, rf"ends after \d+ of {FRAMES} frames; fetch the video again"),
    ],
)
def test_half_of_a_download(judged, tmp_path, index_first, reason):
    """Also where the first frames would have been enough for an answer."""
    path = film(tmp_path / "a.mp4", tinted(filmed(FRAMES)))
    data = path.read_bytes()
    data = with_index_first(data, path) if index_first else data
    path.write_bytes(data[: len(data) * 2 // 3])
    verdict = judged(path, 1)
    assert (verdict["verdict"], verdict["probability"]) == ("error", None)
    assert re.search(reason, verdict["reason"]), verdict["reason"]
    assert verdict["reason"].startswith(f"{path}: ")
