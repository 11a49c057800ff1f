"""The folder of the pages: from files to what a browser opens, and folders that are left alone."""

import base64
import hashlib
import itertools
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_builders.errors import UserError
from qad_jax.detection import command
from qad_jax.detection.detector import Detector
from qad_jax.detection.pages import file_page, folder
from qad_jax.evaluation.report.document import STYLE
from tests.commands import call
from tests.test_detection import by_colour, film, filmed, model, tinted
from tests.test_verdict_pages import Page, examined

MODEL = model().description
MADE = folder.Made("0" * 64, 32)


def test_colours_have_contrast():
    """WCAG 2.2: 4.5 for text, 3 for what is drawn."""
    rules = re.findall(r":root \{(.*?)\}", STYLE, flags=re.DOTALL)
    light, dark, printed = (dict(re.findall(r"--(\w+): (#\w+)", rule)) for rule in rules)
    for colours in (light, {**light, **dark}, {**dark, **printed}):
        for ground in ("page", "band"):
            for ink, least in (("ink", 4.5), ("soft", 4.5), ("mark", 3)):
                assert contrast(colours[ink], colours[ground]) > least, (ink, ground)


def contrast(one, other):
    def luminance(colour):
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        parts = np.frombuffer(bytes.fromhex(digits), np.uint8) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return linear @ (0.2126, 0.7152, 0.0722)

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def check(text):
    """What every page keeps: headings in order, names for all, no address but that of a page."""
    page = Page(text)
    assert page.all("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert all(image["alt"] for image in page.all("img"))
    assert all("aria-label" in drawing for drawing in page.all("svg"))
    assert all(a["src"].startswith("data:image/jpeg;base64,") for a in page.all("img"))
    assert all(re.fullmatch(r"[\w.-]+\.html", a["href"]) for a in page.all("a"))
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "form"}
    assert not re.findall(r"url\((?!#)|@import|https?:", text)
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    (policy,) = (a["content"] for a in page.all("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; ")
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in policy
    assert len(scripts) == policy.count("script-src")
    return page


def test_pages_of_files(tmp_path, monkeypatch):
    """From files to pages, twice: a forged clip, an image with a hostile name, a broken file."""
    detector = Detector(model(), frames=2)
    detector.__dict__["_score"] = by_colour
    monkeypatch.setattr(Detector, "from_pretrained", lambda model, frames: detector)
    clips, out = tmp_path / "clips", tmp_path / "pages"
    clips.mkdir()
    film(clips / "fake.mp4", tinted(filmed(4)))
    hostile = clips / "<b onclick=x>&.png"
    cv2.imwrite(str(clips / "a.png"), filmed(1)[0][..., ::-1])
    (clips / "a.png").rename(hostile)
    (clips / "broken.mp4").write_text("no video")
    before = {path.name: path.read_bytes() for path in clips.iterdir()}

    def run():
        result = call(clips, "--json", "--out", out, main=command.main)
        return result, {path.name: path.read_bytes() for path in out.iterdir()}

    result, written = run()
    assert result.status == 3
    assert f"pages: {out / 'index.html'}" in result.err
    assert written["verdicts.jsonl"].decode() == result.out
    assert detector(clips / "fake.mp4").as_json() in result.out.splitlines()
    assert run()[1] == written
    assert {path.name: path.read_bytes() for path in clips.iterdir()} == before

    index = check(written["index.html"].decode())
    links = [a["href"] for a in index.all("a")]
    assert sorted(links) == sorted(written.keys() - {"index.html", "verdicts.jsonl"})
    for said in (
        "Verdicts on 3 files",
        "called fake 1",
        "called real 1",
        "not judged 1",
        "no video",
    ):
        assert said in index.text
    for line, link in zip(result.out.splitlines(), links, strict=True):
        told, page = json.loads(line), check(written[link].decode())
        assert told["sha256"] in page.text
        assert f"--out {out}" in page.text
        if told["verdict"] != "error":
            assert f"calls this file {told['verdict']}" in page.text
            assert len(page.all("svg")) == 1
            assert f"CRF {told['media']['compression']['crf']:.0f}" in page.text


def test_folders_that_are_left_alone(tmp_path):
    one = examined([0.95])
    (tmp_path / "file").touch()
    with pytest.raises(Exception, match=r"--out: .* is a file; name a folder"):
        folder.Pages(tmp_path / "file", "", MODEL, MADE)
    with pytest.raises(Exception, match=r"--out: cannot write to /proc/nowhere/pages: "):
        folder.Pages(Path("/proc/nowhere/pages"), "", MODEL, MADE)
    for name, content in (("notes.txt", ""), ("index.html", "<html>"), ("verdicts.jsonl", "{}")):
        other = tmp_path / f"holds {name}"
        other.mkdir()
        (other / name).write_text(content)
        with pytest.raises(Exception, match=f"holds {name}, which is no page of an earlier run"):
            folder.Pages(other, "", MODEL, MADE)
        assert [path.name for path in other.iterdir()] == [name]
    made = tmp_path / "new" / "pages"
    first = folder.Pages(made, "first", MODEL, MADE)
    assert not made.exists()
    first.add(one, "")
    first.finish()
    (made / f".index.html.{'0' * 32}.part").write_text("of a process that was killed")
    second = folder.Pages(made, "second", MODEL, MADE)
    second.add(examined([0.95], file="other.mp4"), "")
    assert len(list(made.iterdir())) == 6  # with the objects of this run, under another name
    second.finish()
    for pages in (first, second):
        pages.close()
    assert {path.name for path in made.iterdir()} == {
        "index.html",
        "verdicts.jsonl",
        folder.page_name("other.mp4", "ab" * 32, MADE),
    }


def test_one_run_writes_to_a_folder_at_a_time(tmp_path):
    """A folder that is there is refused at the start, and a new one with the first page."""
    made = tmp_path / "pages"
    first, second = (folder.Pages(made, "", MODEL, MADE) for _ in range(2))
    first.add(examined([0.95]), "")
    busy = f"--out: {made}: another process writes there; wait for its end"
    with pytest.raises(UserError, match=busy):
        second.add(examined([0.95], file="other.mp4"), "")
    second.close()
    with pytest.raises(UserError, match=busy):
        folder.Pages(made, "", MODEL, MADE)
    first.finish()
    assert sorted(path.suffix for path in made.iterdir()) == [".html", ".html", ".jsonl"]
    third = folder.Pages(made, "", MODEL, MADE)
    third.close()
    assert sorted(path.suffix for path in made.iterdir()) == [".html", ".html", ".jsonl"]


@pytest.mark.parametrize("name", ["my_case_2023.html", "index.html"])
def test_pages_that_a_user_has_saved_stay(tmp_path, name):
    """The page of the service has a button that saves such files, under the names of the clips."""
    saved = file_page.render(examined([0.95]), "", back=None)
    (tmp_path / name).write_text(saved)
    with pytest.raises(UserError, match=f"holds {name}, which is no page of an earlier run"):
        folder.Pages(tmp_path, "", MODEL, MADE)
    assert (tmp_path / name).read_text() == saved
