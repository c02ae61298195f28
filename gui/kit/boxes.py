"""Boxes that hold things: card, chip, rule, verdict tile, layouts without margins."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QEnterEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from gui import icons, paint
from gui import theme as themes
from gui.kit.focus import KeyFocus
from gui.kit.text import Label
from gui.words import tip


def row(spacing: int = 8, margins: tuple[int, int, int, int] = (0, 0, 0, 0)) -> QHBoxLayout:
    """A horizontal layout with the margins and gaps that are said, and no others."""
    made = QHBoxLayout()
    made.setContentsMargins(*margins)
    made.setSpacing(spacing)
    return made


def column(spacing: int = 0, margins: tuple[int, int, int, int] = (0, 0, 0, 0)) -> QVBoxLayout:
    """A vertical layout with the margins and gaps that are said, and no others."""
    made = QVBoxLayout()
    made.setContentsMargins(*margins)
    made.setSpacing(spacing)
    return made


class Fill(QWidget):
    """A widget filled with one colour of the theme, with hairlines at the edges that are named."""

    def __init__(
        self, token: str, edges: str = "", line: str = "border.default", parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._theme, self._token, self._edges, self._line = themes.current(), token, edges, line

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.fillRect(self.rect(), self._theme.color(self._token))
        color, wide, high = self._theme.color(self._line), self.width(), self.height()
        if "t" in self._edges:
            painter.fillRect(0, 0, wide, 1, color)
        if "b" in self._edges:
            painter.fillRect(0, high - 1, wide, 1, color)
        if "l" in self._edges:
            painter.fillRect(0, 0, 1, high, color)
        if "r" in self._edges:
            painter.fillRect(wide - 1, 0, 1, high, color)


class Well(QWidget):
    """A subtle box with rounded corners for what is quoted: codes, the two sides of a question."""

    def __init__(self) -> None:
        super().__init__()
        self._theme = themes.current()

    def paintEvent(self, event: QPaintEvent) -> None:
        theme, box = self._theme, QRectF(self.rect())
        fill, edge = theme.color("bg.subtle"), theme.color("border.subtle")
        paint.rounded(QPainter(self), box, theme.radius("control"), fill, edge)


class Rule(QFrame):
    """A hairline across."""

    def __init__(self, tint: str = "border.subtle") -> None:
        super().__init__()
        self._theme, self._token = themes.current(), tint
        self.setFixedHeight(1)

    def paintEvent(self, event: QPaintEvent) -> None:
        QPainter(self).fillRect(self.rect(), self._theme.color(self._token))


class Card(QFrame):
    """Surface with a hairline border and radius 8; ``head`` 44 high with a title, and what stands at its end."""

    def __init__(self, title: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = themes.current()
        self.border = "border.default"
        self.body = column()
        self.body.setContentsMargins(1, 1, 1, 1)
        self.setLayout(self.body)
        self.head = row(8, (15, 0, 15, 0))
        self.title = Label(title, "heading", shrink=False)
        self.note = Label("", "small", "text.muted")
        self.note.hide()
        if title:
            self.head.addWidget(self.title)
            self.head.addWidget(self.note, 1)
            self.head.addStretch(1)
            holder = QWidget()
            holder.setFixedHeight(self._theme.size("card.head"))
            holder.setLayout(self.head)
            self.body.addWidget(holder)
            self.setAccessibleName(title)

    def say_note(self, words: str) -> None:
        """Muted words beside the title; none hides them."""
        self.note.say(words)
        self.note.setVisible(bool(words))

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = self._theme
        paint.rounded(
            QPainter(self), QRectF(self.rect()), theme.radius("card"), theme.color("bg.surface"),
            theme.color(self.border),
        )  # fmt: skip


class Chip(QWidget):
    """A state as glyph and words."""

    def __init__(
        self, kind: str = "job", name: str = "waiting", words: str = "", parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._theme = themes.current()
        self._state: dict[str, Any] = {}
        self._words = ""
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        self.show_state(kind, name, words)

    def show_state(self, kind: str, name: str, words: str = "") -> None:
        """Change the state; without ``words`` its usual label."""
        state = self._theme.state(kind, name)
        words = words or str(state["label"])
        if state is not self._state or words != self._words:
            self._state, self._words = state, words
            self.setAccessibleName(words)
            self.updateGeometry()
            self.update()

    def sizeHint(self) -> QSize:
        return QSize(paint.chip_width(self._theme, self._words, bool(self._state["fill"])), 20)

    def paintEvent(self, event: QPaintEvent) -> None:
        paint.chip(QPainter(self), self._theme, 0, self.height() / 2, self._state, self._words, self.width())


class Glyph(QWidget):
    """One drawing in a colour of the theme."""

    def __init__(self, name: str, tint: str = "text.muted", size: int = 16, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme, self._name, self._token, self._size = themes.current(), name, tint, size
        self.setFixedSize(size, size)

    def draw(self, name: str, token: str) -> None:
        """Change drawing and colour."""
        if (name, token) != (self._name, self._token):
            self._name, self._token = name, token
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        icons.draw(QPainter(self), self._name, self._theme.color(self._token), 0, 0, self._size)


class Monogram(QWidget):
    """A bank's letters in a neutral square, 36 in details."""

    def __init__(self, size: int = 36, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._letters = ""
        self.setFixedSize(size, size)

    def say(self, letters: str) -> None:
        """Change the letters."""
        if letters != self._letters:
            self._letters = letters
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        paint.monogram(QPainter(self), themes.current(), 0, 0, self.width(), self._letters)


class Tile(KeyFocus, QPushButton):
    """A verdict: what it is about, the verdict with its glyph, one sentence. A click opens its page."""

    ring_radius = 8

    def __init__(self, title: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme, self._title = themes.current(), title
        self._icon, self._tone, self._verdict, self._sentence = "", "idle", "", ""
        self._filled = self._old = False
        self.setFixedHeight(self._theme.size("tile"))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMinimumWidth(200)
        self.setAttribute(Qt.WidgetAttribute.WA_Hover)

    def tell(
        self, icon: str, tone: str, verdict: str, sentence: str, *, filled: bool = False, old: bool = False
    ) -> None:
        """Show a verdict; ``old`` greys it, since it may no longer be true."""
        told = (icon, tone, verdict, sentence, filled, old)
        if told == (self._icon, self._tone, self._verdict, self._sentence, self._filled, self._old):
            return
        self._icon, self._tone, self._verdict, self._sentence, self._filled, self._old = told
        self.setAccessibleName(f"{self._title}: {verdict}. {sentence}")
        self.setToolTip(tip(sentence))
        self.update()

    def verdict(self) -> str:
        """The verdict in words."""
        return self._verdict

    def sentence(self) -> str:
        """The sentence under it."""
        return self._sentence

    def sizeHint(self) -> QSize:
        return QSize(328, self._theme.size("tile"))

    def enterEvent(self, event: QEnterEvent) -> None:
        super().enterEvent(event)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        theme, painter = self._theme, QPainter(self)
        fill = "state.warn.tint" if self._filled else "bg.hover" if self.underMouse() else "bg.surface"
        border = "state.warn.tint" if self._filled else "border.default"
        paint.rounded(painter, QRectF(self.rect()), theme.radius("card"), theme.color(fill), theme.color(border))
        wide = self.width() - 34
        label = "text.primary" if self._filled else "text.muted"
        paint.text(painter, theme, QRectF(17, 14, wide, 16), self._title, "small", label)
        at = 16.0
        if self._icon and not self._old:
            tone = "text" if self._filled else "solid"
            icons.draw(painter, self._icon, theme.color(f"state.{self._tone}.{tone}"), at, 34, 22)
            at += 30
        color = "text.muted" if self._old else "text.primary"
        paint.text(painter, theme, QRectF(at, 31, wide + 17 - at, 28), self._verdict, "verdict", color)
        sub = "text.muted" if self._old else "text.primary" if self._filled else "text.secondary"
        paint.text(painter, theme, QRectF(17, 62, wide, 16), self._fitting(wide), "small", sub)

    def _fitting(self, room: float) -> str:
        """The sentence; where there is no room for all of it, without its last part (the tooltip has it)."""
        metrics, said = self._theme.metrics("small"), self._sentence
        for mark in (". ", ", "):
            if metrics.horizontalAdvance(said) > room and mark in said:
                said = f"{said.rpartition(mark)[0]}."
        return said
