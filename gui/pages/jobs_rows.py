"""Rows of the page Jobs: causes with their jobs beneath, and jobs in one list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QRectF

from engine.api import types_jobs
from gui import icons, paint, words
from gui import theme as themes
from gui.kit.columns import Cell, Column, Layout, RowButton
from gui.linking import MENDS, NEW

BY = {
    "webhook": "by a webhook",
    "schedule": "by schedule",
    "cron": "by cron",
    "manual": "by you",
    "retry": "by a retry",
    "link": "by linking",
    "resume": "by resuming",
    "probe": "by the daily look",
    "reconciler": "by the reconciler",
    "outbox": "by the engine",
    "test": "as a test",
}


@dataclass(frozen=True)
class CauseRow:
    """A cause of failures; ``open`` shows its jobs beneath."""

    group: types_jobs.FailureGroup
    open: bool


@dataclass(frozen=True)
class JobRow:
    """A job beneath a cause."""

    job: types_jobs.Job


@dataclass(frozen=True)
class MoreRow:
    """How many jobs of a cause are not shown yet."""

    fingerprint: str
    number: int


Row = CauseRow | JobRow | MoreRow


def key(row: Row) -> str:
    """A row's name for good."""
    if isinstance(row, CauseRow):
        return f"cause:{row.group.fingerprint}"
    return f"job:{row.job.id}" if isinstance(row, JobRow) else f"more:{row.fingerprint}"


def sentence(row: Row) -> str:
    """A row as one sentence."""
    if isinstance(row, CauseRow):
        said = f"{row.group.title}, {row.group.code}, failed {row.group.count} times, {row.group.open_jobs} jobs open"
        said += ", muted" if row.group.muted else ""
        return said
    return job_sentence(row.job) if isinstance(row, JobRow) else f"Show {row.number} more"


def job_sentence(job: types_jobs.Job) -> str:
    """A job as one sentence."""
    state = str(themes.current().state("job", job.state)["label"]).lower()
    said = [name(job), job.label, state, when(job)]
    if job.attempts:
        said.append(f"after {words.plural(job.attempts, 'attempt')}")
    return ", ".join(part for part in said if part)


def name(job: types_jobs.Job) -> str:
    """What a job is about: its bank, else its own label."""
    return job.institution or job.label


def when(job: types_jobs.Job) -> str:
    """How long ago a job ended, began or was queued."""
    return words.ago(job.finished_at or job.started_at or job.queued_at)


def trigger(job: types_jobs.Job) -> str:
    """Who began it."""
    return BY.get(job.trigger, job.trigger)


def state_words(job: types_jobs.Job) -> str:
    """The state with what matters of it: the place in line, the wait, how long it ran."""
    if job.state == "waiting" and job.position:
        return f"Waiting, {words.ordinal(job.position)} in line"
    if job.state == "delayed" and job.due_at:
        return f"Delayed until {words.time(job.due_at)}"
    if job.state == "retrying" and job.due_at:
        left = -(words.age_s(job.due_at) or 0)
        return f"Retrying in {words.span(left)}" if left > 1 else "Retrying now"
    if job.state == "running" and job.started_at:
        return f"Running, {words.span(words.age_s(job.started_at))}"
    if job.state == "done" and job.started_at and job.finished_at:
        begun, ended = words.age_s(job.started_at) or 0, words.age_s(job.finished_at) or 0
        return f"Done, {words.duration((begun - ended) * 1000)}"
    return str(themes.current().state("job", job.state)["label"])


def cure(group: types_jobs.FailureGroup) -> str:
    """The label of a cause's button; empty where nothing is open."""
    if not group.open_jobs:
        return ""
    if group.action in MENDS or group.action in NEW:
        return group.action
    return f"Retry {words.count(group.open_jobs)}"


def since(group: types_jobs.FailureGroup) -> str:
    """First to last seen, in as few words as tell it."""
    first, last = group.first_seen, group.last_seen
    if (words.age_s(last) or 0) < 60 and group.count > 1:
        end = "now"
    else:
        end = words.time(last) if words.short_date(last) == "today" else words.short_date(last)
    begin = words.time(first) if words.short_date(first) == "today" else words.short_date(first)
    return end if begin == end else f"{begin}–{end}"


def cause_buttons(row: Any) -> Sequence[RowButton]:
    """The cure of a cause."""
    label = cure(row.group) if isinstance(row, CauseRow) else ""
    return [RowButton("cure", label)] if label else []


