"""Cards of the first page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from PySide6.QtCore import QRectF, Qt, QUrl, Signal
from PySide6.QtGui import QDesktopServices, QGuiApplication, QPainter, QPaintEvent
from PySide6.QtWidgets import QWidget

from engine.api import types_jobs, types_overview
from gui import icons, paint, words
from gui import theme as themes
from gui.desk import Desk
from gui.kit.boxes import Card, Glyph, Rule, Well, column, row
from gui.kit.button import Button, Link
from gui.kit.columns import Cell, Column, Head
from gui.kit.detail import clear
from gui.kit.table import Table
from gui.kit.text import Label
from gui.linking import MENDS, NEW, Linking

FIGURES = [
    ("running", "Running"),
    ("waiting", "Waiting"),
    ("oldest", "Oldest wait"),
    ("failed", "Failed in 24 h"),
    ("update", "Update to database"),
]
ICONS = {
    "queue": "broker",
    "database": "database",
    "plaid": "globe",
    "webhooks": "nav-webhooks",
    "workers": "nav-workers",
    "schedule": "nav-schedule",
}
PAGES = {"workers": "workers", "schedule": "schedule", "queue": "jobs", "plaid": "banks", "webhooks": "webhooks"}


class Figure(QWidget):
    """A small label over a figure, with muted words after it."""

    def __init__(self, label: str) -> None:
        super().__init__()
        self._label = label
        self.narrow = False
        self.value = Label("", "figure", shrink=False)
        self.more = Label("", "small", "text.muted", shrink=False)
        line = row(8)
        line.addWidget(self.value)
        line.addWidget(self.more)
        line.addStretch(1)
        layout = column(0)
        layout.addWidget(Label(label, "small", "text.muted", shrink=False))
        layout.addLayout(line)
        self.setLayout(layout)

    def tell(self, value: str, more: str = "", tone: str = "text.primary") -> None:
        """Change the figure."""
        self.value.say(value, tone)
        self.more.say(more, tone if tone != "text.primary" else "text.muted")
        self.more.setVisible(bool(more) and not self.narrow)
        self.setAccessibleName(f"{self._label}: {value} {more}".strip())

    def set_narrow(self, narrow: bool) -> None:
        """Where there is little room, the figure alone; the rest is its tooltip."""
        self.narrow = narrow
        self.more.setVisible(bool(self.more.text()) and not narrow)


class NeedsCard(Card):
    """What needs the person, worst first: three rows, then how many more."""

    def __init__(self, desk: Desk, linking: Linking) -> None:
        super().__init__()
        self._desk, self._linking = desk, linking
        self._shown: list[types_overview.Cause | types_overview.Need] = []
        self.count = 0
        self.setAccessibleName("What needs you")
        self.hide()

    def tell(self, known: types_overview.Overview) -> None:
        """Show causes that are errors, then what needs the person."""
        rows: list[types_overview.Cause | types_overview.Need] = [
            cause for cause in known.causes if cause.tone != "info"
        ]
        rows += known.needs
        if rows == self._shown:
            return
        self._shown, self.count = rows, len(rows)
        clear(self.body)
        for place, need in enumerate(rows[:3]):
            if place:
                self.body.addWidget(Rule())
            self.body.addWidget(self._row(need, place == 0))
        if len(rows) > 3:
            more = Link(f"{len(rows) - 3} more", "label")
            more.clicked.connect(lambda: self._desk.go.emit("jobs", "failed"))
            line = row(0, (48, 4, 0, 8))
            line.addWidget(more)
            holder = QWidget()
            holder.setLayout(line)
            self.body.addWidget(Rule())
            self.body.addWidget(holder)

    def _row(self, need: types_overview.Cause | types_overview.Need, first: bool) -> QWidget:
        state = getattr(need, "state", "")
        tone = "error" if state == "error" or getattr(need, "tone", "") == "error" else "warn"
        icon = {"error": "state-failed", "needs_you": "state-needs-you", "expiring": "state-expiring"}.get(state, "")
        icon = icon or ("state-error" if tone == "error" else "state-degraded")
        title = need.title
        if isinstance(need, types_overview.Need) and need.kind == "item":
            title = f"{need.subject}: {need.title[:1].lower()}{need.title[1:]}"
        names = column(0)
        names.addStretch(1)
        names.addWidget(Label(title, "strong"))
        names.addWidget(Label(need.sentence, "small", "text.secondary"))
        names.addStretch(1)
        line = row(12, (15, 0, 11, 0))
        line.addWidget(Glyph(icon, f"state.{tone}.solid", 20))
        line.addLayout(names, 1)
        button = self._button(need)
        if button is not None:
            button.set_kind("filled" if first else "outline")
            line.addWidget(button)
        holder = QWidget()
        holder.setFixedHeight(60)
        holder.setLayout(line)
        return holder

    def _button(self, need: types_overview.Cause | types_overview.Need) -> Button | None:
        act = need.action or ""
        if isinstance(need, types_overview.Need) and need.kind == "item":
            if act in MENDS:
                return self._make(act, "external", partial(self._linking.begin, need.id))
            if act in NEW:
                return self._make(act, "external", partial(self._linking.begin, None))
            return self._make("Open bank", "", partial(self._desk.go.emit, "banks", need.id))
        if act == "Open workers":
            return self._make(act, "", partial(self._desk.go.emit, "workers", ""))
        if act == "See the causes":
            return self._make(act, "", partial(self._desk.go.emit, "jobs", "failed"))
        return None

    def _make(self, label: str, icon: str, act: object) -> Button:
        button = Button(label, icon)
        button.clicked.connect(lambda _=False: act())  # type: ignore[operator]
        return button


class LostCard(Card):
    """The engine does not answer, is stopped or starts: what is known, that nothing is lost, the way out."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self.title = Label("", "title")
        self.sentence = Label("", "body", "text.secondary", wrap=True)
        self.sentence.setMaximumWidth(640)
        self._glyph = _Mark()
        self.start = Button("Start engine", "play", "filled")
        self.start.clicked.connect(desk.connection.start_engine)
        self.log = Button("Open engine log", "nav-logs")
        self.log.clicked.connect(self._open_log)
        self.copy = Button("Copy details", "copy", "plain")
        self.copy.clicked.connect(self._copy)
        self.again = Label("", "small", "text.muted", shrink=False)
        actions = row(8)
        for button in (self.start, self.log, self.copy):
            actions.addWidget(button)
        actions.addStretch(1)
        actions.addWidget(self.again)
        inner = column(4)
        inner.addWidget(self.title)
        inner.addWidget(self.sentence)
        inner.addSpacing(8)
        inner.addLayout(actions)
        layout = row(16, (19, 19, 19, 19))
        layout.addWidget(self._glyph, 0, Qt.AlignmentFlag.AlignTop)
        layout.addLayout(inner, 1)
        self.body.addLayout(layout)
        self.hide()

    def follow(self) -> None:
        """Take the state of the link over."""
        link = self._desk.connection
        gone = link.state in {"unreachable", "stopped"}
        self.setVisible(gone)
        if not gone:
            return
        stopped = link.state == "stopped"
        self.border = "border.default" if stopped else "state.error.solid"
        self._glyph.tell("state-stopped" if stopped else "state-unreachable", "idle" if stopped else "error")
        self.title.say("The engine is stopped" if stopped else "The engine is not answering")
        first = link.message or (
            "You stopped it." if stopped else f"Its last sign was at {words.time(link.lost_at, True)}."
        )
        old = f" What you see below is from {words.time(link.lost_at)}." if self._desk.known is not None else ""
        kept = "Banks are not being synced. Nothing is lost: Plaid keeps their updates until the engine is back."
        self.sentence.say(f"{first} {kept}{old}")
        self.start.setVisible(link.can_start)
        self.log.setVisible(bool(link.log))
        self.again.say(f"Looking for it again in {max(link.retry_in_s, 0)} s")
        self.update()

    def details(self) -> str:
        """What can be copied for somebody who helps."""
        link = self._desk.connection
        facts = {
            "Engine": link.state,
            "Address": self._desk.client.base or "unknown",
            "Since": link.lost_at,
            "Said": link.message,
            "Logs": link.log,
        }
        return "\n".join(f"{name}: {value}" for name, value in facts.items())

    def _open_log(self) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(self._desk.connection.log))

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self.details())
        self._desk.say("The details are in the clipboard.")


