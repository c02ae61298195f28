"""Sending webhooks as Plaid does: signed, at least once, tried again after 30 s and then four times as long each.

Deliveries run as tasks of the server's loop and never hold up an answer. Every attempt is kept
with its time of sending.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.sandbox.signing import Keys

if TYPE_CHECKING:
    import httpx

ANSWER_WITHIN_S = 10.0
GIVE_UP_AFTER_S = 24 * 3600.0
KEPT = 20_000


@dataclass
class Attempt:
    """One try; times are Unix milliseconds. ``status`` is None where nobody answered."""

    sent_ms: float
    answered_ms: float | None = None
    status: int | None = None


@dataclass
class Delivery:
    """One webhook to one address."""

    number: int
    url: str
    item_id: str | None
    code: str
    body: bytes
    attempts: list[Attempt] = field(default_factory=list)
    state: str = "waiting"

    def view(self) -> dict[str, Any]:
        """For the control surface."""
        return {
            "id": self.number,
            "url": self.url,
            "item_id": self.item_id,
            "webhook_code": self.code,
            "body": self.body.decode(),
            "state": self.state,
            "attempts": [vars(each) for each in self.attempts],
        }


@dataclass
class Pace:
    """Seconds before the first try, before the second, and how many times longer each further wait is."""

    delay_s: float = 0.0
    first_retry_s: float = 30.0
    factor: float = 4.0


class Courier:
    """Delivers from within the running event loop; ``speed`` tells how many times faster than Plaid it waits."""

    def __init__(self, keys: Keys, pace: Pace, speed: Callable[[], float]) -> None:
        self._keys = keys
        self._pace = pace
        self._speed = speed
        self._tasks: set[asyncio.Task[None]] = set()
        self._client: httpx.AsyncClient | None = None
        self._outcomes: dict[str, deque[tuple[float, bool]]] = {}

    def submit(self, delivery: Delivery) -> None:
        """Begin to deliver; returns at once."""
        task = asyncio.get_running_loop().create_task(self._run(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up what is under way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    async def _run(self, delivery: Delivery) -> None:
        if self._pace.delay_s:
            await asyncio.sleep(self._pace.delay_s)
        wait, waited = self._pace.first_retry_s, 0.0
        while True:
            good = await self._try(delivery)
            self._note(delivery.url, good)
            if good:
                delivery.state = "delivered"
                return
            if waited + wait > GIVE_UP_AFTER_S or self._is_refused(delivery.url):
                delivery.state = "given_up"
                return
            delivery.state = "retrying"
            await asyncio.sleep(wait / self._speed())
            waited += wait
            wait *= self._pace.factor

    async def _try(self, delivery: Delivery) -> bool:
        import httpx

        headers = {
            "Content-Type": "application/json",
            "Plaid-Verification": self._keys.sign(delivery.body),
            "User-Agent": "plaid-webhooks/sandbox-bank",
        }
        attempt = Attempt(time.time() * 1000)
        delivery.attempts.append(attempt)
        try:
            answer = await self._http().post(delivery.url, content=delivery.body, headers=headers)
            attempt.status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL, OSError):
            return False
        finally:
            attempt.answered_ms = time.time() * 1000
        return attempt.status == 200

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            import httpx

            # The receiver is this machine or a tunnel to it: no proxy is asked, redirects are not followed.
            self._client = httpx.AsyncClient(timeout=ANSWER_WITHIN_S, trust_env=False, follow_redirects=False)
        return self._client

    def _note(self, url: str, good: bool) -> None:
        outcomes = self._outcomes.setdefault(url, deque(maxlen=1000))
        outcomes.append((time.monotonic(), good))

    def _is_refused(self, url: str) -> bool:
        """Plaid stops trying again while more than 90% of the last 24 hours' deliveries were refused."""
        since = time.monotonic() - GIVE_UP_AFTER_S / self._speed()
        recent = [good for moment, good in self._outcomes.get(url, ()) if moment >= since]
        return len(recent) >= 50 and recent.count(False) > 0.9 * len(recent)
