"""Choices: tabs with counts, segments, switches, drop-downs."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QPoint, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QAction, QActionGroup, QEnterEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QAbstractButton, QMenu, QSizePolicy, QWidget

from gui import icons, paint
from gui import theme as themes
from gui.kit.boxes import Fill, row
from gui.kit.button import Button
from gui.kit.focus import KeyFocus
from gui.words import count as number


class _Tab(KeyFocus, QAbstractButton):
    ring_radius = 2

    def __init__(self, label: str, tone: str) -> None:
        super().__init__()
        self._theme, self._tone = themes.current(), tone
        self._count: int | None = None
        self.setText(label)
        self.setCheckable(True)
        self.setAccessibleName(label)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.setAttribute(Qt.WidgetAttribute.WA_Hover)

    def set_count(self, count: int | None) -> None:
        if count != self._count:
            self._count = count
            self.setAccessibleName(self.text() if count is None else f"{self.text()}, {count}")
            self.updateGeometry()
            self.update()

    def _number(self) -> str:
        return "" if self._count is None else number(self._count)

    def sizeHint(self) -> QSize:
        wide = self._theme.metrics("control").horizontalAdvance(self.text())
        if self._count is not None:
            wide += 6 + self._theme.metrics("label").horizontalAdvance(self._number())
        return QSize(wide + 1, 43)

    def enterEvent(self, event: QEnterEvent) -> None:
        super().enterEvent(event)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        theme, painter = self._theme, QPainter(self)
        color = "text.primary" if self.isChecked() else "text.secondary"
        wide = paint.text(painter, theme, QRectF(0, 0, self.width(), 43), self.text(), "control", color)
        if self._count is not None:
            tone = f"state.{self._tone}.text" if self._tone and self._count else "text.muted"
            paint.text(painter, theme, QRectF(wide + 6, 0, self.width(), 43), self._number(), "label", tone)
        if self.isChecked() or self.underMouse():
            line = theme.color("text.primary" if self.isChecked() else "border.default")
            painter.fillRect(0, self.height() - 2, self.width(), 2, line)


class Tabs(Fill):
    """Tabs 44 high; ``chosen`` carries the key of the new one. Arrows move between them."""

    chosen = Signal(str)

    def __init__(self, tabs: Sequence[tuple[str, str, str]], parent: QWidget | None = None) -> None:
        """``tabs``: key, label, and the tone of the count (error, warn or none)."""
        super().__init__("bg.surface", "b", parent=parent)
        self.setFixedHeight(themes.current().size("tabs"))
        self._tabs: dict[str, _Tab] = {}
        layout = row(20, (24, 0, 24, 1))
        for key, label, tone in tabs:
            tab = _Tab(label, tone)
            tab.clicked.connect(lambda _=False, key=key: self.choose(key))
            self._tabs[key] = tab
            layout.addWidget(tab)
        layout.addStretch(1)
        self.setLayout(layout)
        self.current = tabs[0][0]
        self._tabs[self.current].setChecked(True)
        self._only_current_takes_focus()

    def set_edge(self, pad: int) -> None:
        """Room at both sides."""
        layout = self.layout()
        if layout is not None:
            layout.setContentsMargins(pad, 0, pad, 1)

    def choose(self, key: str) -> None:
        """Make a tab the current one."""
        changed = key != self.current
        self.current = key
        for name, tab in self._tabs.items():
            tab.setChecked(name == key)
        self._only_current_takes_focus()
        if changed:
            self.chosen.emit(key)

    def set_counts(self, counts: dict[str, int]) -> None:
        """Show counts by key; a tab without one shows none."""
        for key, tab in self._tabs.items():
            tab.set_count(counts.get(key))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        step = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}.get(Qt.Key(event.key()))
        if step is None:
            super().keyPressEvent(event)
            return
        keys = list(self._tabs)
        key = keys[(keys.index(self.current) + step) % len(keys)]
        self.choose(key)
        self._tabs[key].setFocus(Qt.FocusReason.TabFocusReason)

    def _only_current_takes_focus(self) -> None:
        for name, tab in self._tabs.items():
            tab.setFocusPolicy(Qt.FocusPolicy.StrongFocus if name == self.current else Qt.FocusPolicy.ClickFocus)


class Segments(KeyFocus, QWidget):
    """A few exclusive choices in one frame, 28 high."""

    chosen = Signal(str)

    def __init__(self, choices: Sequence[tuple[str, str]], current: str, name: str) -> None:
        super().__init__()
        self._theme, self._choices, self.current = themes.current(), list(choices), current
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._name = name
        self._tell()

    def _tell(self) -> None:
        self.setAccessibleName(f"{self._name}: {dict(self._choices)[self.current]}")

    def _boxes(self) -> list[tuple[str, str, QRectF]]:
        at, boxes = 2.0, []
        for key, label in self._choices:
            wide = self._theme.metrics("label").horizontalAdvance(label) + 22
            boxes.append((key, label, QRectF(at, 2, wide, self.height() - 4)))
            at += wide
        return boxes

    def sizeHint(self) -> QSize:
        wide = sum(self._theme.metrics("label").horizontalAdvance(label) + 22 for _, label in self._choices)
        return QSize(wide + 4, self._theme.size("seg"))

    def choose(self, key: str) -> None:
        """Make one the current choice."""
        if key != self.current:
            self.current = key
            self._tell()
            self.update()
            self.chosen.emit(key)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        for key, _, box in self._boxes():
            if box.contains(event.position()):
                self.choose(key)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        step = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}.get(Qt.Key(event.key()))
        if step is None:
            super().keyPressEvent(event)
            return
        keys = [key for key, _ in self._choices]
        self.choose(keys[max(0, min(len(keys) - 1, keys.index(self.current) + step))])

    def paintEvent(self, event: QPaintEvent) -> None:
        theme, painter = self._theme, QPainter(self)
        border = theme.color("border.default")
        paint.rounded(painter, QRectF(self.rect()), theme.radius("control"), theme.color("bg.subtle"), border)
        for key, label, box in self._boxes():
            if key == self.current:
                fill = theme.color("bg.pressed" if theme.dark else "bg.surface")
                paint.rounded(painter, box, theme.radius("chip"), fill, border)
            color = "text.primary" if key == self.current else "text.secondary"
            paint.text(painter, theme, box, label, "label", color, paint.CENTER)


class Drop(Button):
    """A small outline button that opens a menu of exclusive choices."""

    chosen = Signal(str)

    def __init__(self, choices: Sequence[tuple[str, str]], current: str, name: str) -> None:
        super().__init__(dict(choices)[current], small=True, name=name)
        self._choices, self.current, self._name = list(choices), current, name
        self._menu = QMenu(self)
        self._group = QActionGroup(self)
        for key, label in choices:
            action = QAction(label, self)
            action.setCheckable(True)
            action.setChecked(key == current)
            action.triggered.connect(lambda _=False, key=key: self.choose(key))
            self._group.addAction(action)
            self._menu.addAction(action)
        self.clicked.connect(lambda: self._menu.popup(self.mapToGlobal(QPoint(0, self.height() + 4))))

    def choose(self, key: str) -> None:
        """Make one the current choice."""
        if key == self.current:
            return
        self.current = key
        label = dict(self._choices)[key]
        self.set_words(label)
        self.setAccessibleName(f"{self._name}: {label}")
        for action, (name, _) in zip(self._group.actions(), self._choices, strict=True):
            action.setChecked(name == key)
        self.chosen.emit(key)

    def sizeHint(self) -> QSize:
        return super().sizeHint() + QSize(18, 2)

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        color = themes.current().color("text.secondary")
        icons.draw(QPainter(self), "chevron-down", color, self.width() - 23, (self.height() - 14) / 2, 14)
