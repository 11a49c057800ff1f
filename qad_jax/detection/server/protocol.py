"""HTTP/1.1 as uvicorn speaks it, with bounds of the time in which a request begins and ends."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

#: Seconds from the first byte of a request, or from the connection, to the end of its headers; and
#: from the answer to the end of a body that nobody reads.
PATIENCE = 20.0


class Impatient(H11Protocol):
    """Closes connections on which nobody asks for anything: each of them is one less for others.

    uvicorn itself counts the time between two requests alone. It also reads on where an answer
    comes before the end of a request, such as that a file is too large. So a client that is still
    sending gets the answer, and does not see a connection that breaks.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A client has come."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """A client has sent something."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """A client has gone."""
        self._forget()
        super().connection_lost(exc)

    def _is_idle(self) -> bool:
        """Whether the client has to come to an end, of the headers or of what nobody reads."""
        theirs, ours = self.conn.their_state, self.conn.our_state
        return theirs is h11.IDLE or (theirs is h11.SEND_BODY and ours is h11.DONE)

    def _watch(self) -> None:
        if not self._is_idle():
            self._forget()
        elif self._timer is None:
            self._timer = self.loop.call_later(PATIENCE, self._close)

    def _close(self) -> None:
        self._timer = None
        if self._is_idle() and not self.transport.is_closing():
            self.transport.close()

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
