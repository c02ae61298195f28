"""A Plaid whose every answer a test decides: a real HTTP server on loopback with a queue of answers a path.

The sandbox bank behaves like Plaid; this one misbehaves on demand.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, bytes, dict[str, str]]
Body = dict[str, Any]


class ScriptedPlaid:
    """Answers queued by `answer` in turn; ``handlers`` answer paths whose queue is empty."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Body]] = []
        self.handlers: dict[str, Callable[[Body], Any]] = {}
        self._queued: dict[str, deque[Any]] = defaultdict(deque)
        self._lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # head and body are two writes

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, data, headers = owner._answer(self.path, body)
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
                if "Content-Length" in headers:
                    self.close_connection = True  # the announced length is a lie: end here

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path: str, *answers: Any) -> None:
        """Queue answers: JSON objects, or (status, bytes, headers), or a function of the request."""
        self._queued[path].extend(answers)

    def cursors(self) -> list[str | None]:
        """The cursors asked for, in order."""
        return [body.get("cursor") for path, body in self.calls if path == "/transactions/sync"]

    def _answer(self, path: str, body: Body) -> Answer:
        with self._lock:
            self.calls.append((path, body))
            queued = self._queued[path]
            found = queued.popleft() if queued else self.handlers.get(path)
        if callable(found):
            found = found(body)
        if found is None:
            found = error("NOT_FOUND", "INVALID_REQUEST", status=404)
        if isinstance(found, tuple):
            return found
        return 200, json.dumps(found).encode(), {}


def error(
    code: str, kind: str = "ITEM_ERROR", *, status: int = 400, message: str = "", request_id: str = "req-1"
) -> Answer:
    body = {
        "error_code": code,
        "error_type": kind,
        "error_message": message,
        "display_message": None,
        "request_id": request_id,
    }
    return status, json.dumps(body).encode(), {}


def transaction(identity: str, amount: Any = 12.5, **fields: Any) -> Body:
    """A transaction in Plaid's shape; amounts may be given as `Raw` text by the caller's own JSON."""
    return {
        "transaction_id": identity,
        "account_id": "acc-1",
        "amount": amount,
        "iso_currency_code": "USD",
        "unofficial_currency_code": None,
        "date": "2026-11-20",
        "authorized_date": "2026-11-19",
        "datetime": None,
        "authorized_datetime": None,
        "name": f"Shop {identity}",
        "merchant_name": "Shop",
        "merchant_entity_id": None,
        "payment_channel": "in store",
        "pending": False,
        "pending_transaction_id": None,
        "personal_finance_category": {
            "primary": "FOOD_AND_DRINK",
            "detailed": "FOOD_AND_DRINK_GROCERIES",
            "confidence_level": "HIGH",
        },
        "location": {"city": "Lakeside", "region": None},
        "payment_meta": {"reference_number": None},
        "account_owner": None,
        "transaction_code": None,
        **fields,
    }


def page(
    added: Any = (),
    modified: Any = (),
    removed: Any = (),
    *,
    cursor: str = "c1",
    more: bool = False,
    status: str = "HISTORICAL_UPDATE_COMPLETE",
    balance: Any = 100.25,
) -> Body:
    account = {
        "account_id": "acc-1",
        "name": "Checking",
        "official_name": "Lakeside Checking",
        "mask": "0001",
        "type": "depository",
        "subtype": "checking",
        "balances": {
            "available": balance,
            "current": balance,
            "limit": None,
            "iso_currency_code": "USD",
            "unofficial_currency_code": None,
        },
    }
    return {
        "added": list(added),
        "modified": list(modified),
        "removed": [{"transaction_id": identity, "account_id": "acc-1"} for identity in removed],
        "accounts": [account],
        "next_cursor": cursor,
        "has_more": more,
        "transactions_update_status": status,
        "request_id": "req-page",
    }
