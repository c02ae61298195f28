"""The narrow view of the database that the queue needs."""

from __future__ import annotations

from typing import Any, Protocol


class Store(Protocol):
    """`engine.store.Transport`: one SQL function a call."""

    def call(self, name: str, /, **params: Any) -> Any: ...
