"""Small tables inside cards and panes: all rows in sight, nothing scrolls, painted by the same columns as lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from PySide6.QtCore import QEvent, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QKeyEvent, QMouseEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from gui import theme as themes
from gui.kit.columns import Cell, Column, boxes
from gui.kit.focus import KeyFocus
from gui.words import tip

_PRESS = frozenset({Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space})


class Table(KeyFocus, QWidget):
    """Rows of one height with hairlines between; a click tells the place of the row where ``clickable``."""

    clicked = Signal(int)
    ring_radius = 2

    def __init__(
        self,
        columns: Sequence[Column],
        high: int,
        name: str,
        sentence: Callable[[Any], str],
        *,
        edge: int = 0,
        rules: bool = True,
        clickable: bool = False,
        tip_of: Callable[[Any], str] | None = None,
        least: int = 0,
    ) -> None:
        """``least``: rows below that number may be left out where there is no room; 0: every row has its place."""
        super().__init__()
        self._theme = themes.current()
        self._columns, self._high, self._edge, self._rules = columns, high, edge, rules
        self._name, self._sentence, self._tip_of, self._clickable = name, sentence, tip_of, clickable
        self._rows: list[Any] = []
        self._hot = -1
        self._least = least
        self.faded = False
        self.setMouseTracking(clickable or tip_of is not None)
        self.setSizePolicy(
            QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding if least else QSizePolicy.Policy.Fixed
        )
        if clickable:
            self.setCursor(Qt.CursorShape.PointingHandCursor)
            self.setFocusPolicy(Qt.FocusPolicy.TabFocus)

    @property
    def rows(self) -> Sequence[Any]:
        """The rows shown."""
        return self._rows

    def show_rows(self, rows: Sequence[Any]) -> None:
        """Change the rows; painted anew only where they differ."""
        rows = list(rows)
        if rows == self._rows:
            return
        grown = len(rows) != len(self._rows)
        self._rows = rows
        said = "; ".join(self._sentence(row) for row in rows)
        self.setAccessibleName(f"{self._name}: {said}" if said else self._name)
        if grown:
            self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        shown = min(len(self._rows), self._least) if self._least else len(self._rows)
        return QSize(240, shown * self._high)

    def minimumSizeHint(self) -> QSize:
        return QSize(120, min(len(self._rows), self._least or len(self._rows)) * self._high)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter, theme = QPainter(self), self._theme
        rooms = boxes(self._columns, self.width(), self._edge)
        for place, row in enumerate(self._rows):
            top = place * self._high
            if self._least and top + self._high > self.height():
                break
            if place == self._hot and self._clickable:
                painter.fillRect(0, top, self.width(), self._high, theme.color("bg.hover"))
            for column, box in zip(self._columns, rooms, strict=True):
                if column.paint is not None:
                    painter.save()
                    column.paint(Cell(painter, theme, QRectF(box.x(), top, box.width(), self._high), self.faded), row)
                    painter.restore()
            if self._rules and place + 1 < len(self._rows):
                painter.fillRect(0, top + self._high - 1, self.width(), 1, theme.color("border.subtle"))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        place = int(event.position().y()) // self._high
        place = place if 0 <= place < len(self._rows) else -1
        if place != self._hot:
            self._hot = place
            self.update()
            if self._tip_of is not None:
                self.setToolTip(tip(self._tip_of(self._rows[place])) if place >= 0 else "")

    def keyPressEvent(self, event: QKeyEvent) -> None:
        step = {Qt.Key.Key_Up: -1, Qt.Key.Key_Down: 1}.get(Qt.Key(event.key()))
        if step is not None and self._rows:
            self._hot = max(0, min(len(self._rows) - 1, self._hot + step))
            self.update()
        elif event.key() in {Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space} and 0 <= self._hot < len(
            self._rows
        ):
            self.clicked.emit(self._hot)
        else:
            super().keyPressEvent(event)

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self._hot = -1
        self.update()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        place = int(event.position().y()) // self._high
        if self._clickable and 0 <= place < len(self._rows) and self.rect().contains(event.position().toPoint()):
            self.clicked.emit(place)
