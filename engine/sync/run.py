"""One run of one item: claim, pages, matches, one commit.

Pages are staged as they come, the next one fetched meanwhile; the last (or only) page goes
with the commit. A pagination that must restart throws its pages away and begins again at the
cursor of its first page. Every end is recorded before it is reported.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import msgspec

from engine import clock
from engine.errors import BrokerUnavailable, StoreUnavailable, SyncdeskError
from engine.logs import logger
from engine.matching.plan import plan
from engine.matching.types import MatchInputs
from engine.plaid import pages
from engine.plaid.errors import POLICIES, MustRestart, PlaidError, RateLimited, Reaction
from engine.plaid.pages import Page, account_json
from engine.sync import postings, turns
from engine.sync.arrivals import Arrivals
from engine.sync.deps import Deps
from engine.sync.ends import LostLease, RunResult, TooLong, error_json
from engine.sync.leases import Lease
from engine.sync.rematch import rematch

RESTARTS = 5
"""How often one run begins its pagination again before it is left to a later attempt."""
FIRST_PAGE_RESTARTS = 3
"""Mutation errors on the first page of a stored cursor after which the cursor itself is suspected."""
REMATCHES = 8
LONGEST_S = 3600.0

log = logger("sync")


class _Again(Exception):
    """Begin the pagination again; ``replay``: from the empty cursor; ``said``: what Plaid answered, if it did."""

    def __init__(self, replay: bool = False, said: PlaidError | None = None) -> None:
        super().__init__()
        self.replay = replay
        self.request_id = said.request_id if said else None


def run_item(deps: Deps, item_id: str, *, job_id: str, trigger: str, correlation: str) -> RunResult:
    """Sync one item as far as its bank has news.

    Raises:
        PlaidError: by what to do about it; the item's state is already recorded.
        StoreUnavailable, StoreRefused: the database is away or refused for good.
        LostLease, TooLong: try again.
    """
    started = clock.monotonic()
    run_id = str(uuid.uuid4())
    claim = deps.store.call(
        "sync_claim",
        item=item_id,
        run=run_id,
        owner=f"{deps.owner}/{threading.get_native_id()}",
        job=job_id,
        trigger=trigger,
        correlation=correlation,
        lease_ms=int(deps.settings.lease_s * 1000),
    )
    if claim["status"] != "claimed":
        return RunResult(claim["status"], run_id)
    with deps.leases.hold(item_id, claim["fence"]) as lease:
        run = _Run(deps, item_id, claim["run"], correlation, claim, lease, {"claim_ms": clock.ms_since(started)})
        try:
            try:
                result = run.go()
            except turns.NotYet as wait:
                return run.park(wait)
        except Exception as error:
            run.failed(error)
            raise
    run.tell(result)
    run.clear()
    if result.changed:
        postings.guess(deps, item_id, result.run_id, correlation)
    return result


class _Run:
    """One claimed run. Lives in one thread; a second one fetches the next page while this one stages."""

    def __init__(
        self,
        deps: Deps,
        item_id: str,
        run_id: str,
        correlation: str,
        claim: dict[str, Any],
        lease: Lease,
        timing: dict[str, float],
    ) -> None:
        self._deps, self._item, self._run, self._correlation = deps, item_id, run_id, correlation
        self._claim, self._lease, self._timing = claim, lease, timing
        self._inputs = MatchInputs.read(claim["matching"])
        self._token = ""
        self._replay = bool(claim["replay"])
        self._deadline = clock.monotonic() + LONGEST_S
        self._outbox: int | None = None
        self._restarts = 0
        self._forget_pages()
        if claim["parked"] is not None:
            self._carry_on(claim["parked"])

    def _forget_pages(self) -> None:
        self._arrivals = Arrivals(self._item, self._inputs)
        # Its rows were not kept for matching: a matching of everything follows the commit.
        self._blind = not self._inputs.bills
        self._accounts: dict[str, dict[str, Any]] = {}
        self._skipped: list[dict[str, Any]] = []
        self._staged = self._rows = 0
        self._ahead: str | None = None

    def _carry_on(self, parked: dict[str, Any]) -> None:
        """Take up what `park` put down: pages are staged, the next one begins at a cursor of its own."""
        self._ahead, self._replay, self._restarts = parked["cursor"], parked["replay"], parked["restarts"]
        self._staged, self._rows, self._blind = parked["pages"], parked["rows"], True
        self._accounts = {account["account_id"]: account for account in parked["accounts"]}
        self._skipped = parked["skipped"]

    def park(self, wait: turns.NotYet) -> RunResult:
        """Put the run down until Plaid's limits allow its next call; its pages stay staged."""
        state = {
            "cursor": wait.cursor if self._staged else None,
            "replay": self._replay,
            "restarts": self._restarts,
            "pages": self._staged,
            "rows": self._rows,
            "accounts": list(self._accounts.values()),
            "skipped": self._skipped,
        }
        answer = self._deps.store.call(
            "sync_park",
            run=self._run,
            item=self._item,
            fence=self._claim["fence"],
            state=state,
            wait_ms=int(wait.wait_s * 1000),
        )
        return RunResult("waiting" if answer["parked"] else "stale", self._run, pages=self._staged, wait_s=wait.wait_s)

    def go(self) -> RunResult:
        deps, claim = self._deps, self._claim
        self._token = deps.token(claim, self._item)
        cursor: str | None = None if self._replay else claim["cursor"]
        first_page_restarts, request_id = 0, None
        while self._restarts <= RESTARTS:
            try:
                page = self._paginate(cursor)
                return self._commit(page)
            except _Again as again:
                request_id = again.request_id
                if again.replay:
                    first_page_restarts += 1
                if self._may_replay(again, cursor, first_page_restarts):
                    cursor, self._replay = None, True
                    self._timing["replay"] = 1
                deps.store.call("sync_abort", run=self._run, replay=self._replay)
                self._forget_pages()
                self._restarts += 1
        raise MustRestart(
            "The data changed again and again while it was read.",
            plaid_code="TRANSACTIONS_SYNC_MUTATION_DURING_PAGINATION",
            plaid_type="TRANSACTIONS_ERROR",
            request_id=request_id,
        )

    def _may_replay(self, again: _Again, cursor: str | None, first_page_restarts: int) -> bool:
        if not again.replay or cursor is None:
            return False
        return self._timing.get("refused") == 1 or first_page_restarts >= FIRST_PAGE_RESTARTS

    # -- pages

    def _paginate(self, cursor: str | None) -> Page:
        """Stage every page but the last, which is returned."""
        page = self._first(cursor) if self._ahead is None else self._next(self._ahead)
        if not page.has_more:
            return page
        while page.has_more:
            self._check()
            ahead = _in_background(lambda at=page.next_cursor: self._fetch(at))  # type: ignore[misc]
            self._take_in(page)
            text = page.text()
            answer = self._deps.store.call("sync_stage", run=self._run, page=self._staged, body=text)
            self._staged += 1
            self._rows += answer["rows"]
            del page, text
            page = _of_this_pagination(ahead.result)
        return page

    def _next(self, cursor: str) -> Page:
        return _of_this_pagination(lambda: self._fetch(cursor))

    def _first(self, cursor: str | None) -> Page:
        try:
            return self._fetch(cursor)
        except MustRestart as mutation:
            raise _Again(replay=True, said=mutation) from None
        except PlaidError as error:
            # A cursor of another environment, or of a backup that was restored: once from the start.
            if cursor is None or error.plaid_code != "INVALID_FIELD" or not error.detail.get("refused_cursor"):
                raise
            self._timing["refused"] = 1
            raise _Again(replay=True) from None

    def _fetch(self, cursor: str | None) -> Page:
        try:
            turns.wait(self._deps, self._item, self._check)
        except turns.NotYet as wait:
            wait.cursor = cursor
            raise
        began = clock.monotonic()
        try:
            raw = self._deps.plaid.transactions_sync(self._token, cursor)
        except RateLimited:
            turns.slow_down(self._deps, self._item)
            raise
        self._add("plaid_ms", began)
        began = clock.monotonic()
        page = pages.read(raw)
        self._add("decode_ms", began)
        if page.has_more and not page.next_cursor:
            raise MustRestart("A page without a way to the next one.", plaid_code="UNREACHABLE")
        return page

    def _check(self) -> None:
        if self._lease.lost.is_set():
            raise LostLease("The run lost its hold on the bank link and stopped; another run carries on.")
        if clock.monotonic() > self._deadline:
            raise TooLong("The run took longer than an hour and was stopped.")

    def _take_in(self, page: Page) -> None:
        began = clock.monotonic()
        self._arrivals.add(page.body)
        self._accounts.update((account.account_id, account_json(account)) for account in page.accounts)
        self._skipped += page.skipped
        self._add("match_ms", began)

    # -- commit

    def _commit(self, page: Page) -> RunResult:
        self._check()
        self._take_in(page)
        store = self._deps.store
        parameters: dict[str, Any] = {
            "run": self._run,
            "item": self._item,
            "fence": self._claim["fence"],
            "from_cursor": self._claim["cursor"],
            "to_cursor": page.next_cursor,
            "pages": self._staged + 1,
            "rows": self._rows,
            "body": page.text(),
            "accounts": list(self._accounts.values()),
            # Also where its status says something else: such a page ends nothing, above all no replay.
            "update_status": "NOT_READY" if _not_ready(page) else page.status,
            "replay": self._replay,
            "skipped": self._skipped or None,
            "correlation": self._correlation,
        }
        for _ in range(REMATCHES):
            began = clock.monotonic()
            matches = self._matches()
            self._add("match_ms", began)
            answer = store.call(
                "sync_commit",
                matches=matches,
                match_version=self._inputs.match_version,
                timing=self._timing,
                **parameters,
            )
            if answer["status"] != "rematch":
                break
            self._inputs = MatchInputs.read(answer["matching"])
        if answer.get("rematch"):
            # Wished for by the commit: where this does not come through, the sweep does it.
            try:
                rematch(store, self._claim["user_id"], correlation=self._correlation, mode=self._deps.settings.matching)
            except SyncdeskError as error:
                log.warning("Matching was left to the sweep", run=self._run, code=error.code)
        return self._ended(answer, page)

    def _matches(self) -> list[Any] | None:
        if self._blind:
            return None
        arrivals, mode = self._arrivals, self._deps.settings.matching
        planned = plan(self._inputs, arrivals.payments, arrivals.gone, clock.now().date(), mode=mode)
        built: list[Any] = msgspec.to_builtins(planned)
        return built

    def _ended(self, answer: dict[str, Any], page: Page) -> RunResult:
        status = answer["status"]
        if status == "missing":
            raise _Again
        if status == "rematch":
            raise StoreUnavailable("The bills changed again and again while the run was matched.")
        if status != "ok":
            # Its pages are swept by whoever took over.
            return RunResult("stale", self._run, user_id=self._claim["user_id"])
        self._outbox = answer["outbox"]
        return RunResult(
            "not_ready" if _not_ready(page) else "done",
            self._run,
            added=answer["added"],
            modified=answer["modified"],
            removed=answer["removed"],
            skipped=answer["skipped"],
            tagged=answer["tagged"],
            pages=self._staged + 1,
            wanted_more=answer["wanted_more"],
            lane=answer["lane"],
            user_id=self._claim["user_id"],
            institution=self._claim["institution"],
            timing=answer.get("timing") or {},
        )

    # -- ends

    def failed(self, error: Exception) -> None:
        """Record how the run failed and what it means for the item."""
        reaction = error.reaction if isinstance(error, PlaidError) else None
        policy = POLICIES[reaction] if reaction else None
        code = error.plaid_code if isinstance(error, PlaidError) else None
        try:
            answer = self._deps.store.call(
                "sync_fail",
                run=self._run,
                item=self._item,
                fence=self._claim["fence"],
                error=error_json(error),
                state=policy.item if policy else None,
                code=code,
                settle=policy is not None and policy.settles,
                install=reaction is Reaction.INSTALL,
                correlation=self._correlation,
            )
        except SyncdeskError as second:
            # The lease runs out by itself, and the next claim marks this run as abandoned.
            say = log.info if isinstance(second, StoreUnavailable) else log.warning
            say("The end of a run could not be recorded", run=self._run, code=second.code)
            return
        self._outbox = answer.get("outbox")
        self.tell(None)

    def tell(self, result: RunResult | None) -> None:
        """After the commit: consoles and the notifications' queue. Redis may be away; nothing depends on it."""
        deps = self._deps
        try:
            if deps.publish is not None:
                deps.publish("items", self._item)
                if result is not None and result.tagged:
                    deps.publish("bills", None)
            if deps.hints is not None and self._outbox is not None:
                deps.hints.notification(self._outbox, self._claim["user_id"], self._correlation)
        except BrokerUnavailable:
            log.debug("Nobody was told about a run: the queue is away", run=self._run)

    def clear(self) -> None:
        """What was staged has been committed: make room. The sweep does it where this does not come through."""
        if self._staged:
            try:
                self._deps.store.call("sync_clear", run=self._run)
            except SyncdeskError as error:
                log.debug("Staged rows are left to the sweep", run=self._run, code=error.code)

    def _add(self, hop: str, began: float) -> None:
        self._timing[hop] = round(self._timing.get(hop, 0.0) + clock.ms_since(began), 3)


def _not_ready(page: Page) -> bool:
    return page.status == "NOT_READY" or not page.next_cursor


def _of_this_pagination(fetch: Callable[[], Page]) -> Page:
    try:
        return fetch()
    except MustRestart as mutation:
        raise _Again(said=mutation) from None


def _in_background(work: Callable[[], Page]) -> Future[Page]:
    """Run ``work`` in a thread of its own; the future has its page or its error."""
    future: Future[Page] = Future()

    def body() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            future.set_exception(error)

    threading.Thread(target=body, name="sync-page", daemon=True).start()
    return future


__all__ = ["Deps", "LostLease", "RateLimited", "RunResult", "TooLong", "run_item"]
