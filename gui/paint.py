"""Painting shared by delegates and widgets: text in a role, chips, monograms, meters, sparklines."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PySide6.QtCore import QLineF, QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPainterPath, QPen

from gui import icons
from gui.theme import Theme

LEFT = Qt.AlignmentFlag.AlignLeft
RIGHT = Qt.AlignmentFlag.AlignRight
CENTER = Qt.AlignmentFlag.AlignHCenter


def text(
    painter: QPainter,
    theme: Theme,
    rect: QRectF,
    words: str,
    role: str = "body",
    color: str = "text.primary",
    align: Qt.AlignmentFlag = LEFT,
) -> float:
    """Paint one line, elided at its end, in the middle of ``rect``'s height; returns the width it took."""
    if not words or rect.width() <= 0:
        return 0.0
    metrics = theme.metrics(role)
    shown = metrics.elidedText(words.replace("\n", " "), Qt.TextElideMode.ElideRight, math.ceil(rect.width()))
    painter.setFont(theme.font(role))
    painter.setPen(theme.color(color))
    flags = int(align | Qt.AlignmentFlag.AlignVCenter) | int(Qt.TextFlag.TextSingleLine)
    painter.drawText(rect, flags, shown)
    return float(metrics.horizontalAdvance(shown))


def rounded(
    painter: QPainter, rect: QRectF, radius: float, fill: QColor | None, border: QColor | None = None, width: float = 1
) -> None:
    """A rounded box whose border lies wholly inside ``rect``."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    half = width / 2 if border is not None else 0
    painter.setPen(QPen(border, width) if border is not None else Qt.PenStyle.NoPen)
    painter.setBrush(fill if fill is not None else Qt.BrushStyle.NoBrush)
    painter.drawRoundedRect(rect.adjusted(half, half, -half, -half), radius - half, radius - half)
    painter.restore()


def hairline(painter: QPainter, color: QColor, x1: float, y1: float, x2: float, y2: float) -> None:
    """A line of one device pixel or more, sharp."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
    painter.setPen(QPen(color, 1))
    painter.drawLine(QLineF(x1, y1, x2, y2))
    painter.restore()


def chip_width(theme: Theme, label: str, filled: bool) -> int:
    """The width `chip` takes for a label."""
    return 14 + 5 + theme.metrics("label").horizontalAdvance(label) + (12 if filled else 0)


def chip(
    painter: QPainter, theme: Theme, x: float, middle: float, state: dict[str, object], label: str, limit: float = 1e6
) -> float:
    """A state as glyph and words around the height ``middle``; returns its width."""
    tone, filled = str(state["tone"]), bool(state["fill"])
    width = min(float(chip_width(theme, label, filled)), limit)
    left = x
    if filled:
        box = QRectF(x, middle - 10, width, 20)
        rounded(painter, box, theme.radius("chip"), theme.color(f"state.{tone}.tint"))
        left = x + 5
    glyph = theme.color(f"state.{tone}.text" if filled else f"state.{tone}.solid")
    icons.draw(painter, str(state["icon"]), glyph, left, middle - 7, 14)
    room = QRectF(left + 19, middle - 10, x + width - (7 if filled else 0) - left - 19 + 1, 20)
    text(painter, theme, room, label, "label", f"state.{tone}.text" if filled else "text.secondary")
    return width


def tag(painter: QPainter, theme: Theme, x: float, middle: float, label: str) -> float:
    """A neutral chip of words alone."""
    width = theme.metrics("label").horizontalAdvance(label) + 14
    rounded(painter, QRectF(x, middle - 10, width, 20), theme.radius("chip"), theme.color("state.idle.tint"))
    text(painter, theme, QRectF(x + 7, middle - 10, width - 7, 20), label, "label", "text.secondary")
    return float(width)


def monogram(painter: QPainter, theme: Theme, x: float, y: float, size: int, letters: str) -> None:
    """The neutral square with a bank's letters; 24 in rows, 36 in details."""
    radius = theme.radius("control") if size <= 24 else theme.radius("card")
    rounded(painter, QRectF(x, y, size, size), radius, theme.color("state.idle.tint"))
    painter.save()
    font = theme.font("micro")
    if size > 24:
        font = theme.font("strong")
    painter.setFont(font)
    painter.setPen(theme.color("text.secondary"))
    painter.drawText(QRectF(x, y, size, size), int(Qt.AlignmentFlag.AlignCenter), letters)
    painter.restore()


def meter(painter: QPainter, theme: Theme, rect: QRectF, share: float, color: str = "chart.line") -> None:
    """A bar 6 high that is filled to ``share`` (0 to 1)."""
    rounded(painter, rect, 3, theme.color("meter.track"))
    width = rect.width() * max(0.0, min(1.0, share))
    if width <= 0:
        return
    painter.save()
    clip = QPainterPath()
    clip.addRoundedRect(rect, 3, 3)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setClipPath(clip)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(theme.color(color))
    painter.drawRoundedRect(QRectF(rect.x(), rect.y(), width, rect.height()), 3, 3)
    painter.restore()


def bars(
    painter: QPainter, theme: Theme, rect: QRectF, values: Sequence[float], color: str = "chart.done", gap: float = 1.5
) -> None:
    """A sparkline: bars on a hairline; an empty slot stays empty."""
    floor = rect.bottom()
    hairline(painter, theme.color("border.default"), rect.left(), floor - 0.5, rect.right() - 1, floor - 0.5)
    if not values:
        return
    count, top = len(values), max(1, *values)
    width = (rect.width() - gap * (count - 1)) / count
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(theme.color(color))
    for index, value in enumerate(values):
        if value:
            high = max(2.0, round(value / top * (rect.height() - 1)))
            painter.drawRoundedRect(QRectF(rect.left() + index * (width + gap), floor - high, width, high), 0.75, 0.75)
    painter.restore()


def check(painter: QPainter, theme: Theme, x: float, y: float, on: bool) -> None:
    """A box to tick, 16 square."""
    box = QRectF(x, y, 16, 16)
    if on:
        rounded(painter, box, 4, theme.color("button.primary.bg"))
        icons.draw(painter, "check", theme.color("button.primary.text"), x + 2, y + 2, 12)
    else:
        rounded(painter, box, 4, theme.color("bg.surface"), theme.color("border.control"))


def switch(painter: QPainter, theme: Theme, box: QRectF, on: bool) -> None:
    """On or off, 32 × 18."""
    rounded(painter, box, 9, theme.color("button.primary.bg" if on else "border.control"))
    knob = QRectF(box.x() + (16 if on else 2), box.y() + 2, 14, 14)
    rounded(painter, knob, 7, theme.color("button.primary.text") if on else QColor("white"))
