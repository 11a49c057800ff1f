"""Verdicts on files: what is rendered is judged as it should be, and what cannot be told is said.

The network is replaced: it calls a crop fake where blue outweighs red, which no rendered face does
by itself. What is tested is all around it.
"""

import dataclasses
import io
import json
import os
import pickle
import re
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import PIL.Image
import pytest
import skimage.data

from data_builders import clips, faces, h264
from data_builders.clips import VideoFiles
from data_builders.faces import Detected
from data_builders.mtcnn import Detections
from qad_jax.detection import command, credentials, media, printing
from qad_jax.detection.conditions import Appearance, Conditions, sharpness
from qad_jax.detection.detector import Detector
from qad_jax.detection.looking import Found, FoundFace, Looker, Place, Task
from qad_jax.detection.quality import Quality
from qad_jax.detection.results import VERDICTS
from qad_jax.evaluation import verdicts
from qad_jax.evaluation.rates import Rates
from qad_jax.evaluation.results import Estimate
from qad_jax.weights.model_file import Description, ModelFile
from tests import trees
from tests.commands import call
from tests.conftest import ROOT
from tests.test_odd_videos import written

REAL, FAKE = 0.05, 0.95
# How often reals are called fake, fakes real, reals neither, fakes neither: no two are alike.
SHARES = [Estimate(share, share - 0.007, share + 0.008) for share in (0.012, 0.034, 0.056, 0.078)]


def thresholds():
    real, fake = np.linspace(0.01, 0.4, 200), np.linspace(0.6, 0.99, 200)
    lower, upper = verdicts.conformal(real, fake)
    return verdicts.Thresholds(1.0, 0.5, lower, upper, tuple(real), tuple(fake))


def model():
    rates = Rates(200, 200, Estimate(0.99, 0.98, 1.0), *SHARES)
    quality = {"thresholds": dataclasses.asdict(thresholds()), "rates": rates.as_dict()}
    described = Description(
        name="blue",
        version="1",
        network="resnet_least",
        image_size=32,
        crop=Detected().recipe,
        normalisation={},
        qualities=dict.fromkeys(("raw", "c23", "c40"), quality),
        training={},
        measured={"conditions": {"smallest_face": 50}},
        sources=(),
    )
    return ModelFile(described, {}, "0" * 64)


def by_colour(crops):
    return np.array([FAKE if crop[..., 2].mean() > crop[..., 0].mean() else REAL for crop in crops])


@pytest.fixture
def detector():
    made = Detector(model(), frames=8)
    made.__dict__["_score"] = by_colour
    return made


def filmed(count, side=288, mirrored=False):
    """Frames of the public-domain astronaut, whom a hand holds not quite still."""
    image = skimage.data.astronaut()
    image = image[:, ::-1] if mirrored else image
    left = 160 if mirrored else 70
    cut = [image[i % 4 : 280 + i % 4, left + i % 3 : left + 280 + i % 3] for i in range(count)]
    return [cv2.resize(one, (side, side), interpolation=cv2.INTER_AREA) for one in cut]


def tinted(frames):
    """The frames as the replaced network calls them fake: bluish."""
    return [np.uint8(np.clip(frame * (0.7, 1.0, 1.5), 0, 255)) for frame in frames]


def film(path, frames, crf=18, fps=25):
    trees.write(path, h264.encode(frames, crf=crf, fps=fps))
    return path


def test_real_and_fake(detector, tmp_path):
    frames = filmed(12)
    real = detector(film(tmp_path / "real.mp4", frames))
    fake = detector(film(tmp_path / "fake.mp4", tinted(frames)))
    assert (real.verdict, fake.verdict) == ("real", "fake")
    assert real.probability == pytest.approx(REAL)
    assert fake.probability == pytest.approx(FAKE)
    assert fake.false_positive_rate == SHARES[0]
    assert fake.false_negative_rate == SHARES[1]
    assert real.quality in ("raw", "c23")
    assert real.media["codec"] == "h264"
    assert real.media["frames"] == 12
    (face,) = fake.faces
    assert [frame.frame for frame in face.frames] == clips.spread(12, 8)
    assert face.frames[2].time == pytest.approx(face.frames[2].frame / 25, abs=1e-3)
    assert fake.model["name"] == "blue"
    assert fake.sha256 == media.sha256(tmp_path / "fake.mp4")