class _Mark(QWidget):
    """A glyph in a tinted square of 40."""

    def __init__(self) -> None:
        super().__init__()
        self._icon, self._tone = "state-unreachable", "error"
        self.setFixedSize(40, 40)

    def tell(self, icon: str, tone: str) -> None:
        self._icon, self._tone = icon, tone
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        theme, painter = themes.current(), QPainter(self)
        paint.rounded(painter, QRectF(self.rect()), 8, theme.color(f"state.{self._tone}.tint"))
        icons.draw(painter, self._icon, theme.color(f"state.{self._tone}.text"), 10, 10, 20)


def _number(value: int, loud: bool = False) -> tuple[str, str, str]:
    if not value:
        return words.count(0), "body", "text.muted"
    return words.count(value), "strong" if loud else "body", "state.error.text" if loud else "text.primary"


class QueuesCard(Card):
    """The three queues with their counts and the last hour."""

    opened = Signal(str)

    def __init__(self) -> None:
        super().__init__("Queues")
        link = Link("Open jobs")
        link.clicked.connect(lambda: self.opened.emit(""))
        self.head.addWidget(link)

        def counted(name: str, loud: bool = False) -> object:
            def draw(cell: Cell, queue: types_jobs.QueueStatus) -> None:
                said, role, color = _number(getattr(queue, name), loud)
                cell.text(said, role, color, right=True)

            return draw

        def named(cell: Cell, queue: types_jobs.QueueStatus) -> None:
            wide = cell.text(queue.label, "control")
            if queue.paused:
                paint.tag(cell.painter, cell.theme, cell.rect.x() + wide + 8, cell.rect.center().y(), "Paused")

        def hour(cell: Cell, queue: types_jobs.QueueStatus) -> None:
            box = QRectF(cell.rect.x() + 8, cell.rect.center().y() - 10, 88, 20)
            paint.bars(cell.painter, cell.theme, box, queue.last_hour)

        self._columns = [
            Column("Queue", 0, named),
            Column("Waiting", 66, counted("waiting"), right=True),  # type: ignore[arg-type]
            Column("Delayed", 68, counted("delayed"), right=True),  # type: ignore[arg-type]
            Column("Running", 68, counted("running"), right=True),  # type: ignore[arg-type]
            Column("Retrying", 72, counted("retrying"), right=True),  # type: ignore[arg-type]
            Column("Failed", 60, counted("failed", True), right=True),  # type: ignore[arg-type]
            Column("Done 24 h", 82, counted("done_24h"), right=True),  # type: ignore[arg-type]
            Column("  Last hour", 120, hour),
        ]
        self.table = Table(
            self._columns, 36, "Queues", lambda queue: f"{queue.label}: {queue.waiting} waiting, {queue.failed} failed",
            edge=16, clickable=True,
        )  # fmt: skip
        self.table.clicked.connect(lambda place: self.opened.emit(self.table.rows[place].name))
        holder = column(0, (0, 0, 0, 2))
        holder.addWidget(Head(self._columns, 16, ""))
        holder.addWidget(self.table)
        self.body.addLayout(holder)

    def tell(self, queues: Sequence[types_jobs.QueueStatus]) -> None:
        """Show the queues."""
        self.table.show_rows(queues)


