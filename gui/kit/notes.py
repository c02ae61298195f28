"""What is said beside the data: banner, toast, empty state."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from PySide6.QtCore import QEvent, QObject, QRectF, Qt, QTimer, Signal
from PySide6.QtGui import QAccessible, QAccessibleAnnouncementEvent, QEnterEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QFrame, QSizePolicy, QWidget

from gui import paint
from gui import theme as themes
from gui.kit.boxes import Glyph, column, row
from gui.kit.button import Button, Kind
from gui.kit.text import Label


def announce(widget: QWidget, words: str) -> None:
    """Have a screen reader say something."""
    QAccessible.updateAccessibility(QAccessibleAnnouncementEvent(widget, words))


class Banner(QFrame):
    """A tinted strip: glyph, title, one sentence, one action. At most one a page."""

    acted = Signal()

    def __init__(self, parent: QWidget | None = None, *, stacked: bool = False) -> None:
        """``stacked``: the action under the words, where there is little width."""
        super().__init__(parent)
        self._tone = "warn"
        self._glyph = Glyph("state-degraded", "state.warn.solid", 16)
        self.title = Label("", "strong")
        self.sentence = Label("", "body", "text.secondary", wrap=True)
        self.button = Button("", small=False)
        self.button.clicked.connect(self.acted)
        words = column(2)
        words.addWidget(self.title)
        words.addWidget(self.sentence)
        layout = row(10, (12, 12, 12, 12))
        layout.addWidget(self._glyph, 0, Qt.AlignmentFlag.AlignTop)
        layout.addLayout(words, 1)
        if stacked:
            words.addSpacing(6)
            words.addWidget(self.button)
        else:
            layout.addWidget(self.button, 0, Qt.AlignmentFlag.AlignVCenter)
        self.setLayout(layout)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)

    def tell(self, tone: str, icon: str, title: str, sentence: str, action: str = "", kind: Kind = "outline") -> None:
        """Show; an empty ``action`` shows no button."""
        self._tone = tone
        self._glyph.draw(icon, f"state.{tone}.solid")
        self.title.say(title)
        self.sentence.say(sentence)
        self.sentence.setVisible(bool(sentence))
        self.button.set_words(action)
        self.button.set_kind(kind)
        self.button.setVisible(bool(action))
        self.setAccessibleName(f"{title}. {sentence}")
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = themes.current()
        paint.rounded(QPainter(self), QRectF(self.rect()), 8, theme.color(f"state.{self._tone}.tint"))


class Toast(QFrame):
    """One sentence at the bottom of the window, with Undo where it can be undone: one at a time, 8 s."""

    STAY_MS = 8000

    def __init__(self, window: QWidget) -> None:
        super().__init__(window)
        self._waiting: deque[tuple[str, Callable[[], None] | None, str]] = deque(maxlen=20)
        self.window_ = window
        self._undo: Callable[[], None] | None = None
        self._words = Label("", "control", "text.tooltip")
        self._button = _ToastButton("Undo")
        self._button.clicked.connect(self.act)
        layout = row(12, (16, 0, 8, 0))
        layout.addWidget(self._words)
        layout.addWidget(self._button)
        self.setLayout(layout)
        self.setFixedHeight(themes.current().size("toast.height"))
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(self.STAY_MS)
        self._timer.timeout.connect(self._next)
        window.installEventFilter(self)
        self.hide()

    @property
    def words(self) -> str:
        """The sentence shown now; empty where none is."""
        return self._words.text() if self.isVisible() else ""

    def say(self, words: str, undo: Callable[[], None] | None = None, action: str = "Undo") -> None:
        """Show a sentence. What a person's own click says comes at once; waiting notices come after it."""
        self._show(words, undo, action)

    def queue(self, words: str, act: Callable[[], None] | None = None, action: str = "Open") -> None:
        """Show a sentence when those before it are gone."""
        if self.isVisible():
            self._waiting.append((words, act, action))
        else:
            self._show(words, act, action)

    def act(self) -> None:
        """Do what the button does (Ctrl+Z)."""
        undo, self._undo = self._undo, None
        self._next()
        if undo is not None:
            undo()

    def undoable(self) -> bool:
        """Whether there is something to undo now."""
        return self.isVisible() and self._undo is not None and self._button.text() == "Undo"

    def _show(self, words: str, undo: Callable[[], None] | None, action: str) -> None:
        self._undo = undo
        self._words.say(words)
        self._button.setText(action)
        self._button.setVisible(undo is not None)
        margins = (16, 0, 8 if undo is not None else 16, 0)
        layout = self.layout()
        if layout is not None:
            layout.setContentsMargins(*margins)
        self._place()
        self.show()
        self.raise_()
        self._timer.start()
        announce(self, words)

    def _next(self) -> None:
        self._timer.stop()
        if self._waiting:
            self._show(*self._waiting.popleft())
        else:
            self._undo = None
            self.hide()

    def _place(self) -> None:
        window = self.window_
        wide = min(self.sizeHint().width(), window.width() - 48)
        self.setGeometry((window.width() - wide) // 2, window.height() - 24 - self.height(), wide, self.height())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Resize and self.isVisible():
            self._place()
        return False

    def enterEvent(self, event: QEnterEvent) -> None:
        super().enterEvent(event)
        self._timer.stop()

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        if self.isVisible():
            self._timer.start()

    def paintEvent(self, event: QPaintEvent) -> None:
        paint.rounded(QPainter(self), QRectF(self.rect()), 8, themes.current().color("bg.tooltip"))


class _ToastButton(Button):
    """Words on the toast's own ink."""

    def __init__(self, words: str) -> None:
        super().__init__(words, kind="plain", small=True)

    def paintEvent(self, event: QPaintEvent) -> None:
        theme, painter = themes.current(), QPainter(self)
        if self.underMouse():
            tint = theme.color("text.tooltip")
            tint.setAlpha(36)
            paint.rounded(painter, QRectF(self.rect()), 5, tint)
            tint.setAlpha(255)
        paint.text(painter, theme, QRectF(self.rect()), self.text(), "strong", "text.tooltip", paint.CENTER)


class Empty(QWidget):
    """Where a list has nothing: glyph, strong line, one sentence, at most one button."""

    acted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._glyph = Glyph("state-done", "text.muted", 32)
        self.title = Label("", "strong", align=Qt.AlignmentFlag.AlignHCenter)
        self.sentence = Label("", "small", "text.secondary", wrap=True, align=Qt.AlignmentFlag.AlignHCenter)
        self.sentence.setFixedWidth(280)
        self.button = Button("", small=True)
        self.button.clicked.connect(self.acted)
        layout = column(6)
        layout.addStretch(2)
        center = Qt.AlignmentFlag.AlignHCenter
        for widget in (self._glyph, self.title, self.sentence, self.button):
            layout.addWidget(widget, 0, center)
        layout.addStretch(3)
        layout.setSpacing(8)
        self.setLayout(layout)

    def tell(self, icon: str, title: str, sentence: str, action: str = "") -> None:
        """Show; an empty ``action`` shows no button."""
        self._glyph.draw(icon, "text.muted")
        self.title.say(title)
        self.sentence.say(sentence)
        self.button.set_words(action)
        self.button.setVisible(bool(action))
        self.setAccessibleName(f"{title}. {sentence}")