@pytest.mark.parametrize(
    ("name", "crf", "said"), [("raw", 10, "fake"), ("c23", 23, "fake"), ("c40", 40, "inconclusive")]
)
def test_what_was_measured_at_the_quality_of_the_file_counts(name, crf, said):
    """Each quality has other thresholds, another temperature and other rates."""
    uppers, described = {"raw": 0.65, "c23": 0.7, "c40": 0.9}, model().description
    qualities = {}
    for number, (quality, upper) in enumerate(uppers.items(), 1):
        chosen = dataclasses.replace(thresholds(), upper=upper, temperature=float(number))
        rates = Rates(9, 9, *[Estimate(number / 10 + share / 100) for share in range(5)])
        qualities[quality] = {"thresholds": dataclasses.asdict(chosen), "rates": rates.as_dict()}
    judging = Detector(ModelFile(dataclasses.replace(described, qualities=qualities), {}, "0" * 64))
    face = FoundFace((Place(0, None, (0, 0, 9, 9)),), (np.zeros((9, 9, 3)),), (), Appearance(100.0))
    found = Found(
        "a.png",
        frames=1,
        faces=(face,),
        estimated=Quality(crf, crf - 1, crf + 1, ""),
        nearest=name,
    )
    verdict = judging.look(found, np.array([0.8])).verdict
    assert (verdict.verdict, verdict.quality) == (said, name)
    number = list(uppers).index(name) + 1
    # The odds of 0.8 are 4; a temperature takes a root of them.
    odds = 4 ** (1 / number)
    assert verdict.probability == pytest.approx(odds / (1 + odds), abs=1e-6)
    assert verdict.false_positive_rate == Estimate(number / 10 + 0.01)
    assert verdict.false_negative_rate == Estimate(number / 10 + 0.02)


def test_reading_tells_how_far_it_is(tmp_path):
    told = []
    read = media.read(film(tmp_path / "a.mp4", filmed(7)), 3, tell=lambda *of: told.append(of))
    assert read.indices == (1, 3, 5)
    assert told == [(done, 7) for done in range(1, 7)]  # nobody needs the last frame


def test_crops_are_those_of_the_builders(detector, tmp_path, monkeypatch):
    path = film(tmp_path / "a.mp4", filmed(20))
    seen = []
    detector.__dict__["_score"] = lambda crops: (seen.append(list(crops)), by_colour(crops))[1]
    detector(path)
    files = VideoFiles("original", "a", "a", "real", {"raw": path})
    built = clips.read(clips.ClipSource(files, clips.Recipe(("raw",), frames_per_video=8)))
    ours, encoded_again = seen[0][:8], seen[0][8:]
    assert len(encoded_again) == len(built.crops["raw"]) == 8
    for one, theirs in zip(ours, built.crops["raw"], strict=True):
        np.testing.assert_array_equal(one, theirs)


def test_the_smaller_of_two_faces_is_forged(detector, tmp_path):
    large, small = filmed(8), tinted(filmed(8, 192, mirrored=True))
    frames = []
    for one, other in zip(large, small, strict=True):
        frame = np.full((288, 288 + 192, 3), 90, np.uint8)
        frame[:, :288], frame[:192, 288:] = one, other
        frames.append(frame)
    verdict = detector(film(tmp_path / "two.mp4", frames))
    assert len(verdict.faces) == 2
    assert [face.verdict for face in verdict.faces] == ["real", "fake"]
    assert verdict.verdict == "fake"


def test_a_cut_ends_a_face(detector, tmp_path):
    frames = [*filmed(8), *tinted(filmed(8, mirrored=True))]
    verdict = detector(film(tmp_path / "cut.mp4", frames))
    assert len(verdict.faces) == 2
    assert sorted(face.verdict for face in verdict.faces) == ["fake", "real"]
    of_fake = next(face for face in verdict.faces if face.verdict == "fake")
    assert all(frame.frame >= 8 for frame in of_fake.frames)
    assert verdict.verdict == "fake"


