"""Threads that may be abandoned: a request stuck in somebody else's service must not hold up the end of the process.

The standard library's pool joins its threads when the interpreter ends, so a Plaid that hangs
for thirty seconds would make the engine hang as long. What these threads do is either done by
one commit or not at all, so leaving them behind loses nothing.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
Work = tuple[Future[Any], Callable[[], Any]]


class Threads(Executor):
    """At most ``count`` daemon threads, started as they are needed and kept."""

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = count, name
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        self._idle = threading.Semaphore(0)
        self._ended = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run in a thread, when one is free.

        Raises:
            RuntimeError: after `shutdown`.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._ended:
                raise RuntimeError("These threads have ended.")
            self._work.put((future, lambda: fn(*args, **kwargs)))
            if not self._idle.acquire(blocking=False) and self._started < self._count:
                self._started += 1
                threading.Thread(target=self._run, name=f"{self._name}-{self._started}", daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing new and let the threads end; what runs is not waited for, whatever ``wait`` says."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            if cancel_futures:
                self._cancel()
            for _ in range(self._started):
                self._work.put(None)

    def _cancel(self) -> None:
        while True:
            try:
                entry = self._work.get_nowait()
            except queue.Empty:
                return
            if entry is not None:
                entry[0].cancel()

    def _run(self) -> None:
        while (entry := self._work.get()) is not None:
            future, work = entry
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the result
                    future.set_exception(error)
            del entry, future, work  # an idle thread holds on to nothing
            self._idle.release()
