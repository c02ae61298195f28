"""A bank that costs next to nothing: every call of /transactions/sync brings one new row, after a time, within limits.

``python -m tests.support.paced_bank LATENCY_MS ITEM_LIMIT CLIENT_LIMIT WINDOW_S`` (limits of 0: none) prints its URL
and serves until its standard input ends. Limits are calls in any ``WINDOW_S`` seconds (60 at Plaid, fewer in a bench
that runs faster than time). ``GET /counts`` tells how many calls were answered and refused.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import defaultdict, deque
from typing import Any

from tests.support import days


class PacedBank:
    """Answers of one bank; limits in calls in any ``window_s`` seconds, 0 for none."""

    def __init__(self, latency_s: float, item_limit: int, client_limit: int, window_s: float) -> None:
        self._latency_s, self._item_limit, self._client_limit = latency_s, item_limit, client_limit
        self._window_s = window_s
        self._recent: dict[str, deque[float]] = defaultdict(deque)
        self._counts = {"calls": 0, "refused": 0}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request after request."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                lengths = [
                    line.split(":")[1] for line in head.splitlines() if line.lower().startswith("content-length:")
                ]
                body = await reader.readexactly(int(lengths[0])) if lengths else b""
                status, answer = await self._answer(head.split(" ")[1], body)
                data = json.dumps(answer).encode()
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        if path == "/counts":
            return 200, dict(self._counts)
        asked = json.loads(body)
        token = asked["access_token"]
        if not (self._allowed(token, self._item_limit) and self._allowed("client", self._client_limit)):
            self._counts["refused"] += 1
            return 429, {
                "error_type": "RATE_LIMIT_EXCEEDED", "error_code": "TRANSACTIONS_SYNC_LIMIT", "error_message": "",
                "request_id": "r",
            }  # fmt: skip
        await asyncio.sleep(self._latency_s)
        self._counts["calls"] += 1
        return 200, _page(token, int((asked.get("cursor") or "c0")[1:]) + 1)

    def _allowed(self, name: str, limit: int) -> bool:
        if not limit:
            return True
        now, recent = time.monotonic(), self._recent[name]
        while recent and recent[0] < now - self._window_s:
            recent.popleft()
        recent.append(now)
        return len(recent) <= limit


def _page(token: str, number: int) -> dict[str, Any]:
    row = {
        "transaction_id": f"{token}-{number}", "account_id": "acc", "amount": 5.25, "date": days.ago(0),
        "name": "SHOP", "pending": False, "iso_currency_code": "USD",
    }  # fmt: skip
    return {
        "added": [row], "modified": [], "removed": [], "has_more": False, "next_cursor": f"c{number}", "accounts": [],
        "transactions_update_status": "HISTORICAL_UPDATE_COMPLETE", "request_id": "r",
    }  # fmt: skip


async def _main(latency_s: float, item_limit: int, client_limit: int, window_s: float) -> None:
    server = await asyncio.start_server(PacedBank(latency_s, item_limit, client_limit, window_s).serve, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_main(float(sys.argv[1]) / 1000, int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
