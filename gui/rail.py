"""The rail: the engine's state at the top, the pages with their badges, the environment at the foot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QEnterEvent, QKeyEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QAbstractButton, QSizePolicy, QWidget

from gui import icons, paint
from gui import theme as themes
from gui.kit.boxes import Fill, Glyph, column, row
from gui.kit.focus import KeyFocus
from gui.kit.text import Label
from gui.words import count as number
from gui.words import tip


@dataclass(frozen=True)
class Entry:
    """A page in the rail; ``group`` starts a new group with that label."""

    key: str
    label: str
    icon: str
    group: str = ""


class EngineBlock(KeyFocus, QAbstractButton):
    """Name of the install and the engine's state in at most 20 characters; a click opens its menu."""

    def __init__(self) -> None:
        super().__init__()
        self._theme = themes.current()
        self.narrow = False
        self._name, self._words, self._icon, self._tone = "This computer", "Looking", "state-starting", "active"
        self.setFixedHeight(44)
        self.setAttribute(Qt.WidgetAttribute.WA_Hover)

    def tell(self, name: str, state: str, words: str = "") -> None:
        """Show a state; ``words`` instead of its usual label."""
        spec = self._theme.state("engine", state)
        self._name, self._icon, self._tone = name, str(spec["icon"]), str(spec["tone"])
        self._words = (words or str(spec["label"]))[:20]
        self.setAccessibleName(f"Engine on {name}: {self._words}")
        self.setToolTip(tip(f"{name}: {self._words}") if self.narrow else "")
        self.update()

    def words(self) -> str:
        """The state as shown."""
        return self._words

    def enterEvent(self, event: QEnterEvent) -> None:
        super().enterEvent(event)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        theme, painter = self._theme, QPainter(self)
        if self.underMouse() or self.isDown():
            paint.rounded(painter, QRectF(self.rect()), theme.radius("control"), theme.color("bg.rail.hover"))
        left = (self.width() - 28) / 2 if self.narrow else 8
        icons.draw(painter, "app", QColor("black"), left, 8, 28)
        glyph = theme.color(f"state.{self._tone}.solid")
        if self.narrow:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(theme.color("bg.rail"))
            painter.drawEllipse(QRectF(left + 17, 26, 16, 16))
            icons.draw(painter, self._icon, glyph, left + 18, 27, 14)
            return
        room = self.width() - 46 - 30
        paint.text(painter, theme, QRectF(46, 5, room, 18), self._name, "strong")
        icons.draw(painter, self._icon, glyph, 46, 24, 14)
        paint.text(painter, theme, QRectF(64, 23, room - 18, 16), self._words, "small", "text.secondary")
        icons.draw(painter, "updown", theme.color("text.muted"), self.width() - 24, 14, 16)


class Item(KeyFocus, QAbstractButton):
    """One page in the rail."""

    def __init__(self, entry: Entry, key_hint: str) -> None:
        super().__init__()
        self._theme, self.entry, self._hint = themes.current(), entry, key_hint
        self.narrow = False
        self._badge, self._tone = 0, ""
        self.setText(entry.label)
        self.setCheckable(True)
        self.setAccessibleName(entry.label)
        self.setToolTip(f"{entry.label} ({key_hint})" if key_hint else entry.label)
        self.setFixedHeight(self._theme.size("rail.item"))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAttribute(Qt.WidgetAttribute.WA_Hover)

    def set_badge(self, badge: int, tone: str = "") -> None:
        """A count at the end; none at zero. ``tone``: error, warn or neutral."""
        if (badge, tone) != (self._badge, self._tone):
            self._badge, self._tone = badge, tone
            self.setAccessibleName(f"{self.entry.label}, {badge}" if badge else self.entry.label)
            self.update()

    @property
    def badge(self) -> int:
        """The count shown."""
        return self._badge

    def enterEvent(self, event: QEnterEvent) -> None:
        super().enterEvent(event)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        theme, painter = self._theme, QPainter(self)
        chosen, box = self.isChecked(), QRectF(self.rect())
        if chosen:
            fill, edge = theme.color("bg.rail.selected"), theme.color("border.default")
            paint.rounded(painter, box, theme.radius("control"), fill, edge)
        elif self.underMouse():
            paint.rounded(painter, box, theme.radius("control"), theme.color("bg.rail.hover"))
        tint = theme.color("text.primary" if chosen else "text.muted")
        left = (self.width() - 18) / 2 if self.narrow else 11
        icons.draw(painter, self.entry.icon, tint, left, (self.height() - 18) / 2, 18)
        if self.narrow:
            self._dot(painter)
            return
        words = "text.primary" if chosen else "text.secondary"
        paint.text(painter, theme, QRectF(39, 0, self.width() - 80, self.height()), self.text(), "control", words)
        if self._badge:
            said = number(self._badge) if self._badge < 10_000 else "9,999+"
            wide = max(20, theme.metrics("micro").horizontalAdvance(said) + 13)
            spot = QRectF(self.width() - 9 - wide, (self.height() - 18) / 2, wide, 18)
            fill = theme.color(f"state.{self._tone}.tint" if self._tone else "bg.pressed")
            paint.rounded(painter, spot, 9, fill)
            color = f"state.{self._tone}.text" if self._tone else "text.muted"
            paint.text(painter, theme, spot, said, "micro", color, paint.CENTER)

    def _dot(self, painter: QPainter) -> None:
        if self._badge:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(self._theme.color(f"state.{self._tone or 'idle'}.solid"))
            painter.drawEllipse(QRectF(self.width() - 10, 2, 8, 8))


