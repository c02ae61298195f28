"""A linked item, and a run of it, for tests of the sync: real store, real HTTP, real sealing."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import dict_row

from engine.plaid.client import PlaidClient
from engine.plaid.pages import account_json
from engine.plaid.types import Account
from engine.settings import Settings
from engine.store import Transport
from engine.sync.deps import Deps
from engine.sync.run import RunResult, run_item

TOKEN = "access-canary-7f3a"


class OpenSecrets:
    """Sealing is tested elsewhere; here a token must only come back for its own item."""

    def seal(self, plaintext: str, bound_to: str) -> tuple[str, str]:
        return f"sealed:{bound_to}:{plaintext[::-1]}", "k1"

    def unseal(self, text: str, key_id: str, bound_to: str) -> str:
        prefix = f"sealed:{bound_to}:"
        assert text.startswith(prefix)
        return text.removeprefix(prefix)[::-1]


def deps(store: Transport, url: str, owner: str = "test/1", **changes: Any) -> Deps:
    settings = Settings(plaid_url=url, **{"lease_s": 8.0, **changes})
    return Deps(store=store, plaid=PlaidClient(settings), secrets=OpenSecrets(), settings=settings, owner=owner)


@dataclass
class World:
    """One item of one user, the deps of a worker, and a way to look at the database."""

    deps: Deps
    database_url: str
    item: str = field(default_factory=lambda: str(uuid.uuid4()))
    user: str = ""

    def link(self, token: str = TOKEN, plaid_item_id: str = "") -> World:
        sealed, key_id = self.deps.secrets.seal(token, self.item)
        answer = self.deps.store.call(
            "item_link",
            id=self.item,
            user="me",
            plaid_item_id=plaid_item_id or f"plaid-{self.item}",
            institution_id="ins_1",
            institution_name="First Lakeside Bank",
            label="",
            environment="simulated",
            access_token=sealed,
            access_key_id=key_id,
            webhook_url=None,
            accounts=[account_json(Account("acc-1", "Checking", mask="0001"))],
            correlation="corr-link",
        )
        self.user = answer["user_id"]
        return self

    def want(self, trigger: str = "webhook", lane: str = "high") -> None:
        self.deps.store.call("items_want", items=[self.item], trigger=trigger, correlation="corr-w", lane=lane)

    def run(self, trigger: str = "webhook", **kwargs: Any) -> RunResult:
        return run_item(
            self.deps, self.item, **{"job_id": "job-1", "trigger": trigger, "correlation": "corr-1", **kwargs}
        )

    def sync(self) -> RunResult:
        """Want and run."""
        self.want()
        return self.run()

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self.database_url, autocommit=True, row_factory=dict_row) as connection:
            return connection.execute(query, values).fetchall()

    def execute(self, query: str, *values: Any) -> None:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(query, values)

    def row(self) -> dict[str, Any]:
        return self.rows("select * from syncdesk.items where id = %s", self.item)[0]

    def live(self) -> dict[str, dict[str, Any]]:
        found = self.rows("select * from syncdesk.transactions where item_id = %s and removed_at is null", self.item)
        return {row["transaction_id"]: row for row in found}

    def history(self, identity: str) -> list[dict[str, Any]]:
        return self.rows(
            "select * from syncdesk.transaction_history where item_id = %s and transaction_id = %s order by id",
            self.item,
            identity,
        )
