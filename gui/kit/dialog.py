"""A question before what cannot be undone: its title is the question with the number in it."""

from __future__ import annotations

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QDialog, QWidget

from gui import paint
from gui import theme as themes
from gui.kit.boxes import column, row
from gui.kit.button import Button, Kind
from gui.kit.text import Label


class Scrim(QWidget):
    """Darkens the window under a dialog."""

    def __init__(self, window: QWidget) -> None:
        super().__init__(window)
        self.setGeometry(window.rect())
        self.show()
        self.raise_()

    def paintEvent(self, event: QPaintEvent) -> None:
        QPainter(self).fillRect(self.rect(), themes.current().color("scrim"))


class Confirm(QDialog):
    """440 wide, window-modal; the safe button has the focus, Esc is the same as it. ``accepted`` tells a yes."""

    def __init__(
        self,
        parent: QWidget,
        question: str,
        sentence: str,
        yes: str,
        no: str = "Cancel",
        *,
        kind: Kind = "destroy",
        body: QWidget | None = None,
    ) -> None:
        """``kind``: of the button that does it; ``body``: what stands over the buttons (600 wide then)."""
        super().__init__(parent.window(), Qt.WindowType.FramelessWindowHint | Qt.WindowType.Dialog)
        self._theme = themes.current()
        self.setAttribute(Qt.WidgetAttribute.WA_TranslucentBackground)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowModality(Qt.WindowModality.WindowModal)
        self.setWindowTitle(question)
        self.setAccessibleDescription(sentence)
        self.setFixedWidth(self._theme.size("dialog.small" if body is None else "dialog.medium"))
        self.yes = Button(yes, kind=kind)
        self.no = Button(no)
        self.yes.clicked.connect(self.accept)
        self.no.clicked.connect(self.reject)
        foot = row(8)
        foot.addStretch(1)
        foot.addWidget(self.no)
        foot.addWidget(self.yes)
        layout = column(8, (24, 20, 24, 16))
        layout.addWidget(Label(question, "title", wrap=True))
        layout.addWidget(Label(sentence, "body", "text.secondary", wrap=True))
        layout.addSpacing(12)
        if body is not None:
            layout.addWidget(body)
            layout.addSpacing(8)
        layout.addLayout(foot)
        self.setLayout(layout)
        self._scrim = Scrim(parent.window())
        self.finished.connect(self._scrim.deleteLater)
        self.finished.connect(self._scrim.hide)
        self.no.setFocus()

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = self._theme
        fill, edge = theme.color("bg.popup"), theme.color("border.default")
        paint.rounded(QPainter(self), QRectF(self.rect()), theme.radius("dialog"), fill, edge)
