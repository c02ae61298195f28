"""Rows of the page Workers: thread lanes, processes, memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QRectF
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QWidget

from engine.api import types, types_jobs, types_operation
from gui import icons, paint, words
from gui import theme as themes
from gui.kit.columns import Cell, Column

ACTORS = {"sync_item": "sync", "process_webhook": "webhook", "deliver_notice": "notification"}
ROLES = {
    "host": "Engine",
    "keeper": "Keeper",
    "broker": "Queue",
    "database": "Database",
    "sandbox": "Simulated bank",
    "scheduler": "Scheduler",
    "worker-sync": "Sync worker",
    "worker-events": "Events worker",
}
PROCESS = {
    "running": ("running", "Running"),
    "quiet": ("paused", "Quiet"),
    "starting": ("starting", "Starting"),
    "stopping": ("starting", "Stopping"),
    "stopped": ("stopped", "Stopped"),
    "crashed": ("degraded", "Ended"),
    "given_up": ("unreachable", "Given up"),
}
SILENT_S = 30.0
AMBER = 0.8
"""Share of its time limit from which a job's time is amber."""


@dataclass(frozen=True)
class Lane:
    """A thread and the job it runs; ``ms`` is how long by now."""

    number: int
    job: types_jobs.RunningJob | None = None
    ms: float = 0.0


def lanes(pool: types_operation.Pool, more_ms: float) -> list[Lane]:
    """As many lanes as threads, so that nothing moves when jobs come and go."""
    by_thread = {job.thread: job for job in pool.running}
    count = max(pool.threads, *by_thread.keys(), 0) if by_thread else pool.threads
    first = 0 if 0 in by_thread else 1
    made = []
    for place in range(count):
        job = by_thread.get(place + first)
        made.append(Lane(place + 1, job, job.running_ms + more_ms if job is not None else 0.0))
    return made


def _lane(cell: Cell, lane: Lane) -> None:
    painter, theme, box = cell.painter, cell.theme, cell.rect
    middle = box.center().y()
    paint.text(painter, theme, QRectF(box.x(), box.y(), 24, box.height()), str(lane.number), "small", "text.muted")
    if lane.job is None:
        paint.text(painter, theme, box.adjusted(28, 0, 0, 0), "idle", "body", "text.muted")
        return
    icons.draw(painter, "state-running", theme.color("state.active.solid"), box.x() + 28, middle - 7, 14)
    share = lane.ms / lane.job.limit_ms if lane.job.limit_ms else 0.0
    hot = share >= AMBER
    time = QRectF(box.right() - 64, box.y(), 64, box.height())
    color = "state.warn.text" if hot else "text.secondary"
    paint.text(painter, theme, time, words.duration(lane.ms), "label" if hot else "small", color, paint.RIGHT)
    room = box.adjusted(50, 0, -72, 0)
    if lane.job.limit_ms and lane.ms >= 1000:
        paint.meter(painter, theme, QRectF(box.right() - 136, middle - 3, 64, 6), share, "state.active.solid")
        room = box.adjusted(50, 0, -144, 0)
    taken = paint.text(painter, theme, room, lane.job.label, "control")
    what = ACTORS.get(lane.job.actor, lane.job.actor)
    paint.text(painter, theme, room.adjusted(taken + 4, 0, 0, 0), what, "body", "text.muted")


LANES = [Column("", 0, _lane)]


def process_name(process: types.ProcessInfo) -> str:
    """What a process is to a person."""
    return ROLES.get(process.role, process.role)


def process_sentence(process: types.ProcessInfo) -> str:
    """A process as one sentence."""
    return f"{process_name(process)}, {_state(process)[1]}, process {process.pid or 'none'}"


def process_tip(process: types.ProcessInfo) -> str:
    """The exact start, and the note in full."""
    started = f"Started {words.exact(process.started_at)}" if process.started_at else ""
    return "\n".join(part for part in (started, process.note or "") if part)


