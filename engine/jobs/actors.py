"""The three kinds of jobs. Each is thin: what it does is in `engine.sync` and `engine.notify`, free of Dramatiq."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dramatiq

from engine.errors import BrokerUnavailable
from engine.jobs import causes
from engine.jobs.pace import Later
from engine.plaid.errors import POLICIES, PlaidError
from engine.queue.broker import Broker
from engine.queue.jobs import Outcome, Proxy
from engine.queue.ports import Store

if TYPE_CHECKING:
    from engine.sync.deps import Deps

BUSY_S = 1.0


@dataclass(kw_only=True)
class Parts:
    """What the actors stand on; one for a process. ``sync`` is built on first use, it is heavy."""

    store: Store
    sync: Callable[[], Deps]
    publish: Callable[[str, str | None], None] | None = None


def declare(broker: Broker, parts: Parts, queues: set[str]) -> None:
    """Declare the actors of these queues on ``broker``."""
    if "transactions" in queues:
        _actor(broker, "transactions", "sync_item", _sync_item(parts))
    if "webhooks" in queues:
        _actor(broker, "webhooks", "process_webhook", _process_webhook(parts))
    if "notifications" in queues:
        _actor(broker, "notifications", "deliver_notice", _deliver_notice(parts))


def _actor(broker: Broker, queue: str, name: str, function: Callable[..., None]) -> None:
    dramatiq.actor(actor_name=name, queue_name=queue, broker=broker, takes_job=True, throws=BaseException)(function)


def _sync_item(parts: Parts) -> Callable[..., None]:
    def sync_item(item_id: str, trigger: str, correlation: str, job: Proxy) -> None:
        from engine.sync.run import run_item

        # What the queue says now: a better trigger may have taken the job over, or it follows another one.
        trigger, correlation = job.job.trigger or trigger, job.job.correlation or correlation
        try:
            result = run_item(parts.sync(), item_id, job_id=job.job.id, trigger=trigger, correlation=correlation)
        except PlaidError as error:
            if POLICIES[error.reaction].job != "ends":
                raise
            # No failure of the job: what the item (or the install) shows says it, and the next trigger tries again.
            job.past, job.outcome = causes.past(error), Outcome("done", error=_kept_by("plaid"))
            job.counts = {"state": error.reaction.value, "code": error.plaid_code, "request_id": error.request_id}
            return
        if result.state in ("busy", "stale"):
            raise Later("Another run of this bank link is under way.", BUSY_S)
        if result.state == "waiting":
            raise Later("Plaid's limits allow the next call later.", result.wait_s, causes.LIMITS)
        held = result.state in ("paused", "install_paused")
        job.outcome = Outcome("done", more=result.wanted_more, error=_kept_by("held") if held else "")
        if result.pages:
            job.past = (causes.PLAID, causes.LIMITS, causes.bank(job.job.institution))
        job.counts = {
            "state": result.state,
            "pages": result.pages,
            "added": result.added,
            "modified": result.modified,
            "removed": result.removed,
            "skipped": result.skipped,
            "tagged": result.tagged,
        }

    return sync_item


def _kept_by(kind: str) -> str:
    """What keeps a run that ends without a failure from closing the failures of before (`engine.jobs.stats`)."""
    return json.dumps({"kind": kind})


def _process_webhook(parts: Parts) -> Callable[..., None]:
    def process_webhook(inbox_id: int, correlation: str, job: Proxy) -> None:
        from engine.sync.inbox import process

        process(parts.sync(), inbox_id)

    return process_webhook


def _deliver_notice(parts: Parts) -> Callable[..., None]:
    def deliver_notice(outbox_id: int, correlation: str, job: Proxy) -> None:
        from engine.notify.deliver import deliver

        notice: Any = deliver(parts.store, outbox_id)
        if notice is not None and parts.publish is not None:
            try:
                parts.publish("notices", str(notice))
            except BrokerUnavailable:
                job.counts["told"] = False  # consoles see it when they look next

    return deliver_notice
