"""``syncdesk --demo``: the living world in a window, gone with it."""

from __future__ import annotations

import pytest
from pytestqt.qtbot import QtBot

from engine import launch
from gui.demo import Demo
from gui.main import build


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_demo_lives_in_the_window_and_ends_with_it(qtbot: QtBot) -> None:
    demo = Demo()
    window = build(demo, "Demo", remember=False)
    qtbot.addWidget(window)
    window.show()
    window.desk.connection.open()
    try:
        qtbot.waitUntil(lambda: window.desk.connected, timeout=100_000)
        assert demo._local is not None
        profile = demo._local._profile
        assert launch.read(profile) is not None
        qtbot.waitUntil(
            lambda: window.desk.known is not None and window.desk.known.bank_data.items == 6, timeout=100_000
        )
        known = window.desk.known
        assert known is not None
        assert known.engine.environment == "simulated"
        window.close()
    finally:
        demo.end()
    assert launch.read(profile) is None
    assert not profile.root.exists()