@pytest.mark.parametrize(
    "crop",
    [
        {},
        {"faces": "none"},
        {"faces": "file boxes.json", "scale": 2.0},
        {"faces": "mtcnn 0.1.0"},
        {**Detected().recipe, "margin": 0.3},
        {"scale": 1.3, "max_side": 640},
    ],
)
def test_rates_of_other_crops_are_not_told(crop):
    """What was measured on ready crops, or on those of another search, says nothing of this one."""
    judging = Detector(
        ModelFile(dataclasses.replace(model().description, crop=crop), {}, "0" * 64), frames=1
    )
    places = (Place(0, None, (0, 0, 90, 90)),)
    face = FoundFace(places, (np.zeros((90, 90, 3), np.uint8),), (), Appearance(100.0))
    found = Found("a.png", frames=1, faces=(face,), estimated=Quality(10, 9, 11, ""), nearest="raw")
    look = judging.look(found, np.array([0.999]))
    verdict = look.verdict
    assert (verdict.verdict, verdict.quality) == ("inconclusive", "raw")
    assert "measured on crops that were made in another way" in verdict.reason
    assert verdict.false_positive_rate is verdict.false_negative_rate is None
    assert "of 1000" not in printing.line(verdict)
    judging.__dict__["_score"] = SimpleNamespace(changed=None)
    assert judging.examined(look).rates is None
    # The same face is fake where the crops are made as here.
    alike = Detector(model(), frames=1).look(found, np.array([0.999])).verdict
    assert alike.verdict == "fake"
    assert "of 1000" in printing.line(alike)


def test_frames_that_contradict_each_other(detector, tmp_path):
    """The score changes within a scene: nothing can be told, whatever the mean is."""
    turns = iter([FAKE] * 6 + [0.01] * 2)
    detector.__dict__["_score"] = lambda crops: np.array([next(turns, FAKE) for _ in crops])
    verdict = detector(film(tmp_path / "a.mp4", filmed(8)))
    assert verdict.verdict == "inconclusive"
    assert "the frames contradict each other: 6 of 8 look fake and 2 real" in verdict.reason


def test_a_verdict_that_one_more_encoding_turns(detector, tmp_path):
    # First are the 8 crops as they are, then the same after one more encoding.
    detector.__dict__["_score"] = lambda crops: np.repeat([FAKE, REAL], 8)
    verdict = detector(film(tmp_path / "a.mp4", filmed(8)))
    assert verdict.verdict == "inconclusive"
    assert verdict.reason == "after one more encoding the face looks real"


@pytest.mark.parametrize(
    ("name", "weaker"),
    [
        ("raw", "c23"),
        ("c23", "c30"),
        ("c30", "c40"),
        ("messenger", "c40"),  # at CRF 34.2
        ("c40", "c45"),
        ("c45", None),
        ("random", None),
    ],
)
def test_the_next_weaker_quality(name, weaker):
    qualities = ("random", "raw", "c45", "c23", "messenger", "c40", "c30")
    assert Looker(8, Detected(), qualities)._weaker(name) == weaker


def test_crops_of_a_messenger_are_encoded_again(tmp_path):
    looker = Looker(8, Detected(), ("raw", "c23", "c40", "messenger"))
    found = looker(Task(str(film(tmp_path / "a.mp4", filmed(8), crf=34))))
    assert (found.nearest, found.weaker) == ("messenger", "c40")
    (face,) = found.faces
    assert len(face.weakened) == len(face.crops) == 8
    # What one more encoding takes is fine detail.
    assert 0 < sharpness(face.weakened) < sharpness(face.crops)
    weakest = looker(Task(str(film(tmp_path / "b.mp4", filmed(8), crf=42))))
    assert (weakest.nearest, weakest.weaker) == ("c40", None)
    assert weakest.faces[0].weakened == ()


