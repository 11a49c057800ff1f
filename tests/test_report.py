"""The page that a browser shows: nothing from data is markup, nothing is fetched, nothing lacks."""

import base64
import csv
import html.parser
import json
import re

import cv2
import numpy as np
import pytest

from qad_jax.evaluation import metrics, protocol, report
from qad_jax.evaluation.calibration import Calibration, Quality
from qad_jax.evaluation.report import figures, hardest
from tests.test_protocol import complete, make_scores

SIDE = 24
BAD = "<script>alert(1)</script>\"'&amp;"
CHOSEN = Calibration("d", 1, {"raw": Quality(1.5, 0.4, 0.45), "c40": Quality(2.0, 0.6, 0.6)})


class Page(html.parser.HTMLParser):
    """The elements of a page and the text outside of its style sheet."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.words, self._style = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_endtag(self, tag):
        self._style = False

    def handle_data(self, data):
        if not self._style:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def crops_of(row):
    return np.full((2, SIDE, SIDE, 3), (200, 100, row), np.uint8)


def written(folder, made, *, chosen=CHOSEN, provenance=None, crops=crops_of):
    numbers = complete(made, chosen)
    path = report.write(folder, numbers, made, provenance=provenance or {}, images=crops)
    return path, path.read_text(encoding="utf-8"), numbers


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    provenance = {"model": "resnet_tiny", "configuration": {"seed": 41}}
    return written(tmp_path_factory.mktemp("report"), make_scores(), provenance=provenance)


def fetched(page, text):
    """What a browser would ask for: sources that are not data, and references out of the page."""
    sources = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "srcset", "href", "xlink:href", "data", "poster", "action")
        if not value.startswith(("data:image/png;base64,", "#"))
    ]
    return sources + re.findall(r"url\((?!#)[^)]*\)|@import[^;]*", text)


def test_nothing_is_fetched_and_nothing_runs(whole):
    _, text, _ = whole
    page = Page(text)
    assert fetched(page, text) == []
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "form"}
    assert not [name for _, attributes in page.tags for name in attributes if name[:2] == "on"]
    (policy,) = (a["content"] for a in page.all("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none';")


def test_names_from_data_are_text(tmp_path):
    made = make_scores()
    names = [f"{BAD} {name}" for name in made.method]
    made = made._replace(
        method=names,
        video=[f"{name}{BAD}" for name in made.video],
        qualities=("raw", f"c40{BAD}"),
    )
    numbers = {"note": BAD, BAD: {"key": BAD}}
    _, text, _ = written(tmp_path, made, provenance=numbers, chosen=None)
    page = Page(text)
    assert "<script" not in text
    for title in (f"{BAD} FaceSwap against the reals", f"c40{BAD}", f"{BAD} Deepfakes / 001{BAD}"):
        assert title in page.text
    assert json.dumps(BAD) in page.text  # of the provenance
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in Page(plain(tmp_path)).tags}


def plain(folder):
    """The same page with ordinary names."""
    return written(folder / "plain", make_scores(), provenance={"a": "b", "c": {"d": "e"}})[1]


def test_every_figure_and_table_is_there(whole):
    path, text, numbers = whole
    page = Page(text)
    names = [
        "roc_frame",
        "roc_video",
        "scores_0_raw",
        "scores_1_c40",
        "reliability_before",
        "reliability_after",
    ]
    assert [a["id"] for a in page.all("figure") if "id" in a] == names
    assert {p.stem for p in (path.parent / "figures").iterdir()} == set(names)
    for name in names:
        png = (path.parent / "figures" / f"{name}.png").read_bytes()
        assert cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR).shape[1] > 500
    captions = ["All methods together", "Deepfakes against the reals", "FaceSwap against the reals"]
    assert len(page.all("table")) == len(captions) + 1  # and calibration
    for word in (*captions, *protocol.TITLES.values(), "ECE before", "Hardest clips", "seed"):
        assert word in page.text
    assert protocol.headline(numbers) in page.text
    for quality in ("raw", "c40"):
        auc = numbers.summary.qualities[quality].video.auc
        assert f"{protocol.percent(auc.value)} {protocol.span(auc.low, auc.high)}" in page.text


def test_the_quality_with_the_most_false_positives_is_named(whole):
    _, text, numbers = whole
    rates = {q: of.frame.fpr_at_threshold.value for q, of in numbers.summary.qualities.items()}
    worst = max(rates, key=rates.get)
    said = (
        f"{worst} has the highest false-positive rate: {100 * rates[worst]:.1f} % of its real "
        "frames are called fake."
    )
    assert said in Page(text).text


def test_where_no_real_frame_is_called_fake_no_quality_is_named(tmp_path):
    made = make_scores()
    made.score[made.label == 0] = 0.1
    text = Page(written(tmp_path, made, chosen=None)[1]).text
    assert "No real frame is called fake at raw, c40." in text
    assert "highest false-positive rate" not in text


def test_ids_are_unique_and_all_references_end_in_the_page(whole):
    page = Page(whole[1])
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(set(ids)) == len(ids)
    pointed = set(re.findall(r'(?:href="|url\()#([^")]+)', whole[1]))
    assert pointed
    assert pointed <= set(ids)


def test_it_follows_the_readers_theme_and_can_be_printed(whole):
    text = whole[1]
    assert "color-scheme: light dark" in text
    assert "@media (prefers-color-scheme: dark)" in text
    assert "@media print" in text
    assert figures._INK not in text  # ink is the page's: black on black else
    assert "currentColor" in text


def test_csv_holds_the_numbers_of_every_quality_level_and_method(whole):
    path, _, numbers = whole
    with (path.parent / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 2 * 2 * len(metrics.NAMES)
    keys = {(r["method"], r["quality"], r["level"], r["number"]) for r in rows}
    assert len(keys) == len(rows)
    for row in rows:
        methods = {"all": numbers.summary.qualities, **numbers.summary.methods}
        level = getattr(methods[row["method"]][row["quality"]], row["level"])
        number = level.estimates()[row["number"]]
        assert float(row["value"]) == number.value
        assert (row["low"], row["high"]) == (str(number.low), str(number.high))


def test_a_split_of_one_class_says_why_and_shows_the_rest(tmp_path):
    made = make_scores()
    path, text, _ = written(tmp_path, made._replace(label=np.ones_like(made.label)))
    page = Page(text)
    assert "AUC is not defined: one class only: all 27 are fake" in page.text
    assert "not defined" in page.text
    assert {a["title"] for a in page.all("td") if "title" in a} == {
        f"one class only: all {n} are fake" for n in (27, 9)
    }
    assert not (path.parent / "figures" / "roc_frame.png").exists()
    assert (path.parent / "figures" / "scores_0_raw.png").exists()
    assert "Hardest clips" in page.text
    with (tmp_path / "metrics.csv").open(newline="") as file:
        empty = {r["number"] for r in csv.DictReader(file) if r["value"] == ""}
    assert "auc" in empty
    assert "accuracy" not in empty


def test_scores_that_are_no_numbers_leave_the_other_quality(tmp_path):
    made = make_scores()
    made.score[:2, 1] = np.nan
    path, text, _ = written(tmp_path, made)
    page = Page(text)
    assert "Not defined at c40: 2 of 27 scores are not numbers." in page.text
    roc = text[text.index('id="roc_frame"') :]
    roc = roc[: roc.index("</figure>")]
    assert ">raw<" in roc
    assert ">c40<" not in roc
    assert (path.parent / "figures" / "scores_1_c40.png").exists()  # of those that are


def test_the_hardest_clip_is_the_one_furthest_from_the_truth(tmp_path):
    made = make_scores()
    worst = (np.array(made.method) == "FaceSwap") & (np.array(made.video) == "002")
    made.score[worst] = 0.001
    clip = hardest.choose(made, crops_of)[0]
    assert (clip.method, clip.video, clip.truth, clip.frame) == ("FaceSwap", "002", "fake", 1)
    row = np.flatnonzero(worst)[1]
    for png in clip.images:
        shown = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB)
        np.testing.assert_array_equal(shown, crops_of(row)[0])
    _, text, _ = written(tmp_path, made)
    first = re.search(r'src="data:image/png;base64,([^"]+)"', text)[1]
    assert base64.b64decode(first) == clip.images[0]


def test_a_quality_without_scores_leaves_the_hardest_clips_of_the_others():
    made = make_scores()
    made.score[:, 1] = np.nan
    worst = (np.array(made.method) == "FaceSwap") & (np.array(made.video) == "002")
    made.score[worst, 0] = 0.001
    made.score[np.array(made.video) == "001", 0] = np.nan
    clips = hardest.choose(made)
    assert (clips[0].method, clips[0].video) == ("FaceSwap", "002")
    assert "001" not in {clip.video for clip in clips}
    videos = set(zip(made.method, made.video, strict=True))
    assert len(clips) == sum(video != "001" for _, video in videos)


def test_nothing_of_an_earlier_report_stays(tmp_path):
    """A figure may be of another checkpoint, or of a quality that is not evaluated any more."""
    path, _, _ = written(tmp_path, make_scores())
    place = path.parent / "figures"
    (place / "robustness_blur.png").write_bytes(b"of another checkpoint")
    (place / "mine.png").write_bytes(b"of the user")
    report.remove(tmp_path)
    assert [file.name for file in path.parent.rglob("*") if file.is_file()] == ["mine.png"]


def test_scores_alone_make_a_page_without_crops(tmp_path):
    _, text, _ = written(tmp_path, make_scores(), crops=None)
    page = Page(text)
    assert page.all("img") == []
    assert "Hardest clips" in page.text


def test_a_long_curve_keeps_its_ends_and_shape():
    rng = np.random.default_rng(0)
    steps = rng.random(10_000)
    kept = figures._spread(steps)
    assert len(kept) < 500
    assert (kept[0], kept[-1]) == (0, 9_999)
    assert np.diff(np.cumsum(steps)[kept]).max() < 3 * steps.sum() / 400
