"""Labels in the roles of the type scale. Their text is never read as markup."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QSize, Qt
from PySide6.QtGui import QFontMetrics, QPainter, QPaintEvent, QTextLayout, QTextOption
from PySide6.QtWidgets import QLabel, QSizePolicy, QWidget

from gui import theme as themes
from gui.words import tip

WRAP_AT = 640
"""Wrapped text asks for no more width than this."""


class Label(QLabel):
    """One line, elided where it does not fit (then the whole text is its tooltip), or wrapped lines.

    Painted by a text layout, which knows no markup, at the line height of the role.
    """

    def __init__(
        self,
        words: str = "",
        role: str = "body",
        color: str = "text.primary",
        *,
        wrap: bool = False,
        shrink: bool = True,
        align: Qt.AlignmentFlag = Qt.AlignmentFlag.AlignLeft,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._theme = themes.current()
        self._role, self._color, self._wrap, self._shrink, self._align = role, color, wrap, shrink, align
        self._cut = False
        self._tip = ""
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setFont(self._theme.font(role))
        wide = QSizePolicy.Policy.Preferred if wrap or shrink else QSizePolicy.Policy.Fixed
        policy = QSizePolicy(wide, QSizePolicy.Policy.Minimum if wrap else QSizePolicy.Policy.Fixed)
        policy.setHeightForWidth(wrap)
        self.setSizePolicy(policy)
        self.say(words)

    def say(self, words: str, color: str | None = None) -> None:
        """Change the text, and its colour where given; does nothing where both are the same."""
        if words == self.text() and (color is None or color == self._color):
            return
        metrics = self._theme.metrics(self._role)
        same_size = metrics.horizontalAdvance(words) == metrics.horizontalAdvance(self.text())
        self._color = color or self._color
        self.setText(words)
        if self._wrap or not same_size:
            self.updateGeometry()
        self.update()

    def set_tip(self, words: str) -> None:
        """A tooltip of its own, instead of the whole text where it is cut."""
        self._tip = words
        self.setToolTip(tip(words))

    def sizeHint(self) -> QSize:
        metrics = self._theme.metrics(self._role)
        line = self._theme.line(self._role)
        if self._wrap:
            width = min(metrics.horizontalAdvance(self.text()) + 2, self.maximumWidth(), WRAP_AT)
            return QSize(width, self.heightForWidth(max(width, 1)))
        return QSize(metrics.horizontalAdvance(self.text()) + 2, line)

    def minimumSizeHint(self) -> QSize:
        full = self.sizeHint()
        if self._wrap:
            return QSize(60, self._theme.line(self._role))
        return QSize(min(full.width(), 24) if self._shrink else full.width(), full.height())

    def hasHeightForWidth(self) -> bool:
        return self._wrap

    def heightForWidth(self, width: int) -> int:
        if not self._wrap:
            return -1
        shown = min(width, self.maximumWidth())
        return max(1, len(self._lines(shown - 1)[1])) * self._theme.line(self._role)

    def paintEvent(self, event: QPaintEvent) -> None:
        if not self.text():
            return
        painter = QPainter(self)
        painter.setPen(self._theme.color(self._color if self.isEnabled() else "text.disabled"))
        painter.setFont(self._theme.font(self._role))
        if self._wrap:
            self._paint_lines(painter)
            return
        metrics: QFontMetrics = self._theme.metrics(self._role)
        shown = metrics.elidedText(self.text().replace("\n", " "), Qt.TextElideMode.ElideRight, self.width() - 1)
        cut = shown != self.text()
        if cut != self._cut and not self._tip:
            self._cut = cut
            self.setToolTip(tip(self.text()) if cut else "")
        flags = int(self._align | Qt.AlignmentFlag.AlignVCenter) | int(Qt.TextFlag.TextSingleLine)
        painter.drawText(self.rect().adjusted(1, 0, 0, 0), flags, shown)  # some letters reach out to the left

    def _lines(self, width: int) -> tuple[QTextLayout, list[float]]:
        layout = QTextLayout(self.text().replace("\n", "\u2028"), self._theme.font(self._role))
        option = QTextOption(self._align)
        option.setWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        layout.setTextOption(option)
        tops: list[float] = []
        height = self._theme.line(self._role)
        gap = (height - self._theme.metrics(self._role).height()) / 2
        layout.beginLayout()
        while True:
            line = layout.createLine()
            if not line.isValid():
                break
            line.setLineWidth(max(1, width))
            top = len(tops) * height + gap
            line.setPosition(QPointF(0, top))
            tops.append(top)
        layout.endLayout()
        return layout, tops

    def _paint_lines(self, painter: QPainter) -> None:
        self._lines(self.width() - 1)[0].draw(painter, QPointF(1, 0))
