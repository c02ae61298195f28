"""Schedule: what runs by itself, when next, how it went; run now, pause, resume."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QKeySequence, QPainter, QPaintEvent, QShortcut
from PySide6.QtWidgets import QSizePolicy, QWidget

from engine import clock
from engine.api import types_operation
from gui import icons, paint, words
from gui import theme as themes
from gui.client.api import Failure, Query, path
from gui.desk import Desk
from gui.kit.boxes import Fill, column, row
from gui.kit.button import Button
from gui.kit.columns import Cell, Column, Head, Layout, RowButton
from gui.kit.detail import Pane
from gui.kit.listview import List
from gui.kit.table import Table
from gui.kit.text import Label
from gui.models.rows import Rows
from gui.pages.base import Listing, ListPage, explain

HOUR_S = 3600.0
OUTCOMES = {
    "done": ("state-done", "ok"),
    "failed": ("state-failed", "error"),
    "missed": ("state-degraded", "warn"),
    "running": ("state-running", "active"),
}


def sentence(job: types_operation.ScheduledJob) -> str:
    """A scheduled job as one sentence."""
    nxt = "paused" if job.paused else f"next {words.until(job.next_run_at)}"
    last = f", last {job.last.outcome}" if job.last is not None else ""
    return f"{job.label}, {job.words}, {nxt}{last}"


def _name(cell: Cell, job: types_operation.ScheduledJob) -> None:
    cell.two(job.label, job.words)


def _next(cell: Cell, job: types_operation.ScheduledJob) -> None:
    if job.paused:
        cell.text("paused")
    elif job.next_run_at is None:
        cell.text("not planned", "body", "text.muted")
    else:
        cell.two(words.until(job.next_run_at), words.day_and_time(job.next_run_at), role="body")


def _last(cell: Cell, job: types_operation.ScheduledJob) -> None:
    run = job.last
    if run is None:
        cell.text("not yet", "body", "text.muted")
        return
    icon, tone = OUTCOMES[run.outcome]
    spec = {"icon": icon, "tone": tone, "fill": False}
    label = run.text or {"done": "done", "missed": "missed"}.get(run.outcome, run.outcome)
    paint.chip(cell.painter, cell.theme, cell.rect.x(), cell.rect.center().y(), spec, label, cell.rect.width())


def _took(cell: Cell, job: types_operation.ScheduledJob) -> None:
    said = words.duration(job.last.duration_ms) if job.last is not None else ""
    cell.text(said, "body", "text.secondary", right=True)


def _switch(job: Any) -> Sequence[RowButton]:
    return [RowButton("switch", kind="off" if job.paused else "on")]


COLUMNS = [
    Column("Scheduled job", 0, _name),
    Column("Next run", 124, _next),
    Column("Last result", 160, _last),
    Column("Took", 68, _took, right=True),
    Column("On", 72, None, right=True, buttons=_switch),
]


class SchedulePage(ListPage):
    """The schedule with the next hour as dots."""

    key = "schedule"
    title = "Schedule"
    topics = frozenset({"schedule", "hello", "time"})

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.query = Query(desk.client, types_operation.Schedule, path("schedule"), self)
        self.query.arrived.connect(self._show)
        self.query.failed.connect(self._cannot)
        self.jobs = Rows(lambda job: job.id, sentence, self)
        self.view = List(self.jobs, Layout(lambda _row: COLUMNS, lambda _row: 52), "Scheduled jobs")
        self.listing = Listing(self.view, Head(COLUMNS))
        self.hour = NextHour()
        self.planned = Label("", "small", "text.muted", shrink=False)
        self.pane = SchedulePane(desk)
        self._wanted = ""
        head = row(8)
        head.addWidget(Label("The next hour", "label", "text.secondary"), 1)
        head.addWidget(self.planned)
        strip = column(4, (24, 14, 24, 8))
        strip.addLayout(head)
        strip.addWidget(self.hour)
        holder = Fill("bg.surface", "b")
        holder.setLayout(strip)
        self.master.addWidget(holder)
        self.master.addWidget(self.listing, 1)
        self.set_pane(self.pane)
        self.view.opened.connect(self._open)
        self.view.pressed.connect(self._press)
        self.view.set_menu(self._menu)
        space = QShortcut(QKeySequence("Space"), self.view)
        space.setContext(Qt.ShortcutContext.WidgetShortcut)
        space.activated.connect(lambda: self._press(self.view.current_key(), "switch"))

    def focus_areas(self) -> Sequence[QWidget]:
        return (self.view, self.pane.run)

    def refresh(self) -> None:
        if self.desk.connected:
            if self.query.data is None:
                self.view.wait()
            self.query.refresh()

    def link_changed(self) -> None:
        self.pane.link_changed()

    def open_target(self, target: str) -> None:
        """A scheduled job's id; where the list is still to come, it is opened then."""
        self._wanted = target
        if self.jobs.find(target) >= 0:
            self._open_wanted()

    def _open_wanted(self) -> None:
        wanted, self._wanted = self._wanted, ""
        self.view.choose(wanted)

    def _show(self, schedule: types_operation.Schedule) -> None:
        self.view.ready()
        self.jobs.show(schedule.jobs)
        self.jobs.touch()
        self.listing.show_empty(not schedule.jobs)
        self.listing.empty.tell(
            "nav-schedule", "Nothing is scheduled", "The schedule is set up when the engine starts."
        )
        self.planned.say(f"{words.plural(self.hour.tell(schedule.jobs), 'run')} planned")
        paused = sum(job.paused for job in schedule.jobs)
        self.counts.say(f"{words.plural(len(schedule.jobs), 'scheduled job')}, {paused} paused")
        zone = clock.now().astimezone().tzname() or ""
        self.fact.say(
            f"Times are local, {zone}" if schedule.active else "No scheduler is active, so nothing runs by itself"
        )
        found = self.jobs.get(self.pane.job.id) if self.pane.job is not None else None
        if found is not None:
            self.pane.open(found)
        if self._wanted:
            self._open_wanted()

    def _cannot(self, failure: Failure) -> None:
        self.view.ready()
        self.counts.say(explain(failure))

    def _open(self, key: str) -> None:
        job = self.jobs.get(key)
        if job is not None:
            self.pane.open(job)
            self.show_detail()

    def _menu(self, job: types_operation.ScheduledJob) -> Sequence[RowButton]:
        may = self.desk.may()[0]
        return [
            RowButton("run", "Run now", enabled=may),
            RowButton("switch", "Resume" if job.paused else "Pause", enabled=may),
        ]

    def _press(self, key: str, action: str) -> None:
        job = self.jobs.get(key)
        may, reason = self.desk.may()
        if not may:
            self.desk.say(reason)
        elif job is not None:
            self.pane.send(job, "run" if action == "run" else "resume" if job.paused else "pause")


