"""The look of the console: colours, fonts and sizes from ``tokens.json``, light and dark as the system says."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, cast

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QColor, QFont, QFontMetrics, QPalette
from PySide6.QtWidgets import QApplication

_NAME = "syncdesk-theme"


class Theme(QObject):
    """Values of the design by their token names; ``changed`` when light becomes dark or the other way round."""

    changed = Signal()

    def __init__(self, app: QApplication) -> None:
        super().__init__(app)
        self.setObjectName(_NAME)
        text = resources.files("gui.theme").joinpath("tokens.json").read_text(encoding="utf-8")
        self._tokens: dict[str, Any] = json.loads(text)
        self.dark = app.styleHints().colorScheme() == Qt.ColorScheme.Dark
        self._colors: dict[str, QColor] = {}
        self._fonts: dict[str, QFont] = {}
        self._metrics: dict[str, QFontMetrics] = {}
        self._icons: dict[tuple[object, ...], object] = {}
        app.styleHints().colorSchemeChanged.connect(self._follow)
        self._apply()

    def set_dark(self, dark: bool) -> None:
        """Choose a theme by hand, for pictures and tests."""
        if dark != self.dark:
            self.dark = dark
            self._apply()

    def color(self, token: str) -> QColor:
        """The colour of a token in the theme in force."""
        found = self._colors.get(token)
        if found is None:
            found = self._colors[token] = QColor(self._tokens["color"]["dark" if self.dark else "light"][token])
        return found

    def size(self, token: str) -> int:
        """A length in logical pixels, such as ``row.two``."""
        return int(self._tokens["size"][token])

    def radius(self, token: str) -> int:
        """A corner's radius in logical pixels."""
        return int(self._tokens["radius"][token])

    def line(self, role: str) -> int:
        """The line height of a type role; never less than the font needs."""
        return max(int(self._tokens["type"][role]["line"]), self.metrics(role).height())

    def font(self, role: str) -> QFont:
        """The font of a type role, such as ``body`` or ``label``, with tabular figures."""
        found = self._fonts.get(role)
        if found is None:
            spec = self._tokens["type"][role]
            found = QFont(self._tokens["font"]["mono" if spec.get("family") == "mono" else "ui"])
            found.setPixelSize(int(spec["size"]))
            found.setWeight(QFont.Weight(int(spec["weight"])))
            found.setFeature(QFont.Tag("tnum"), 1)
            self._fonts[role] = found
        return found

    def metrics(self, role: str) -> QFontMetrics:
        """Measures of a type role's font."""
        found = self._metrics.get(role)
        if found is None:
            found = self._metrics[role] = QFontMetrics(self.font(role))
        return found

    def state(self, kind: str, name: str) -> dict[str, Any]:
        """Icon, tone, fill and label of a state; ``kind`` is job, item or engine."""
        return cast("dict[str, Any]", self._tokens["state"][kind][name])

    @property
    def icons(self) -> dict[tuple[object, ...], object]:
        """Where `gui.icons` keeps what it drew, until the theme changes."""
        return self._icons

    def _follow(self, scheme: Qt.ColorScheme) -> None:
        self.set_dark(scheme == Qt.ColorScheme.Dark)

    def _apply(self) -> None:
        from gui.theme import qss

        self._colors.clear()
        self._icons.clear()
        app = cast("QApplication", self.parent())
        app.setFont(self.font("body"))
        app.setPalette(_palette(self))
        app.setStyleSheet(qss.sheet(self))
        self.changed.emit()


def current() -> Theme:
    """The theme of the running application."""
    app = QApplication.instance()
    found = app.findChild(Theme, _NAME) if app is not None else None
    if found is None:
        raise RuntimeError("The application has no theme yet.")
    return found


def install(app: QApplication) -> Theme:
    """Give the application its theme, once."""
    found = app.findChild(Theme, _NAME)
    if found is not None:
        return found
    app.setStyle("Fusion")
    return Theme(app)


def _palette(theme: Theme) -> QPalette:
    palette = QPalette()
    roles = {
        QPalette.ColorRole.Window: "bg.surface",
        QPalette.ColorRole.WindowText: "text.primary",
        QPalette.ColorRole.Base: "bg.surface",
        QPalette.ColorRole.AlternateBase: "bg.subtle",
        QPalette.ColorRole.Text: "text.primary",
        QPalette.ColorRole.PlaceholderText: "text.muted",
        QPalette.ColorRole.Button: "bg.surface",
        QPalette.ColorRole.ButtonText: "text.primary",
        QPalette.ColorRole.Highlight: "accent.solid",
        QPalette.ColorRole.HighlightedText: "bg.surface",
        QPalette.ColorRole.ToolTipBase: "bg.tooltip",
        QPalette.ColorRole.ToolTipText: "text.tooltip",
        QPalette.ColorRole.Link: "accent.text",
        QPalette.ColorRole.Mid: "border.default",
    }
    for role, token in roles.items():
        palette.setColor(role, theme.color(token))
    for role in (QPalette.ColorRole.WindowText, QPalette.ColorRole.Text, QPalette.ColorRole.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, role, theme.color("text.disabled"))
    return palette
