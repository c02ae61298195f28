"""A sandbox bank for tests: its real server in a thread on a free port, and a client of its control surface."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import msgspec

from engine.sandbox.bank import Bank, Options
from engine.sandbox.deliveries import Pace
from engine.sandbox.serving import bind, server
from tests.support.wait import until


class RunningBank:
    """``url`` is Plaid's host for the engine; the methods are the control surface."""

    def __init__(self, url: str, options: Options) -> None:
        self.url = url
        self.options = options
        self._http = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def get(self, name: str, **query: Any) -> dict[str, Any]:
        """GET of the control surface; money comes as exact decimals."""
        return self._checked(self._http.get(f"/sandbox/_control/{name}", params=query))

    def do(self, name: str, **body: Any) -> dict[str, Any]:
        """POST of the control surface."""
        encoder = msgspec.json.Encoder(decimal_format="number")
        return self._checked(self._http.post(f"/sandbox/_control/{name}", content=encoder.encode(body)))

    def plaid(self, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
        """A plain request to one of Plaid's endpoints, with keys; HTTP status and JSON."""
        keys = {"client_id": "simulated", "secret": "simulated"}
        answer = self._http.post(path, json={**keys, **body})
        return answer.status_code, _decode(answer.content)

    def raw(self, path: str, content: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
        """A request as it is given."""
        return self._http.post(path, content=content, headers={"content-type": "application/json", **(headers or {})})

    def page(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """One of the bank's pages, as a browser asks for it."""
        return self._http.request(method, path, **arguments)

    def link(self, institution_id: str = "ins_900001", *, ready: bool = True, **options: Any) -> dict[str, Any]:
        """An item with its access token and, with ``ready``, its whole history."""
        return self.do("items", institution_id=institution_id, exchange=True, ready=ready, **options)

    def public_token(self, institution_id: str = "ins_900001", **options: Any) -> str:
        """A login that waits to be linked."""
        token: str = self.do("items", institution_id=institution_id, **options)["public_token"]
        return token

    def truth(self, item_id: str) -> dict[str, dict[str, Any]]:
        """Every live transaction of an item, by id."""
        rows = self.get("truth", item_id=item_id)["items"][item_id]["transactions"]
        return {row["transaction_id"]: row for row in rows}

    @staticmethod
    def _checked(answer: httpx.Response) -> dict[str, Any]:
        assert answer.status_code == 200, answer.text
        return _decode(answer.content)


def _decode(content: bytes) -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads(content, parse_float=Decimal)
    return found


@contextlib.contextmanager
def running_bank(pace: Pace | None = None, **options: Any) -> Iterator[RunningBank]:
    """A bank that stands still by itself (``living``, ``initial_s`` and others of `Options` may be given)."""
    made = Options(**{"living": False, "initial_s": 0.02, "historical_s": 0.04, **options})
    listening = bind("127.0.0.1", 0)
    made.hosted_base = f"http://127.0.0.1:{listening.getsockname()[1]}"
    running = server(Bank(made), pace)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until(lambda: running.started or not thread.is_alive(), what="the bank's start")
    client = RunningBank(made.hosted_base, made)
    try:
        yield client
    finally:
        client.close()
        running.should_exit = True
        thread.join(30)
        listening.close()