def test_of_a_face_that_is_too_small_little_is_looked_up(tmp_path, monkeypatch):
    clip = str(film(tmp_path / "a.mp4", filmed(8), crf=23))
    turned = []
    monkeypatch.setattr(Looker, "_quarters", lambda *_: turned.append(1) or 3)
    for smallest, looked in ((1000, False), (0, True)):
        found = Looker(8, Detected(), ("c23", "c40"), smallest=smallest)(Task(clip))
        (face,) = found.faces
        assert (bool(face.weakened), face.appearance.quarters) == (looked, 3 if looked else 0)
        assert len(turned) == looked


def test_faces_that_take_too_long(tmp_path, monkeypatch):
    clip = film(tmp_path / "a.mp4", filmed(8))
    at_once = media.deadline
    monkeypatch.setattr(
        media,
        "deadline",
        lambda path, most, work: at_once(path, -1 if "faces" in work else most, work),
    )
    found = Looker(8, Detected(), ("raw", "c40"))(Task(str(clip)))
    assert found.error.startswith(f"{clip}: takes more than -1 s to look at its faces; cut it")


@pytest.mark.checkout
def test_the_docs_name_each_key_of_a_verdict(detector, tmp_path):
    """Of the JSON of a real video, and of content credentials, of which it has none."""
    told = json.loads(detector(film(tmp_path / "a.mp4", filmed(8))).as_json())
    told["media"]["credentials"] = dataclasses.asdict(credentials.Credentials("valid", ""))
    keys = set()

    def look(value):
        for key, inner in value.items() if isinstance(value, dict) else ():
            keys.add(key)
            look(inner)
        for inner in value if isinstance(value, list) else ():
            look(inner)

    look({**told, "versions": {}})
    assert {"faces", "box", "high", "encoded_before", "generative_ai"} <= keys
    page = (ROOT / "docs/verdicts.md").read_text(encoding="utf-8")
    described = page.partition("## The fields of the JSON")[2].partition("## Pages")[0]
    described = re.sub(r"^```.*?^```", "", described, flags=re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", described))))
    assert keys <= named


@pytest.mark.parametrize("change", ["written to", "replaced", "removed"])
def test_a_file_that_changes_while_it_is_read_has_no_digest(tmp_path, monkeypatch, change):
    """Its digest would be of other bytes than its frames."""
    path = tmp_path / "a.png"
    PIL.Image.new("RGB", (64, 64)).save(path)
    taken = media.sha256

    def changed(read):
        digest = taken(read)
        if change == "written to":
            with path.open("ab") as file:
                file.write(b"more")
        elif change == "replaced":
            shutil.copy2(path, tmp_path / "b")
            os.replace(tmp_path / "b", path)
        else:
            path.unlink()
        return digest

    monkeypatch.setattr(media, "sha256", changed)
    for known in (None, taken(path)):
        found = Looker(8, Detected(), ("raw",))(Task(str(path), known))
        assert found.error.startswith(f"{path}: it changed while it was read; judge it again")
        assert (found.sha256, found.known) == (None, False)
        path.touch()


def test_a_score_between_the_thresholds(detector, tmp_path):
    detector.__dict__["_score"] = lambda crops: np.full(len(crops), 0.5)
    verdict = detector(film(tmp_path / "a.mp4", filmed(8)))
    assert verdict.verdict == "inconclusive"
    assert "usual among real clips and among fakes" in verdict.reason


def test_a_face_that_is_too_small(detector, tmp_path):
    frame = np.full((240, 240, 3), 120, np.uint8)
    frame[60:180, 60:180] = filmed(1, 120)[0]
    verdict = detector(film(tmp_path / "small.mp4", [frame] * 6))
    assert verdict.verdict == "inconclusive"
    assert "nothing was measured below 50" in verdict.reason


def test_a_face_that_looks_like_none_that_was_measured(detector, tmp_path):
    path = film(tmp_path / "a.mp4", filmed(8))
    # The astronaut looks a little aside.
    for condition, bound, reason in [
        ("least_sharpness", 0.6, "blurred more"),
        ("largest_turn", 0.001, "turned farther to the side"),
        ("largest_tilt", 0.001, "is tilted by"),
        ("most_compression", 5, "nothing was measured above 5"),
    ]:
        detector._conditions = Conditions(smallest_face=50, **{condition: bound})
        verdict = detector(path)
        assert verdict.verdict == "inconclusive"
        assert reason in verdict.reason


def test_files_without_a_face_or_without_an_image(detector, tmp_path):
    flat = film(tmp_path / "flat.mp4", [np.full((64, 64, 3), 99, np.uint8)] * 3)
    assert detector(flat).verdict == "no_face"
    cut = film(tmp_path / "cut.mp4", filmed(12))
    trees.truncate(cut)
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "empty.jpg").touch()
    for name, reason in (
        ("cut.mp4", "it is damaged or not complete"),
        ("text.mp4", "is no video"),
        ("empty.jpg", "is empty"),
        ("gone.png", "cannot be read"),
    ):
        verdict = detector(tmp_path / name)
        assert verdict.verdict == "error"
        assert reason in verdict.reason
        assert verdict.faces == ()


