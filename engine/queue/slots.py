"""The free threads of one process, shared by the consumers of all its queues."""

from __future__ import annotations

import threading


class Slots:
    """Counts threads without a job, so that never more is taken than can start at once."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._free = size
        self._waiting: list[str] = []
        self._changed = threading.Condition()

    @property
    def free(self) -> int:
        return self._free

    @property
    def busy(self) -> int:
        return self.size - self._free

    def wanted(self, queue: str) -> bool:
        """Whether the consumer of another queue waits for a thread; a finished job then gives its thread to it."""
        return any(name != queue for name in self._waiting)

    def acquire(self, queue: str, timeout: float) -> int:
        """All that are free (at least one) for ``queue``, or 0 after ``timeout`` seconds."""
        with self._changed:
            if not self._free:
                self._waiting.append(queue)
                try:
                    self._changed.wait(timeout)
                finally:
                    self._waiting.remove(queue)
            got, self._free = self._free, 0
            return got

    def release(self, count: int = 1) -> None:
        with self._changed:
            self._free += count
            self._changed.notify()

    def wake(self) -> None:
        """Let every waiting consumer look up."""
        with self._changed:
            self._changed.notify_all()