class ServicesCard(Card):
    """Queue, database, Plaid, webhooks, workers, schedule: each with its state and a figure."""

    opened = Signal(str)

    def __init__(self) -> None:
        super().__init__("Services")
        columns = [Column("", 0, self._draw)]
        self.table = Table(
            columns, 36, "Services", lambda service: f"{service.label}, {service.detail}: {service.state}",
            edge=15, rules=False, clickable=True, tip_of=lambda service: service.sentence or service.detail,
        )  # fmt: skip
        self.table.clicked.connect(self._open)
        holder = column(0, (0, 0, 0, 8))
        holder.addWidget(self.table)
        self.body.addLayout(holder)

    def tell(self, services: Sequence[types_overview.Service], gone: bool) -> None:
        """Show the services; ``gone``: nothing is known of them now."""
        self.say_note("no answer" if gone else "")
        self.table.faded = gone
        self.table.show_rows(services)
        self.table.update()

    def _open(self, place: int) -> None:
        page = PAGES.get(self.table.rows[place].name)
        if page is not None:
            self.opened.emit(page)

    def _draw(self, cell: Cell, service: types_overview.Service) -> None:
        theme, painter, box = cell.theme, cell.painter, cell.rect
        middle = box.center().y()
        icons.draw(painter, ICONS[service.name], theme.color("text.muted"), box.x(), middle - 8, 16)
        glyphs = {"ok": ("state-done", "ok"), "warn": ("state-degraded", "warn"), "error": ("state-error", "error")}
        glyph, tone = ("state-waiting", "idle") if cell.stale else glyphs.get(service.state, ("state-waiting", "idle"))
        icons.draw(painter, glyph, theme.color(f"state.{tone}.solid"), box.right() - 14, middle - 7, 14)
        figure = "unknown" if cell.stale else service.figure
        color = "state.error.text" if service.state == "error" and not cell.stale else "text.muted"
        wide = theme.metrics("small").horizontalAdvance(figure) + 1
        right = QRectF(box.right() - 22 - wide, box.y(), wide, box.height())
        paint.text(painter, theme, right, figure, "small", color, paint.RIGHT)
        name = QRectF(box.x() + 24, box.y(), right.left() - box.x() - 32, box.height())
        taken = paint.text(painter, theme, name, service.label, "control")
        rest = name.adjusted(taken + 8, 0, 0, 0)
        detail = service.sentence if service.state == "error" and service.sentence else service.detail
        paint.text(painter, theme, rest, detail, "small", "text.muted")


