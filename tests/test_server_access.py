"""Who may ask the service: names of the host, pages of other sites, tokens, rates, proxies."""

import socket
import time

import httpx
import pytest

from qad_jax.detection.server import guard, protocol
from qad_jax.detection.server.problems import Problem
from qad_jax.detection.server.settings import Settings
from tests.serving import PATIENCE_S, problem, served
from tests.serving_worker import file_of

TOKEN = "a-token-of-more-than-16-signs"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("serve")


@pytest.fixture(scope="module")
def running(folder):
    with served(Settings(port=0, folder=folder)) as one:
        yield one


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8000", 200),
        ("192.168.0.7", 200),  # no name server gives an address of another machine this name
        ("evil.example", 421),
        ("evil.example:8000", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost:80:80", 421),
        ("", 421),
    ],
)
def test_names_of_the_host(running, host, status):
    answer = running.client.get("/v1/limits", headers={"Host": host})
    assert answer.status_code == status
    if status != 200:
        problem(answer, status, "wrong-host")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_forms_of_other_sites(running, headers):
    problem(running.send("fine", headers=headers), 403, "other-site")
    answer = running.client.get("/v1/limits", headers=headers)
    assert "access-control-allow-origin" not in answer.headers


def test_the_own_page_may_send(running):
    origin = {"Origin": f"http://127.0.0.1:{running.port}", "Sec-Fetch-Site": "same-origin"}
    assert running.send("fine", headers=origin).status_code == 202


def test_every_answer_tells_the_browser_what_it_may_do(running):
    job = running.judged("fine")["id"]
    for address in ("/", "/static/page.css", "/v1/limits", "/nowhere", f"/v1/jobs/{job}/verdict"):
        headers = running.client.get(address).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
    page = running.client.get(f"/v1/jobs/{job}/page").headers["content-security-policy"]
    assert "frame-ancestors 'self'" in page
    assert "script" not in page


def test_a_mistake_of_the_service(running, monkeypatch, capfd):
    """It has the headers of every answer, it is counted, and the connection stays."""
    job = running.judged("fine")["id"]

    def mistaken(*_):
        raise ZeroDivisionError("nobody has thought of this")

    with monkeypatch.context() as patch:
        patch.setattr(running.service, "told", mistaken)
        answer = running.client.get(f"/v1/jobs/{job}")
    assert "nobody" not in problem(answer, 500, "mistake")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "ZeroDivisionError: nobody has thought of this" in capfd.readouterr().err
    counted = 'qad_jax_requests_total{method="GET",route="/v1/jobs/{job}",status="500"} 1.0'
    assert counted in running.client.get("/metrics").text.splitlines()


