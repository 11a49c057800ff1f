"""The page of the service where things happen at the same time, or do not happen.

The service is one that answers when and what a test wants.
"""

import contextlib
import http.server
import json
import threading
import urllib.parse

import pytest

from qad_jax.detection.server import page_files
from qad_jax.detection.server.settings import Settings
from tests.browser import ids, judged, kept, row, until

MOST = 1000
FILE = {"mimeType": "video/mp4", "buffer": b"video"}


class Service(http.server.ThreadingHTTPServer):
    """Answers as the service does, and holds back what `held` has an event for."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.jobs, self.asked = {}, []
        # By method, or the last word of an address: an event that is waited for, and a
        # status, or None for no answer at all.
        self.held, self.statuses = {}, {}
        # By the same, what a proxy in between answers in place of the service.
        self.garbled = {}
        self.token, self.shown = "", []  # what it wants, and what it was shown

    def add(self, name, state="done"):
        job = {"id": name, "name": name, "bytes": 5, "state": state, "reason": ""}
        self.jobs[name] = job | {"position": 0, "progress": None}
        return self.jobs[name]

    def handle_error(self, request, client_address):
        pass  # a request that the page has given up


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self, status, content=b"", kind="application/json"):
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        self.send_response(status)
        for header in (("Content-Type", kind), ("Content-Length", str(len(content)))):
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(content)

    def _serve(self):
        service, words = self.server, self.path.strip("/").split("/")
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        service.asked.append((self.command, self.path))
        service.shown.append(self.headers.get("Authorization", "").removeprefix("Bearer "))
        if words[0] != "v1":
            found = page_files.find(words[-1]) or (page_files.index(), "text/html")
            return self._answer(200, *found)
        for name in (self.command, words[-1]):
            if name in service.held:
                service.held[name].wait(60)
            if service.statuses.get(name, 0) is None:
                self.close_connection = True
                return None
            if name in service.statuses:
                return self._answer(service.statuses[name], {"detail": "It is not to be had."})
            if name in service.garbled:
                return self._answer(202, service.garbled[name], "text/html")
        if words[-1] == "limits":
            model = {"name": "a", "version": "1", "sha256": "0" * 64}
            told = {"most_bytes": MOST, "kept_seconds": 60, "stored": False, "version": "1"}
            wanted = bool(service.token)
            return self._answer(200, told | {"token_needed": wanted, "model": model})
        if service.token and service.shown[-1] != service.token:
            return self._answer(401, {"detail": "A token is missing."})
        if self.command == "POST":
            return self._answer(202, service.add(f"job{len(service.jobs)}.mp4", "queued"))
        job = service.jobs.get(words[2])
        if job is None:
            return self._answer(404, {"detail": "There is no such job."})
        if self.command == "DELETE":
            del service.jobs[words[2]]
            return self._answer(204)
        if words[-1] == "verdict":
            verdict = {"verdict": "real", "probability": 0.1, "quality": "c23", "faces": []}
            return self._answer(
                200, verdict | {"file": job["name"], "sha256": "0" * 64, "reason": ""}
            )
        if words[-1] == "page":
            return self._answer(200, b"<p class='answer'>a page", "text/html")
        return self._answer(200, job)

    do_GET = do_POST = do_DELETE = _serve

    def log_message(self, *_):
        pass


@pytest.fixture
def service():
    with Service() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        for event in made.held.values():
            event.set()
        made.shutdown()
        thread.join()


def address(service):
    return f"http://127.0.0.1:{service.server_address[1]}/"


def opened(tabs, service, *jobs, wait=True, part=""):
    """A tab that has sent these files before it was loaded anew."""
    context = tabs.context()
    keep = f"sessionStorage.setItem('qad-jax-jobs', {json.dumps(json.dumps(jobs))})"
    context.add_init_script(f"if (location.protocol === 'http:') {keep}")
    tab = context.new_page()
    tab.goto(f"{address(service)}{part}")
    tab.wait_for_selector("main:not([hidden])")  # it listens
    if wait:
        judged(tab, *jobs)
    return tab


@contextlib.contextmanager
def holding(service, name):
    """All requests of this kind wait till the end of the block."""
    event = service.held[name] = threading.Event()
    yield
    del service.held[name]
    event.set()


def test_who_presses_delete_twice_deletes_one_file(tabs, service):
    for name in ("a.mp4", "b.mp4"):
        service.add(name)
    tab = opened(tabs, service, "a.mp4", "b.mp4")
    with holding(service, "DELETE"):
        tab.evaluate("for (const _ of '12') document.querySelector('td:last-child button').click()")
        until(tab, "document.querySelectorAll('tbody tr').length === 2")
    row(tab, "a.mp4").wait_for(state="detached")
    assert ids(tab) == ["b.mp4"]
    assert [method for method, _ in service.asked].count("DELETE") == 1
    tab.get_by_role("button", name="Delete b.mp4").click()
    tab.wait_for_selector("#files", state="hidden")
    assert service.jobs == {}


def test_a_file_is_deleted_while_the_service_takes_it(tabs, service):
    """The answer comes after the file was deleted here; it is deleted there, too."""
    tab = opened(tabs, service)
    with holding(service, "POST"):
        tab.set_input_files("#picker", {"name": "a.mp4", **FILE})
        until(tab, lambda: service.asked[-1][0] == "POST")
        tab.get_by_role("button", name="Delete a.mp4").click()
    tab.wait_for_selector("#files", state="hidden")
    assert service.jobs == {}
    assert service.asked[-1] == ("DELETE", "/v1/jobs/job0.mp4")
    assert "a.mp4 is deleted." in tab.locator("#said").inner_text()


def test_what_cannot_be_had_yet_is_not_lost(tabs, service):
    """Files from before the tab was loaded anew are asked for again, whatever is done meanwhile."""
    for name in ("a.mp4", "b.mp4"):
        service.add(name)
    service.statuses["b.mp4"] = 503
    tab = opened(tabs, service, "a.mp4", "b.mp4", wait=False)
    judged(tab, "a.mp4")
    tab.get_by_text("It is not to be had.").wait_for()
    tab.get_by_role("button", name="Delete a.mp4").click()
    tab.wait_for_selector("#files", state="hidden")
    assert ids(tab) == ["b.mp4"]
    del service.statuses["b.mp4"]
    judged(tab, "b.mp4")
    tab.wait_for_selector("#trouble", state="hidden")
    assert tabs.statuses == {503}


def test_a_deletion_that_fails_says_so_and_can_be_tried_again(tabs, service):
    service.add("a.mp4")
    tab = opened(tabs, service, "a.mp4")
    service.statuses["DELETE"] = 500
    tab.get_by_role("button", name="Delete a.mp4").click()
    tab.get_by_text("It is not to be had.").wait_for()
    tab.wait_for_selector("#trouble", state="hidden")  # the service answers again
    assert row(tab, "a.mp4").count() == 1
    del service.statuses["DELETE"]
    tab.get_by_role("button", name="Delete a.mp4").click()
    tab.wait_for_selector("#files", state="hidden")
    assert tabs.statuses == {500}


def test_all_files_are_all_files(tabs, service):
    """Also of a button that had the focus when one more file was judged."""
    service.add("a.mp4"), service.add("b.mp4")
    last = service.add("c.mp4", "running")
    tab = opened(tabs, service, "a.mp4", "b.mp4", "c.mp4", wait=False)
    judged(tab, "a.mp4", "b.mp4")
    assert len(kept(tab, "All data (JSON)")[1].splitlines()) == 2
    last["state"] = "done"
    judged(tab, "c.mp4")
    assert len(kept(tab, "All data (JSON)")[1].splitlines()) == 3


def test_an_answer_that_is_no_json_is_none(tabs, service):
    """The file is not said to be on its way for ever, and a verdict is asked for again."""
    tab = opened(tabs, service)
    service.garbled["POST"] = b"<html>a proxy"
    tab.set_input_files("#picker", {"name": "a.mp4", **FILE})
    row(tab, "a.mp4").get_by_text("The connection was lost while the file was sent.").wait_for()
    del service.garbled["POST"]
    service.add("b.mp4")
    service.garbled["verdict"] = b"<html>a proxy"
    tab = opened(tabs, service, "b.mp4", wait=False)
    tab.get_by_text("The service does not answer.").wait_for()
    del service.garbled["verdict"]
    judged(tab, "b.mp4")


def test_files_before_the_limits_are_known(tabs, service):
    """They wait; then what is too large is not sent. All that is said is kept to be read out."""
    with holding(service, "limits"):
        tab = opened(tabs, service)
        tab.set_input_files(
            "#picker", [{"name": f"{i}.mp4", **FILE, "buffer": bytes(MOST + i)} for i in range(3)]
        )
        row(tab, "2.mp4").get_by_text("waits to be sent").wait_for()
        assert "POST" not in [method for method, _ in service.asked]
    row(tab, "0.mp4").get_by_text("is next").wait_for()
    said = tab.locator("#said").inner_text()
    for name in ("1.mp4", "2.mp4"):
        assert f"{name}: The file has 1 kB, and the limit is 1 kB." in said
    assert [method for method, _ in service.asked].count("POST") == 1


def test_a_page_that_cannot_be_had(tabs, service):
    """The reason is told, and there is no button that keeps nothing."""
    service.add("a.mp4")
    with holding(service, "page"):
        tab = opened(tabs, service, "a.mp4")
        assert tab.get_by_role("button", name="Page (HTML)").is_disabled()
        service.statuses["page"] = None
    tab.get_by_text("cannot be shown: The service does not answer.").wait_for()
    tab.get_by_text("The detector calls this file real.").wait_for()
    assert tab.get_by_role("button", name="Page (HTML)").is_disabled()
    tabs.errors = [error for error in tabs.errors if "net::ERR_" not in error]


# All signs that `Settings` allows, of which "#" and "%" are the hardest.
SIGNS = "".join(map(chr, range(0x21, 0x7F)))


@pytest.mark.parametrize(
    ("token", "part"),
    [
        ("abc+def/ghi=&jklmnop", "abc+def/ghi=&jklmnop"),  # as `openssl rand -base64` makes it
        ("100%sure_of_this", "100%sure_of_this"),
        (SIGNS, SIGNS.replace("%", "%25")),
        (SIGNS, urllib.parse.quote(SIGNS, safe="")),
    ],
    ids=["base64", "percent", "plain", "quoted"],
)
def test_every_token_arrives_that_a_service_can_have(tabs, service, token, part):
    """Also in a tab that is open; it does not stay in the address."""
    assert Settings(token=token).token == token
    service.token = token
    service.add("a.mp4")
    tab = opened(tabs, service, "a.mp4", wait=False)
    tab.get_by_text("This service needs a token.").wait_for()
    entries = tab.evaluate("history.length")
    tab.evaluate("part => { location.hash = part }", f"#token={part}")
    judged(tab, "a.mp4")
    assert tab.url == address(service)
    assert tab.evaluate("history.length") <= entries + 1
    assert tab.locator("#access").is_hidden()
    assert set(service.shown) == {"", token}
    tab = opened(tabs, service, "a.mp4", part=f"#token={part}")
    assert tab.url == address(service)


def test_a_token_that_no_service_can_have_is_refused_by_the_page(tabs, service):
    """No request could carry it, so the service has no chance to."""
    service.token = "a_token_of_this_test"
    tab = opened(tabs, service, part="#token=%E2%82%AC")
    for wrong in ("\u20ac", "two words"):
        tab.get_by_text("The service does not accept this token.").wait_for()
        tab.get_by_label("Token of this service").fill(wrong)
        tab.get_by_role("button", name="Use this token").click()
    tab.get_by_text("The service does not accept this token.").wait_for()
    assert set(service.shown) == {""}


def test_a_browser_that_keeps_no_data_of_sites(tabs, service):
    """Only a tab that is loaded anew has no files then."""
    context = tabs.context()
    context.add_init_script(
        "Object.defineProperty(window, 'sessionStorage', "
        "{get() { throw new DOMException('', 'SecurityError') }})"
    )
    tab = context.new_page()
    tab.goto(address(service))
    tab.wait_for_selector("main:not([hidden])")  # it listens
    tab.set_input_files("#picker", {"name": "a.mp4", **FILE})
    row(tab, "a.mp4").get_by_text("is next").wait_for()
    service.jobs["job0.mp4"]["state"] = "done"
    judged(tab, "a.mp4")