def test_images_and_animations(detector, tmp_path):
    frames = filmed(8)
    cv2.imwrite(str(tmp_path / "a.png"), frames[0][..., ::-1])
    PIL.Image.fromarray(tinted(frames)[0]).save(tmp_path / "b.jpg", quality=95)
    images = [PIL.Image.fromarray(frame) for frame in tinted(frames)]
    for name in ("c.webp", "d.gif"):
        images[0].save(tmp_path / name, save_all=True, append_images=images[1:], duration=40)
    found = {name: detector(tmp_path / name) for name in ("a.png", "b.jpg", "c.webp", "d.gif")}
    assert [one.verdict for one in found.values()] == ["real", "fake", "fake", "fake"]
    assert found["a.png"].media["kind"] == "image"
    assert found["a.png"].faces[0].frames[0].time is None
    assert found["c.webp"].media["kind"] == "animation"
    assert found["c.webp"].faces[0].frames[1].time == pytest.approx(0.04)


def test_a_turned_video_is_judged_upright(detector, tmp_path):
    """What is shown counts: a crop of an upside-down face would be another image."""
    frames = tinted(filmed(4))
    upright = detector(written(tmp_path / "a.mp4", frames))
    turned = detector(
        written(
            tmp_path / "b.mp4",
            [cv2.rotate(frame, cv2.ROTATE_180) for frame in frames],
            lambda stream: stream.set_display_rotation(180),
        )
    )
    assert upright.verdict == "fake"
    assert (turned.verdict, turned.faces) == (upright.verdict, upright.faces)  # with their boxes


def test_decoding_takes_a_stated_time_at_the_most(tmp_path):
    path = film(tmp_path / "a.mp4", filmed(12))
    with pytest.raises(Exception, match="takes more than 0 s to decode"):
        media.read(path, 8, max_seconds=0)


def test_the_faces_of_images_and_of_a_stream(detector):
    frames = filmed(3)
    nothing = np.zeros((64, 80, 3), np.uint8)
    found = detector.faces([frames[0], nothing, tinted(frames)[1]])
    assert [len(faces) for faces in found] == [1, 0, 1]
    assert (found[0][0].score, found[2][0].score) == (REAL, FAKE)
    assert [faces[0].score for faces in detector.stream(iter(frames))] == [REAL] * 3


def test_faces_come_by_area_times_the_score_of_the_search(detector, monkeypatch):
    """Neither by area nor by how often they are seen: 100 x 100 x 0.8 is less than 92 x 92 x 1."""
    boxes = np.array([(0, 0, 100, 100), (150, 150, 242, 242), (150, 150, 200, 200)], np.float32)
    found = Detections(boxes[1::-1], np.array([1.0, 0.8], np.float32))
    search = SimpleNamespace(detect=lambda images, **_: [found] * len(images))
    monkeypatch.setattr(faces, "detector", lambda *_: search)
    image = np.zeros((300, 300, 3), np.uint8)
    order = [face.box[0] > 100 for face in detector.faces([image])[0]]
    assert order == [True, False]
    # Three frames of 50 x 50 at 1 are less than one of 100 x 100 at 0.8.
    found = [Detections(boxes[2:], np.array([1.0], np.float32))] * 3
    found.append(Detections(boxes[:1], np.array([0.8], np.float32)))
    monkeypatch.setattr(search, "detect", lambda images, **_: found)
    tracks = detector.looker().tracks([image] * 4, range(4), [])
    assert [int(track.found.sum()) for track in tracks] == [1, 3]


