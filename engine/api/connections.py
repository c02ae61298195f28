"""Limits on slow, greedy and endless callers, which uvicorn does not have.

It times an idle connection, but neither one that sends its request byte by byte, nor one that
never reads its answers, and it keeps whatever a caller sends ahead of them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADERS_S = 5.0
"""Longest time from the first byte of a request (or from connecting) to the end of its headers."""
HEADERS_BYTES = 65_536
BODY_S = 15.0
"""Longest time from there to the end of the body; a route that reads it has its own, shorter limit and says so."""
UNREAD_S = 30.0
"""Longest time that a caller may leave its answers unread."""
AHEAD = 16
"""Requests that a caller may send ahead of the one being answered."""
CONNECTIONS = 512
"""Connections a listener holds at a time; a further one takes the place of whoever keeps us waiting longest."""


def guarded() -> type[HttpToolsProtocol]:
    """uvicorn's httptools protocol with limits on time and size of a request, its answer, and on connections."""
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class Guarded(HttpToolsProtocol):
        """Closes a connection that does not get on."""

        _deadline: asyncio.TimerHandle | None = None
        _unread: asyncio.TimerHandle | None = None
        _waiting_since = 0.0
        _header_bytes = 0
        _in_headers = True

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._waiting_since = self.loop.time()
            self._allow(HEADERS_S)
            if len(self.connections) > CONNECTIONS:
                self._make_room()

        def connection_lost(self, exc: Exception | None) -> None:
            self._arrived()
            self.resume_writing()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._in_headers:
                if self._deadline is None:
                    self._allow(HEADERS_S)
                self._header_bytes += len(data)
            super().data_received(data)
            if self._in_headers and self._header_bytes > HEADERS_BYTES:
                self.transport.abort()

        def on_headers_complete(self) -> None:
            self._in_headers = False
            self._allow(BODY_S)
            super().on_headers_complete()
            if len(self.pipeline) > AHEAD:
                raise ValueError("too many requests at once")  # the parser stops, uvicorn answers 400 and closes

        def on_message_complete(self) -> None:
            self._arrived()
            super().on_message_complete()
            # The next request on this connection; between two of them uvicorn's keep-alive limit holds.
            self._in_headers, self._header_bytes = True, 0
            self._waiting_since = self.loop.time()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._unread = self._unread or self.loop.call_later(UNREAD_S, self.transport.abort)

        def resume_writing(self) -> None:
            if self._unread is not None:
                self._unread.cancel()
                self._unread = None
            super().resume_writing()

        def _allow(self, seconds: float) -> None:
            self._arrived()
            self._deadline = self.loop.call_later(seconds, self._too_slow, seconds)

        def _arrived(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _too_slow(self, seconds: float) -> None:
            if self.flow.read_paused:  # we are not reading: an answer to an earlier request is being made
                self._allow(seconds)
            else:
                self._deadline = None
                self.transport.abort()

        def _make_room(self) -> None:
            """Drop whoever has kept us waiting longest, so that no crowd of sleepers locks a newcomer out."""
            waiting = [other for other in self.connections if isinstance(other, Guarded) and other._keeps_us_waiting()]
            min(waiting, key=lambda other: other._waiting_since).transport.abort()

        def _keeps_us_waiting(self) -> bool:
            if self.transport.is_closing():
                return False
            return self.cycle is None or self.cycle.response_complete or self.cycle.more_body or self.flow.write_paused

    return Guarded
