"""Drawings of the console: SVG files that take the colour of what they stand in."""

from __future__ import annotations

from importlib import resources

from PySide6.QtCore import QByteArray, QRectF, Qt
from PySide6.QtGui import QColor, QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer

from gui import theme as themes


def _stroke(size: int) -> str:
    """Small drawings get heavier lines, so that they weigh like the words beside them."""
    return "1.9" if size <= 14 else "1.7" if size <= 18 else "1.5"


def pixmap(name: str, color: QColor, size: int, ratio: float) -> QPixmap:
    """The drawing ``name`` in a colour, ``size`` logical pixels square, for a screen's pixel ratio.

    Raises:
        FileNotFoundError: there is no such drawing.
    """
    cache = themes.current().icons
    key = (name, color.rgba(), size, ratio)
    found = cache.get(key)
    if isinstance(found, QPixmap):
        return found
    text = resources.files("gui").joinpath("icons", f"{name}.svg").read_text(encoding="utf-8")
    text = text.replace("currentColor", color.name()).replace('stroke-width="1.5"', f'stroke-width="{_stroke(size)}"')
    made = QPixmap(round(size * ratio), round(size * ratio))
    made.setDevicePixelRatio(ratio)
    made.fill(Qt.GlobalColor.transparent)
    painter = QPainter(made)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    QSvgRenderer(QByteArray(text.encode())).render(painter, QRectF(0, 0, size, size))
    painter.end()
    cache[key] = made
    return made


def draw(painter: QPainter, name: str, color: QColor, x: float, y: float, size: int) -> None:
    """Paint a drawing with its upper left corner at ``x``, ``y``."""
    ratio = painter.device().devicePixelRatioF() if painter.device() else 1.0
    painter.drawPixmap(round(x), round(y), pixmap(name, color, size, ratio))


def icon(name: str, tint: str = "text.secondary", size: int = 16) -> QIcon:
    """The drawing as an icon for menus."""
    made = QIcon()
    for ratio in (1.0, 2.0):
        made.addPixmap(pixmap(name, themes.current().color(tint), size, ratio))
    return made


def application() -> QIcon:
    """The program's own icon."""
    made = QIcon()
    for size in (16, 32, 64, 128):
        made.addPixmap(pixmap("app-16" if size == 16 else "app", QColor("black"), size, 1.0))
    return made
