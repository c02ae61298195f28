"""The demo's hand on the simulated bank: its control surface over HTTP (`engine.sandbox.control`)."""

from __future__ import annotations

from decimal import Decimal
from types import TracebackType
from typing import Any

import msgspec

from engine import http
from engine.errors import StartError

_DECODER = msgspec.json.Decoder(type=dict[str, Any], float_hook=Decimal)
_ENCODER = msgspec.json.Encoder(decimal_format="string")


class BankControl:
    """Calls of ``/sandbox/_control/*``; amounts come back as exact decimals."""

    def __init__(self, url: str) -> None:
        self._http = http.client(url, timeout_s=60.0, local=True)

    def __enter__(self) -> BankControl:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def ask(self, what: str, **query: Any) -> dict[str, Any]:
        """Read something: truth, items, requests, webhooks, faults."""
        answer = self._http.get(f"/sandbox/_control/{what}", params=query)
        return self._decoded(what, answer.status_code, answer.content)

    def do(self, what: str, **body: Any) -> dict[str, Any]:
        """Make something happen: items, transactions, post, faults, life ..."""
        answer = self._http.post(f"/sandbox/_control/{what}", content=_ENCODER.encode(body))
        return self._decoded(what, answer.status_code, answer.content)

    @staticmethod
    def _decoded(what: str, status: int, content: bytes) -> dict[str, Any]:
        if status != 200:
            raise StartError(f"The simulated bank refused {what!r} (HTTP status {status}).")
        return _DECODER.decode(content)
