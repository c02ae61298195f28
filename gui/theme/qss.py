"""The one style sheet, made from the tokens: only for what the kit does not paint itself."""

from __future__ import annotations

from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gui.theme import Theme

_SHEET = Template("""
QToolTip { background: $bg_tooltip; color: $text_tooltip; border: none; padding: 4px 8px; }
QLineEdit { background: $bg_surface; color: $text_primary; border: 1px solid $border_control; border-radius: 6px;
  padding: 0 8px; min-height: 26px; selection-background-color: $accent_solid; selection-color: #FFFFFF; }
QLineEdit:focus { border: 2px solid $focus; padding: 0 7px; min-height: 24px; }
QLineEdit:disabled { background: $bg_subtle; color: $text_disabled; border-color: $border_default; }
QPlainTextEdit { background: $bg_subtle; color: $text_secondary; border: 1px solid $border_subtle;
  border-radius: 6px; padding: 4px 6px; }
QMenu { background: $bg_popup; color: $text_primary; border: 1px solid $border_default; border-radius: 10px;
  padding: 4px; }
QMenu::item { padding: 4px 24px 4px 12px; min-height: 20px; border-radius: 5px; }
QMenu::item:selected { background: $bg_popup_hover; }
QMenu::item:disabled { color: $text_disabled; }
QMenu::separator { height: 1px; background: $border_default; margin: 4px 0; }
QScrollBar:vertical { background: transparent; width: 10px; margin: 0; }
QScrollBar::handle:vertical { background: $border_default; border-radius: 3px; min-height: 32px; margin: 2px; }
QScrollBar::handle:vertical:hover { background: $border_control; }
QScrollBar:horizontal { background: transparent; height: 10px; margin: 0; }
QScrollBar::handle:horizontal { background: $border_default; border-radius: 3px; min-width: 32px; margin: 2px; }
QScrollBar::add-line, QScrollBar::sub-line { width: 0; height: 0; }
QScrollBar::add-page, QScrollBar::sub-page { background: transparent; }
QScrollArea, QAbstractItemView { background: transparent; border: none; outline: none; }
QSplitter::handle { background: $border_default; }
""")

_TOKENS = (
    "bg.tooltip", "text.tooltip", "bg.surface", "text.primary", "border.control", "accent.solid", "focus", "bg.subtle",
    "text.disabled", "border.default", "text.secondary", "border.subtle", "bg.popup", "bg.popup.hover",
)  # fmt: skip


def sheet(theme: Theme) -> str:
    """The style sheet in the colours of the theme in force."""
    return _SHEET.substitute({token.replace(".", "_"): theme.color(token).name() for token in _TOKENS})