def test_a_detector_can_be_pickled(detector):
    again = pickle.loads(pickle.dumps(detector))
    assert (again.frames, again.model.sha256) == (8, "0" * 64)


# The command


@pytest.fixture
def judged(monkeypatch, detector):
    monkeypatch.setattr(Detector, "from_pretrained", lambda model, frames: detector)

    def run(*arguments):
        return call(*arguments, main=command.main)

    return run


def test_beside_inconclusive_no_probability_is_printed(judged, detector, tmp_path):
    """A face beyond the conditions has the probability of a sure fake, which is worth nothing."""
    path = film(tmp_path / "a.mp4", tinted(filmed(8)))
    sure = judged(path).out
    assert "; probability of fake 0.95; quality near " in sure
    quality = sure.partition("quality near ")[2].partition(";")[0]
    detector._conditions = Conditions(smallest_face=10_000)
    line = judged(path).out
    assert line.startswith(f"{path}: inconclusive; quality near {quality}; the face has ")
    assert "probability" not in line
    told = json.loads(judged(path, "--json").out)
    assert told["probability"] == pytest.approx(FAKE)  # programs that compare runs read it
    assert told["faces"][0]["probability"] == pytest.approx(FAKE)


def test_json_has_one_object_a_file_with_the_promised_keys(judged, tmp_path):
    film(tmp_path / "a/real.mp4", filmed(8))
    (tmp_path / "a/b").mkdir()
    (tmp_path / "a/b/broken.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "a/notes.txt").write_text("not looked at")
    result = judged(tmp_path / "a", "--json")
    assert result.status == 3
    objects = [json.loads(line) for line in result.out.splitlines()]
    assert [one["verdict"] for one in objects] == ["real", "error"]
    for one in objects:
        assert list(one) == [
            *("file", "sha256", "verdict", "probability", "quality", "reason"),
            *("false_positive_rate", "false_negative_rate", "faces", "media", "model", "versions"),
        ]
        assert one["verdict"] in VERDICTS
        assert one["file"].startswith(str(tmp_path / "a"))
    (face,) = objects[0]["faces"]
    assert {"track", "verdict", "probability", "frames"} <= face.keys()
    assert list(face["frames"][0]) == ["frame", "time", "box", "score"]
    again = judged(tmp_path / "a", "--json")
    assert again.out == result.out


def test_lines_tables_and_exit_statuses(judged, tmp_path, monkeypatch):
    good = film(tmp_path / "fake.mp4", tinted(filmed(8)))
    bad = tmp_path / "bad.mp4"
    bad.write_text("x")
    result = judged(good)
    assert result.status == 0
    assert result.out.startswith(f"{good}: fake; probability of fake 0.95; quality near ")
    assert "of 1000 real clips of this quality about 12 are called fake" in result.out
    assert judged(bad).status == 1
    assert judged(good, bad).status == 3
    assert judged(tmp_path / "nothing.mp4").status == 1
    assert judged().status == 1
    assert judged(good, "--frames=0").status == 1
    table = judged(good, bad, "--csv").out.splitlines()
    assert table[0] == "file,sha256,verdict,probability,quality,reason"
    assert table[1].split(",")[2] == "fake"
    assert len(table) == 3
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"{good}\r\n\n".encode())))
    assert judged("-").out.count(": fake") == 1
    monkeypatch.chdir(tmp_path)
    good.rename("-fake.mp4")
    for options in ((), ("--csv",), ("bad.mp4",)):
        assert "-fake.mp4" in judged(*options, "--", "-fake.mp4").out.splitlines()[-1]
