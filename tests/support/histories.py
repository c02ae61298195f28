"""One random history of a small world: banks whose data changes, triggers, workers that run and end, and faults.

A history is a list of steps, each a tuple of a method's name and plain arguments, so that hypothesis can shrink it and
print it. The parts are real: sandbox bank over HTTP, Valkey, Postgres, the engine's own code (`tests.support.stepped`).
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from engine import clock
from engine.errors import BrokerUnavailable, StoreUnavailable
from engine.plaid.client import PlaidClient
from engine.plaid.webhooks import Verified
from engine.queue import Hints, Reconciler
from engine.queue.keys import LANES, QUEUES
from engine.settings import Settings
from engine.store import Transport
from engine.sync import inbox
from engine.sync.leases import LeaseKeeper
from scheduler import work as scheduled
from tests.support.bank import RunningBank
from tests.support.queue import Bench, settings
from tests.support.stepped import Cut, Moment, Moments, Process, Window, Wire, end_sessions
from tests.support.syncing import OpenSecrets

ROWS = 12
HOUR_S = 3600
GYM = {"name": "HARBOR GYM", "merchant_name": "Harbor Gym", "amount": "64.00"}
SETTLES = ("INSTITUTION_DOWN", "PRODUCT_NOT_READY", "INVALID_API_KEYS")
"""Errors that end a job without a failure: the schedule tries again."""
HERE = -1
"""Among the steps of a moment: the item whose run came by."""
Step = tuple[Any, ...]

#: Each by itself: a run that is under way in another thread holds these in an order of its own.
_PASSES: tuple[LiteralString, ...] = (
    "update syncdesk.item_leases set expires_at = expires_at - %s",
    "update syncdesk.items set last_success_at = last_success_at - d, wanted_at = wanted_at - d,"
    " last_attempt_at = last_attempt_at - d, next_probe_at = next_probe_at - d from (select %s::interval as d) by_",
    "update syncdesk.sync_runs set started_at = started_at - d, parked_at = parked_at - d"
    " from (select %s::interval as d) by_ where state = 'running'",
    "update syncdesk.failure_group_items set last_seen = last_seen - %s",
)


@dataclass
class Linked:
    """An item of ours and the bank's name for it."""

    id: str
    plaid_id: str


@dataclass(kw_only=True)
class Servers:
    """What all histories share."""

    store: Transport
    database_url: str
    bank: RunningBank
    plaid: PlaidClient
    given: Settings
    leases: LeaseKeeper
    database: psycopg.Connection[dict[str, Any]]

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        return self.database.execute(query, values).fetchall()


@contextlib.contextmanager
def servers(store: Transport, database_url: str, bank: RunningBank) -> Iterator[Servers]:
    """Over a running database and bank."""
    given = settings(
        plaid_url=bank.url, plaid_item_limit=200, backoff_first_s=15.0, max_attempts=2, lease_s=8.0, keep_failed=10_000
    )
    plaid = PlaidClient(given)
    leases = LeaseKeeper(store, given.lease_s)
    with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as database:
        try:
            yield Servers(
                store=store,
                database_url=database_url,
                bank=bank,
                plaid=plaid,
                given=given,
                leases=leases,
                database=database,
            )
        finally:
            plaid.close()


