"""The demo's story: banks are linked, webhooks arrive, bills are matched, a job fails for good and is retried.

Everything is done through the doors that a person has (admin API, the bank's webhooks), and every claim
is checked in the database against the bank's own truth.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from engine import clock, launch
from engine.api import types, types_banks, types_bills, types_jobs
from engine.api.client import Client
from engine.demo.bank import BankControl
from engine.demo.ledger import Ledger, bank_rows
from engine.demo.stage import require
from engine.profile import Profile

LAKESIDE, HARBORVIEW, SAKURA, CEDAR = "ins_900001", "ins_900002", "ins_900003", "ins_900004"
BANKS: Mapping[str, str] = {LAKESIDE: "Household", HARBORVIEW: "Household", SAKURA: "Studio", CEDAR: "Studio"}
"""Institutions and whose they are. Harborview fails first."""

# Banks of this demo have a day's webhooks within a second, and each is to be seen arriving: neither Plaid's limit of
# calls an item, which the bank of our own has not, nor the distance between an item's syncs spaces them.
SETTINGS: Mapping[str, str] = {
    "SYNCDESK_BACKUP_EVERY_S": "3",
    "SYNCDESK_PLAID_ITEM_LIMIT": "3000",
    "SYNCDESK_SYNC_DISTANCE_S": "0",
}
SINGLE_WEBHOOKS = 16
BILLS = 5


@dataclass
class Result:
    """What came true. ``problems`` are sentences; none of them means ``ok``."""

    items: int = 0
    transactions: int = 0
    webhook_to_row_ms: dict[str, float] = field(default_factory=dict)
    bill_matches: int = 0
    scheduled_runs: int = 0
    failed_jobs: int = 0
    failed_attempts: int = 0
    retried_ok: int = 0
    pending_to_posted: int = 0
    equal_to_bank: bool = False
    elapsed_s: float = 0.0
    problems: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"ok": not self.problems, **vars(self)}


class Story:
    """The steps in order; each raises with a sentence where it does not come true."""

    def __init__(self, profile: Profile, engine: launch.Discovery, tell: Callable[[str], None]) -> None:
        self._profile, self._engine, self._tell = profile, engine, tell
        self.result = Result()
        self._items: dict[str, str] = {}  # institution -> Plaid's item id
        self._ids: dict[str, str] = {}  # institution -> ours

    def run(self) -> None:
        """All of it."""
        require(self._engine.admin, "The engine has no admin listener.")
        with Client(str(self._engine.admin), self._engine.token) as client:
            plaid_url = client.get("status", types.Status).engine.plaid_url
            require(plaid_url, "The engine has no simulated bank.")
            with BankControl(str(plaid_url)) as bank, Ledger(self._profile) as ledger:
                self._client, self._bank, self._ledger = client, bank, ledger
                bank.do("life", running=False)
                self._hold_schedule()
                self._link()
                self._first_sync()
                self._webhooks()
                self._pending()
                self._failed_job()
                self._scheduled()
                self._check()

    def _hold_schedule(self) -> None:
        """Until its own step, so that each step shows one thing."""
        known = "select exists (select from syncdesk.schedule where id = 'backup_sync')"
        self._ledger.wait("The scheduler did not tell its jobs.", known)
        self._client.act("schedule/backup_sync/pause")

    def _link(self) -> None:
        for institution, user in BANKS.items():
            # A late webhook would begin another job of the bank whose one job is to fail: it sends none.
            hook = f"{self._engine.public}/api/webhooks/plaid" if institution != HARBORVIEW else None
            made = self._bank.do("items", institution_id=institution, living=False, webhook=hook, seed=institution)
            self._items[institution] = made["item_id"]
            if institution == HARBORVIEW:
                self._bank.do(
                    "faults", path="/transactions/sync", item_id=made["item_id"], error_code="INTERNAL_SERVER_ERROR"
                )
            done = self._client.act("items/link", types_banks.LinkRequest(public_token=made["public_token"], user=user))
            self._ids[institution] = done.ids[0]
            if institution == LAKESIDE:
                self._bills(made["bills"], user)
        self.result.items = len(self._items)
        self._tell(f"{self.result.items} banks linked; one of them answers with errors")

    def _bills(self, found: list[dict[str, Any]], user: str) -> None:
        """What a person would type from the household's own bills, and one that is due today."""
        for bill in found[:BILLS]:
            anchor = (clock.now().date().replace(day=1) - timedelta(days=1)).replace(day=bill["day"])
            self._bill(bill["name"], Decimal(bill["amount"]), anchor, user, bill["category"])
        self._bill("Blue Harbor Dance School", Decimal("64.00"), clock.now().date(), user, None)

    def _bill(self, name: str, amount: Decimal, anchor: date, user: str, category: str | None) -> None:
        bill = types_bills.BillWrite(
            name=name, amount=str(amount), cadence="monthly", anchor_date=anchor.isoformat(), category=category,
            user=user, business_day_shift="next",
        )  # fmt: skip
        self._client.act("bills", bill)

    def _first_sync(self) -> None:
        for institution, item in self._items.items():
            if institution == HARBORVIEW:
                continue
            self._bank.do("ready", item_id=item)
            count = self._bank.ask("truth", item_id=item)["items"][item]["count"]
            self._ledger.wait(
                "The first sync of a bank did not bring all its transactions.",
                "select count(*) = %s from syncdesk.transactions t join syncdesk.items i on i.id = t.item_id"
                " where i.plaid_item_id = %s and t.removed_at is null",
                count,
                item,
            )
        self._tell("First syncs are in")

    def _webhooks(self) -> None:
        """One new transaction after the other, each announced by a webhook; the last one pays a bill."""
        waits: list[float] = []
        turns = [self._items[name] for name in (LAKESIDE, SAKURA, CEDAR)]
        for number in range(SINGLE_WEBHOOKS):
            waits.append(self._announced(turns[number % 3], count=1))
        payment = {
            "amount": "64.00",
            "name": "BLUE HARBOR DANCE SCHOOL 0417",
            "merchant_name": "Blue Harbor Dance School",
        }
        waits.append(self._announced(self._items[LAKESIDE], transactions=[payment]))
        self.result.webhook_to_row_ms = {
            "p50": round(statistics.median(waits), 1),
            "max": round(max(waits), 1),
        }
        self._ledger.wait(
            "The payment that a webhook brought was not matched to its bill.",
            "select exists (select from syncdesk.matches m join syncdesk.bills b on b.id = m.bill_id"
            " where b.name = 'Blue Harbor Dance School' and m.state = 'auto')",
        )
        self._tell(
            f"{len(waits)} webhooks: row in the database after {self.result.webhook_to_row_ms['p50']} ms (median)"
        )

    def _announced(self, item: str, **new: Any) -> float:
        made = self._bank.do("transactions", item_id=item, **new)
        seen = self._ledger.wait_row(made["transaction_ids"][0])
        hooks = self._bank.ask("webhooks", item_id=item, after=made["webhook_id"] - 1)["webhooks"]
        sent = next(float(hook["attempts"][0]["sent_ms"]) for hook in hooks if hook["id"] == made["webhook_id"])
        return seen - sent

    def _pending(self) -> None:
        """A pending purchase posts with another amount: one row goes, its successor comes."""
        item = self._items[LAKESIDE]
        pending = self._bank.do("transactions", item_id=item, count=1, pending=True)["transaction_ids"][0]
        self._ledger.wait_row(pending)
        posted = self._bank.do("post", item_id=item, transaction_id=pending, changes={"amount": "41.20"})[
            "transaction_id"
        ]
        self._ledger.wait_row(posted)
        self._ledger.wait(
            "A pending transaction that posted was not replaced.",
            "select replaced_by = %s and removed_at is not null from syncdesk.transactions where transaction_id = %s",
            posted,
            pending,
        )
        self.result.pending_to_posted = 1

    def _scheduled(self) -> None:
        """News that no webhook announces: the backup schedule finds them."""
        item = self._items[SAKURA]
        self._ledger.until("What webhooks announced was not synced to its end.", lambda: self._is_served(SAKURA))
        quiet = self._bank.do("transactions", item_id=item, count=3, fire=False)["transaction_ids"]
        self._client.act("schedule/backup_sync/resume")
        for transaction in quiet:
            self._ledger.wait_row(transaction)
        query = "select count(*) from syncdesk.sync_runs where trigger = 'schedule' and state = 'done' and added > 0"
        self.result.scheduled_runs = int(self._ledger.one(query))
        require(self.result.scheduled_runs, "The backup schedule did not bring the news that no webhook announced.")
        self._tell("The backup schedule found what no webhook had announced")

    def _is_served(self, institution: str) -> bool:
        """Whether no webhook is under way and none left a sync to be done: only the schedule would bring more."""
        hooks = self._bank.ask("webhooks", item_id=self._items[institution])["webhooks"]
        served = (
            "select wanted = done and not exists (select from syncdesk.inbox where state = 'received')"
            " from syncdesk.items where id = %s"
        )
        return all(hook["state"] == "delivered" for hook in hooks) and bool(
            self._ledger.one(served, self._ids[institution])
        )

    def _failed_job(self) -> None:
        """A job that failed for good, retried as the console's button does it, after the bank recovered."""
        item = self._ids[HARBORVIEW]
        self._ledger.wait(
            "The bank that answers with errors did not make a job fail for good.",
            "select exists (select from syncdesk.failed_jobs where item_id = %s)",
            item,
        )
        failed = self._client.get("jobs", types_jobs.JobPage, state="failed").jobs
        self.result.failed_jobs = len(failed)
        ours = next(job for job in failed if job.item_id == item)
        job = self._client.get(f"jobs/{ours.id}", types_jobs.JobDetail)
        # A start that met trouble of the engine's own (a lock of the database, say) is told too, none of the four.
        errors = [entry.error for entry in job.timeline if entry.error is not None]
        self.result.failed_attempts = sum(error.kind == "plaid" for error in errors)
        seen = ", ".join(f"{error.kind} {error.code}" for error in errors)
        require(self.result.failed_attempts == 4, f"The failed job does not show its four attempts, but {seen}.")
        self._bank.do("faults/clear")
        self._bank.do("ready", item_id=self._items[HARBORVIEW])
        self._client.act(f"jobs/{job.job.id}/retry")
        # Not by the job's id: where the failed one has not left the queue yet, the retry follows it as one of its own.
        self._ledger.wait(
            "The retried job did not succeed.",
            "select exists (select from syncdesk.sync_runs"
            " where item_id = %s and state = 'done' and trigger = 'retry')",
            item,
        )
        self.result.retried_ok = 1
        self._tell("A job failed for good after 4 attempts, was retried by a click and succeeded")

    def _check(self) -> None:
        """The database equals the bank's truth, nothing twice."""
        truth = self._bank.ask("truth")["items"]
        for item in self._items.values():
            wanted = bank_rows(truth[item])
            self._ledger.until(
                "The database differs from what the bank has.",
                lambda item=item, wanted=wanted: self._ledger.rows(item) == wanted,  # type: ignore[misc]
            )
            self.result.transactions += len(wanted)
        require(self._ledger.added_twice() == 0, "A transaction was added twice.")
        self.result.equal_to_bank = True
        self.result.bill_matches = int(
            self._ledger.one("select count(*) from syncdesk.matches where state in ('auto', 'suggested')")
        )
        require(self.result.bill_matches > 1, "No payments were matched to the bills.")
        self._tell(
            f"{self.result.transactions} transactions, equal to the bank's; {self.result.bill_matches} bill matches"
        )