class SchedulePane(Pane):
    """One scheduled job: run now, pause or resume, next and last runs."""

    def __init__(self, desk: Desk) -> None:
        super().__init__("Scheduled job")
        self._desk = desk
        self.job: types_operation.ScheduledJob | None = None
        self.monogram.hide()
        self.chip.hide()
        self.run = Button("Run now", "bolt", "filled")
        self.run.clicked.connect(lambda: self._act("run"))
        self.pause = Button("Pause", "pause")
        self.pause.clicked.connect(lambda: self._act("resume" if self.job is not None and self.job.paused else "pause"))
        self.acts.addWidget(self.run)
        self.acts.addWidget(self.pause)
        self.acts.addStretch(1)
        self.by = Label("", "small", "text.muted", wrap=True)
        self._words = Label("", "body")
        often = self.section("How often")
        often.addWidget(self._words)
        often.addWidget(self.by)
        self.next = Table(
            [Column("", 0, _when), Column("", 110, _until, right=True)], 24, "Next runs", str, rules=False
        )
        self.section("Next five runs").addWidget(self.next)
        self.last = Table(
            [Column("", 72, _ran_at), Column("", 0, _ran), Column("", 64, _ran_took, right=True)], 28, "Last runs",
            lambda run: f"{run.outcome} {run.text}", tip_of=lambda run: f"{words.exact(run.at)}\n{run.text}",
        )  # fmt: skip
        self._none = Label("None yet", "body", "text.muted")
        last = self.section("Last runs")
        last.addWidget(self.last)
        last.addWidget(self._none)
        self.link_changed()

    def open(self, job: types_operation.ScheduledJob) -> None:
        """Show a scheduled job."""
        self.job = job
        self.title.say(job.label)
        self.subtitle.say("Paused" if job.paused else f"Next run {words.until(job.next_run_at) or 'not planned'}")
        self._words.say(job.words[:1].upper() + job.words[1:])
        self.by.say(f"Paused by {job.paused_by}" if job.paused and job.paused_by else "")
        self.by.setVisible(bool(self.by.text()))
        self.next.show_rows([] if job.paused else job.next_five)
        self.next.update()
        self.last.show_rows(job.history[:8])
        self._none.setVisible(not job.history)
        self.link_changed()

    def link_changed(self) -> None:
        """What can be done changed."""
        may, reason = self._desk.may()
        self.run.allow(may, reason)
        self.pause.allow(may, reason)
        paused = self.job is not None and self.job.paused
        self.pause.set_words("Resume" if paused else "Pause", "play" if paused else "pause")

    def _act(self, verb: str) -> None:
        if self.job is not None:
            self.send(self.job, verb)

    def send(self, job: types_operation.ScheduledJob, verb: str) -> None:
        """Run, pause or resume a scheduled job."""
        words_ = {
            "run": f"{job.label} runs now.",
            "pause": f"{job.label} is paused.",
            "resume": f"{job.label} goes on.",
        }
        back = {"pause": "resume", "resume": "pause"}.get(verb)
        undo = (lambda: self.send(job, back)) if back is not None else None
        done = lambda _answer: self._desk.batch.add("schedule")  # noqa: E731
        self._desk.act("POST", path("schedule", job.id, verb), done=done, undo=undo, words=words_[verb])


