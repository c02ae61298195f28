"""The detail pane: sections split by hairlines, facts in two columns, the timeline of attempts and hops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QPainter, QPaintEvent, QPen, QResizeEvent, QTextOption
from PySide6.QtWidgets import (
    QFrame,
    QGridLayout,
    QLayout,
    QPlainTextEdit,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from gui import icons, paint
from gui import theme as themes
from gui.kit.boxes import Chip, Fill, Monogram, Rule, column, row
from gui.kit.button import Button
from gui.kit.text import Label


class Pane(Fill):
    """Head, scrolling sections, and a foot of actions that is always in sight. ``closed`` by its cross or Esc."""

    closed = Signal()

    def __init__(self, name: str) -> None:
        super().__init__("bg.surface")
        self.setAccessibleName(name)
        self.monogram = Monogram(36)
        self.title = Label("", "heading")
        self.chip = Chip()
        self.subtitle = Label("", "small", "text.muted")
        close = Button("", "close", "plain", small=True, name="Close (Esc)")
        close.clicked.connect(self.closed)
        top = row(12, (16, 16, 16, 0))
        names = column(0)
        first = row(8)
        first.addWidget(self.title)
        first.addWidget(self.chip)
        first.addStretch(1)
        names.addLayout(first)
        names.addWidget(self.subtitle)
        top.addWidget(self.monogram, 0, Qt.AlignmentFlag.AlignTop)
        top.addLayout(names, 1)
        top.addWidget(close, 0, Qt.AlignmentFlag.AlignTop)
        self.acts = row(8, (16, 12, 16, 12))
        self.sections = column(0)
        self.sections.setAlignment(Qt.AlignmentFlag.AlignTop)
        inside = QWidget()
        inside.setLayout(self.sections)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setWidget(inside)
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.foot = row(8, (16, 12, 16, 12))
        self._foot = Fill("bg.surface", "t")
        self._foot.setLayout(self.foot)
        self._foot.hide()
        layout = column(0)
        layout.addLayout(top)
        layout.addLayout(self.acts)
        layout.addWidget(scroll, 1)
        layout.addWidget(self._foot)
        self.setLayout(layout)

    def section(self, title: str = "", end: QWidget | None = None, *, rule: bool = True) -> QVBoxLayout:
        """A new section with a small title; put its widgets into the layout."""
        if rule:
            self.sections.addWidget(Rule())
        inner = column(8, (16, 14, 16, 14))
        if title:
            head = row(8)
            head.addWidget(Label(title, "label", "text.muted"), 1)
            if end is not None:
                head.addWidget(end)
            inner.addLayout(head)
        self.sections.addLayout(inner)
        return inner

    def part(self, title: str) -> tuple[QWidget, QVBoxLayout]:
        """A section that can be hidden as a whole, its hairline included."""
        box = QWidget()
        inner = column(8, (16, 14, 16, 14))
        inner.addWidget(Label(title, "label", "text.muted"))
        outer = column(0)
        outer.addWidget(Rule())
        outer.addLayout(inner)
        box.setLayout(outer)
        self.sections.addWidget(box)
        return box, inner

    def show_foot(self) -> None:
        """Show the foot, once it has actions."""
        self._foot.show()


class Facts(QWidget):
    """Label and value, a line each: the labels 112 wide and muted, elided values selectable by their tooltip."""

    def __init__(self) -> None:
        super().__init__()
        self._grid = QGridLayout()
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(0)
        self._grid.setVerticalSpacing(6)
        self._grid.setColumnMinimumWidth(0, 112)
        self._grid.setColumnStretch(1, 1)
        self.setLayout(self._grid)
        self._values: dict[str, Label] = {}
        self._labels: dict[str, Label] = {}

    def tell(self, name: str, value: str, exact: str = "") -> None:
        """Set one fact; an empty value hides its line. ``exact`` is shown when the pointer rests on it."""
        if name not in self._values:
            place = len(self._values)
            self._labels[name] = Label(name, "body", "text.muted")
            self._values[name] = Label("", "body")
            self._grid.addWidget(self._labels[name], place, 0)
            self._grid.addWidget(self._values[name], place, 1)
        label, shown = self._values[name], bool(value)
        label.say(value)
        if exact:
            label.set_tip(exact)
        self._labels[name].setVisible(shown)
        label.setVisible(shown)

    def value(self, name: str) -> str:
        """What a fact says now."""
        return self._values[name].text() if name in self._values else ""


@dataclass(frozen=True)
class Step:
    """One thing that happened: glyph and tone, words, the time at the right, a second line, code beneath."""

    icon: str
    tone: str
    title: str
    time: str = ""
    sub: str = ""
    wait: str = ""
    """Said on the dashed line before it: how long was waited."""


class Timeline(QWidget):
    """Steps on a line, painted as one; the newest last. Said to screen readers as one list of sentences."""

    def __init__(self) -> None:
        super().__init__()
        self._theme = themes.current()
        self._steps: Sequence[Step] = ()
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def show_steps(self, steps: Sequence[Step]) -> None:
        """Change what is shown."""
        if list(steps) == list(self._steps):
            return
        self._steps = list(steps)
        self.setAccessibleName("; ".join(f"{step.title} {step.time} {step.sub}".strip() for step in steps))
        self.updateGeometry()
        self.update()

    @property
    def steps(self) -> Sequence[Step]:
        """The steps shown."""
        return self._steps

    def _height(self, step: Step) -> int:
        return (26 if step.wait else 0) + 20 + (16 if step.sub else 0)

    def sizeHint(self) -> QSize:
        return QSize(320, sum(self._height(step) for step in self._steps) + 12 * max(0, len(self._steps) - 1))

    def minimumSizeHint(self) -> QSize:
        return QSize(160, self.sizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        painter, theme, y = QPainter(self), self._theme, 0.0
        wide = self.width()
        for place, step in enumerate(self._steps):
            if step.wait:
                paint.text(painter, theme, QRectF(28, y, wide - 28, 16), step.wait, "small", "text.muted")
                painter.setPen(QPen(theme.color("border.default"), 1, Qt.PenStyle.DashLine))
                painter.drawLine(8, round(y - 4), 8, round(y + 24))
                y += 26
            icons.draw(painter, step.icon, theme.color(f"state.{step.tone}.solid"), 0, y + 2, 16)
            time = theme.metrics("small").horizontalAdvance(step.time)
            paint.text(painter, theme, QRectF(28, y, wide - 40 - time, 20), step.title, "control")
            paint.text(
                painter, theme, QRectF(wide - time - 2, y, time + 2, 20), step.time, "small", "text.muted", paint.RIGHT
            )
            if step.sub:
                paint.text(painter, theme, QRectF(28, y + 20, wide - 28, 16), step.sub, "small", "text.secondary")
            end = y + self._height(step) - (26 if step.wait else 0)
            last = place + 1 == len(self._steps)
            if not last and not self._steps[place + 1].wait:
                paint.hairline(painter, theme.color("border.default"), 8, y + 20, 8, end + 12)
            elif not last:
                paint.hairline(painter, theme.color("border.default"), 8, y + 20, 8, end + 8)
            y = end + 12


class Code(QPlainTextEdit):
    """Raw text that may be selected and copied: codes, ids, tracebacks. As high as its text; plain text by nature."""

    def __init__(self) -> None:
        super().__init__()
        self._theme = themes.current()
        self.setReadOnly(True)
        self.setFont(self._theme.font("mono"))
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.setTabChangesFocus(True)

    def text(self) -> str:
        """What it shows."""
        return self.toPlainText()

    def say(self, words: str) -> None:
        """Change the text; the selection survives where it stays the same."""
        if words != self.toPlainText():
            self.setPlainText(words)
            self.setAccessibleName(words)
            self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        lines = max(1, round(self.document().size().height()))
        wanted = lines * self.fontMetrics().lineSpacing() + 20
        if wanted != self.height():
            self.setFixedHeight(wanted)


def clear(layout: QLayout) -> None:
    """Take every widget out of a layout and delete it."""
    while (item := layout.takeAt(0)) is not None:
        widget = item.widget()
        if widget is not None:
            widget.hide()
            widget.deleteLater()
        inner = item.layout()
        if inner is not None:
            clear(inner)
