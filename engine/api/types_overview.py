"""The console's first page and the chart of jobs, in the manner of `engine.api.types`."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from engine.api.types import EngineInfo, Span
from engine.api.types_banks import ItemState
from engine.api.types_jobs import QueueStatus


class Cause(Struct):
    """One thing that is wrong, in a person's words, with the action that cures it."""

    code: str
    tone: Literal["warn", "error", "info"]
    title: str
    sentence: str
    action: str | None = None
    target: str | None = None


class Need(Struct):
    """A row of "needs you": what, whom, one sentence, one button."""

    kind: Literal["item", "bill", "engine"]
    id: str
    state: ItemState | Literal["review"]
    title: str
    subject: str
    sentence: str
    action: str


class Service(Struct):
    name: Literal["queue", "database", "plaid", "webhooks", "workers", "schedule"]
    label: str
    detail: str
    state: Literal["ok", "warn", "error", "unknown"]
    figure: str = ""
    sentence: str = ""


class Activity(Struct):
    at: str
    icon: str
    tone: Literal["ok", "active", "warn", "error", "idle"]
    text: str
    target: str | None = None


class Figures(Struct):
    running: int
    waiting: int
    oldest_wait_ms: float | None
    oldest_wait_queue: str | None
    failed_24h: int
    failed_share_24h: float
    update_to_database_ms: float | None


class BankData(Struct):
    state: Literal["up_to_date", "behind", "none", "trouble"]
    items: int
    fresh: int
    oldest_s: float | None
    next_run_at: str | None


class Overview(Struct):
    engine: EngineInfo
    bank_data: BankData
    causes: list[Cause]
    needs: list[Need]
    suggestions: int
    figures: Figures
    queues: list[QueueStatus]
    services: list[Service]
    activity: list[Activity]
    away: str | None = None


class ChartSlot(Struct):
    at: str
    done: int
    failed: int
    known: bool = True


class Chart(Struct):
    span: Span
    slot_s: int
    slots: list[ChartSlot]
