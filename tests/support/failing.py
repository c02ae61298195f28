"""Failed jobs made by the engine's own function, and bank links whose runs a test brings to an end by hand."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg

from engine.store import Transport

USER = "00000000-0000-0000-0000-0000000000aa"


class World:
    """A database with items that failed."""

    def __init__(self, store: Transport, url: str) -> None:
        self.store, self.url = store, url
        self.run("insert into syncdesk.users (id, name) values (%s, 'failing') on conflict do nothing", USER)

    def run(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Look into the database, or change it behind the engine's back."""
        with psycopg.connect(self.url, autocommit=True) as link:
            cursor = link.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    def items(self, count: int, institution: str = "First Bank") -> list[str]:
        """Bank links that nothing is wanted of."""
        ids = [str(uuid.uuid4()) for _ in range(count)]
        with psycopg.connect(self.url, autocommit=True) as link, link.cursor() as cursor:
            cursor.executemany(
                "insert into syncdesk.items (id, user_id, plaid_item_id, access_token, access_key_id, environment,"
                " institution_name, state) values (%s, %s, %s, 'sealed', 'k', 'simulated', %s, 'healthy')",
                [(found, USER, f"plaid-{found}", institution) for found in ids],
            )
        return ids

    def fail(
        self, target: str, job_id: str | None = None, *, group: str = "cause", keep: int = 1000, **more: Any
    ) -> str:
        """A job of a bank link failed for good."""
        job_id = job_id or f"job-{uuid.uuid4()}"
        queue = more.pop("queue", "transactions")
        given = {
            "job_id": job_id, "queue": queue, "actor": "sync_item", "lane": "high", "trigger": "webhook",
            "arguments": {"item_id": target} if queue == "transactions" else {"outbox_id": int(target)},
            "target": target, "user_id": USER, "institution": "First Bank", "correlation": "c",
            "fingerprint": group, "rule_version": 2,
            "error": {"code": "BROKEN", "kind": "bug", "title": "It broke", "sentence": "It broke."},
            "attempts": [], "queued_at": "2026-01-01T00:00:00Z", "keep": keep, **more,
        }  # fmt: skip
        self.store.call("job_failed", **given)
        return job_id

    def failed(self, count: int, **more: Any) -> list[str]:
        """So many bank links, each with a failed job; their ids."""
        ids = self.items(count)
        for found in ids:
            self.fail(found, **more)
        return ids

    def went_through(self, *targets: str) -> None:
        """The runs that were asked for ended well."""
        self.run(
            "update syncdesk.items set done = wanted, last_success_at = clock_timestamp() where id = any (%s::uuid[])",
            list(targets),
        )

    def begin(self, expected: int, verb: str = "retry", **more: Any) -> str:
        """Start a bulk action; its id."""
        bulk_id = str(uuid.uuid4())
        given = {
            "id": bulk_id, "verb": verb, "filter": {}, "expected": expected, "hold_ms": 0, "per_second": 1000,
            "canary": False, "who": "tester", **more,
        }  # fmt: skip
        self.store.call("bulk_start", **given)
        return bulk_id

    def step(self) -> list[str]:
        """One step; the targets that it released."""
        return [row["target"] for row in self.store.call("bulk_step")["rows"]]

    def bulk(self, bulk_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.store.call("bulk_get", id=bulk_id)
        return found["bulk"] | {"reasons": found["reasons"]}

    def wanted(self) -> dict[str, int]:
        """How often each bank link was asked for."""
        return {str(found): n for found, n in self.run("select id, wanted from syncdesk.items")}
