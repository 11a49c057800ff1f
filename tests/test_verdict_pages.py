"""The pages of verdicts: what they say is what was judged, and a stranger's name is only text.

The pages are made of scores that are written down here. `test_verdict_folder` goes all the way from
files.
"""

import base64
import dataclasses
import html.parser
import io
import json
import re

import numpy as np
import PIL.Image
import pytest
import skimage.data

from qad_jax.detection import examination, printing
from qad_jax.detection.conditions import Appearance, Conditions
from qad_jax.detection.examination import GRID, Look
from qad_jax.detection.judging import Seen, judge
from qad_jax.detection.pages import file_page, folder, parts, rates, timeline
from qad_jax.detection.results import FrameScore, Verdict
from qad_jax.evaluation.rates import Rates
from qad_jax.evaluation.results import Estimate
from tests.test_detection import SHARES, model, thresholds

BAD = "<img src=x onerror=alert(1)>\"'&\u202e\udcff"
RATES = Rates(200, 300, Estimate(0.99), *SHARES)
CHOSEN = (thresholds(),)
LOWER, UPPER = CHOSEN[0].lower, CHOSEN[0].upper


def lower_by(fall):
    """A network whose score is 0.95 less this, whatever it sees."""
    return lambda crops: np.full(len(crops), 0.95 - fall)


FALLING = lower_by(0.5)