class _Group(QWidget):
    """A group's label; a hairline where the rail is narrow."""

    def __init__(self, label: str) -> None:
        super().__init__()
        self._theme, self._label = themes.current(), label
        self.narrow = False
        self.setFixedHeight(34)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter, theme = QPainter(self), self._theme
        if self.narrow:
            painter.fillRect(8, self.height() // 2, self.width() - 16, 1, theme.color("border.default"))
        else:
            room = QRectF(10, 14, self.width() - 20, 16)
            paint.text(painter, theme, room, self._label, "micro", "text.muted")


class Rail(Fill):
    """Engine block, pages, environment. ``chosen`` carries a page's key."""

    chosen = Signal(str)

    def __init__(self, entries: Sequence[Entry]) -> None:
        super().__init__("bg.rail", "r")
        self._theme = themes.current()
        self.engine = EngineBlock()
        self.items: dict[str, Item] = {}
        self._groups: list[_Group] = []
        layout = column(1, (8, 8, 9, 8))
        layout.addWidget(self.engine)
        layout.addSpacing(9)
        for place, entry in enumerate(entries):
            if entry.group:
                group = _Group(entry.group)
                self._groups.append(group)
                layout.addWidget(group)
            item = Item(entry, f"Ctrl+{place + 1}")
            item.clicked.connect(lambda _=False, key=entry.key: self.chosen.emit(key))
            self.items[entry.key] = item
            layout.addWidget(item)
        layout.addStretch(1)
        self._env_icon = Glyph("flask", "text.muted", 18)
        self._env = Label("", "small", "text.muted")
        env = row(10, (11, 5, 8, 5))
        env.addWidget(self._env_icon)
        env.addWidget(self._env, 1)
        layout.addLayout(env)
        self.setLayout(layout)
        self.setAccessibleName("Pages")
        self.set_narrow(False)

    def choose(self, key: str) -> None:
        """Mark a page as the current one."""
        for name, item in self.items.items():
            item.setChecked(name == key)

    def say_environment(self, words: str, real: bool) -> None:
        """What banks these are; ``real``: with real money."""
        self._env.say(words)
        self._env_icon.draw("globe" if real else "flask", "text.muted")
        self._env_icon.setToolTip(tip(words))
        self._env_icon.setVisible(bool(words))

    def set_narrow(self, narrow: bool) -> None:
        """56 wide with icons alone, or 216 with labels."""
        self.setFixedWidth(self._theme.size("rail.width.collapsed" if narrow else "rail.width"))
        parts: list[EngineBlock | Item | _Group] = [self.engine, *self.items.values(), *self._groups]
        for widget in parts:
            widget.narrow = narrow
            widget.update()
        for group in self._groups:
            group.setFixedHeight(17 if narrow else 34)
        self._env.setVisible(not narrow)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        step = {Qt.Key.Key_Up: -1, Qt.Key.Key_Down: 1}.get(Qt.Key(event.key()))
        stops: list[QAbstractButton] = [self.engine, *self.items.values()]
        focused = next((place for place, item in enumerate(stops) if item.hasFocus()), None)
        if step is None or focused is None:
            super().keyPressEvent(event)
            return
        stops[(focused + step) % len(stops)].setFocus(Qt.FocusReason.TabFocusReason)

    def sizeHint(self) -> QSize:
        return QSize(self.width(), 600)
