"""The area chart of jobs over time, and the strips of runs: painted once, redrawn when the data changes."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QPoint, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QPixmap, QPolygonF, QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from engine.api import types_banks, types_overview
from gui import paint, words
from gui import theme as themes
from gui.kit.focus import KeyFocus

LEFT, BOTTOM, TOP = 28, 20, 6


def scale(top: float) -> tuple[int, int]:
    """The highest label and the step for a largest value: three to five hairlines, round numbers."""
    for unit in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 1_000_000):
        steps = -(-int(max(top, 1)) // unit)
        if steps <= 4:
            return unit * max(steps, 2), unit
    return int(top) + 1, int(top) + 1


class AreaChart(KeyFocus, QWidget):
    """One line on a flat fill for finished jobs, red bars on the floor for failed ones."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._theme, self._name = themes.current(), name
        self._slots: Sequence[types_overview.ChartSlot] = ()
        self._span = "24h"
        self._until: str | None = None
        self._canvas: QPixmap | None = None
        self._hot = -1
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumHeight(self._theme.size("chart.height"))
        self._theme.changed.connect(self._redraw)

    def sizeHint(self) -> QSize:
        return QSize(640, self._theme.size("chart.height"))

    def show_chart(self, chart: types_overview.Chart, until: str | None = None) -> None:
        """Show a chart; ``until``: nothing is known since that time."""
        if chart.slots == self._slots and chart.span == self._span and until == self._until:
            return
        self._slots = chart.slots
        self._span, self._until = chart.span, until
        done, failed = sum(slot.done for slot in chart.slots), sum(slot.failed for slot in chart.slots)
        self.setAccessibleName(f"{self._name}: {words.count(done)} done, {words.count(failed)} failed")
        self._redraw()

    def _redraw(self) -> None:
        self._canvas = None
        self.update()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._canvas = None

    def _floor(self) -> float:
        return float(self.height() - BOTTOM)

    def _x(self, place: int) -> float:
        return LEFT + place * (self.width() - LEFT) / max(1, len(self._slots) - 1)

    def paintEvent(self, event: QPaintEvent) -> None:
        ratio = self.devicePixelRatioF()
        if self._canvas is None:
            self._canvas = QPixmap(self.size() * ratio)
            self._canvas.setDevicePixelRatio(ratio)
            self._canvas.fill(Qt.GlobalColor.transparent)
            painter = QPainter(self._canvas)
            self._draw(painter)
            painter.end()
        painter = QPainter(self)
        painter.drawPixmap(0, 0, self._canvas)
        if 0 <= self._hot < len(self._slots):
            x = self._x(self._hot)
            paint.hairline(painter, self._theme.color("text.muted"), x, TOP, x, self._floor())

    def _draw(self, painter: QPainter) -> None:
        theme, slots, floor = self._theme, self._slots, self._floor()
        known = [slot for slot in slots if slot.known]
        highest, step = scale(max((max(slot.done, slot.failed) for slot in known), default=1))
        high = floor - TOP
        points = [QPointF(self._x(at), floor - slot.done / highest * high) for at, slot in enumerate(slots)]
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for first, last in self._known_runs():
            area = QPolygonF(
                [QPointF(points[first].x(), floor), *points[first : last + 1], QPointF(points[last].x(), floor)]
            )
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(theme.color("chart.done.area"))
            painter.drawPolygon(area)
        for value in range(0, highest + 1, step):
            y = round(floor - value / highest * high)
            paint.hairline(painter, theme.color("chart.grid" if value else "border.default"), LEFT, y, self.width(), y)
            room = QRectF(0, y - 8, LEFT - 8, 16)
            paint.text(painter, theme, room, words.count(value), "micro", "text.muted", paint.RIGHT)
        painter.setPen(QPen(theme.color("chart.line"), 1.5))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for first, last in self._known_runs():
            if first == last:  # one slot alone is no line: a level as wide as a slot
                half = (self.width() - LEFT) / max(1, len(slots) - 1) / 2
                left = QPointF(max(float(LEFT), points[first].x() - half), points[first].y())
                painter.drawLine(left, QPointF(min(points[first].x() + half, self.width()), points[first].y()))
            painter.drawPolyline(QPolygonF(points[first : last + 1]))
        self._draw_failed(painter, highest, high)
        self._draw_unknown(painter, high)
        self._draw_times(painter)

    def _known_runs(self) -> list[tuple[int, int]]:
        runs: list[tuple[int, int]] = []
        for at, slot in enumerate(self._slots):
            if not slot.known:
                continue
            if runs and runs[-1][1] == at - 1:
                runs[-1] = (runs[-1][0], at)
            else:
                runs.append((at, at))
        return runs

    def _draw_failed(self, painter: QPainter, highest: int, high: float) -> None:
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self._theme.color("chart.failed"))
        for at, slot in enumerate(self._slots):
            if slot.failed and slot.known:
                tall = max(3.0, min(slot.failed / highest, 1.0) * high)
                left = max(float(LEFT), min(self._x(at) - 2, self.width() - 4))
                painter.drawRoundedRect(QRectF(left, self._floor() - tall, 4, tall), 1, 1)

    def _draw_unknown(self, painter: QPainter, high: float) -> None:
        theme = self._theme
        places = [at for at, slot in enumerate(self._slots) if not slot.known]
        start: int | None = None
        for at in places:
            start = at if start is None or at - 1 not in places else start
            if at + 1 not in places:
                half = (self.width() - LEFT) / max(1, len(self._slots) - 1) / 2
                left = max(float(LEFT), self._x(start) - half)
                right = min(float(self.width()), self._x(at) + half)
                painter.fillRect(QRectF(left, TOP, right - left, high), theme.color("bg.pressed"))
        if self._slots and len(places) == len(self._slots):
            room = QRectF(LEFT, TOP, self.width() - LEFT, high)
            paint.text(painter, theme, room, "no data yet", "micro", "text.muted", paint.CENTER)
        if self._until is not None and self._slots:
            room = QRectF(LEFT, TOP + 2, self.width() - LEFT - 34, 16)
            said = f"no data since {words.time(self._until)}"
            paint.text(painter, theme, room, said, "micro", "text.muted", paint.RIGHT)

    def _draw_times(self, painter: QPainter) -> None:
        slots, theme = self._slots, self._theme
        if len(slots) < 2:
            return
        parts = 6 if self.width() > 560 else 3
        for part in range(parts + 1):
            place = round(part * (len(slots) - 1) / parts)
            x = self._x(place)
            said = "now" if part == parts else self._time(slots[place].at)
            align = paint.LEFT if part == 0 else paint.RIGHT if part == parts else paint.CENTER
            left = x if part == 0 else x - 80 if part == parts else x - 40
            paint.text(painter, theme, QRectF(left, self.height() - 15, 80, 15), said, "micro", "text.muted", align)

    def _time(self, at: str) -> str:
        return words.short_date(at) if self._span == "7d" else words.time(at)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if len(self._slots) > 1:
            share = (event.position().x() - LEFT) / max(1, self.width() - LEFT)
            self._point(round(share * (len(self._slots) - 1)), event.globalPosition().toPoint())

    def leaveEvent(self, event: object) -> None:
        self._hot = -1
        self.update()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        step = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}.get(Qt.Key(event.key()))
        if step is None or not self._slots:
            super().keyPressEvent(event)
            return
        place = len(self._slots) - 1 if self._hot < 0 else self._hot + step
        place = max(0, min(len(self._slots) - 1, place))
        self._point(place, self.mapToGlobal(QPointF(self._x(place), TOP).toPoint()))

    def _point(self, place: int, spot: QPoint) -> None:
        if not 0 <= place < len(self._slots):
            return
        if place != self._hot:
            self._hot = place
            self.update()
        slot = self._slots[place]
        said = (
            f"{words.day_and_time(slot.at)}\n{words.count(slot.done)} done, {words.count(slot.failed)} failed"
            if slot.known
            else f"{words.day_and_time(slot.at)}\nno data"
        )
        QToolTip.showText(spot, said, self)