class Page(html.parser.HTMLParser):
    """The elements of a page, and the text that is shown."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.words, self._hidden = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._hidden = tag in ("style", "script")

    def handle_endtag(self, tag):
        self._hidden = False

    def handle_data(self, data):
        if not self._hidden:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag, name=None):
        return [a for one, a in self.tags if one == tag and name in (None, a.get("class"))]


def examined(
    *series,
    file="clip.mp4",
    side=100,
    score=FALLING,
    changed=None,
    described=None,
    plausible=CHOSEN,
):
    """The examination of a clip of 10 s, whose faces have these scores."""
    seen = [
        Seen(
            tuple(
                FrameScore(i, i * 10 / len(scores), (0, 0, 9, 9), float(score))
                for i, score in enumerate(scores)
            ),
            Appearance(side),
        )
        for scores in series
    ]
    judgement = judge(seen, len(series[0]), plausible, None, Conditions(50))
    decisive = judgement.decisive
    verdict = Verdict(
        file,
        "ab" * 32,
        decisive.verdict,
        decisive.probability,
        "c23",
        judgement.reason,
        faces=judgement.faces,
        media={"kind": "video", "width": 640, "height": 360, "frames": 250, "duration": 10.0},
        model={"name": "blue", "version": "1", "sha256": "0" * 64},
        versions={"Python": "3"},
    )
    crop = skimage.data.astronaut()[20:180, 140:300]
    crops = [[crop] * len(scores) for scores in series]
    look = Look(verdict, crops, judgement)
    found = None if changed is None else lambda crop: changed
    return examination.of(look, RATES, score, found, described or model().description)


def page_of(one):
    return Page(file_page.render(one, f"qad-jax detect {one.verdict.file}", back="index.html"))


def test_what_one_frame_of_each_clip_says_of_many_is_told():
    said = "Each of these clips is one frame. How the mean over many frames"
    for frames, told in ((40, True), (80, False), (None, False)):
        measured = {"clips": 40, "identities": 9, "frames": frames}
        described = dataclasses.replace(model().description, measured=measured)
        assert (said in page_of(examined([0.9] * 8, described=described)).text) == told


def test_a_file_called_fake():
    page = page_of(examined([0.9, 0.95, 1.0, 0.95] * 2))
    for said in (
        "The detector calls this file fake",
        "It is not a proof",
        "Probability of fake: 0.95. This number holds where half of the clips are fakes.",
        "Of 1000 real clips of this quality about 12 are called fake (95 % interval: 5 to 20).",
        # Of 10 000 clips 100 are fakes, of which 89 are called so, as are 119 of the real ones.
        "about 43 of 100 clips that are called fake are fakes, and 57 are real",
        "Mean score of 8 frames: 0.95",
        "640 x 360 pixels",
        "ab" * 32,
        "0" * 64,
        "Faces below 50 pixels in the file are not judged.",
        "Command that writes this page qad-jax detect clip.mp4",
    ):
        assert said in page.text
    large = [one for one in page.all("img") if one["width"] == str(examination.SIDE)]
    assert [crop["alt"] for crop in large[:3]] == [
        f"Crop of the face in frame {i}" for i in (2, 6, 1)
    ]
    assert page.text.index("Highest scores") < page.text.index("Lowest scores")


def test_a_file_called_real_is_not_called_genuine():
    page = page_of(examined([0.01] * 4))
    assert "The detector calls this file real" in page.text
    assert "This does not show that the file is genuine" in page.text
    first, second = "fakes of this quality about 34 are called real", "12 are called fake"
    assert page.text.index(first) < page.text.index(second)
    assert "An example: 1 of 100" not in page.text


def test_where_nothing_can_be_told_there_is_no_probability():
    middle = (LOWER + UPPER) / 2
    page = page_of(examined([middle] * 4))
    assert "The detector cannot tell" in page.text
    assert "Reason: the score is usual among real clips and among fakes" in page.text
    assert "Probability of fake" not in page.text
    assert "the detector cannot tell for about 56, and of 1000 fakes for about 78" in page.text
    small = page_of(examined([0.99] * 4, side=20))
    assert "This face was not judged. Reason: the face has 20 pixels" in small.text
    assert "Probability of fake" not in small.text
    assert "are called fake" not in small.text
    assert not small.all("circle", "fake")


def test_why_there_is_no_threshold_is_said_as_in_the_reason():
    few = dataclasses.replace(thresholds(), real=(0.1,), fake=(0.9,), lower=0.0, upper=1.0)
    full = dataclasses.replace(thresholds(), real=(0.1, 1.0), upper=1.0)
    page = page_of(examined([0.99] * 4, plausible=(few, full)))
    assert "Reason: some real clips have the highest score that there is" in page.text
    assert "real clips that were measured have the highest score, too" in page.text
    page = page_of(examined([0.01] * 4, plausible=(few,)))
    assert "Reason: too few fakes were measured to call the face real" in page.text
    assert "No face is called fake: too few clips were measured to choose a thresh" in page.text
    assert "No face is called real: too few clips were measured to choose a thresh" in page.text


def test_a_long_command_is_whole():
    """Of a text the middle is left out, which nobody would see in a command."""
    files = [f"{i:08}.mp4" for i in range(3000)]
    page = Page("".join(parts.command("Command", " ".join(files))))
    assert page.text.split()[1:] == files


def test_no_error_in_few_clips_is_not_no_error():
    never = dataclasses.replace(RATES, false_positive_rate=Estimate(0.0, 0.0, 0.018))
    said = " ".join(rates.sentences("fake", never, 1))
    assert "None of the 200 real clips of this quality that were measured was called fake" in said
    assert "still be up to 18 of 1000" in said
    assert "Where fakes are rare" in said
    between = Estimate(0.0, 0.0, 0.00735)  # 7.35 of 1000: there may be more than 7
    never = dataclasses.replace(RATES, false_positive_rate=between)
    assert "still be up to 8 of 1000" in " ".join(rates.sentences("fake", never, 1))
    assert "fewer than 8 are called fake" in next(
        printing._how_often(between, "real clips", "fake")
    )
    few = dataclasses.replace(RATES, inconclusive_real=Estimate(0.0, 0.0, 0.5))
    assert "cannot tell for fewer than 500," in " ".join(rates.sentences("fake", few, 1))
    alone = dataclasses.replace(RATES, false_positive_rate=Estimate(0.0))  # of one person
    unmeasured = "How often real clips of this quality are called fake was not measured."
    assert rates.sentences("fake", alone, 1)[0] == unmeasured
    rare = dataclasses.replace(RATES, false_positive_rate=Estimate(0.0002, None, None))
    assert "quality fewer than 1 are called fake." in " ".join(rates.sentences("fake", rare, 1))
    unknown = dataclasses.replace(RATES, false_positive_rate=Estimate(None))
    assert rates.sentences("fake", unknown, 1)[0] == unmeasured
    said = rates.sentences("real", unknown, 1)
    assert "fakes of this quality about 34 are called real" in said[0]
    assert said[1] == unmeasured
    neither = dataclasses.replace(unknown, false_negative_rate=Estimate(None))
    missed = "How often fakes of this quality are called real was not measured."
    assert rates.sentences("real", neither, 1)[:2] == [missed, unmeasured]
    assert "Here 3 faces were judged" in rates.sentences("fake", RATES, 3)[-1]


def test_the_drawing_has_every_score_at_its_place_and_so_has_the_table():
    scores = [0.0, 0.25, (LOWER + UPPER) / 2, 0.99]
    text = "".join(timeline.render(examined(scores).verdict.faces[0], thresholds(), 10.0))
    page = Page(text)
    marks = [(a["cx"], a["cy"], a["class"]) for a in page.all("circle")]
    middle = f"{100 - 100 * scores[2]:.2f}%"
    assert marks == [("50.00%", middle, "inconclusive"), ("75.00%", "1.00%", "fake")]
    squares = [(a["x"], a["y"]) for a in page.all("rect", "real")]
    assert squares == [("0.00%", "100.00%"), ("25.00%", "75.00%")]
    (mean,) = page.all("line", "mean")
    assert float(mean["y1"][:-1]) == pytest.approx(100 * (1 - np.mean(scores)), abs=0.01)
    (band,) = page.all("rect", "band")
    assert float(band["y"][:-1]) == pytest.approx(100 * (1 - UPPER), abs=0.01)
    assert "lowest 0.00, highest 0.99" in page.all("svg")[0]["aria-label"]
    cells = [f"{i} {2.5 * i:.2f} {score:.3f}" for i, score in enumerate(scores)]
    places = ["below the band", "below the band", "in the band", "above the band"]
    assert " ".join(map(" ".join, zip(cells, places, strict=True))) in page.text


def test_each_frame_can_be_chosen_and_has_its_crop():
    """A radio button a frame: one tab stop, and the crop is there without a script."""
    scores = [0.7, 0.99, 0.2, 0.8]
    one = examined(scores)
    face, small = one.verdict.faces[0], one.faces[0].small
    page = Page("".join(timeline.render(face, thresholds(), 10.0, small)))
    radios = page.all("input")
    assert {(a["type"], a["name"]) for a in radios} == {("radio", "walk0")}
    assert [a["aria-label"] for a in radios] == [
        "frame 0, 0.00 s, score 0.700, above the band",
        "frame 1, 2.50 s, score 0.990, above the band",
        "frame 2, 5.00 s, score 0.200, below the band",
        "frame 3, 7.50 s, score 0.800, above the band",
    ]
    assert ["checked" in a for a in radios] == [False, True, False, False]
    # Frames are at 0, 2.5, 5 and 7.5 of 10 s; a pointer is at the nearest one.
    assert [a["style"] for a in page.all("span", "strip")] == [
        "left:0.00%;width:12.50%",
        "left:12.50%;width:25.00%",
        "left:37.50%;width:25.00%",
        "left:62.50%;width:37.50%",
    ]
    rings = [re.findall(r"[\d.]+", a["style"]) for a in page.all("span", "ring")]
    assert [float(x) for x, _ in rings] == [0, 25, 50, 75]
    assert [float(y) for _, y in rings] == pytest.approx([3.3, 0.11, 8.8, 2.2])  # of 11 rem
    crops = page.all("img")
    assert [a["alt"] for a in crops] == [f"Crop of the face in frame {i}" for i in range(4)]
    for a in crops:
        data = base64.b64decode(a["src"].partition(",")[2])
        assert PIL.Image.open(io.BytesIO(data)).size == (96, 96)
        assert int(a["width"]) == 96


def test_no_line_where_the_face_was_not_seen():
    face = examined([0.5] * 8).verdict.faces[0]
    kept = tuple(frame for frame in face.frames if frame.frame not in (3, 4))
    drawn = Page("".join(timeline.render(dataclasses.replace(face, frames=kept), None, None)))
    assert len(drawn.all("circle", "unplaced")) == 6
    assert len(drawn.all("line", "step")) == 4


def test_pages_have_a_bound():
    many = page_of(examined(*[[0.01 * i] * 4 for i in range(1, 13)]))
    assert many.text.count("Highest scores") == examination.MOST_FACES
    assert "The most suspicious faces are shown. 4 more are listed" in many.text
    assert many.text.index("Face 12: ") < many.text.index("Face 11: ")
    long = page_of(examined([0.9] * 5000))
    assert len(long.all("circle", "fake")) == timeline.MOST_FRAMES
    assert f"{timeline.MOST_FRAMES} of 5000 frames are shown" in long.text
    # The pages of the service and of the demo lie beside no file of this name.
    assert "verdicts.jsonl" not in many.text + long.text
    assert len(long.all("input")) == timeline.MOST_FRAMES
    crowd = file_page.render(examined(*[[0.01 * i] * 500 for i in range(1, 9)]), "", back=None)
    radios, images = (len(Page(crowd).all(tag)) for tag in ("input", "img"))
    assert radios == 8 * timeline.MOST_FRAMES
    assert images == examination.MOST_SMALL + 8 * 6  # those of the highest and the lowest scores
    assert len(crowd) < 7e6


@pytest.mark.parametrize("place", [(0, 0), (2, 5), (GRID - 1, 3)])
def test_the_map_is_bright_where_the_network_looks(place):
    side = 64
    crop = np.full((side, side, 3), 200, np.uint8)
    row, column = (8 * one + 4 for one in place)

    def by_one_place(crops):
        return [0.9 if one[row, column, 0] == 200 else 0.2 for one in crops]

    heat = examination.occluded(crop, 0.9, by_one_place)
    assert heat.fall[place] == heat.fall.max() > 3  # logit 2.2 falls to -1.4
    assert heat.covered == 0.2
    rows, columns = np.nonzero(heat.fall)
    assert max(abs(rows - place[0])) <= 1
    assert max(abs(columns - place[1])) <= 1
    share = heat.fall / heat.fall.max()
    lit = file_page.lit(np.full((160, 160, 3), 250, np.uint8), share)
    brightest = np.unravel_index(lit[..., 0].argmax(), (160, 160))
    assert np.abs(np.array(brightest) / 20 - place - 0.5).max() <= 1.5


def test_a_map_of_nothing_is_not_shown():
    page = page_of(examined([0.95] * 4, score=lower_by(0.001)))
    assert "No map is shown" in page.text
    assert "It does not show what was forged" not in page.text
    shown = page_of(examined([0.95] * 4))
    assert "changes the score from 0.95 to 0.45" in shown.text


def test_names_are_text():
    one = examined([0.95] * 4, file=f"dir/{BAD}.mp4")
    described = dataclasses.replace(
        one.model, measured={"methods": {BAD: {}}, "clips": BAD, "identities": BAD}, network=BAD
    )
    verdict = dataclasses.replace(
        one.verdict, reason=BAD, media={**one.verdict.media, "codec": BAD}
    )
    hostile = dataclasses.replace(one, model=described, verdict=verdict)
    text = file_page.render(hostile, BAD, back="index.html")
    text.encode()
    plain = file_page.render(examined([0.95] * 4), "a", back="index.html")
    assert {tag for tag, _ in Page(text).tags} == {tag for tag, _ in Page(plain).tags}
    assert not [name for _, a in Page(text).tags for name in a if name.startswith("on")]
    assert "<img src=x onerror=alert(1)>" in Page(text).text
    assert "\u202e" not in text
    line = verdict.as_json()
    assert json.loads(line.encode())["file"] == verdict.file
    assert len(line.splitlines()) == 1
    made = folder.Made("0" * 64, 32)
    name = folder.page_name(verdict.file, verdict.sha256, made)
    assert re.fullmatch(r"[A-Za-z0-9._-]+-[0-9a-f]{16}\.html", name)
    assert name != folder.page_name(verdict.file.replace("dir", "other"), verdict.sha256, made)


def test_a_model_that_does_not_say_what_was_measured():
    page = page_of(examined([0.95] * 4))
    assert "does not say on how many clips" in page.text
    assert "does not say which kinds of fakes" in page.text
    model = dataclasses.replace(examined([0.95]).model, measured={"methods": {"swap": {}}})
    said = Page("".join(parts.conditions(model))).text
    assert "of these kinds: swap. How often others are missed was not measured." in said


def test_bounds_are_told_in_whole_numbers():
    bounds = {"most_compression": 45.4, "largest_tilt": 18.2165}
    said = dataclasses.replace(model().description, measured={"conditions": bounds})
    page = Page("".join(parts.conditions(said))).text
    assert "compressed more than by CRF 45 of H.264." in page
    assert "tilted in the picture by more than 18 degrees." in page


def test_what_is_said_of_a_file_without_faces():
    verdict = Verdict("a.png", "ab" * 32, "no_face", reason="no face was found")
    verdict = dataclasses.replace(verdict, model={"name": "a", "version": "1", "sha256": "0"})
    page = page_of(examination.Examination(verdict, model().description))
    assert "This says nothing about whether the file was manipulated." in page.text
    assert parts.GENERATOR in page.all("meta")[1]["content"]
    assert not page.all("svg")
