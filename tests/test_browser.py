"""The page of the service and the pages of verdicts, as a browser shows them and people use them.

One service and one browser serve the whole file. Whatever a page asks of another host is blocked,
and is an error; so is what it writes to the console.
"""

import base64
import csv
import io
import json
import re
import urllib.error
import urllib.request

import pytest

from qad_jax.detection import printing
from qad_jax.detection.pages import file_page, overview
from qad_jax.detection.results import Verdict
from tests.browser import (
    DROP,
    GROUND,
    GROUNDS,
    PASTE,
    RECORDER,
    accessible,
    fetched,
    ids,
    judged,
    kept,
    no_overflow,
    ready,
    row,
    served,
    shown,
    until,
    walk,
    worker_by_colour,
)
from tests.test_detection import film, filmed, model, tinted
from tests.test_page_texts import TEXTS
from tests.test_verdict_pages import examined

MOST = 2_000_000
# How long the animation of an element waits, and how the element looks until then; ends the wait.
AT_FIRST = """e => {
  const [animation] = e.getAnimations();
  animation.currentTime = 0;
  const found = [animation.effect.getTiming().delay, getComputedStyle(e).visibility];
  animation.finish();
  return found;
}"""


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Path by name: a clip that the detector calls real, and one that it calls fake."""
    folder = tmp_path_factory.mktemp("clips")
    frames = filmed(8)
    return {
        "real": film(folder / "slow real.mp4", frames),
        "fake": film(folder / "=fake, one.mp4", tinted(frames)),
    }


@pytest.fixture(scope="module")
def address(chromium, tmp_path_factory):
    """Of the service."""
    from qad_jax.detection.server import app
    from qad_jax.detection.server.settings import Settings

    settings = Settings(frames=8, most_bytes=MOST, folder=tmp_path_factory.mktemp("private"))
    made = app.create(settings, entry=worker_by_colour)
    with served(made, settings) as at:
        yield at


def test_clips_go_in_and_verdicts_come_out(tabs, address, clips):
    """By drop, then all by keyboard: the verdict, the walk, the table, what is kept, what goes."""
    tab = ready(tabs.open(address, viewport={"width": 1000, "height": 800}))
    files = [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in clips.values()]
    tab.evaluate(RECORDER)
    tab.evaluate(DROP, files)
    judged(tab, "slow real.mp4", "=fake, one.mp4")
    seen = tab.evaluate("[...seen]")
    assert any(one.startswith("looks for faces") and one.endswith("|") for one in seen)
    assert any(re.match(r"scores the faces.* \|$", one) for one in seen)
    assert any(re.search(r"is next|waits for 1 file", one) for one in seen)

    cells = row(tab, "=fake, one.mp4").locator("th, td").all_inner_texts()
    assert [cell.strip() for cell in cells[:3]] == ["=fake, one.mp4", "called fake", "0.95"]
    assert cells[4].strip() == "1"

    # The first that is done is shown by itself; any is chosen by keyboard.
    assert tab.locator("#detail-title").inner_text() in [path.name for path in clips.values()]
    row(tab, "=fake").locator("button.name").focus()
    tab.keyboard.press("Enter")
    assert tab.locator("#detail-answer").inner_text() == "The detector calls this file fake."
    assert tab.evaluate("document.activeElement.id") == "detail-title"
    frame = shown(tab)
    assert frame.get_by_text("It is not a proof").count() == 1
    # No bar to scroll within the page.
    until(tab, "(d => d.scrollHeight <= d.clientHeight)(page.contentDocument.documentElement)")

    walk(tab, frame)

    # What can be kept is what the service and `qad-jax detect` say.
    (job,) = [one for one in ids(tab) if "fake" in fetched(f"{address}v1/jobs/{one}")]
    told = fetched(f"{address}v1/jobs/{job}/verdict")
    assert json.loads(told)["verdict"] == "fake"
    assert kept(tab, "Data (JSON)") == ("_fake_one.mp4.json", told)
    name, html = kept(tab, "Page (HTML)")
    assert (name, html) == ("_fake_one.mp4.html", fetched(f"{address}v1/jobs/{job}/page"))
    name, table = kept(tab, "Whole table (CSV)")
    rows = list(csv.reader(io.StringIO(table)))
    assert rows[0] == list(printing.COLUMNS)
    expected = Verdict.from_dict(json.loads(told))
    (line,) = csv.reader(io.StringIO(printing.row(expected)))
    assert line[0] == "'=fake, one.mp4"  # a spreadsheet must not run a name
    assert rows[2] == line
    name, lines = kept(tab, "All data (JSON)")
    assert [json.loads(one)["verdict"] for one in lines.splitlines()] == ["real", "fake"]

    head = tab.locator("#files th").filter(has_text="probability")
    for order, first in (("ascending", "slow real.mp4"), ("descending", "=fake, one.mp4")):
        head.locator("button").press("Enter")
        assert head.get_attribute("aria-sort") == order
        assert tab.locator("#files tbody th").first.inner_text() == first

    tab.get_by_role("button", name="Delete =fake, one.mp4").press("Enter")
    row(tab, "=fake").wait_for(state="detached")
    assert tab.locator("#detail").is_hidden()
    assert tab.evaluate("document.activeElement.ariaLabel") == "Delete slow real.mp4"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        fetched(f"{address}v1/jobs/{job}")
    assert "=fake, one.mp4 is deleted." in tab.locator("#said").inner_text()
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#files", state="hidden")
    assert tab.evaluate("document.activeElement.id") == "choose"


def test_files_that_are_refused(tabs, address, clips):
    """Each has its message beside its name; what is too large is not sent."""
    tab = ready(tabs.open(address))
    sent = []
    tab.on("request", lambda request: sent.append(request.method))
    tab.set_input_files(
        "#picker",
        [
            {"name": "empty.mp4", "mimeType": "video/mp4", "buffer": b""},
            {"name": "<i>text.mp4", "mimeType": "video/mp4", "buffer": b"no video" * 50},
            {"name": "large\u202e.mp4", "mimeType": "video/mp4", "buffer": bytes(MOST + 1)},
        ],
    )
    for name, said in (
        ("empty.mp4", r"not taken\s.*empty"),
        ("<i>text.mp4", r"not taken\s.*(image|video)"),
        (
            "large\ufffd.mp4",
            r"not taken\sThe file has 2 MB, and the limit is 2 MB\. Send a shorter",
        ),
    ):
        message = row(tab, name).locator("td").first
        message.locator(".why").wait_for()
        assert re.search(said, message.inner_text()), message.inner_text()
        assert row(tab, name).locator("button.name").count() == 0
    assert sent.count("POST") == 2
    assert tabs.statuses == {400, 415}
    tab.get_by_role("button", name="Delete all").click()
    tab.wait_for_selector("#files", state="hidden")


def test_two_tabs_and_a_tab_that_is_loaded_anew(tabs, address, clips):
    """One chooses a file, the other pastes one; each keeps its own, also when it is loaded anew."""
    context = tabs.context()
    first, second = context.new_page(), context.new_page()
    for tab in (first, second):
        tab.goto(address)
        ready(tab)
    first.set_input_files("#picker", clips["fake"])
    text = base64.b64encode(clips["real"].read_bytes()).decode()
    second.evaluate(PASTE, ["a.mp4", text])
    judged(first, "=fake, one.mp4")
    judged(second, "a.mp4")
    for tab, name in ((first, "=fake, one.mp4"), (second, "a.mp4")):
        assert tab.locator("#files tbody tr").count() == 1
        tab.reload()
        judged(tab, name)
        shown(tab)
        assert tab.locator("#files tbody tr").count() == 1
        assert len(ids(tab)) == 1
    fetched_id = ids(first)[0]
    request = urllib.request.Request(f"{address}v1/jobs/{fetched_id}", method="DELETE")
    urllib.request.urlopen(request).close()
    first.reload()  # what the service has removed is not listed any more
    ready(first)
    until(first, "sessionStorage.getItem('qad-jax-jobs') === '[]'")
    assert first.locator("#files tbody tr").count() == 0
    assert tabs.statuses == {404}


def test_a_token(tabs, address, clips):
    """It comes from the address or from the field, and stays in neither of the two."""
    token, shown_tokens = "a+token/of&this=test", []

    def guard(route):
        given = route.request.headers.get("authorization", "")
        if route.request.method == "POST":
            shown_tokens.append(given)
        if "/limits" in route.request.url:
            answer = route.fetch()
            route.fulfill(response=answer, json={**answer.json(), "token_needed": True})
        elif given == f"Bearer {token}":
            route.continue_()
        else:
            problem = {"type": "x", "title": "x", "status": 401, "detail": "A token is missing."}
            route.fulfill(status=401, json=problem, content_type="application/problem+json")

    context = tabs.context()
    context.route("**/v1/**", guard)
    tab = context.new_page()
    tab.goto(f"{address}#token=wrong")
    ready(tab)
    assert "token" not in tab.url
    tab.set_input_files("#picker", clips["fake"])
    tab.get_by_text("The service does not accept this token.").wait_for()
    accessible(tab)
    tab.get_by_label("Token of this service").fill(token)
    tab.get_by_role("button", name="Use this token").press("Enter")
    judged(tab, "=fake")
    shown(tab)
    assert tab.locator("#access").is_hidden()
    assert tab.locator("#trouble").inner_text() == ""
    assert f"Bearer {token}" in shown_tokens
    assert shown_tokens.count("Bearer wrong") == 1  # it is not tried again
    assert tabs.statuses == {401}


def test_a_service_that_is_busy_or_away(tabs, address, clips):
    """Nothing is lost: a file waits as long as it is told to, and questions are asked again."""
    problem = {"type": "x", "title": "x", "status": 429, "detail": "The queue is full."}
    busy, away = True, True

    def between(route):
        nonlocal busy
        if route.request.method == "POST" and busy:
            busy = False
            kind = "application/problem+json"
            route.fulfill(status=429, json=problem, content_type=kind, headers={"Retry-After": "1"})
        elif "/v1/jobs/" in route.request.url and away:
            route.abort()
        else:
            route.continue_()

    context = tabs.context()
    context.route("**/v1/jobs**", between)
    context.route("**/v1/jobs/*", between)
    tab = context.new_page()
    tab.goto(address)
    ready(tab)
    tab.set_input_files("#picker", clips["fake"])
    row(tab, "=fake").get_by_text("The queue is full. This page does it by itself.").wait_for()
    tab.get_by_text("The service does not answer. This page tries again.").wait_for()
    away = False
    judged(tab, "=fake")
    tab.wait_for_selector("#trouble", state="hidden")
    assert tabs.statuses == {429}
    tabs.errors = [error for error in tabs.errors if "net::ERR_FAILED" not in error]


def test_a_page_of_which_a_part_is_missing_says_so(tabs, address):
    context = tabs.context()
    context.route("**/static/table.js", lambda route: route.abort())
    tab = context.new_page()
    tab.goto(address)
    said = tab.get_by_text("This page has not arrived whole. Load it again.")
    assert said.evaluate(AT_FIRST) == [3000, "hidden"]  # it may still come
    said.wait_for(state="visible")
    accessible(tab)
    context.unroute_all()
    ready(tab.reload() and tab)
    assert said.count() == 0
    assert tabs.errors
    tabs.errors = [error for error in tabs.errors if "net::ERR_FAILED" not in error]


def test_a_translation_from_right_to_left(tabs, address, clips):
    """Another file of texts is another language: all that is said changes, and the direction."""
    other = {
        key: {kind: f"\u05d0{text}" for kind, text in value.items()}
        if isinstance(value, dict)
        else [f"\u05d0{text}" for text in value]
        if isinstance(value, list)
        else f"\u05d0{value}"
        for key, value in TEXTS.items()
    } | {"lang": "he", "dir": "rtl"}
    context = tabs.context(color_scheme="dark")
    context.route("**/static/texts.json", lambda route: route.fulfill(json=other))
    tab = context.new_page()
    tab.goto(address)
    ready(tab)
    tab.set_input_files("#picker", [clips["fake"]])
    judged(tab, "=fake")
    shown(tab)
    assert tab.evaluate("[document.documentElement.lang, document.dir]") == ["he", "rtl"]
    for width in (320, 1600):
        tab.set_viewport_size({"width": width, "height": 800})
        no_overflow(tab)
    texts = tab.evaluate(
        """[...document.querySelectorAll("main :is(h1, h2, p, button, label, th, li)")]
          .filter(e => !e.children.length && e.checkVisibility()).map(e => e.textContent)"""
    )
    assert len(texts) > 15
    assert not [text for text in texts if text and not text.startswith("\u05d0")]
    accessible(tab)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_width_and_every_reader(tabs, address, clips, tmp_path, scheme):
    """WCAG 2.2 AA as axe sees it, and no page wider than its window, on the screen and on paper."""
    one = examined([0.9, 0.95, 1.0, 0.95] * 8, [0.2] * 40, file=f"{'long' * 30}.mp4")
    pages = {
        "file.html": file_page.render(one, "qad-jax detect clip.mp4", back="index.html"),
        "index.html": overview.render(
            [overview.Row.of("file.html", one.verdict)] * 2, model().description, "qad-jax detect"
        ),
    }
    service = ready(tabs.open(address, color_scheme=scheme, reduced_motion="reduce"))
    accessible(service)
    kind = {"light": "real", "dark": "fake"}[scheme]
    service.set_input_files("#picker", [clips[kind]])
    if kind == "real":  # it is slow: a bar that does not know how far it is would move all the time
        bar = "document.querySelector('progress:not([value])')"
        until(service, f"{bar} && getComputedStyle({bar}).display === 'none'")
    judged(service, clips[kind].name)
    shown(service)
    opened = [service]
    for name, text in pages.items():
        (tmp_path / name).write_text(text)
        opened.append(tabs.open((tmp_path / name).as_uri(), color_scheme=scheme))
    # Colours move nothing: one width is enough for the second scheme.
    widths = {"light": (320, 360, 768, 1600), "dark": (1600,)}[scheme]
    for tab in opened:
        assert tab.evaluate(GROUND) == GROUNDS[scheme]
        for width in widths:
            tab.set_viewport_size({"width": width, "height": 800})
            no_overflow(tab)
            if width == widths[0]:
                accessible(tab)
            tab.evaluate("document.dir = 'rtl'")
            no_overflow(tab)
            tab.evaluate("document.dir = 'ltr'")
        tab.set_viewport_size({"width": 700, "height": 1000})  # of a sheet
        tab.emulate_media(media="print")
        no_overflow(tab)
        assert tab.evaluate(GROUND) == GROUNDS["light"]
        assert tab.locator(":is(.actions, .drop, .walk, .hint, details):visible").count() == 0