def _chevron(cell: Cell, row: CauseRow) -> None:
    mark = "chevron-down" if row.open else "chevron-right"
    icons.draw(cell.painter, mark, cell.theme.color("text.muted"), cell.rect.x(), cell.rect.center().y() - 8, 16)


def _cause(cell: Cell, row: CauseRow) -> None:
    group = row.group
    hit = f" · {words.plural(group.banks, 'bank')}" if group.banks else ""
    hit += "" if group.open_jobs else " · went through since"
    if group.muted:
        cell.two(group.title, f"{group.code}{hit} · muted until it passes {words.count(group.muted_until or 0)}")
        return
    cell.two(group.title, f"{group.code}{hit}", role="strong")


def _hours(cell: Cell, row: CauseRow) -> None:
    box = QRectF(cell.rect.x(), cell.rect.center().y() - 10, 88, 20)
    paint.bars(cell.painter, cell.theme, box, row.group.hours, "chart.failed")


def _count(cell: Cell, row: CauseRow) -> None:
    cell.two(words.count(row.group.count), since(row.group), right=True, role="strong")


def _job_name(cell: Cell, row: JobRow) -> None:
    paint_name(cell, row.job)


def paint_name(cell: Cell, job: types_jobs.Job) -> None:
    """Monogram, bank, and what it is about in muted words."""
    x, middle = cell.rect.x(), cell.rect.center().y()
    paint.monogram(cell.painter, cell.theme, x, middle - 12, 24, words.monogram(name(job)))
    room = cell.rect.adjusted(32, 0, 0, 0)
    taken = paint.text(cell.painter, cell.theme, room, name(job))
    if job.label != name(job):
        rest = room.adjusted(taken + 4, 0, 0, 0)
        paint.text(cell.painter, cell.theme, rest, f"· {job.label}", "body", "text.muted")


def _right(text_of: Any, color: str = "text.secondary") -> Any:
    def draw(cell: Cell, row: Any) -> None:
        job = row.job if isinstance(row, JobRow) else row
        if cell.stale and color == "text.muted":
            paint.tag(cell.painter, cell.theme, cell.rect.right() - 66, cell.rect.center().y(), "changed")
        else:
            cell.text(text_of(job), "body", color, right=True)

    return draw


def _by(cell: Cell, row: Any) -> None:
    cell.text(trigger(row.job if isinstance(row, JobRow) else row), "body", "text.secondary")


def attempts(job: types_jobs.Job) -> str:
    """How often it was started."""
    return words.plural(job.attempts, "attempt")


_CAUSE = [
    Column("", 44, _chevron),
    Column("", 0, _cause),
    Column("", 104, _hours),
    Column("", 92, _count, right=True),
    Column("", 108, None, right=True, buttons=cause_buttons),
]
_JOB = [
    Column("", 44),
    Column("", 0, _job_name, tick=True),
    Column("", 124, _by),
    Column("", 92, _right(attempts), right=True),
    Column("", 120, _right(when, "text.muted"), right=True),
]


def _more(cell: Cell, row: MoreRow) -> None:
    cell.text(f"Show {words.count(row.number)} more", "label", "accent.text")


_MORE = [Column("", 44), Column("", 0, _more)]


def by_cause() -> Layout:
    """How the list by cause looks."""

    def columns(row: Any) -> Sequence[Column]:
        return _CAUSE if isinstance(row, CauseRow) else _JOB if isinstance(row, JobRow) else _MORE

    def fill(row: Any) -> str:
        return "bg.subtle" if isinstance(row, CauseRow) and row.open else "bg.surface"

    return Layout(columns, lambda row: 48 if isinstance(row, CauseRow) else 36, fill)


def _state(cell: Cell, job: types_jobs.Job) -> None:
    spec = cell.theme.state("job", job.state)
    paint.chip(
        cell.painter, cell.theme, cell.rect.x(), cell.rect.center().y(), spec, state_words(job), cell.rect.width()
    )


def _what(cell: Cell, job: types_jobs.Job) -> None:
    cell.text(job.error_title or trigger(job), "body", "text.secondary")


PLAIN = [
    Column("Job", 0, paint_name, tick=True),
    Column("State", 176, _state),
    Column("Begun", 140, _what),
    Column("Attempts", 92, _right(lambda job: words.count(job.attempts) if job.attempts else "–"), right=True),
    Column("When", 128, _right(when, "text.muted"), right=True),
]


def plain() -> Layout:
    """How the lists of one state look."""
    return Layout(lambda _row: PLAIN, lambda _row: 36)
