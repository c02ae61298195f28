"""The first page: is it running, is it up to date, what needs me."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QWidget

from engine.api import types_banks, types_operation, types_overview
from gui import words
from gui.client.api import Query, path
from gui.desk import Desk
from gui.kit.boxes import Card, Tile, column, row
from gui.kit.button import Button
from gui.kit.chart import AreaChart
from gui.kit.choices import Segments
from gui.linking import Linking
from gui.pages import overview_parts as parts
from gui.pages.base import CardPage
from gui.pages.overview_tiles import TILES, tell_tiles

SPANS = [("1h", "1 h"), ("24h", "24 h"), ("7d", "7 d")]


class OverviewPage(CardPage):
    """Verdicts, what needs the person, jobs over time, queues, services, recent activity."""

    key = "overview"
    title = "Overview"
    topics = frozenset({"engine", "queues", "jobs", "items", "runs", "bills", "workers", "schedule", "hello", "time"})

    def __init__(self, desk: Desk, linking: Linking) -> None:
        super().__init__(desk)
        self.chart_query = Query(desk.client, types_overview.Chart, path("chart", span="24h"), self)
        self.pause = Button("Pause all", "pause")
        self.sync = Button("Sync all", "state-syncing", "filled")
        self.sync.set_tip("Sync all banks now (F5)")
        self.lost = parts.LostCard(desk)
        self.tiles = {name: Tile(title) for name, title in TILES}
        self.needs = parts.NeedsCard(desk, linking)
        self.jobs = _JobsCard()
        self.queues = parts.QueuesCard()
        self.services = parts.ServicesCard()
        self.activity = parts.ActivityCard()
        for card in (self.queues, self.services):
            card.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self._arrange()
        self._wire()
        self.link_changed()

    def _arrange(self) -> None:
        tiles = row(16)
        for tile in self.tiles.values():
            tiles.addWidget(tile, 1)
        left, right = column(16), column(16)
        left.addWidget(self.jobs, 1)
        left.addWidget(self.queues)
        right.addWidget(self.services)
        right.addWidget(self.activity, 1)
        right.addStretch(0)
        self._right = QWidget()
        self._right.setLayout(right)
        self._right.setFixedWidth(328)
        columns: QHBoxLayout = row(16)
        columns.addLayout(left, 1)
        columns.addWidget(self._right)
        self.body.addWidget(self.lost)
        self.body.addLayout(tiles)
        self.body.addWidget(self.needs)
        self.body.addLayout(columns, 1)

    def _wire(self) -> None:
        desk = self.desk
        desk.overview.arrived.connect(self._show)
        desk.connection.tick.connect(self._ticked)
        self.chart_query.arrived.connect(self.jobs.chart.show_chart)
        self.jobs.span.chosen.connect(lambda span: self.chart_query.ask(path("chart", span=span)))
        self.pause.clicked.connect(self._pause)
        self.sync.clicked.connect(self.sync_all)
        self.tiles["engine"].clicked.connect(lambda: desk.go.emit("workers", ""))
        self.tiles["banks"].clicked.connect(lambda: desk.go.emit("banks", ""))
        self.tiles["needs"].clicked.connect(self._open_needs)
        self.queues.opened.connect(lambda queue: desk.go.emit("jobs", f"queue:{queue}" if queue else ""))
        self.services.opened.connect(lambda page: desk.go.emit(page, ""))

    def buttons(self) -> Sequence[Button]:
        return (self.pause, self.sync)

    def refresh(self) -> None:
        if self.desk.connected:
            self.desk.overview.refresh()
            self.chart_query.refresh()

    def sync_all(self) -> None:
        """Ask for a sync of every bank."""
        self.desk.act("POST", path("sync"), types_banks.SyncRequest(all=True))

    def link_changed(self) -> None:
        may, reason = self.desk.may()
        self.pause.allow(may, reason)
        self.sync.allow(may, reason)
        self.lost.follow()
        self._paint_state()

    def set_narrow(self, narrow: bool) -> None:
        super().set_narrow(narrow)
        self._right.setFixedWidth(296 if narrow else 328)
        for figure in self.jobs.figures.values():
            figure.set_narrow(narrow)
        self._paint_state()

    def _ticked(self) -> None:
        self.lost.follow()

    def _pause(self) -> None:
        known = self.desk.known
        if known is not None and known.engine.state == "paused":
            self.desk.act("POST", path("engine", "resume"))
        else:
            undo = lambda: self.desk.act("POST", path("engine", "resume"))  # noqa: E731
            self.desk.act("POST", path("engine", "pause"), types_operation.EnginePause(), undo=undo)

    def _open_needs(self) -> None:
        known = self.desk.known
        if known is None or not (known.needs or known.causes):
            self.desk.go.emit("bills", "")
        elif known.needs and known.needs[0].kind == "item":
            self.desk.go.emit("banks", known.needs[0].id)
        else:
            self.desk.go.emit("jobs", "failed")

    def _show(self, overview: types_overview.Overview) -> None:
        paused = overview.engine.state == "paused"
        self.pause.set_words("Resume" if paused else "Pause all", "play" if paused else "pause")
        self.jobs.tell(overview.figures)
        self.queues.tell(overview.queues)
        self.activity.tell(overview.activity, overview.away)
        self.needs.tell(overview)
        troubled = bool(self.needs.count)
        self.sync.set_kind("outline" if troubled else "filled")
        self._paint_state()

    def _paint_state(self) -> None:
        """What depends on whether an engine answers: tiles, services, the chart's edge."""
        known, link = self.desk.known, self.desk.connection
        gone = link.state in {"unreachable", "stopped"}
        tell_tiles(self.tiles, known, link)
        self.services.tell(known.services if known is not None else [], gone)
        self.needs.setVisible(bool(self.needs.count) and not gone)
        self.jobs.card_note(f"until {words.time(link.lost_at)}" if gone and known is not None else "")
        wide = self.window().width() >= self.theme.size("breakpoint.rail")
        self.activity.setVisible(known is not None and wide)
        self.queues.setVisible(known is not None and not gone and wide)
        self.activity.fade(gone)
        self.jobs.fade(gone)
        chart = self.chart_query.data
        if chart is not None:
            self.jobs.chart.show_chart(chart, link.lost_at if gone else None)