def _when(cell: Cell, at: str) -> None:
    cell.text(words.day_and_time(at))


def _until(cell: Cell, at: str) -> None:
    cell.text(words.until(at), "body", "text.secondary", right=True)


def _ran_at(cell: Cell, run: types_operation.ScheduledRun) -> None:
    cell.text(words.time(run.at) if words.short_date(run.at) == "today" else words.short_date(run.at))


def _ran(cell: Cell, run: types_operation.ScheduledRun) -> None:
    icon, tone = OUTCOMES[run.outcome]
    box = cell.rect
    icons.draw(cell.painter, icon, cell.theme.color(f"state.{tone}.solid"), box.x(), box.center().y() - 7, 14)
    paint.text(cell.painter, cell.theme, box.adjusted(20, 0, 0, 0), run.text or run.outcome)


def _ran_took(cell: Cell, run: types_operation.ScheduledRun) -> None:
    cell.text(words.duration(run.duration_ms), "body", "text.muted", right=True)


class NextHour(QWidget):
    """A dot of 7 for each run of the next hour, a lane a job (three at most), quarter-hour hairlines."""

    def __init__(self) -> None:
        super().__init__()
        self._theme = themes.current()
        self._lanes: list[tuple[str, list[float]]] = []
        self.setFixedHeight(66)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def tell(self, jobs: Sequence[types_operation.ScheduledJob]) -> int:
        """Show the jobs' runs within the hour; returns how many."""
        lanes = [(job.label, _within_hour(job)) for job in jobs if not job.paused]
        lanes = [lane for lane in lanes if lane[1]]
        if len(lanes) > 3:
            rest = sorted(at for _, runs in lanes[2:] for at in runs)
            lanes = [*lanes[:2], ("Everything else", rest)]
        self._lanes = lanes
        number = sum(len(runs) for _, runs in lanes)
        self.setAccessibleName(f"The next hour: {number} runs")
        self.update()
        return number

    def sizeHint(self) -> QSize:
        return QSize(400, 66)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter, theme = QPainter(self), self._theme
        left, right = 112.0, self.width() - 8.0
        for quarter in range(5):
            x = left + (right - left) * quarter / 4
            paint.hairline(painter, theme.color("border.subtle"), x, 0, x, 48)
            said = _quarter(quarter) if quarter else "now"
            room = QRectF(x - (0 if quarter == 0 else 40 if quarter < 4 else 72), 50, 80, 16)
            align = paint.LEFT if quarter == 0 else paint.CENTER if quarter < 4 else paint.RIGHT
            paint.text(painter, theme, room, said, "micro", "text.muted", align)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for place, (label, runs) in enumerate(self._lanes):
            middle = 8 + place * 16
            paint.text(painter, theme, QRectF(0, middle - 8, left - 12, 16), label, "micro", "text.secondary")
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(theme.color("chart.done" if place == 1 else "chart.line"))
            for seconds in runs:
                painter.drawEllipse(QRectF(left + (right - left) * seconds / HOUR_S - 3.5, middle - 3.5, 7, 7))


def _quarter(quarter: int) -> str:
    return (clock.now() + timedelta(minutes=15 * quarter)).astimezone().strftime("%H:%M")


def _within_hour(job: types_operation.ScheduledJob) -> list[float]:
    """Seconds from now of its runs within the hour: the five known ones, and an interval's further ones."""
    known = [-(words.age_s(at) or 0) for at in job.next_five]
    every = job.trigger.get("every_s")
    while isinstance(every, int) and every > 0 and known and known[-1] < HOUR_S and len(known) < 120:
        known.append(known[-1] + every)
    return [max(at, 0.0) for at in known if at <= HOUR_S]
