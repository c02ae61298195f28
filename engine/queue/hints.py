"""Putting hints: a job that says where Postgres has unfinished work. Losing one costs time, never work."""

from __future__ import annotations

import json
import uuid
from typing import Final

import redis

from engine.errors import UsageError
from engine.logs import logger
from engine.queue import scripts
from engine.queue.connection import translated
from engine.queue.keys import LANES, QUEUES, Keys

# Jobs that belong to no user share one place in the ring.
ANYBODY: Final = "-"
# The actor of each queue, and what its argument is called.
TARGETS: Final = {
    "transactions": ("sync_item", "item_id"),
    "webhooks": ("process_webhook", "inbox_id"),
    "notifications": ("deliver_notice", "outbox_id"),
}
# What an operator looks for in the log (the words of the first are part of the contract).
WORDS: Final = {
    "transactions": "transaction sync job",
    "webhooks": "webhook job",
    "notifications": "notification job",
}

# Triggers behind which a person waits: neither a distance nor a retry's wait holds them back.
AT_ONCE: Final = frozenset({"manual", "link", "retry"})

log = logger("queue")


class Hints:
    """Puts hints into the lanes; one target has one job that waits, is delayed or retries (coalescing)."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    def sync(
        self, item_id: str, user_id: str, institution: str | None, lane: str, trigger: str, correlation: str
    ) -> str:
        """Hint that an item wants a sync; returns the id of the job that will see to it.

        A job that waits is used (its lane may rise); one that retries is used, and started now where a
        person asks; one that runs is followed by one more. Further runs of an item keep the distance of
        the settings between their starts, but for a person's.

        Raises:
            BrokerUnavailable: Redis does not answer. The reconciler will put the hint.
        """
        return self.put(
            "transactions",
            item_id,
            user_id=user_id,
            institution=institution,
            lane=lane,
            trigger=trigger,
            correlation=correlation,
            urgent=trigger in AT_ONCE,
        )

    def webhook(self, inbox_id: int, user_id: str | None, correlation: str) -> str:
        """Hint that a stored webhook waits to be processed. Raises as `sync`."""
        return self.put(
            "webhooks", str(inbox_id), user_id=user_id, lane="high", trigger="webhook", correlation=correlation
        )

    def notification(self, outbox_id: int, user_id: str | None, correlation: str) -> str:
        """Hint that a notification waits in the outbox. Raises as `sync`."""
        return self.put(
            "notifications", str(outbox_id), user_id=user_id, lane="medium", trigger="outbox", correlation=correlation
        )

    def put(
        self,
        queue: str,
        target: str,
        *,
        user_id: str | None,
        lane: str,
        trigger: str,
        correlation: str,
        institution: str | None = None,
        delay_ms: int = 0,
        again: bool = True,
        urgent: bool = False,
    ) -> str:
        """Hint at ``target`` (an item, inbox or outbox id). ``again``: if its job runs now, one more follows.

        Raises:
            BrokerUnavailable: Redis does not answer.
            UsageError: no such queue or lane.
        """
        if queue not in QUEUES or lane not in LANES:
            raise UsageError(f"There is no queue {queue!r} with a lane {lane!r}.")
        actor, argument = TARGETS[queue]
        value: str | int = target if queue == "transactions" else int(target)
        arguments = {argument: value, "correlation": correlation}
        if queue == "transactions":
            arguments["trigger"] = trigger
        with translated():
            job_id, state = scripts.run(
                self._client,
                self._keys,
                "enqueue",
                str(uuid.uuid4()),
                queue,
                lane,
                user_id or ANYBODY,
                f"{queue}:{target}",
                actor,
                "[]",
                json.dumps(arguments),
                target,
                institution or "",
                trigger,
                correlation,
                delay_ms,
                int(again),
                int(urgent),
            )
        if state == "new":
            log.info(
                f"📋 Queued {WORDS[queue]}",
                job=job_id,
                target=target,
                trigger=trigger,
                lane=lane,
                correlation=correlation,
            )
        return str(job_id)
