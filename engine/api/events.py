"""The event stream: one subscription to Redis, fanned out to every console.

A slow console never holds up another: its queue is bounded, and when it overflows the events
are dropped for one ``hello`` that says "fetch again what you show". The same ``hello`` is
sent after Redis was away, since nobody knows what was missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from engine import clock
from engine.api.context import Context, Events
from engine.api.problems import problem_response
from engine.api.types import Event
from engine.errors import BrokerUnavailable

QUEUE = 256
STREAMS = 64
HEARTBEAT_S = 10.0
_END = object()


class Fan:
    """Reads events in a thread and hands them to the streams of one event loop.

    It listens only while somebody does: a dozen events a job would cost the host more than the job.
    """

    def __init__(self, events: Events) -> None:
        self._events = events
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queues: set[asyncio.Queue[Any]] = set()
        self._ended = threading.Event()
        self._heard = threading.Event()  # somebody listens, or we end
        self._source: Iterator[dict[str, Any]] | None = None
        self._thread = threading.Thread(target=self._read, name="events", daemon=True)

    def start(self) -> None:
        """Begin to read; call on the event loop that serves the streams."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """End every stream; the reading thread ends with its next event or time limit."""
        self._ended.set()
        self._heard.set()
        for queue in self._queues:
            self._put(queue, _END)

    def join(self) -> None:
        """Wait until the reading thread has let go of its connection; blocks for a second at most."""
        if self._thread.ident is not None:
            self._thread.join(5)

    def publish(self, event: Event) -> None:
        """Hand an event of our own to every stream, also where Redis is away. Any thread."""
        if self._loop is not None and not self._ended.is_set():
            with contextlib.suppress(RuntimeError):  # the loop closed meanwhile
                self._loop.call_soon_threadsafe(self._deliver, event)

    async def stream(self, request: Request, context: Context) -> Response:
        """``GET /api/events``."""
        if len(self._queues) >= STREAMS or self._ended.is_set():
            return problem_response(503, "BUSY", "Too many event streams are open.")
        return StreamingResponse(self._lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def _lines(self) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[Any] = asyncio.Queue(QUEUE)
        self._queues.add(queue)
        self._heard.set()
        try:
            yield _line(_hello())
            while not self._ended.is_set():
                try:
                    event = await asyncio.wait_for(queue.get(), HEARTBEAT_S)
                except TimeoutError:
                    yield b": alive\n\n"
                    continue
                if event is _END:
                    return
                yield _line(event)
        finally:
            self._queues.discard(queue)

    def _deliver(self, event: Event) -> None:
        for queue in self._queues:
            self._put(queue, event)

    def _put(self, queue: asyncio.Queue[Any], event: Any) -> None:
        if queue.full():
            while not queue.empty():
                queue.get_nowait()
            if event is not _END:
                event = _hello()
        queue.put_nowait(event)

    def _read(self) -> None:
        pause, lost = 0.1, False
        while not self._ended.is_set():
            self._heard.wait()
            try:
                self._listen()
                pause, lost = 0.1, False
            except (BrokerUnavailable, msgspec.ValidationError):
                if not lost:
                    lost = True
                    self.publish(Event(topic="engine", at=clock.iso(clock.now())))
                self._ended.wait(pause)
                pause = min(pause * 2, 2.0)

    def _listen(self) -> None:
        """Hand on events until nobody listens any more; at first a hello, since what came before was not heard.

        Raises:
            BrokerUnavailable: the connection was lost.
        """
        begun = False
        for raw in self._events.subscribe():
            if self._ended.is_set():
                return
            if not begun:
                begun = True
                self.publish(_hello())
            if raw:
                self.publish(msgspec.convert(raw, Event))
            if not self._queues:
                self._heard.clear()
                if not self._queues:  # nobody came meanwhile
                    return


def _hello() -> Event:
    return Event(topic="hello", at=clock.iso(clock.now()))


def _line(event: Event) -> bytes:
    return b"data: " + msgspec.json.encode(event) + b"\n\n"