class _JobsCard(Card):
    """Figures over the chart."""

    def __init__(self) -> None:
        super().__init__("Jobs")
        self.span = Segments(SPANS, "24h", "Span of the chart")
        self.head.addWidget(self.span, 0, Qt.AlignmentFlag.AlignVCenter)
        self.figures = {name: parts.Figure(label) for name, label in parts.FIGURES}
        line = row(32, (15, 0, 15, 8))
        for figure in self.figures.values():
            line.addWidget(figure)
        line.addStretch(1)
        self._line = QWidget()
        self._line.setLayout(line)
        self.body.addWidget(self._line)
        self.chart = AreaChart("Jobs over time")
        holder = column(0, (15, 0, 15, 4))
        holder.addWidget(self.chart)
        self.body.addLayout(holder, 1)

    def tell(self, figures: types_overview.Figures) -> None:
        """Show the figures of now."""
        tone = "state.error.text" if figures.failed_share_24h >= 0.01 and figures.failed_24h else "text.primary"
        share = f"{figures.failed_share_24h * 100:.1f} %" if figures.failed_24h else ""
        self.figures["running"].tell(words.count(figures.running))
        self.figures["waiting"].tell(words.count(figures.waiting))
        wait = words.duration(figures.oldest_wait_ms) or "none"
        self.figures["oldest"].tell(wait, figures.oldest_wait_queue or "")
        self.figures["failed"].tell(words.count(figures.failed_24h), share, tone)
        self.figures["update"].tell(words.duration(figures.update_to_database_ms) or "not yet")

    def card_note(self, said: str) -> None:
        """Muted words beside the title."""
        self.say_note(said)

    def fade(self, faded: bool) -> None:
        """Figures of now say nothing once the engine is gone."""
        self._line.setVisible(not faded)
