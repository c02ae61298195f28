"""Small words of the API: spans of time, counts, and the sentences of jobs, activity and threads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.api import types_overview
from engine.notify.words import QUEUES

QUEUE_LABELS: Mapping[str, str] = QUEUES

TRIGGERS: Mapping[str, str] = {
    "webhook": "a webhook",
    "schedule": "the backup run",
    "cron": "the cron endpoint",
    "manual": "a person",
    "retry": "a retry",
    "link": "linking",
    "resume": "resuming",
    "probe": "the daily look",
    "reconciler": "the reconciler",
}

ALLOWED: Mapping[str, tuple[str, ...]] = {
    "failed": ("retry", "discard"),
    "discarded": ("restore", "retry"),
    "waiting": ("cancel",),
    "delayed": ("run", "cancel"),
    "retrying": ("run", "cancel"),
}
"""What may be done to a job in each state; nothing in the others."""

_JOB: Mapping[str, tuple[str, str]] = {
    "waiting": ("Waiting", "The job starts as soon as a thread is free."),
    "delayed": ("Delayed", "The job starts by itself when its time has come."),
    "running": ("Running", "A worker is at it now."),
    "retrying": ("Retrying", "The last try did not go through; the next one starts by itself."),
    "failed": ("Failed", "All tries are used up. Retry it when the cause is gone."),
    "discarded": ("Discarded", "Nothing more happens with this job unless it is restored."),
    "done": ("Done", "The job went through."),
}


def job_words(state: str) -> tuple[str, str]:
    """Title and sentence of a job in a state that has no error of its own to tell."""
    return _JOB.get(state, _JOB["done"])


def count(number: int, one: str, many: str | None = None) -> str:
    """``1 bank``, ``2 banks``."""
    return f"{number:,} {one if number == 1 else (many or one + 's')}"


def span(seconds: float) -> str:
    """A duration as people say it: ``44 ms``, ``12 s``, ``1 min 8 s``, ``5 h 24 min``, ``3 days``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        rest = f" {whole % 60} s" if whole % 60 and whole < 600 else ""
        return f"{whole // 60} min{rest}"
    if whole < 86_400:
        rest = f" {whole % 3600 // 60} min" if whole % 3600 // 60 else ""
        return f"{whole // 3600} h{rest}"
    return count(whole // 86_400, "day")


def activity(row: Mapping[str, Any]) -> types_overview.Activity:
    """One row of ``syncdesk_activity`` in words."""
    facts, kind = row["detail"], row["kind"]
    if kind == "run":
        bank = facts["institution"] or "A bank"
        if facts["state"] == "failed":
            icon, tone, text = "state-retrying", "warn", f"{bank}: {facts['code'] or 'a sync did not go through'}"
        else:
            icon, tone, text = "state-done", "ok", f"{bank}: {changes(facts)}"
    elif kind == "failed":
        subject = facts["institution"] or QUEUE_LABELS.get(facts["queue"], facts["queue"])
        icon, tone, text = "state-failed", "error", f"{subject}: {facts['title'] or facts['code']}"
    elif kind == "schedule":
        good = facts["outcome"] == "done"
        icon, tone = "nav-schedule", "idle" if good else "warn"
        text = f"{facts['label']}: {facts['text'] or facts['outcome']}"
    else:
        text = facts["result"] or facts["action"]
        icon, tone = "history", "warn" if text.startswith("Refused") else "idle"
    return types_overview.Activity(at=row["at"], icon=icon, tone=tone, text=text, target=row["target"])  # type: ignore[arg-type]


def changes(facts: Mapping[str, Any]) -> str:
    """``12 new, 1 changed, 2 bills`` from the counts of a run."""
    parts = [
        f"{facts[key]:,} {word}"
        for key, word in (("added", "new"), ("modified", "changed"), ("removed", "removed"))
        if facts.get(key)
    ]
    if facts.get("tagged"):
        parts.append(count(facts["tagged"], "bill payment"))
    return ", ".join(parts) or "nothing new"


def thread_text(kind: str, facts: Mapping[str, Any]) -> str:
    """One hop of a thread in words."""
    if kind.startswith("run_"):
        return _run_text(kind, facts)
    if kind == "webhook":
        name = f"{facts['type'] or '?'} {facts['code'] or ''}".strip()
        signed = {"jwt": "signed by Plaid", "hmac": "signed by a relay", "replay": "replayed"}
        return f"Webhook {name}, {signed.get(facts['verified_by'] or '', facts['state'])}"
    if kind == "match":
        words = {"auto": "Tagged as a bill payment", "suggested": "A bill match to review"}
        return words.get(facts["state"], f"Bill match {facts['state']}")
    if kind.startswith("notice"):
        return "Notification delivered" if kind == "notice_sent" else "Notification written"
    return str(facts.get("result") or facts.get("action") or kind)


def _run_text(kind: str, facts: Mapping[str, Any]) -> str:
    if kind == "run_started":
        replay = ", from the beginning" if facts["replay"] else ""
        return f"Sync began by {TRIGGERS.get(facts['trigger'], facts['trigger'])}{replay}"
    if kind == "run_done":
        skipped = f", {count(facts['skipped'], 'row')} set aside" if facts.get("skipped") else ""
        return f"{count(facts['pages'], 'page')} committed: {changes(facts)}{skipped}"
    return f"Sync ended without a commit{': ' + facts['code'] if facts.get('code') else ''}"
