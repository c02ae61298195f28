"""Worlds to look at: a normal day, a day of trouble, an empty install, a full one."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any, Literal

from engine import clock
from engine.api import types, types_banks, types_bills, types_bulk, types_jobs, types_operation, types_overview
from engine.api.types_webhooks import Webhook, WebhookDetail, WebhookPage

Scene = Literal["empty", "normal", "trouble", "full"]
NAMES = [
    "Meridian Card Services",
    "First Lakeside Bank",
    "First Lakeside Bank",
    "First Lakeside Bank",
    "Cedar & Pine Brokerage",
    "Pacific Crest Bank",
    "Bluewater Federal Credit Union",
    "Union Street Bank",
    "The Farmers & Merchants Mutual Savings Bank of Upper Sandusky County",
    "桜信託銀行 Sakura Trust",
    "Harborview Credit Union",
    "Larkspur Card",
    "بنك الواحة",
    "Tidewater <b>Business</b>",
]
USERS = ["Household", "Household", "Studio", "Parents"]
TROUBLE = ["needs_you", "bank_trouble", "bank_trouble", "bank_trouble", "expiring", "syncing", "first_data", "paused"]
QUEUES = [("transactions", "Transaction sync"), ("webhooks", "Webhooks"), ("notifications", "Notifications")]


def at(seconds: float) -> str:
    """A time so many seconds ago (negative: ahead)."""
    return clock.iso(clock.now() - timedelta(seconds=seconds))


def day(days: int) -> str:
    """A date so many days ago."""
    return (datetime.now().astimezone() - timedelta(days=days)).date().isoformat()


class World:
    """Answers of one scene, by path."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.random = random.Random(7)
        self.trouble = scene in {"trouble", "full"}
        self.count = {"empty": 0, "normal": 14, "trouble": 14, "full": 100_000}[scene]
        self.items = [] if scene == "empty" else [self._item(place) for place in range(14)]
        self.bulks: list[types_bulk.Bulk] = []

    def answers(self) -> dict[str, Any]:
        """For `Server`."""
        routes: dict[str, Any] = {
            "/api/overview": lambda _q: self.overview(),
            "/api/chart": lambda q: self.chart(q.get("span", "24h")),
            "/api/notices": lambda _q: types_operation.Notices([]),
            "/api/failures": self.failures,
            "/api/jobs": self.jobs,
            "/api/bulks": lambda _q: types_bulk.BulkPage(self.bulks),
            "/api/bulks/preview": lambda _q: self.preview(),
            "/api/items": self.item_page,
            "/api/bills": self.bill_page,
            "/api/bills/review": self.review,
            "/api/webhooks": self.webhook_page,
            "/api/workers": lambda _q: self.workers(),
            "/api/schedule": lambda _q: self.schedule(),
        }
        routes |= {f"/api/jobs/{self.job(place).id}": lambda _q, place=place: self.detail(place) for place in range(30)}
        routes |= {f"/api/items/{item.id}": lambda _q, item=item: self.item_detail(item) for item in self.items}
        routes |= {f"/api/bills/bill{place}": lambda _q, place=place: self.bill_detail(place) for place in range(18)}
        routes |= {
            f"/api/webhooks/{hook.id}": lambda _q, hook=hook: self.webhook_detail(hook) for hook in self.webhooks()
        }
        return routes

    # ------------------------------------------------------------ overview

    def overview(self) -> types_overview.Overview:
        state: types.EngineState = "degraded" if self.trouble else "running"
        empty = self.scene == "empty"
        engine = types.EngineInfo(
            state, "0.1.0", "default", 4821, at(3 * 86400), cause="Many failures" if self.trouble else None,
            environment="simulated" if empty else "production",
        )  # fmt: skip
        data = types_overview.BankData("none", 0, 0, None, at(-540))
        if not empty:
            data = types_overview.BankData("behind" if self.trouble else "up_to_date", 14, 10 if self.trouble else 14,
                                  19440 if self.trouble else 660, at(-540))  # fmt: skip
        return types_overview.Overview(
            engine, data, self._causes(), self._needs(), 0 if empty else 6, self._figures(),
            [self._queue(place) for place in range(3)], self._services(), self._activity(),
            None if empty or self.trouble else "31 new transactions, 2 bills paid, no trouble",
        )  # fmt: skip

    def _causes(self) -> list[types_overview.Cause]:
        return []

    def _needs(self) -> list[types_overview.Need]:
        if not self.trouble:
            return []
        return [
            types_overview.Need(
                "item", self.items[0].id, "needs_you", "The bank signed you out", "Meridian Card Services",
                "It stopped updating at 09:12 and asks for your password again; nothing is lost.", "Sign in"),
            types_overview.Need(
                "engine", "f1", "error", "25 failed jobs, 12 of them at First Lakeside Bank", "",
                "The bank has not answered since 13:31. Not your doing; Syncdesk tries again by itself.",
                "See the causes"),
        ]  # fmt: skip

    def _figures(self) -> types_overview.Figures:
        if self.scene == "empty":
            return types_overview.Figures(0, 0, None, None, 0, 0.0, None)
        if self.trouble:
            return types_overview.Figures(5, 6, 38_000, "Transaction sync", 28, 0.013, 44)
        return types_overview.Figures(4, 3, 400, "Transaction sync", 3, 0.001, 41)

    def _queue(self, place: int) -> types_jobs.QueueStatus:
        name, label = QUEUES[place]
        if self.scene == "empty":
            return types_jobs.QueueStatus(name, label, False, 0, 0, 0, 0, 0, 0, 0, None, 5, None, 1, [0] * 20)  # type: ignore[arg-type]
        failed = (22, 0, 3)[place] if self.trouble else 0
        hour = [self.random.randint(*((8, 18), (2, 12), (0, 5))[place]) for _ in range(20)]
        return types_jobs.QueueStatus(
            name, label, False, (2, 1, 0)[place], (0, 0, 4)[place], (3, 1, 0)[place], (1, 0, 0)[place], failed,  # type: ignore[arg-type]
            (1412, 588, 146)[place], failed, 400, (5, 10, 2)[place], None, 1, hour, place == 0 and self.trouble,
        )  # fmt: skip

    def _services(self) -> list[types_overview.Service]:
        return [
            types_overview.Service("queue", "Queue", "Valkey, built in", "ok", "0.3 ms"),
            types_overview.Service("database", "Database", "Postgres, built in", "ok", "1.2 ms"),
            types_overview.Service("plaid", "Plaid", "production", "ok", "212 ms"),
            types_overview.Service("webhooks", "Webhooks", "signed", "ok", "1 min ago"),
            types_overview.Service("workers", "Workers", "2 pools, 15 threads", "ok", "4 busy"),
            types_overview.Service("schedule", "Schedule", "6 jobs", "ok", "next in 9 min"),
        ]

    def _activity(self) -> list[types_overview.Activity]:
        if self.scene == "empty":
            return []
        return [
            types_overview.Activity(at(0), "state-syncing", "active", "Pacific Crest Bank: syncing, page 3"),
            types_overview.Activity(at(70), "state-done", "ok", "Harborview Credit Union: 12 new"),
            types_overview.Activity(at(75), "tag", "idle", "Con Edison paid: Electric"),
            types_overview.Activity(at(380), "nav-schedule", "idle", "Backup run: 14 banks, 3 stale"),
            types_overview.Activity(at(390), "state-done", "ok", "桜信託銀行 Sakura Trust: 2 new"),
            types_overview.Activity(at(1030), "state-retrying", "warn", "Tidewater Business: tried twice"),
        ]

    def chart(self, span: str) -> types_overview.Chart:
        count, slot = {"1h": (60, 60), "24h": (96, 900), "7d": (84, 7200)}[span]
        slots = []
        for place in range(count):
            done = 0 if self.scene == "empty" else round(20 + 8 * self.random.random() + (place % 29 == 9) * 10)
            failed = int(place in {31, 58, 59} and self.scene != "empty")
            if self.trouble and place >= count - 4:
                failed, done = 4 + place - count + 4, 18
            slots.append(types_overview.ChartSlot(at((count - place) * slot), done, failed, self.scene != "empty"))
        return types_overview.Chart(span, slot, slots)  # type: ignore[arg-type]

    # ------------------------------------------------------------ jobs

    def job(self, place: int) -> types_jobs.Job:
        """The job of a place; made when asked for, so that 100,000 cost nothing."""
        state = "failed" if place < 25 and self.trouble else ("running", "waiting", "done", "done")[place % 4]
        bank = NAMES[1] if place < 12 else NAMES[place % len(NAMES)]
        failed = state == "failed"
        return types_jobs.Job(
            id=f"7f3a0000-0000-0000-0000-{place:012d}", queue="transactions", actor="sync_item", state=state,  # type: ignore[arg-type]
            lane="high", trigger=("webhook", "schedule", "schedule", "manual")[place % 4], user_id="u", item_id="i",
            institution=bank, label=USERS[place % 4], correlation_id="c", queued_at=at(500 + place),
            started_at=None if state == "waiting" else at(490 + place),
            finished_at=at(488.9 + place * (60 if failed else 1)) if failed or state == "done" else None,
            attempts=4 if failed else 1, position=place if state == "waiting" else None,
            error_code="INSTITUTION_NOT_RESPONDING" if failed else None,
            error_title="The bank did not answer" if failed else None, group="f1" if failed else None,
        )  # fmt: skip

    def jobs(self, query: dict[str, str]) -> types_jobs.JobPage:
        limit, start = int(query.get("limit", "50")), int(query.get("after") or 0)
        failed = query.get("state") == "failed"
        most = (25 if self.trouble else 0) if failed else self.count
        most = min(most, 12) if query.get("group") == "f1" else most
        rows = [self.job(place) for place in range(start, min(start + limit, most))]
        end = start + len(rows)
        counts = {"waiting": 6, "delayed": 7, "running": 5, "retrying": 7, "done": self.count, "discarded": 8}
        counts["failed"] = 25 if self.trouble else 0
        if self.scene == "empty":
            counts = dict.fromkeys(counts, 0)
        return types_jobs.JobPage(rows, counts, str(end) if end < most else None)

    def failures(self, query: dict[str, str]) -> types_jobs.FailureGroups:
        groups = self.groups()
        if self.scene == "full":
            groups += [
                types_jobs.FailureGroup(f"more{place}", 1, "INSTITUTION_DOWN", f"Bank {place} is down", "", "Retry", 1,
                                        1, 1, at(9000 + place), at(9000 + place), [0] * 23 + [1], 1)
                for place in range(335)
            ]  # fmt: skip
        start = int(query.get("after") or 0)
        end = min(start + int(query["limit"]), len(groups))
        return types_jobs.FailureGroups(groups[start:end], str(end) if end < len(groups) else None)

    def groups(self) -> list[types_jobs.FailureGroup]:
        if not self.trouble:
            return []
        hours = [0] * 14 + [1, 0, 2, 1, 1, 0, 2, 1, 2, 2]
        some = [0] * 12 + [2, 3, 1] + [0] * 9
        return [
            types_jobs.FailureGroup("f1", 1, "INSTITUTION_NOT_RESPONDING", "First Lakeside Bank did not answer", "",
                                    "Retry", 12, 12, 3, at(3900), at(20), hours),
            types_jobs.FailureGroup("f2", 1, "TRANSACTIONS_SYNC_LIMIT", "Plaid asked us to slow down", "",
                                    "Retry", 6, 6, 5, at(3000), at(2200), some),
            types_jobs.FailureGroup("f3", 1, "08006", "Database connection was lost", "", "Retry", 3, 3, 3, at(2000),
                                    at(1700), some),
            types_jobs.FailureGroup("f4", 2, "ntfy.sh, HTTP 403", "A notification was refused", "", "Retry", 3, 3, 0,
                                    at(2600), at(900), some, 3, True, 6),
            types_jobs.FailureGroup("f5", 1, "ITEM_LOGIN_REQUIRED", "Meridian Card Services wants you to sign in", "",
                                    "Sign in", 1, 1, 1, at(19000), at(19000), [0] * 24),
        ]  # fmt: skip

    def preview(self) -> types_bulk.BulkPreview:
        causes = [types_bulk.BulkCause(row.fingerprint, row.code, row.title, row.count) for row in self.groups()]
        left = [types_bulk.LeftOut("The bank is paused", 2)]
        return types_bulk.BulkPreview(sum(cause.count for cause in causes), causes, left)

    def bulk(self, state: types_bulk.BulkState, **changes: Any) -> types_bulk.Bulk:
        """Twelve jobs that are retried; ``changes`` are fields of it."""
        given = {
            "id": "b1", "verb": "retry", "filter": types_bulk.JobFilter(), "state": state, "canary": True,
            "per_second": 20, "total": 12, "released": 0, "done": 0, "skipped": 0, "failed": 0, "who": "admin token",
            "note": "", "created_at": at(4), "release_at": at(-6), "held_ms": 6000,
        }  # fmt: skip
        return types_bulk.Bulk(**(given | changes))

    def detail(self, place: int) -> types_jobs.JobDetail:
        job = self.job(place)
        error = types.ErrorInfo(
            "PlaidError", "INSTITUTION_NOT_RESPONDING", "The bank did not answer",
            "Plaid could not reach First Lakeside Bank, four times in a row. This is trouble at the bank, not at your "
            "side. The next backup run tries again without you.",
            {"http_status": 400, "type": "INSTITUTION_ERROR", "request_id": "hJ2kV9sQx1bTn4e"},
            "Traceback (most recent call last):\n  engine/sync/run.py, line 120, in pages\nBankSilent",
        )  # fmt: skip
        waits = [None, 17_000, 68_000, 261_000]
        tries = [
            types_jobs.Attempt(number + 1, at(900 - number * 120), 30_000.0, "failed", error, waits[number], "w1")
            for number in range(4)
        ]
        thread = [
            types_jobs.ThreadEvent(at(902), "webhook", "Webhook TRANSACTIONS SYNC_UPDATES_AVAILABLE, signed by Plaid"),
            types_jobs.ThreadEvent(at(901), "queued", "Queued in lane high", 3.0),
            types_jobs.ThreadEvent(at(900), "started", "Picked up", 1.6),
            types_jobs.ThreadEvent(at(480), "finished", "Failed for good", 418_000.0),
        ]
        if job.state != "failed":
            tries = [types_jobs.Attempt(1, at(490), 1100.0, "done", None, None, "w1")]
            return types_jobs.JobDetail(job, tries, thread[:3], {}, "Done", "The job went through.", None, [])
        found = types_jobs.JobDetail(job, tries, thread, {}, error.title, error.sentence, None, ["retry", "discard"])
        if place == 1:
            found.sentence += " It went through since; nothing is left to do."
            found.went_through = types_jobs.WentThrough(at(240), "4f1c7a52-0b7e-4f0e-9d4c-6f1e0c9ab1d2")
        return found

    # ------------------------------------------------------------ webhooks

    def webhooks(self) -> list[Webhook]:
        if self.scene == "empty":
            return []
        news = ("TRANSACTIONS", "SYNC_UPDATES_AVAILABLE")
        told: list[tuple[int, str, str, str, str, str | None, int]] = [
            (3, "processed", "jwt", *news, None, 10),
            (3, "processed", "jwt", "TRANSACTIONS", "DEFAULT_UPDATE", None, 10),
            (214, "processed", "hmac", *news, None, 11),
            (372, "refused", "", "", "", "no signature", -1),
            (740, "received", "jwt", "ITEM", "NEW_ACCOUNTS_AVAILABLE", None, 13),
            (850, "duplicate", "jwt", *news, None, 1),
            (2_210, "processed", "jwt", "ITEM", "PENDING_DISCONNECT", None, 4),
            (3_300, "refused", "", *news, "a signature older than five minutes", -1),
            (4_980, "unhandled", "jwt", "HOLDINGS", "DEFAULT_UPDATE", "Syncdesk does not know this webhook yet", 10),
            (9_000, "processed", "replay", *news, None, 9),
            (90_000, "failed", "jwt", "ITEM", "ERROR", "the database did not answer", 8),
            (91_000, "processed", "jwt", *news, None, 12),
        ]
        return [
            Webhook(
                str(700 - place), at(ago), state, reason, by or None, kind, code, f"item{bank}" if bank >= 0 else None,  # type: ignore[arg-type]
                f"p{bank}" if bank >= 0 else None, NAMES[bank] if bank >= 0 else None,
                None if state == "received" else at(ago), "699" if state == "duplicate" or by == "replay" else None,
                "c",
            )
            for place, (ago, state, by, kind, code, reason, bank) in enumerate(told)
        ]  # fmt: skip

    def webhook_page(self, query: dict[str, str]) -> WebhookPage:
        wanted, asked = query.get("state"), query.get("q", "").lower()
        hooks = [hook for hook in self.webhooks() if wanted in {None, hook.state}]
        return WebhookPage([hook for hook in hooks if asked in f"{hook.code} {hook.institution}".lower()])

    def webhook_detail(self, hook: Webhook) -> WebhookDetail:
        body = f'{{"webhook_type": "{hook.type}", "webhook_code": "{hook.code}", "item_id": "{hook.plaid_item_id}"}}'
        return WebhookDetail(hook, body, 1, [other for other in self.webhooks() if other.repeats == hook.id])

    # ------------------------------------------------------------ banks

    def _item(self, place: int) -> types_banks.Item:
        state = TROUBLE[place] if self.trouble and place < len(TROUBLE) else "healthy"
        said = {
            "needs_you": ("The bank signed you out", "It asks for your password again. You sign in on Plaid’s page in "
                          "your browser; syncing goes on by itself when you are done.", "Sign in"),
            "bank_trouble": ("First Lakeside Bank did not answer", "Trouble at the bank since 13:31, not at your side. "
                             "The next backup run, 14:45, tries again.", None),
            "expiring": ("Access ends in 5 days", "Cedar & Pine asks you to renew it; a minute on Plaid’s page.",
                         "Renew"),
        }  # fmt: skip
        title, sentence, action = said.get(state, ("Up to date", "Nothing to do.", None))
        last = {"needs_you": 19440, "bank_trouble": 3900, "first_data": None, "paused": 9 * 86400}.get(state, 360)
        return types_banks.Item(
            f"item{place}", f"p{place}", "u", USERS[place % 4], "ins", NAMES[place], "", state, None, title, sentence,  # type: ignore[arg-type]
            action, 1 + place % 5, 6204 // (place + 1), None if last is None else at(last),
            None if state == "first_data" else day(place % 3), at(-540), 2280.0, 1240 if state == "syncing" else None,
        )  # fmt: skip

    def item_page(self, query: dict[str, str]) -> types_banks.ItemPage:
        counts: dict[str, int] = {}
        for item in self.items:
            counts[item.state] = counts.get(item.state, 0) + 1
        wanted = query.get("state")
        return types_banks.ItemPage([item for item in self.items if wanted in {None, item.state}], counts)

    def item_detail(self, item: types_banks.Item) -> types_banks.ItemDetail:
        accounts = [
            types_banks.Account("a", "Platinum", "4417", "credit", "USD", "412.10", day(1)),
            types_banks.Account("b", "Everyday", "0926", "depository", "USD", "1204.77", day(1)),
            types_banks.Account("c", "Savings", "7710", "depository", "USD", "9310.00", day(9), silent_since=at(86400)),
        ]
        runs = []
        for place in range(40):
            failed = place == 0 and item.state == "needs_you"
            runs.append(
                types_banks.Run(
                    f"r{place}", ("webhook", "webhook", "schedule", "schedule", "manual")[place % 5],
                    at(19_000 + place * 900), 700.0 + 900 * self.random.random(), "failed" if failed else "done", 1,
                    0 if failed or place % 3 else 12, 1 if place == 1 else 0, 3 if place == 4 else 0, 0, 0,
                    "ITEM_LOGIN_REQUIRED" if failed else None,
                )
            )  # fmt: skip
        aside = [
            types_banks.SetAside(
                "2", "t2", "sqlstate 23514 house_rule", "It breaks a rule of the database (house_rule).", at(400)
            ),
            types_banks.SetAside("1", "t1", "text with a NUL character", "Text with a NUL character.", at(900)),
        ]
        found = types_banks.SetAsidePage(aside, 2) if item.state == "bank_trouble" else None
        words = "This ends the link at Plaid. 6,204 transactions are kept."
        return types_banks.ItemDetail(item, accounts, runs, words, found)

    # ------------------------------------------------------------ bills

    def bill(self, place: int) -> types_bills.Bill:
        state = ("paid", "paid", "due", "overdue", "upcoming")[place % 5]
        name = ("Heating gas", "Rent", "東京ガス", "Storage unit", "iCloud+ 2 TB")[place % 5]
        paid = state == "paid"
        return types_bills.Bill(
            f"bill{place}", "u", name, "120.00", None, None, "JPY" if "東" in name else "USD", "RENT_AND_UTILITIES_GAS",
            "monthly", state, day(place % 7 - 2), day(-30), day(3) if paid else None, "119.20" if paid else None,  # type: ignore[arg-type]
            4 if state == "overdue" else None,
        )  # fmt: skip

    def bill_page(self, query: dict[str, str]) -> types_bills.BillPage:
        bills = [] if self.scene == "empty" else [self.bill(place) for place in range(18)]
        counts: dict[str, int] = {}
        for bill in bills:
            counts[bill.state] = counts.get(bill.state, 0) + 1
        wanted = query.get("state")
        limit = int(query.get("limit", "100"))
        return types_bills.BillPage([bill for bill in bills if wanted in {None, bill.state}][:limit], counts)

    def bill_detail(self, place: int) -> types_bills.BillDetail:
        near = types_bills.Candidate("t9", "AMZN Digital*2K4", day(2), "14.99", "USD", [
            types_bills.Evidence("amount", False, "$14.99 is 87 % below $120.00, more than the 10 % allowed.", 0.4),
            types_bills.Evidence("date", True, "Paid 2 days after it was due.", 0.2),
        ])  # fmt: skip
        return types_bills.BillDetail(self.bill(place), self.matches()[:3], [near] if place % 5 == 3 else [])

    def matches(self) -> list[types_bills.Match]:
        rows = [
            ("NATIONALGRID NE", "Heating gas", "91.47", "USD", 0.86, "name"),
            ("Check 1047", "Rent", "1850.00", "USD", 0.84, "name"),
            ("株式会社東京ガス", "東京ガス", "6430", "JPY", 0.78, "date"),
            ("Apple.com/bill", "iCloud+ 2 TB", "12.99", "USD", 0.71, "amount"),
            ("Zelle to J&K Mgmt <i>", "Storage unit", "120.00", "USD", 0.64, "date"),
            ("مطعم ليالي بيروت", "Amazon Prime", "14.99", "USD", 0.58, "name"),
        ]
        made = []
        for place, (what, bill, amount, currency, score, against) in enumerate(rows):
            texts = {"amount": f"{amount} {currency}; the bill is usually near that.", "category": "Gas",
                     "date": "2 days before it is due, as usual.", "name": f"Compared with “{bill}”."}  # fmt: skip
            weights = {"amount": 0.4, "date": 0.28, "name": 0.3, "category": 0.08}
            reasons = [types_bills.Evidence(f, f != against, texts[f], weights[f]) for f in texts]  # type: ignore[arg-type]
            made.append(
                types_bills.Match(
                    f"m{place}", f"bill{place}", bill, f"t{place}", day(place - 2), "suggested", score, what,
                    "Harborview Credit Union", day(place), amount, currency, reasons,
                )
            )  # fmt: skip
        return made

    def review(self, query: dict[str, str]) -> types_bills.MatchPage:
        found = self.matches() if query.get("state") in {None, "suggested"} and self.scene != "empty" else []
        counts = {} if self.scene == "empty" else {"suggested": 6, "auto": 38, "confirmed": 4, "rejected": 1}
        return types_bills.MatchPage(found, counts)

    # ------------------------------------------------------------ engine

    def workers(self) -> types_operation.Workers:
        running = [
            types_jobs.RunningJob("j1", "Pacific Crest Bank", "sync_item", 1, 12_000, 30_000),
            types_jobs.RunningJob("j2", "First Lakeside Bank", "sync_item", 2, 28_000, 30_000),
            types_jobs.RunningJob("j3", "Harborview Credit Union", "sync_item", 3, 400, 30_000),
            types_jobs.RunningJob("j4", "Larkspur Card", "sync_item", 4, 1_100, 30_000),
        ]
        if self.scene == "empty":
            running = []

        def process(role: str, pid: int, memory: float, limit: float | None = None, **more: Any) -> types.ProcessInfo:
            return types.ProcessInfo(role, pid, "running", at(3 * 86400), memory, limit, **more)

        note = "12:26, over 256 MB; no job lost"
        sync = types_operation.Pool(
            "sync", "Transaction sync", ["transactions"], "running", 5, len(running), {"transactions": 5},
            [process("worker-sync", 48231, 182, 256, restarts=1, note=note, heartbeat_age_s=1.0)], running,
        )  # fmt: skip
        events = types_operation.Pool(
            "events", "Webhooks and notifications", ["webhooks", "notifications"], "running", 10, 0,
            {"webhooks": 10, "notifications": 2},
            [process("worker-events", 48232, 96, 256, heartbeat_age_s=48.0 if self.trouble else 1.0)], [],
        )  # fmt: skip
        parts = [process("scheduler", 48235, 61), process("broker", 48219, 14), process("database", 48222, 118)]
        return types_operation.Workers([sync, events], parts)

    def schedule(self) -> types_operation.Schedule:
        def job(
            name: str, label: str, words: str, every: int, last: str, outcome: Any = "done"
        ) -> types_operation.ScheduledJob:
            nxt = [at(-540 - number * every) for number in range(5)]
            ran = types_operation.ScheduledRun(at(360), 200, outcome, last)
            past = [types_operation.ScheduledRun(at(360 + number * every), 200, "done", last) for number in range(4)]
            paused = name == "backup"
            return types_operation.ScheduledJob(
                name, label, words, {"every_s": every}, paused, "you" if paused else None,
                None if paused else nxt[0], nxt, ran, past)  # fmt: skip

        return types_operation.Schedule(
            [
                job("backup_sync", "Backup sync", "every 15 minutes", 900, "14 queued"),
                job("health_check", "Health checks", "every 5 minutes", 300, "all answered"),
                job("probe", "Look after banks in trouble", "every hour", 3600, "14 of 14 well"),
                job("retention", "Clean up old jobs and events", "every day at 03:20", 86400, "412 removed"),
                job("backup", "Database backup", "Sundays at 04:00", 604800, "missed once", "missed"),
            ],
            True,
            "host",
        )