def _state(process: types.ProcessInfo) -> tuple[str, str]:
    age = process.heartbeat_age_s
    if process.state in {"running", "quiet"} and age is not None and age > SILENT_S:
        return "unknown", f"No sign for {words.span(age)}"
    return PROCESS[process.state]


def _name(cell: Cell, process: types.ProcessInfo) -> None:
    cell.text(process_name(process), "control")


def _chip(cell: Cell, process: types.ProcessInfo) -> None:
    name, label = _state(process)
    spec = (
        {"icon": "state-waiting", "tone": "idle", "fill": False}
        if name == "unknown"
        else {**cell.theme.state("engine", name), "fill": False}
    )
    paint.chip(cell.painter, cell.theme, cell.rect.x(), cell.rect.center().y(), spec, label, cell.rect.width())


def _pid(cell: Cell, process: types.ProcessInfo) -> None:
    cell.text(str(process.pid or "–"), "body", "text.muted", right=True)


def _beat(cell: Cell, process: types.ProcessInfo) -> None:
    age = process.heartbeat_age_s
    said = "–" if age is None else words.span(max(age, 1))
    cell.text(said, "body", "text.secondary" if age is not None else "text.muted", right=True)


def _memory(cell: Cell, process: types.ProcessInfo) -> None:
    known = process.memory_mb is not None
    cell.text(
        f"{process.memory_mb:.0f} MB" if known else "–", "body", "text.primary" if known else "text.muted", right=True
    )


def _up(cell: Cell, process: types.ProcessInfo) -> None:
    age = words.age_s(process.started_at)
    cell.text(words.span(age) if age is not None else "–", "body", "text.secondary", right=True)


def _restarts(cell: Cell, process: types.ProcessInfo) -> None:
    color = "text.primary" if process.restarts else "text.muted"
    cell.text(words.count(process.restarts), "body", color, right=True)


def _note(cell: Cell, process: types.ProcessInfo) -> None:
    cell.text(process.note or "", "body", "text.muted")


PROCESSES = [
    Column("Process", 172, _name),
    Column("State", 152, _chip),
    Column("Id", 76, _pid, right=True),
    Column("Heartbeat", 92, _beat, right=True),
    Column("Memory", 92, _memory, right=True),
    Column("Up for", 104, _up, right=True),
    Column("Restarts", 80, _restarts, right=True),
    Column("Note", 0, _note),
]


class Meter(QWidget):
    """Memory of a pool's processes against their limit."""

    def __init__(self) -> None:
        super().__init__()
        self._theme = themes.current()
        self._now: float | None = None
        self._limit: float | None = None
        self.setFixedHeight(50)

    def tell(self, processes: Sequence[types.ProcessInfo]) -> None:
        """The sum over processes."""
        known = [process for process in processes if process.memory_mb is not None]
        limits = [process.memory_limit_mb for process in known if process.memory_limit_mb is not None]
        told = (sum(p.memory_mb or 0 for p in known) if known else None, sum(limits) if limits else None)
        if told != (self._now, self._limit):
            self._now, self._limit = told
            self.setAccessibleName(f"Memory: {self._now or 0:.0f} of {self._limit or 0:.0f} MB")
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter, theme, wide = QPainter(self), self._theme, self.width()
        paint.text(painter, theme, QRectF(0, 0, wide, 16), "Memory", "small", "text.muted")
        said = "unknown" if self._now is None else f"{self._now:.0f} MB"
        taken = paint.text(painter, theme, QRectF(0, 18, wide, 20), said, "strong")
        if self._now is None or self._limit is None:
            return
        of = QRectF(taken + 8, 18, wide - taken - 8, 20)
        paint.text(painter, theme, of, f"of {self._limit:.0f} MB", "small", "text.muted")
        share = self._now / self._limit
        color = "state.warn.solid" if share > 0.9 else "chart.line"
        paint.meter(painter, theme, QRectF(0, 43, wide, 6), share, color)
