"""The ring around what has the keyboard's focus, shown only where the keyboard brought it there."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QObject, QPoint, QRect, QRectF, Qt
from PySide6.QtGui import QFocusEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QWidget

from gui import paint
from gui import theme as themes

REASONS = {
    Qt.FocusReason.TabFocusReason,
    Qt.FocusReason.BacktabFocusReason,
    Qt.FocusReason.ShortcutFocusReason,
}
_OUT = 4
"""The ring lies 2 pixels away and is 2 wide."""
_NAME = "focus-ring"


class Ring(QWidget):
    """One for a window; follows the widget it was last shown for."""

    def __init__(self, window: QWidget) -> None:
        super().__init__(window)
        self.setObjectName(_NAME)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._target: QWidget | None = None
        self._radius = 6
        self.hide()

    def follow(self, target: QWidget, radius: int) -> None:
        """Show the ring around ``target``."""
        self.leave()
        self._target, self._radius = target, radius
        target.installEventFilter(self)
        self._place()
        self.show()
        self.raise_()

    def leave(self) -> None:
        """Hide the ring."""
        if self._target is not None:
            self._target.removeEventFilter(self)
            self._target = None
        self.hide()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() in {QEvent.Type.Move, QEvent.Type.Resize, QEvent.Type.Paint}:
            self._place()
        elif event.type() in {QEvent.Type.Hide, QEvent.Type.Destroy}:
            self.leave()
        return False

    def _place(self) -> None:
        target = self._target
        if target is None:
            return
        corner = target.mapTo(self.window(), QPoint(0, 0))
        wanted = QRect(corner, target.size()).adjusted(-_OUT, -_OUT, _OUT, _OUT)
        if wanted != self.geometry():
            self.setGeometry(wanted)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        paint.rounded(painter, QRectF(self.rect()), self._radius + 3, None, themes.current().color("focus"), 2)


class KeyFocus:
    """Mixin of widgets that show the ring; it stands before the Qt class.

    It must not be a widget itself: one object cannot be two Qt objects.
    """

    ring_radius = 6

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)  # type: ignore[misc]
        if event.reason() in REASONS and isinstance(self, QWidget):
            window = self.window()
            ring = window.findChild(Ring, _NAME) or Ring(window)
            ring.follow(self, self.ring_radius)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)  # type: ignore[misc]
        ring = self.window().findChild(Ring, _NAME) if isinstance(self, QWidget) else None
        if ring is not None:
            ring.leave()
