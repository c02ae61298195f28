"""What a row of the outbox says to its person: tone, title, sentence, and where a click leads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from engine.plaid.words import words, words_for_state


@dataclass(frozen=True)
class Notice:
    """``target`` is ``item:<id>``, ``job:<id>`` or null."""

    tone: Literal["ok", "warn", "error", "info"]
    title: str
    sentence: str
    target: str | None = None


def notice(row: dict[str, Any]) -> Notice:
    """The notice of an outbox row (as ``syncdesk_outbox_get`` answers it). Counts and banks, never amounts."""
    kind, payload = row["kind"], row["payload"] or {}
    bank = payload.get("institution") or row.get("institution") or "Your bank"
    target = f"item:{row['item_id']}" if row.get("item_id") else None
    if kind == "transactions":
        return _transactions(bank, payload, target)
    if kind == "item_state":
        said = words_for_state(payload.get("state", "error"), payload.get("code"), bank)
        tone: Literal["warn", "error"] = "error" if payload.get("state") in ("error", "removed") else "warn"
        return Notice(tone, f"{bank}: {said.title}", said.sentence, target)
    if kind == "install_trouble":
        said = words(payload.get("code", ""), None)
        return Notice("error", said.title, said.sentence)
    if kind == "job_failed":
        title = payload.get("title") or "A job failed"
        about = f"{payload['institution']}: {title}" if payload.get("institution") else title
        return Notice("error", about, payload.get("sentence") or "", f"job:{payload.get('job_id')}")
    if kind == "failure_rate":
        return _failure_rate(payload)
    return Notice("info", payload.get("title") or "News from Syncdesk", payload.get("sentence") or "", target)


QUEUES: Mapping[str, str] = {
    "transactions": "Transaction sync",
    "webhooks": "Webhooks",
    "notifications": "Notifications",
}


def _failure_rate(payload: dict[str, Any]) -> Notice:
    queue = QUEUES.get(payload["queue"], payload["queue"])
    if not payload["high"]:
        return Notice("ok", f"{queue}: few failures again", "Jobs go through again; nothing more to do.")
    sentence = (
        f"{payload['failed']:,} of {payload['failed'] + payload['done']:,} jobs failed in the last "
        f"{payload['minutes']} minutes. The Jobs page shows them by cause."
    )
    return Notice("warn", f"{queue}: many failures", sentence)


def _transactions(bank: str, payload: dict[str, Any], target: str | None) -> Notice:
    counts = [
        (payload.get("added", 0), "new"),
        (payload.get("modified", 0), "changed"),
        (payload.get("removed", 0), "removed"),
    ]
    parts = [f"{count:,} {word}" for count, word in counts if count]
    total = sum(count for count, _ in counts)
    sentence = f"{', '.join(parts) or 'No'} transaction{'' if total == 1 else 's'}."
    tagged = payload.get("tagged", 0)
    if tagged:
        sentence += f" {tagged} of them paid a bill." if tagged > 1 else " One of them paid a bill."
    title = f"{bank} is linked" if payload.get("first") else bank
    return Notice("ok", title, sentence, target)
