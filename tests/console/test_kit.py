"""The kit: theme, icons, keyboard, names for screen readers, and the interpreter's health under Qt."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QColor, QImage
from PySide6.QtWidgets import QAbstractButton, QAbstractItemView, QLineEdit, QWidget
from pytestqt.qtbot import QtBot

from gui import icons, theme
from gui.client.connection import Remote
from gui.kit.boxes import Tile
from gui.kit.button import Button
from gui.kit.choices import Segments, Tabs
from gui.kit.focus import Ring
from gui.kit.notes import Toast
from gui.kit.text import Label
from gui.main import build
from gui.pages.banks import BanksPage
from tests.console.conftest import WAIT_MS
from tests.console.support import scenes
from tests.console.support.server import TOKEN, Server
from tests.console.support.windows import opened


def test_a_reference_to_none_is_not_taken_away(qtbot: QtBot) -> None:
    widget = QWidget()
    qtbot.addWidget(widget)
    gc.collect()
    gc.disable()  # what it takes away meanwhile held references of its own
    try:
        before = sys.getrefcount(None)
        for _ in range(1000):
            widget.update()
            widget.setToolTip("")
        after = sys.getrefcount(None)
    finally:
        gc.enable()
    assert after >= before - 50


def test_every_token_of_a_colour_exists_in_both_themes(qapp: object) -> None:
    tokens = json.loads(resources.files("gui.theme").joinpath("tokens.json").read_text())
    assert set(tokens["color"]["light"]) == set(tokens["color"]["dark"])
    found = theme.current()
    for dark in (True, False):
        found.set_dark(dark)
        assert found.color("bg.surface").name().upper() == tokens["color"]["dark" if dark else "light"]["bg.surface"]
    for kind, states in tokens["state"].items():
        for state in states.values():
            assert found.color(f"state.{state['tone']}.solid").isValid(), kind


def test_every_drawing_draws(qapp: object) -> None:
    names = [entry.name.removesuffix(".svg") for entry in resources.files("gui").joinpath("icons").iterdir()]
    assert len(names) > 60
    for name in names:
        image = icons.pixmap(name, QColor("black"), 16, 2.0).toImage()
        assert image.format() != QImage.Format.Format_Invalid
        assert any(image.pixelColor(x, y).alpha() for x in range(32) for y in range(32)), name


def test_the_ring_shows_for_the_keyboard_alone(qtbot: QtBot) -> None:
    window = QWidget()
    first, second = Button("One", parent=window), Button("Two", parent=window)
    second.move(0, 60)
    qtbot.addWidget(window)
    with qtbot.waitActive(window, timeout=WAIT_MS):
        window.show()
        window.activateWindow()
    first.setFocus(Qt.FocusReason.MouseFocusReason)
    assert window.findChild(Ring) is None
    second.setFocus(Qt.FocusReason.TabFocusReason)
    ring = window.findChild(Ring)
    assert ring is not None
    assert ring.isVisible()
    assert ring.geometry().contains(second.geometry())
    first.setFocus(Qt.FocusReason.MouseFocusReason)
    assert not ring.isVisible()


def test_tabs_and_segments_follow_the_arrows(qtbot: QtBot) -> None:
    tabs = Tabs([("a", "A", ""), ("b", "B", "error"), ("c", "C", "")])
    qtbot.addWidget(tabs)
    qtbot.keyClick(tabs, Qt.Key.Key_Right)
    assert tabs.current == "b"
    qtbot.keyClick(tabs, Qt.Key.Key_Left)
    qtbot.keyClick(tabs, Qt.Key.Key_Left)
    assert tabs.current == "c"
    segments = Segments([("1h", "1 h"), ("24h", "24 h")], "24h", "Span")
    qtbot.addWidget(segments)
    with qtbot.waitSignal(segments.chosen):
        qtbot.mouseClick(segments, Qt.MouseButton.LeftButton, pos=QPoint(10, 10))
    assert segments.current == "1h"
    assert segments.accessibleName() == "Span: 1 h"


def test_a_disabled_button_says_why(qtbot: QtBot) -> None:
    button = Button("Sync all")
    qtbot.addWidget(button)
    button.set_tip("Sync all banks now")
    button.allow(False, "Your token may only view.")
    assert button.toolTip() == "Your token may only view."
    button.allow(True)
    assert button.toolTip() == "Sync all banks now"


def test_a_cut_label_tells_its_whole_text_as_text(qtbot: QtBot) -> None:
    label = Label("<b>The Farmers & Merchants Mutual Savings Bank</b>")
    qtbot.addWidget(label)
    label.resize(60, 20)
    label.show()
    qtbot.waitUntil(lambda: bool(label.toolTip()), timeout=WAIT_MS)
    assert "&lt;b&gt;" in label.toolTip()


def test_toasts_come_one_at_a_time_and_undo_once(qtbot: QtBot) -> None:
    window = QWidget()
    window.resize(800, 600)
    qtbot.addWidget(window)
    window.show()
    toast = Toast(window)
    undone: list[int] = []
    toast.say("Discarded 3 jobs", lambda: undone.append(1))
    toast.queue("A bank needs you")
    assert toast.words == "Discarded 3 jobs"
    toast.act()
    assert undone == [1]
    assert toast.words == "A bank needs you"
    assert not toast.undoable()


def test_a_tile_is_one_sentence_to_a_screen_reader(qtbot: QtBot) -> None:
    tile = Tile("Needs you")
    qtbot.addWidget(tile)
    tile.tell("state-done", "ok", "Nothing", "6 suggested bill matches, when you have time.")
    assert tile.accessibleName() == "Needs you: Nothing. 6 suggested bill matches, when you have time."


def test_a_narrow_tile_leaves_the_last_part_out(qtbot: QtBot) -> None:
    tile = Tile("Bank data")
    qtbot.addWidget(tile)
    tile.tell("state-done", "ok", "Up to date", "14 of 14 banks, oldest 11 min. Next run in 8 min.")
    room = theme.current().metrics("small").horizontalAdvance("14 of 14 banks, oldest 11 min.")
    assert tile._fitting(2 * room) == "14 of 14 banks, oldest 11 min. Next run in 8 min."
    assert tile._fitting(room) == "14 of 14 banks, oldest 11 min."
    assert tile._fitting(room - 1) == "14 of 14 banks."
    assert "Next run" in tile.toolTip()


@pytest.mark.parametrize("scene", ["empty", "normal", "trouble", "full"])
def test_every_control_of_every_page_has_a_name(scene: scenes.Scene, qtbot: QtBot) -> None:
    with Server(scenes.World(scene).answers()) as server, opened(server, qtbot) as window:
        seen = 0
        for key in list(window._made):
            window.open(key)
            kinds = (QAbstractButton, QAbstractItemView, QLineEdit)
            controls = [found for kind in kinds for found in window.findChildren(kind) if found.isVisible()]
            seen += len(controls)
            names = [found.accessibleName() or getattr(found, "text", str)() for found in controls]
            assert all(names), [found for found, name in zip(controls, names, strict=True) if not name]
        assert seen > 60


def _missed_by_tab(window: QWidget, first: QWidget, qtbot: QtBot) -> list[str]:
    """Names of the controls that Tab does not come by on its way round."""
    first.setFocus(Qt.FocusReason.TabFocusReason)
    seen: list[QWidget] = []
    while (focused := window.focusWidget()) is not None and focused not in seen:
        seen.append(focused)
        qtbot.keyClick(focused, Qt.Key.Key_Tab)
    kinds = (QAbstractButton, QAbstractItemView, QLineEdit)
    controls: list[QWidget] = [found for kind in kinds for found in window.findChildren(kind)]
    return [
        found.accessibleName()
        for found in controls
        # Of tabs the current one has the focus; arrows go to the others.
        if found.isVisible() and found.isEnabled() and found not in seen and not isinstance(found.parent(), Tabs)
    ]


def test_tab_reaches_every_control_of_every_page(qtbot: QtBot) -> None:
    with Server(scenes.World("trouble").answers()) as server:
        window = build(Remote(server.url, TOKEN), start=False, remember=False)
        qtbot.addWidget(window)
        with qtbot.waitActive(window, timeout=WAIT_MS):
            window.show()
            window.activateWindow()
        window.desk.connection.open()
        qtbot.waitUntil(lambda: window.desk.known is not None, timeout=WAIT_MS)
        for key in list(window._made):
            window.open(key)
            # Controls appear while a page is being filled, also behind the focus: then once more round.
            qtbot.waitUntil(lambda: not _missed_by_tab(window, window.rail.engine, qtbot), timeout=WAIT_MS)
        window.close()


@pytest.mark.parametrize("size", [(960, 600), (1280, 800), (1920, 1080)])
def test_nothing_is_wider_than_its_window(size: tuple[int, int], qtbot: QtBot) -> None:
    with Server(scenes.World("trouble").answers()) as server, opened(server, qtbot, size) as window:
        for key in list(window._made):
            window.open(key)
            page = window.page
            qtbot.waitUntil(lambda page=page: page.width() > 0, timeout=WAIT_MS)
            assert window.width() == size[0], key
            canvas = getattr(page, "_canvas", None)
            if canvas is not None:
                assert canvas.width() <= page.width(), key


def test_a_silent_account_is_named_with_its_bank(qtbot: QtBot) -> None:
    with Server(scenes.World("normal").answers()) as server, opened(server, qtbot) as window:
        window.open("banks", "item3")
        page = window.page
        assert isinstance(page, BanksPage)
        qtbot.waitUntil(page.pane.quiet.isVisible, timeout=WAIT_MS)
        assert page.pane._silent.text().startswith("Savings ••7710 has had nothing new since ")


def test_the_first_window_is_measured(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gui.main", "--profile", f"{tmp_path}/p"], capture_output=True, text=True, timeout=100,
        env={**__import__("os").environ, "SYNCDESK_MEASURE_WINDOW": "1", "QT_QPA_PLATFORM": "offscreen"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
    assert not (tmp_path / "p").exists()  # no engine was started that would outlive it
