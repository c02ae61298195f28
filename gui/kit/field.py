"""The field a list is searched with."""

from __future__ import annotations

from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QLineEdit

from gui import icons
from gui import theme as themes

LENS = 16


class SearchField(QLineEdit):
    """A lens at the start, a cross that clears at the end; ``name`` is for a screen reader."""

    def __init__(self, hint: str, name: str) -> None:
        super().__init__()
        self._theme = themes.current()
        self.setPlaceholderText(hint)
        self.setAccessibleName(name)
        self.setClearButtonEnabled(True)
        self.setTextMargins(LENS + 6, 0, 0, 0)

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        tint = self._theme.color("text.muted")
        icons.draw(QPainter(self), "search", tint, 9, (self.height() - LENS) / 2, LENS)
