"""What goes wrong with a request, as RFC 9457 has it: a kind, a status, and what to do."""

from __future__ import annotations

import http
import json
import math
from collections.abc import Mapping

from starlette.responses import Response

from data_builders.errors import one_line

MEDIA_TYPE = "application/problem+json"
_KIND = "urn:qad-jax:problem:"


class Problem(Exception):
    """A request that is not answered as it was meant.

    Attributes:
      status: Of HTTP.
      kind: A word that programs can rely on.
      detail: One plain sentence that says what to do.
      headers: Of the answer.
    """

    def __init__(
        self, status: int, kind: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail = status, kind, one_line(detail)
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The answer."""
        body = {
            "type": f"{_KIND}{self.kind}",
            "title": http.HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        return Response(json.dumps(body, allow_nan=False), self.status, self.headers, MEDIA_TYPE)


def busy(kind: str, detail: str, seconds: float) -> Problem:
    """Too much at a time, which is over after some seconds."""
    # The header has whole seconds: rounded down, who obeys it would come too early and be refused.
    return Problem(429, kind, detail, {"Retry-After": str(max(1, math.ceil(seconds)))})


def not_stored() -> Problem:
    """The disk is full, or it is damaged."""
    return Problem(
        507, "disk-full", "The disk of the service is full or damaged: tell its operator."
    )


def mistake() -> Problem:
    """Nobody has thought of this."""
    return Problem(
        500, "mistake", "The service has made a mistake: its operator finds it in the log."
    )


def unknown_job() -> Problem:
    """There is no such job, or not any more."""
    return Problem(
        404, "no-such-job", "There is no such job: it was deleted, or its time is over; send again."
    )
