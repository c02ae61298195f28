"""Steps: how a running job shows that it gets on. Each answer of the database to a job's own thread is one, so that a
long sync takes one with every page that it stages. The renewal of leases happens in other threads and is none: a job
that hangs is known by its lack of steps, however well its lease is kept."""

from __future__ import annotations

import threading
from typing import Any

import dramatiq

from engine.queue.jobs import Proxy
from engine.queue.ports import Store


class Steps(dramatiq.Middleware):
    """Knows which job each thread runs."""

    def __init__(self) -> None:
        self._own = threading.local()

    def before_process_message(self, broker: Any, message: Any) -> None:
        self._own.job = message if isinstance(message, Proxy) else None

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        self._own.job = None

    def took(self, name: str) -> None:
        """The job of this thread, if there is one, took the step ``name``."""
        job: Proxy | None = getattr(self._own, "job", None)
        if job is not None:
            job.step(name)

    def watch(self, store: Store) -> Store:
        """The same store, whose answers are steps."""
        return _Watched(store, self)


class _Watched:
    def __init__(self, store: Store, steps: Steps) -> None:
        self._store, self._steps = store, steps

    def call(self, name: str, /, **params: Any) -> Any:
        answer = self._store.call(name, **params)
        self._steps.took(name)
        return answer
