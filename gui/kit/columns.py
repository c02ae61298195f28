"""Columns of lists and tables: what a cell can paint, what a row looks like, and the head over a list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from PySide6.QtCore import QRectF
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QListView, QWidget

from gui import icons, paint
from gui import theme as themes
from gui.theme import Theme


@dataclass
class Cell:
    """Where a column paints: ``rect`` is the room inside the cell's padding."""

    painter: QPainter
    theme: Theme
    rect: QRectF
    stale: bool = False

    def text(self, words: str, role: str = "body", color: str = "text.primary", right: bool = False) -> float:
        """One line in the middle of the cell."""
        align = paint.RIGHT if right else paint.LEFT
        return paint.text(self.painter, self.theme, self.rect, words, role, color, align)

    def two(self, first: str, second: str, right: bool = False, role: str = "control") -> None:
        """Two lines: what it is, and small muted words under it."""
        align = paint.RIGHT if right else paint.LEFT
        middle = self.rect.center().y()
        upper = QRectF(self.rect.x(), middle - 18, self.rect.width(), 20)
        lower = QRectF(self.rect.x(), middle + 2, self.rect.width(), 16)
        paint.text(self.painter, self.theme, upper, first, role, "text.primary", align)
        paint.text(self.painter, self.theme, lower, second, "small", "text.muted", align)


@dataclass(frozen=True)
class RowButton:
    """A button painted in a row; ``label`` or ``icon``. It is in the row's menu too."""

    name: str
    label: str = ""
    icon: str = ""
    kind: str = "outline"
    enabled: bool = True


@dataclass(frozen=True)
class Column:
    """A column: ``width`` with its padding, 0 takes what is left."""

    title: str
    width: int
    paint: Callable[[Cell, Any], None] | None = None
    right: bool = False
    sorted: bool = False
    buttons: Callable[[Any], Sequence[RowButton]] | None = None
    pad: int = 8
    tick: bool = False
    """Rows that can be ticked have their box here, before what is painted."""


@dataclass
class Layout:
    """How rows look: ``columns`` and ``height`` by the row."""

    columns: Callable[[Any], Sequence[Column]]
    height: Callable[[Any], int]
    fill: Callable[[Any], str] = field(default=lambda _row: "bg.surface")
    edge: int = 24


def boxes(columns: Sequence[Column], width: int, edge: int) -> list[QRectF]:
    """The rooms of the columns in a row of this width, before padding at the outer edges is taken."""
    fixed = sum(column.width for column in columns)
    left = max(0, width - fixed)
    at, made = 0.0, []
    for place, column in enumerate(columns):
        wide = column.width or left
        start = at + (edge if place == 0 else column.pad)
        end = at + wide - (edge if place == len(columns) - 1 else column.pad)
        made.append(QRectF(start, 0, max(0.0, end - start), 0))
        at += wide
    return made


class Head(QWidget):
    """The titles over a list, 32 high."""

    def __init__(
        self,
        columns: Sequence[Column] | Callable[[int], Sequence[Column]],
        edge: int = 24,
        background: str = "bg.surface",
    ) -> None:
        """``columns``: where they depend on the width, a function of it."""
        super().__init__()
        self._theme, self._columns, self.edge, self._background = themes.current(), columns, edge, background
        self.over: QListView | None = None
        """The list beneath, whose scroll bar may take some of the width."""
        self.setFixedHeight(self._theme.size("row.header"))

    def paintEvent(self, event: QPaintEvent) -> None:
        painter, theme = QPainter(self), self._theme
        if self._background:
            painter.fillRect(self.rect(), theme.color(self._background))
        painter.fillRect(0, self.height() - 1, self.width(), 1, theme.color("border.default"))
        wide = self.over.viewport().width() if self.over is not None else self.width()
        columns = self._columns(wide) if callable(self._columns) else self._columns
        for column, box in zip(columns, boxes(columns, wide, self.edge), strict=True):
            room = QRectF(box.x(), 0, box.width(), self.height() - 1)
            if column.sorted:
                mark = theme.color("text.muted")
                end = box.x() + theme.metrics("label").horizontalAdvance(column.title) + 4
                icons.draw(painter, "sort-down", mark, box.right() - 12 if column.right else end, 10, 12)
                if column.right:
                    room = QRectF(box.x(), 0, box.width() - 16, self.height() - 1)
            align = paint.RIGHT if column.right else paint.LEFT
            paint.text(painter, theme, room, column.title, "label", "text.muted", align)
