"""What the scheduled jobs do. Each takes what it needs from `Tools` and answers a sentence for its history."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from engine.errors import BrokerUnavailable
from engine.settings import Settings

if TYPE_CHECKING:
    from engine.sync.deps import Deps

PAGE = 500
SHARE_OF_LIMIT = 0.5
"""The backup run asks for at most this share of Plaid's calls a minute; webhooks and people have the rest."""


class Store(Protocol):
    """`engine.store.Transport`."""

    def call(self, name: str, /, **params: Any) -> Any: ...


class Hints(Protocol):
    """`engine.queue.hints.Hints`."""

    def put(
        self, queue: str, target: str, *, user_id: str | None, lane: str, trigger: str, correlation: str,
        institution: str | None = None, delay_ms: int = 0,
    ) -> str: ...  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What the jobs work with; ``deps`` is built when first asked for, since Plaid's client is heavy."""

    settings: Settings
    store: Store
    hints: Hints
    deps: Callable[[], Deps]
    publish: Callable[[str, str | None], None]


@dataclass(frozen=True)
class Job:
    """A scheduled job as the program brings it; a person may change its trigger or pause it."""

    id: str
    label: str
    trigger: Mapping[str, Any]
    run: Callable[[Tools, str], str]


def jobs(settings: Settings) -> list[Job]:
    """All scheduled jobs. ``run(tools, correlation)`` returns what happened, as a sentence."""
    return [
        Job("backup_sync", "Backup sync", {"every_s": settings.backup_every_s}, backup_sync),
        Job("health_check", "Health check", {"every_s": 60}, health_check),
        Job("probe", "Look after banks in trouble", {"every_s": 3600}, probe),
        Job("watch", "Look after accounts", {"every_s": 3600}, watch),
        Job("retention", "Tidy up history", {"cron": "17 3 * * *", "zone": "UTC"}, retention),
        Job("stage_sweep", "Clear abandoned pages", {"every_s": 600}, stage_sweep),
    ]


def backup_sync(tools: Tools, correlation: str) -> str:
    """Ask for a sync of every active item that had none lately, one after the other below Plaid's limit."""
    age_s = max(1, int(tools.settings.backup_every_s * 0.9))
    apart_ms = 60_000 / max(1.0, tools.settings.plaid_client_limit * SHARE_OF_LIMIT)
    count = unhinted = 0
    while True:
        hints = tools.store.call("items_want_stale", age_s=age_s, limit=PAGE, correlation=correlation)["hints"]
        for row in hints:
            unhinted += not hint(tools, row, correlation, math.floor(count * apart_ms))
            count += 1
        if len(hints) < PAGE:
            break
    if count == 0:
        return "Every bank was synced lately."
    late = f" The queue could not be reached for {unhinted}; they follow." if unhinted else ""
    return f"{count} {'bank' if count == 1 else 'banks'} queued.{late}"


def hint(tools: Tools, row: Mapping[str, Any], correlation: str, delay_ms: int) -> bool:
    """Hint a wish that is raised; False where the broker is away."""
    try:
        tools.hints.put(
            "transactions",
            row["item_id"],
            user_id=row["user_id"],
            institution=row["institution"],
            lane=row["lane"],
            trigger="schedule",
            correlation=correlation,
            delay_ms=delay_ms,
        )
    except BrokerUnavailable:
        return False  # the wish is in the database; the reconciler hints it when the broker is back
    return True


def probe(tools: Tools, correlation: str) -> str:
    """Ask Plaid (free) whether banks in trouble are well again; each at most once a day."""
    del correlation
    from engine.sync.linking import probe_due

    well = probe_due(tools.deps())
    return f"{well} {'bank is' if well == 1 else 'banks are'} well again." if well else "Nothing has changed."


def watch(tools: Tools, correlation: str) -> str:
    """Read what accounts there are (free), learn when news usually comes, tell of accounts that fell silent."""
    from engine.sync.accounts import watch as look_after

    told = look_after(tools.deps(), correlation)
    return f"{told} {'account has' if told == 1 else 'accounts have'} fallen silent." if told else "Nothing unusual."


def retention(tools: Tools, correlation: str) -> str:
    """Trim what only explains the past, in small steps."""
    del correlation
    total = 0
    while True:
        done = tools.store.call("retention")
        total += sum(done["deleted"].values())
        if not done["more"]:
            while tools.store.call("analytics_pack")["packed"]:
                pass
            return f"{total:,} old {'row' if total == 1 else 'rows'} removed." if total else "Nothing was old enough."


def stage_sweep(tools: Tools, correlation: str) -> str:
    """Remove the staged pages of runs that will not commit any more; match what a run left to be matched."""
    from engine.sync.rematch import rematch_due

    tools.store.call("sync_sweep")
    rematch_due(tools.store, correlation=correlation, mode=tools.settings.matching)
    return "Swept."


def health_check(tools: Tools, correlation: str) -> str:
    """Look at the failure rates, also where no job ends any more; the workers look with each batch of statistics."""
    del correlation
    from engine.jobs.stats import tell

    found = tools.store.call("failing_look")
    tell(found, None)  # the reconciler hints the notice
    for change in found["changes"]:
        tools.publish("queues", change["queue"])
    return f"Many jobs fail in {', '.join(sorted(found['high']))}." if found["high"] else "All queues are well."