def test_a_token(folder):
    with served(Settings(port=0, folder=folder, token=TOKEN)) as running:
        client = running.client
        assert client.get("/v1/limits").json()["token_needed"] is True
        for given in (None, TOKEN, f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer", "Bearer \xe9"):
            headers = {} if given is None else {"Authorization": given.encode("latin-1")}
            answer = running.send("fine", headers=headers)
            problem(answer, 401, "token")
            assert answer.headers["www-authenticate"] == "Bearer"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        job = running.send("fine", headers=headers).json()["id"]
        end = time.monotonic() + PATIENCE_S
        while client.get(f"/v1/jobs/{job}", headers=headers).json()["state"] != "done":
            assert time.monotonic() < end
            time.sleep(0.02)
        addresses = [f"/v1/jobs/{job}{of}" for of in ("", "/verdict", "/page")]
        for address in (*addresses, "/metrics"):
            assert client.get(address).status_code == 401
            assert client.get(address, headers=headers).status_code == 200
        assert client.delete(f"/v1/jobs/{job}").status_code == 401
        assert client.delete(f"/v1/jobs/{job}", headers=headers).status_code == 204


def test_a_client_that_sends_too_often(folder):
    with served(Settings(port=0, folder=folder, uploads_per_minute=2)) as running:
        answers = [running.send("fine") for _ in range(3)]
        assert [one.status_code for one in answers] == [202, 202, 429]
        problem(answers[2], 429, "too-many-requests")
        assert 1 <= int(answers[2].headers["retry-after"]) <= 30
        transport = httpx.HTTPTransport(local_address="127.0.0.9")
        with httpx.Client(transport=transport, base_url=str(running.client.base_url)) as other:
            files = {"file": ("a.gif", file_of("fine"))}
            assert other.post("/v1/jobs", files=files).status_code == 202


def test_a_large_file_that_is_refused_at_once_gets_its_answer(folder):
    """Who is still sending does not listen, and would see a connection that breaks."""
    size = 12_000_000
    head = "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n"
    head += f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {size}\r\n\r\n"

    def send(token):
        with socket.create_connection(("127.0.0.1", running.port), timeout=30) as connection:
            connection.sendall(head.format(token).encode() + bytes(size))
            return connection.recv(65536)[:12]

    with served(Settings(port=0, folder=folder, token=TOKEN, uploads_per_minute=1)) as running:
        assert send("wrong") == b"HTTP/1.1 401"
        assert send(TOKEN) == b"HTTP/1.1 400"
        assert send(TOKEN) == b"HTTP/1.1 429"


def test_a_file_that_is_refused_and_goes_on_for_ever(folder, monkeypatch):
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000000\r\n\r\n"

    def go_on():
        for _ in range(1000):
            connection.sendall(b"more")
            time.sleep(0.02)

    with (
        served(Settings(port=0, folder=folder)) as running,
        socket.create_connection(("127.0.0.1", running.port), timeout=30) as connection,
    ):
        connection.sendall(head)
        assert connection.recv(65536).startswith(b"HTTP/1.1 415")
        monkeypatch.setattr(protocol, "PATIENCE", 0.3)
        with pytest.raises(ConnectionError):
            go_on()


@pytest.mark.parametrize(("proxy", "status"), [(None, 429), ("127.0.0.1", 202)])
def test_who_a_proxy_says_that_the_client_is(folder, proxy, status):
    """It is believed where it was named alone: else anybody is as many clients as he wants."""
    with served(Settings(port=0, folder=folder, uploads_per_minute=1, proxy=proxy)) as running:
        first = running.send("fine", headers={"X-Forwarded-For": "192.0.2.1"})
        second = running.send("fine", headers={"X-Forwarded-For": "192.0.2.2"})
    assert (first.status_code, second.status_code) == (202, status)


def test_a_rate_by_hand():
    """Three a minute: three at once, and then one each 20 s."""
    now = [100.0]
    rates = guard.Rates(3, clock=lambda: now[0])
    for _ in range(3):
        rates.take("ann")
    with pytest.raises(Problem) as refused:
        rates.take("ann")
    assert refused.value.headers == {"Retry-After": "20"}
    rates.take("bob")
    now[0] += 20.5
    rates.take("ann")
    with pytest.raises(Problem):
        rates.take("ann")
    now[0] += 3600
    for _ in range(3):
        rates.take("ann")
    with pytest.raises(Problem):
        rates.take("ann")


@pytest.mark.parametrize("per_minute", [1, 7, 30, 59, 60, 61, 120])
def test_who_waits_as_long_as_is_said_is_not_refused_again(per_minute):
    for used in (0.0, 0.4, 0.6, 1.4, 7.7):
        now = [0.0]
        rates = guard.Rates(per_minute, clock=lambda now=now: now[0])
        for _ in range(per_minute):
            rates.take("ann")
        now[0] += used * 60 / per_minute  # one more for each whole one of `used`
        for _ in range(min(per_minute, int(used))):
            rates.take("ann")
        with pytest.raises(Problem) as refused:
            rates.take("ann")
        seconds = refused.value.headers["Retry-After"]
        assert seconds.isdecimal()  # RFC 9110 has whole seconds, and no fractions
        now[0] += int(seconds)
        rates.take("ann")


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        (None, "unknown"),
    ],
)
def test_who_a_client_is(host, client):
    assert guard.client_of(host) == client