@dataclass
class History:
    """The methods are the steps. ``item`` is 0 or 1; other numbers choose among what there is."""

    shared: Servers
    world: Bench
    items: list[Linked] = field(default_factory=list)
    cuts: int = 0
    runs: int = 0
    #: Deliveries that got no answer: Plaid sends them again.
    unheard: list[tuple[str, str, int]] = field(default_factory=list)
    #: Items of which some news was not told since; that wait for a repair; that only the schedule brings up to date.
    untold: set[int] = field(default_factory=set)
    broken: set[int] = field(default_factory=set)
    resting: set[int] = field(default_factory=set)
    forgotten: set[int] = field(default_factory=set)
    #: Items whose bank still prepares some of their data.
    unready: set[int] = field(default_factory=lambda: {1})
    _processes: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def begin(self) -> None:
        """A fresh user with two banks, one of them ready, and a bill; an empty broker; nothing of other histories."""
        self.world.client.flushall()
        self.shared.bank.do("faults/clear")
        self.shared.database.execute(
            "delete from syncdesk.items; delete from syncdesk.inbox; delete from syncdesk.notices;"
            " delete from syncdesk.outbox; delete from syncdesk.failed_jobs; delete from syncdesk.failure_groups;"
            " delete from syncdesk.stage"
        )
        user = f"u-{uuid.uuid4()}"
        for ready in (True, False):
            made = self.shared.bank.do("items", exchange=True, ready=ready, transactions=ROWS, living=False)
            self.items.append(self._link(user, made))
        anchor = (clock.now().date() - timedelta(days=1)).isoformat()
        bill = {"name": "Harbor Gym", "amount": "64.00", "cadence": "monthly", "anchor_date": anchor}
        self.shared.store.call("bill_put", bill=None, user=user, body=bill)

    def _link(self, user: str, made: dict[str, Any]) -> Linked:
        item = str(uuid.uuid4())
        sealed, key_id = OpenSecrets().seal(made["access_token"], item)
        self.shared.store.call(
            "item_link",
            id=item,
            user=user,
            plaid_item_id=made["item_id"],
            institution_id=made["institution_id"],
            institution_name=made["institution_name"],
            label="",
            environment="simulated",
            access_token=sealed,
            access_key_id=key_id,
            webhook_url=None,
            accounts=[],  # all of them come new
            correlation="link",
        )
        return Linked(item, made["item_id"])

    # ------------------------------------------------------------ what happens at the bank

    def add(self, item: int, count: int, kind: str, tell: str) -> None:
        """``kind``: plain, pending, gym (a payment of the bill), account (on another account than ever)."""
        body: dict[str, Any] = {"count": count, "pending": kind == "pending"}
        if kind in ("gym", "account"):
            body = {"transactions": [dict(GYM) if kind == "gym" else {"amount": "5.00"} for _ in range(count)]}
        if kind == "account":
            known = self._account_ids(item)
            for number, row in enumerate(body["transactions"]):
                row["account_id"] = known[(count + number) % len(known)]
        self._bank("transactions", item, **body)
        self.tell(item, tell)

    def post(self, item: int, index: int, tell: str) -> None:
        pending = [row["transaction_id"] for row in self.truth(item).values() if row["pending"]]
        if pending:
            chosen = pending[index % len(pending)]
            self._bank("post", item, transaction_id=chosen, changes={"amount": str(Decimal(index + 101) / 100)})
            self.tell(item, tell)

    def modify(self, item: int, index: int, tell: str) -> None:
        live = list(self.truth(item))
        if live:
            chosen = live[index % len(live)]
            self._bank("modify", item, transaction_id=chosen, changes={"amount": str(Decimal(index + 7) / 100)})
            self.tell(item, tell)

    def remove(self, item: int, index: int, tell: str) -> None:
        live = list(self.truth(item))
        if live:
            self._bank("remove", item, transaction_ids=[live[index % len(live)]])
            self.tell(item, tell)

    def note(self, item: int, index: int) -> None:
        """A person writes a note on a row, a pending one where there are any."""
        rows = self.shared.rows(
            "select id, pending from syncdesk.transactions where item_id = %s and removed_at is null order by id",
            self.items[item].id,
        )
        rows = [row for row in rows if row["pending"]] or rows
        if rows:
            changes = {"note": f"note {index}"}
            chosen = rows[index % len(rows)]["id"]
            self.shared.store.call("transaction_annotate", id=chosen, changes=changes, correlation="note")

    def mutate(self, item: int) -> None:
        """The pagination that is under way must begin anew."""
        self._bank("mutate", item, fire=None)

    def ready(self, item: int, status: str) -> None:
        self._bank("ready", item, fire=None, status=status)
        if status == "HISTORICAL_UPDATE_COMPLETE":
            self.unready.discard(item)
        self.tell(item, "once")

    def breaks(self, item: int, code: str, told: bool) -> None:
        self.broken.add(item)
        self._bank("break", item, fire=None, error_code=code)
        if told:
            self.hear("ITEM", "ERROR", item, error={"error_type": "ITEM_ERROR", "error_code": code})

    def repairs(self, item: int) -> None:
        self._bank("repair", item, fire=None)
        self.hear("ITEM", "LOGIN_REPAIRED", item)
        self.broken.discard(item)
        self.untold.discard(item)

    def trouble(self, item: int, kind: str, code: str, times: int) -> None:
        """The next ``times`` calls of /transactions/sync for an item go wrong."""
        if code in SETTLES:
            self.resting.update([item] if code != "INVALID_API_KEYS" else range(len(self.items)))
        fault = {"path": "/transactions/sync", "item_id": self.items[item].plaid_id, "kind": kind, "times": times}
        self.shared.bank.do("faults", **fault, **({"error_code": code} if kind == "error" else {}))

    # ------------------------------------------------------------ triggers

    def tell(self, item: int, how: str) -> None:
        """News of an item: not, once, twice (the same delivery again), or stored but not hinted."""
        if how == "no":
            self.untold.add(item)
        else:
            twice = how == "twice"
            self.hear("TRANSACTIONS", "SYNC_UPDATES_AVAILABLE", item, copies=1 + twice, hinted=how != "unhinted")
            self.untold.discard(item)

    def hear(self, kind: str, code: str, item: int, copies: int = 1, hinted: bool = True, **fields: Any) -> None:
        """A verified webhook comes in."""
        said = {"webhook_type": kind, "webhook_code": code, "item_id": self.items[item].plaid_id, **fields}
        body = json.dumps(said).encode()
        verified = Verified("jwt", uuid.uuid4().hex, hashlib.sha256(body).hexdigest())
        for _ in range(copies):
            try:
                got = inbox.receive(self.shared.store, verified, body)
            except StoreUnavailable:
                self.unheard.append((kind, code, item))
                return
            if hinted and got.raised is not None:
                raised = got.raised
                self._hints.sync(
                    raised.item_id, raised.user_id, raised.institution, raised.lane, "webhook", got.correlation
                )
            elif hinted and got.state == "received":
                self._hints.webhook(got.inbox_id, got.user_id, got.correlation)

    def manual(self, item: int) -> None:
        answer = self.shared.store.call(
            "items_want", items=[self.items[item].id], trigger="manual", correlation="click", lane="high"
        )
        for hint in answer["hints"]:
            self._hints.sync(hint["item_id"], hint["user_id"], hint["institution"], hint["lane"], "manual", "click")

    def schedule(self) -> None:
        scheduled.backup_sync(self._tools(), "tick")

    def reconcile(self) -> None:
        Reconciler(self.shared.store, self.world.client, self.world.keys).run_once()

    def sweep(self) -> None:
        scheduled.stage_sweep(self._tools(), "sweep")

    # ------------------------------------------------------------ faults

    def wipe(self) -> None:
        self.world.client.flushall()

    def cut_redis(self) -> None:
        """The broker closes every connection but the one that asks for it."""
        for kind in ("normal", "pubsub"):
            self.world.client.client_kill_filter(_type=kind, skipme=True)

    def cut_postgres(self) -> None:
        end_sessions(self.shared.database_url)

    def forget_cursor(self, item: int, how: str) -> None:
        """An older backup of the database: no cursor, or one that the bank refuses."""
        self.untold.add(item)
        self.forgotten.add(item)
        other = self.shared.rows("select cursor from syncdesk.items where id = %s", self.items[1 - item].id)
        cursor = other[0]["cursor"] if how == "refused" else None
        self.shared.database.execute(
            "update syncdesk.items set cursor = %s where id = %s and cursor is not null", (cursor, self.items[item].id)
        )

    def passes(self, seconds: int) -> None:
        """Time passes: all that is stored is as much further in the past."""
        keys, client = self.world.keys, self.world.client
        for queue in QUEUES:
            for name in (keys.delayed(queue), keys.retrying(queue), keys.running(queue)):
                found: Any = client.zrange(name, 0, -1, withscores=True)
                for member, score in found:
                    client.zadd(name, {member: score - seconds * 1000})
        for key in client.scan_iter(match="*bucket:*"):
            client.delete(key)
        client.delete(keys.prefix + "buckets")
        client.delete(keys.reconciled)
        with psycopg.connect(self.shared.database_url, autocommit=True) as connection:
            for statement in _PASSES:
                connection.execute(statement, [timedelta(seconds=seconds)])

    # ------------------------------------------------------------ workers

    def work(
        self, count: int, fault: tuple[Any, ...] = (), freed: bool = False, moments: Sequence[Moment] = ()
    ) -> None:
        """A process runs up to ``count`` jobs.

        ``fault``: ("store", nth call, how) or ("queue", where). ``freed``: its host saw it end and frees what it held.
        ``moments``: each with the steps that happen there.
        """
        name = f"w{next(self._processes)}:"
        kind = fault[0] if fault else ""
        wire = Wire(self.shared.store, self.shared.database_url, fault[1:] if kind == "store" else None)  # type: ignore[arg-type]
        wire.moments = Moments(moments, lambda steps: self._meanwhile(steps, wire))
        again = [False]
        window = Window(self.shared.plaid, wire)
        process = Process(
            self.world,
            name,
            wire,
            window,
            self.shared.given,
            self.shared.leases,
            lambda: again.__setitem__(0, True),
        )
        try:
            self.runs += process.work(count, fault[1] if kind == "queue" else "")
        except Cut:
            wire.dead = True
            self.cuts += 1
            if freed:
                self._free(name)
        finally:
            window.rest()
            process.close()
        if again[0] and not wire.dead:
            self.reconcile()

    def _meanwhile(self, steps: list[Step], wire: Wire) -> None:
        here = next((number for number, item in enumerate(self.items) if item.id == wire.item), 0)
        for name, *parts in steps:
            if name == "end":
                wire.end()
            if parts and parts[0] == HERE:
                parts[0] = here
            with contextlib.suppress(BrokerUnavailable, StoreUnavailable):  # whoever did it met the outage
                self.take((name, *parts))

    def lapse(self) -> None:
        """Whoever runs something was stopped for so long that all leases ran out."""
        self.passes(60)

    def _free(self, name: str) -> None:
        from engine.queue import Control

        Control(self.world.client, self.world.keys).free(name)
        self.shared.store.call("leases_release", owner=name)

    # ------------------------------------------------------------ the end

    def take(self, step: Step) -> None:
        """Do one step."""
        getattr(self, step[0])(*step[1:])

    def news(self, item: Linked, cursor: str | None) -> tuple[int, bool]:
        """How many rows the bank still has for who stands at ``cursor``, and whether more follow."""
        made = self.shared.bank.get("items")["items"]
        token = next(entry["access_token"] for entry in made if entry["item_id"] == item.plaid_id)
        _, page = self.shared.bank.plaid("/transactions/sync", access_token=token, cursor=cursor)
        return len(page["added"]) + len(page["modified"]) + len(page["removed"]), bool(page["has_more"])

    def hear_all(self) -> list[int]:
        """What was told is dealt with and nothing else asks for a sync; the items that must be up to date now."""
        for kind, code, number in self.unheard:
            self.hear(kind, code, number)
        self._drain()
        failed = {row["item"] for row in self.shared.rows("select item_id::text as item from syncdesk.failed_jobs")}
        left_out = self.untold | self.broken | self.resting | self.unready
        return [n for n, item in enumerate(self.items) if n not in left_out and item.id not in failed]

    def settle(self) -> None:
        """The banks are well, workers run undisturbed and the schedule goes round."""
        self.shared.bank.do("faults/clear")
        for number in range(len(self.items)):
            self.ready(number, "HISTORICAL_UPDATE_COMPLETE")
            self.repairs(number)
        for _ in range(3):  # a refused install is probed by one bank before the others follow
            self._surely(self.schedule)
            self._drain()
            self._surely(self.sweep)
            self.passes(HOUR_S)

    def _drain(self) -> None:
        for _ in range(40):
            self._surely(self.reconcile)
            self.work(50)
            if self._quiet():
                return
            self.passes(60)
        raise AssertionError(f"still unfinished: {self.shared.store.call('unfinished')}")

    @staticmethod
    def _surely(act: Callable[[], None]) -> None:
        """Do what the engine does again and again: connections that were cut before fail it once each."""
        for _ in range(10):
            with contextlib.suppress(BrokerUnavailable, StoreUnavailable):
                return act()
        act()

    def _quiet(self) -> bool:
        keys, client = self.world.keys, self.world.client
        live = [
            int(client.zcard(name))
            for queue in QUEUES
            for name in (keys.delayed(queue), keys.retrying(queue), keys.running(queue))
        ]
        waiting = [int(client.llen(keys.ring(queue, lane))) for queue in QUEUES for lane in LANES]
        found = self.shared.store.call("unfinished")
        held = self.shared.rows("select 1 from syncdesk.item_leases where expires_at > clock_timestamp()")
        return not any([*live, *waiting, *held]) and not (found["items"] or found["inbox"] or found["outbox"])

    # ------------------------------------------------------------ small things

    @property
    def _hints(self) -> Hints:
        return Hints(self.world.client, self.world.keys)

    def _tools(self) -> scheduled.Tools:
        def none() -> Any:
            raise AssertionError("not needed")

        return scheduled.Tools(
            settings=self.shared.given,
            store=self.shared.store,
            hints=self._hints,
            deps=none,
            publish=lambda topic, found: None,
        )

    def _bank(self, name: str, item: int, fire: bool | None = False, **body: Any) -> dict[str, Any]:
        """An operation of the bank, which sends nothing by itself: deliveries are steps."""
        sent = {} if fire is None else {"fire": fire}
        return self.shared.bank.do(name, item_id=self.items[item].plaid_id, **sent, **body)

    def truth(self, item: int) -> dict[str, dict[str, Any]]:
        """What the bank has now, by transaction."""
        return self.shared.bank.truth(self.items[item].plaid_id)

    def _account_ids(self, item: int) -> list[str]:
        plaid_id = self.items[item].plaid_id
        rows = self.shared.bank.get("truth", item_id=plaid_id)["items"][plaid_id]["accounts"]
        return [row["account_id"] for row in rows]