class RunStrip(QWidget):
    """One bar a run, 32 high: its height is the duration, red where it failed, blue while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self._theme = themes.current()
        self._runs: Sequence[types_banks.Run] = ()
        self.setFixedHeight(32)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_runs(self, runs: Sequence[types_banks.Run]) -> None:
        """``runs`` with the newest first, as the API tells them; the newest is drawn at the right."""
        self._runs = list(runs)[:40][::-1]
        failed = sum(run.state == "failed" for run in self._runs)
        self.setAccessibleName(f"The last {len(self._runs)} runs, {failed} of them failed")
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter, theme = QPainter(self), self._theme
        paint.hairline(painter, theme.color("border.default"), 0, 31, self.width(), 31)
        if not self._runs:
            return
        longest = max(max((run.duration_ms or 0 for run in self._runs), default=0), 1)
        wide = self.width() / 40 - 2
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        tints = {"done": "chart.done", "running": "state.active.solid"}
        for at, run in enumerate(self._runs):
            tall = max(3.0, (run.duration_ms or 0) / longest * 30)
            painter.setBrush(theme.color(tints.get(run.state, "chart.failed")))
            x = self.width() - (len(self._runs) - at) * (wide + 2) + 2
            painter.drawRoundedRect(QRectF(x, 32 - tall, wide, tall), 1, 1)
