"""What every request passes: is it meant for this service, may it ask, and what may a browser do.

A page of a stranger that is open in a browser on the same machine must not reach the service: it
can neither call it by a name of its own (DNS rebinding), nor send a form to it, nor read an answer.
"""

from __future__ import annotations

import collections
import hashlib
import hmac
import ipaddress
import time
import traceback
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qad_jax.detection.server.problems import Problem, busy, mistake
from qad_jax.detection.server.settings import Settings

#: What a browser may do with the page of the service.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; frame-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
#: The same of the page of a verdict, which the page of the service shows in a frame.
VERDICT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)
_OTHERS_POLICY = "default-src 'none'; frame-ancestors 'none'"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
_MINUTE = 60.0
_MOST_CLIENTS = 10_000


class Guard:
    """Wraps the service: refuses what is not meant for it, and adds headers to all answers."""

    def __init__(
        self, app: ASGIApp, settings: Settings, count: Callable[[str, str, int], None]
    ) -> None:
        """Wraps an application.

        Args:
          app: The service.
          settings: By which names it may be called.
          count: Is told method, route and status of each request.
        """
        self._app, self._count = app, count
        self._names = {"localhost", *(name.lower().rstrip(".") for name in settings.names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request, or what else the server asks for."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        started = False

        async def sent(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Content-Security-Policy", _OTHERS_POLICY)
                route = getattr(scope.get("route"), "path", "none")
                method = scope["method"] if scope["method"] in _METHODS else "other"
                self._count(method, route, message["status"])
            await send(message)

        try:
            self._check(scope)
        except Problem as problem:
            await problem.response()(scope, receive, sent)
            return
        try:
            await self._app(scope, receive, sent)
        except Exception:
            if started:
                raise
            traceback.print_exc()
            await mistake().response()(scope, receive, sent)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            raise Problem(
                421,
                "wrong-host",
                "The service is not called by this name: use its address, or start it with "
                "--name and this name.",
            )
        if scope["method"] in _SAFE:
            return
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        foreign = origin is not None and origin.partition("://")[2].lower() != hosts[0].lower()
        if foreign or site not in (None, "same-origin", "none"):
            raise Problem(
                403, "other-site", "Pages of other sites may not use the service: open its page."
            )

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header is an address, which no name server gives, or one of our names."""
        name, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
        if not name:
            name, port = host, ""
        if port and not port.isdecimal():
            return False
        name = name.lower().rstrip(".")
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name[1:-1] if name.startswith("[") else name)
        except ValueError:
            return False
        return True


_METHODS = frozenset((*_SAFE, "POST", "PUT", "PATCH", "DELETE"))


def client_of(host: str | None) -> str:
    """Who asks, as far as turns and rates go: an address, or the network of one of IPv6.

    Args:
      host: The address that a request comes from.
    """
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        # One machine has as many addresses as it wants in its network of 64 bits.
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


class Rates:
    """How often each client may send: so many a minute, and as many at once after a pause."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Makes a rate.

        Args:
          per_minute: Requests of one client in a minute.
          clock: Seconds.
        """
        self._most, self._clock = per_minute, clock
        # What a client has left, and when that was; the client that came last is at the end.
        self._left: collections.OrderedDict[str, tuple[float, float]] = collections.OrderedDict()

    def take(self, client: str) -> None:
        """Counts a request.

        Raises:
          Problem: There were too many.
        """
        now = self._clock()
        left, then = self._left.pop(client, (float(self._most), now))
        left = min(self._most, left + (now - then) * self._most / _MINUTE)
        taken = left >= 1
        self._left[client] = (left - taken, now)
        if len(self._left) > _MOST_CLIENTS:
            self._left.popitem(last=False)
        if not taken:
            raise busy(
                "too-many-requests",
                f"You may send {self._most} files a minute: send this one later.",
                (1 - left) * _MINUTE / self._most,
            )


def check_token(shown: str | None, token: str) -> None:
    """Checks the token that a client shows.

    Args:
      shown: What it has sent; None where that is nothing.
      token: What the service wants.

    Raises:
      Problem: The token is missing, or is another one.
    """
    # Of digests, so that the time of the comparison does not tell how long the token is.
    ours, theirs = (hashlib.sha256(text.encode()).digest() for text in (token, shown or ""))
    if not hmac.compare_digest(ours, theirs):
        raise Problem(
            401,
            "token",
            "The service wants its token: send the header Authorization: Bearer TOKEN.",
            {"WWW-Authenticate": "Bearer"},
        )
