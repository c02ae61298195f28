"""Buttons: filled, outline, plain, danger and destroy; links; and the key that does the same, shown inside."""

from __future__ import annotations

from typing import Literal

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QEnterEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QPushButton, QSizePolicy, QWidget

from gui import icons, paint
from gui import theme as themes
from gui.kit.focus import KeyFocus
from gui.words import tip

Kind = Literal["filled", "outline", "plain", "danger", "destroy"]
"""``danger`` leads to a question in red words; ``destroy``, filled red, is the answer in it."""

_FILLS = {
    "filled": ("button.primary.bg", "button.primary.hover", "button.primary.pressed"),
    "destroy": ("state.error.solid", "state.error.text", "state.error.text"),
}
_REST = {"outline": "bg.surface", "plain": None, "danger": None}
_WORDS = {
    "filled": "button.primary.text",
    "outline": "text.primary",
    "plain": "text.secondary",
    "danger": "state.error.text",
    "destroy": "button.primary.text",
}


class Button(KeyFocus, QPushButton):
    """A push button of the design: 32 high, 26 where ``small``. ``key`` is shown as a key cap in it."""

    def __init__(
        self,
        words: str = "",
        icon: str = "",
        kind: Kind = "outline",
        *,
        small: bool = False,
        key: str = "",
        name: str = "",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(words, parent)
        self._theme = themes.current()
        self.kind: Kind = kind
        self._icon, self._small, self._key = icon, small, key
        self._reason = ""
        self._usual_tip = ""
        self.setAutoDefault(False)
        self.setAttribute(Qt.WidgetAttribute.WA_Hover)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.setAccessibleName(name or words)
        if not words and name:
            self.set_tip(name)
        self.toggled.connect(self.update)

    def set_kind(self, kind: Kind) -> None:
        """Make it the filled button of the page, or an ordinary one again."""
        if kind != self.kind:
            self.kind = kind
            self.update()

    def set_words(self, words: str, icon: str | None = None) -> None:
        """Change the label, and the icon where given."""
        if icon is not None and icon != self._icon:
            self._icon = icon
            self.update()
        if words != self.text():
            self.setText(words)
            self.setAccessibleName(words)
            self.updateGeometry()

    def set_tip(self, words: str) -> None:
        """The tooltip while the button is enabled."""
        self._usual_tip = words
        if not self._reason:
            self.setToolTip(tip(words))

    def allow(self, allowed: bool, reason: str = "") -> None:
        """Enable, or disable with the reason as tooltip."""
        self._reason = "" if allowed else reason
        if self.isEnabled() != allowed:
            self.setEnabled(allowed)
        self.setToolTip(tip(self._reason or self._usual_tip))

    def sizeHint(self) -> QSize:
        high = self._theme.size("button.small" if self._small else "button")
        if not self.text():
            return QSize(high, high)
        metrics = self._theme.metrics(self._role)
        wide = metrics.horizontalAdvance(self.text()) + 2 * self._pad
        if self._icon:
            wide += self._icon_size + self._gap - 2
        if self._key:
            wide += self._theme.metrics("micro").horizontalAdvance(self._key) + 12 + 8
        return QSize(wide, max(high, metrics.height() + 6))

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()

    @property
    def _role(self) -> str:
        return "label" if self._small else "control"

    @property
    def _pad(self) -> int:
        return 10 if self._small else 13

    @property
    def _gap(self) -> int:
        return 5 if self._small else 6

    @property
    def _icon_size(self) -> int:
        return 14 if self._small else 16

    def enterEvent(self, event: QEnterEvent) -> None:
        super().enterEvent(event)
        self.update()

    def _colors(self) -> tuple[str | None, str | None, str]:
        """Fill, border and words as tokens for the state the button is in."""
        kind = self.kind
        if not self.isEnabled():
            quiet = kind in {"plain", "danger"}
            return (None if quiet else "bg.subtle", None if quiet else "border.subtle", "text.disabled")
        over, down = self.underMouse(), self.isDown()
        if kind in _FILLS:
            ink = _FILLS[kind][2 if down else 1 if over else 0]
            return ink, ink, _WORDS[kind]
        fill = "bg.pressed" if down else "bg.hover" if over else _REST[kind]
        return fill, "border.default" if kind == "outline" else None, _WORDS[kind]

    def paintEvent(self, event: QPaintEvent) -> None:
        theme, painter = self._theme, QPainter(self)
        fill, border, words = self._colors()
        box = QRectF(self.rect())
        if fill or border:
            paint.rounded(
                painter, box, theme.radius("control"),
                theme.color(fill) if fill else None, theme.color(border) if border else None,
            )  # fmt: skip
        tint = words if words != "text.primary" else "text.secondary"
        size = self._icon_size
        middle = self.height() / 2
        if not self.text():
            if self._icon:
                icons.draw(painter, self._icon, theme.color(tint), (self.width() - size) / 2, middle - size / 2, size)
            return
        at = float(self._pad)
        if self._icon:
            icons.draw(painter, self._icon, theme.color(tint), at - 2, middle - size / 2, size)
            at += size - 2 + self._gap
        room = QRectF(at, 0, self.width() - at, self.height())
        at += paint.text(painter, theme, room, self.text(), self._role, words)
        if self._key:
            self._paint_key(painter, at + 8, middle, words)

    def _paint_key(self, painter: QPainter, x: float, middle: float, words: str) -> None:
        theme = self._theme
        wide = theme.metrics("micro").horizontalAdvance(self._key) + 12
        box = QRectF(x, middle - 8, wide, 16)
        paint.rounded(painter, box, 4, None, theme.color("text.muted" if self.kind == "filled" else "border.default"))
        paint.text(
            painter, theme, box, self._key, "micro", words if self.kind == "filled" else "text.muted", paint.CENTER
        )


class Link(KeyFocus, QPushButton):
    """Words that open something, in the colour of links."""

    ring_radius = 2

    def __init__(self, words: str, role: str = "label", parent: QWidget | None = None) -> None:
        super().__init__(words, parent)
        self._theme, self._role = themes.current(), role
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setAccessibleName(words)

    def sizeHint(self) -> QSize:
        wide = self._theme.metrics(self._role).horizontalAdvance(self.text())
        return QSize(wide + 1, max(24, self._theme.line(self._role)))

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        color = "accent.text" if self.isEnabled() else "text.disabled"
        wide = paint.text(painter, self._theme, QRectF(self.rect()), self.text(), self._role, color)
        if self.underMouse() and self.isEnabled():
            base = self.height() / 2 + self._theme.metrics(self._role).ascent() / 2 + 1
            paint.hairline(painter, self._theme.color(color), 0, base, wide, base)