class ActivityCard(Card):
    """What happened lately, the newest first."""

    def __init__(self) -> None:
        super().__init__("Recent activity")
        self._away = Well()
        self._away_text = Label("", "small", "text.secondary", wrap=True)
        inner = column(0, (10, 7, 10, 7))
        inner.addWidget(Label("While you were away", "control"))
        inner.addWidget(self._away_text)
        self._away.setLayout(inner)
        self._away.hide()
        self.table = Table(
            [Column("", 0, self._draw)], 32, "Recent activity", lambda row: row.text,
            edge=15, rules=False, tip_of=lambda row: f"{row.text}\n{words.exact(row.at)}", least=2,
        )  # fmt: skip
        self._none = Label("Nothing yet. What happens shows here as it happens.", "small", "text.muted", wrap=True)
        self._none.setContentsMargins(0, 0, 0, 0)
        holder = column(4, (0, 0, 0, 12))
        wrap = row(0, (15, 0, 15, 0))
        wrap.addWidget(self._away)
        holder.addLayout(wrap)
        none = row(0, (15, 0, 15, 0))
        none.addWidget(self._none)
        holder.addLayout(none)
        holder.addWidget(self.table, 1)
        self.body.addLayout(holder, 1)

    def tell(self, rows: Sequence[types_overview.Activity], away: str | None) -> None:
        """Show at most eight rows."""
        self._away.setVisible(bool(away))
        self._away_text.say(away or "")
        self.table.show_rows(rows[: 6 if away else 8])
        self.table.update()
        self._none.setVisible(not rows)

    def fade(self, faded: bool) -> None:
        """Old activity shows when it was instead of how long ago."""
        self.title.say("Last activity" if faded else "Recent activity")
        self._away.setVisible(bool(self._away_text.text()) and not faded)
        if faded != self.table.faded:
            self.table.faded = faded
            self.table.update()

    def _draw(self, cell: Cell, item: types_overview.Activity) -> None:
        theme, painter, box = cell.theme, cell.painter, cell.rect
        tone = "idle" if cell.stale else item.tone
        icons.draw(painter, item.icon, theme.color(f"state.{tone}.solid"), box.x(), box.center().y() - 7, 14)
        when = words.time(item.at) if cell.stale else words.ago(item.at).removesuffix(" ago")
        wide = theme.metrics("small").horizontalAdvance(when) + 1
        right = QRectF(box.right() - wide, box.y(), wide, box.height())
        paint.text(painter, theme, right, when, "small", "text.muted", paint.RIGHT)
        room = QRectF(box.x() + 22, box.y(), right.left() - box.x() - 30, box.height())
        paint.text(painter, theme, room, item.text)
