"""The link to the engine: proof before the token, silence noticed, healing, an engine that dies meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psutil
import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QMenu
from pytestqt.qtbot import QtBot

from engine import launch
from engine.api import types, types_operation
from engine.processes import running
from gui.client.connection import Local, Remote
from gui.main import build
from gui.pages.jobs import JobsPage
from gui.pages.overview import OverviewPage
from gui.shell import Shell
from tests.console.conftest import FAST, WAIT_MS
from tests.console.support import scenes
from tests.console.support.server import TOKEN, Server
from tests.support.engines import NO_BANK, clean_environment, engine


def opened(qtbot: QtBot, server: Server, token: str = TOKEN) -> Shell:
    window = build(Remote(server.url, token), start=False, remember=False)
    qtbot.addWidget(window)
    window.show()
    window.desk.connection.open()
    return window


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(scenes.World("normal").answers()) as made:
        yield made


def test_the_token_is_not_sent_to_who_cannot_prove_to_know_it(server: Server, qtbot: QtBot) -> None:
    server.proof_token = "another token"
    window = opened(qtbot, server)
    qtbot.waitUntil(lambda: window.desk.connection.state == "unreachable", timeout=WAIT_MS)
    assert {asked.split("?")[0] for asked in server.asked} == {"/api/hello"}
    assert "not the engine" in window.desk.connection.message
    window.close()


def test_events_refresh_what_is_shown_at_most_four_times_a_second(server: Server, qtbot: QtBot) -> None:
    window = opened(qtbot, server)
    qtbot.waitUntil(lambda: window.desk.known is not None, timeout=WAIT_MS)
    told: list[frozenset[str]] = []
    window.desk.topics.connect(told.append)
    for _ in range(200):
        server.tell("jobs")
    qtbot.waitUntil(lambda: any("jobs" in topics for topics in told), timeout=WAIT_MS)
    assert len(told) <= 3
    window.close()


def test_a_hidden_window_waits_until_it_is_seen(server: Server, qtbot: QtBot) -> None:
    window = opened(qtbot, server)
    qtbot.waitUntil(lambda: window.desk.known is not None, timeout=WAIT_MS)
    qtbot.waitUntil(lambda: not window.desk.overview.busy, timeout=WAIT_MS)
    window.hide()
    told: list[frozenset[str]] = []
    window.desk.topics.connect(told.append)
    before = sum(asked == "/api/overview" for asked in server.asked)
    server.tell("jobs")
    qtbot.waitUntil(lambda: any("jobs" in topics for topics in told), timeout=WAIT_MS)
    assert sum(asked == "/api/overview" for asked in server.asked) == before
    window.show()
    qtbot.waitUntil(lambda: sum(asked == "/api/overview" for asked in server.asked) > before, timeout=WAIT_MS)
    window.close()


def test_a_broken_stream_is_opened_again(server: Server, qtbot: QtBot) -> None:
    window = opened(qtbot, server)
    qtbot.waitUntil(lambda: window.desk.known is not None, timeout=WAIT_MS)
    streams = sum(asked == "/api/events" for asked in server.asked)
    server.drop_streams()
    qtbot.waitUntil(lambda: sum(asked == "/api/events" for asked in server.asked) > streams, timeout=WAIT_MS)
    qtbot.waitUntil(lambda: window.desk.connected, timeout=WAIT_MS)
    window.close()


def test_a_gone_engine_greys_what_is_old_and_takes_the_buttons_away(server: Server, qtbot: QtBot) -> None:
    window = opened(qtbot, server)
    qtbot.waitUntil(lambda: window.desk.known is not None, timeout=WAIT_MS)
    page = window.page
    assert isinstance(page, OverviewPage)
    server.close()
    qtbot.waitUntil(lambda: window.desk.connection.state == "unreachable", timeout=WAIT_MS)
    assert page.lost.isVisible()
    assert "Nothing is lost" in page.lost.sentence.text()
    assert page.tiles["engine"].verdict() == "Was running"
    assert not page.sync.isEnabled()
    assert "not answering" in page.sync.toolTip()
    window.open("jobs")
    assert window.banner.isVisible()
    assert "not answering" in window.banner.title.text()
    window.close()


def test_an_engine_without_its_database_says_so_until_it_is_back(server: Server, qtbot: QtBot) -> None:
    window = opened(qtbot, server)
    qtbot.waitUntil(lambda: window.desk.known is not None, timeout=WAIT_MS)
    right = server.answers["/api/overview"]
    server.answers["/api/overview"] = lambda _q: types.Problem("DATABASE_UNAVAILABLE", "The database does not answer.")
    server.tell("engine")
    qtbot.waitUntil(window.banner.isVisible, timeout=WAIT_MS)
    assert window.banner.sentence.text().startswith("The database does not answer.")
    assert window.rail.engine.words() == "Trouble"
    server.answers["/api/overview"] = right
    server.tell("engine")
    qtbot.waitUntil(lambda: not window.banner.isVisible(), timeout=WAIT_MS)
    assert window.rail.engine.words() == "Running"
    window.close()


def test_a_viewer_sees_everything_and_may_do_nothing(server: Server, qtbot: QtBot) -> None:
    window = opened(qtbot, server)
    qtbot.waitUntil(lambda: window.desk.connected, timeout=WAIT_MS)
    window.desk.connection.kind = "view"
    window.desk.connection.changed.emit()
    page = window.page
    assert isinstance(page, OverviewPage)
    assert not page.sync.isEnabled()
    assert "may only view" in page.sync.toolTip()
    window.close()


def test_markup_from_outside_stays_text(qtbot: QtBot) -> None:
    with Server(scenes.World("full").answers()) as server:
        window = opened(qtbot, server)
        qtbot.waitUntil(lambda: window.desk.connected, timeout=WAIT_MS)
        window.open("jobs", "all")
        page = window.page
        assert isinstance(page, JobsPage)
        qtbot.waitUntil(lambda: page.jobs.rowCount() >= 100, timeout=WAIT_MS)
        page.pane.open(page.jobs.rows[27])
        assert page.pane.title.text() == "Tidewater <b>Business</b>"
        assert page.pane.title.textFormat() == Qt.TextFormat.PlainText
        window.close()


def test_an_engine_is_started_dies_and_is_started_again(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    with engine(**FAST, **NO_BANK) as running:
        for name in list(os.environ):
            if name not in running.environment:
                monkeypatch.delenv(name)
        for name, value in clean_environment(**FAST, **NO_BANK).items():
            monkeypatch.setenv(name, value)
        window = build(Local(running.profile), remember=False)
        qtbot.addWidget(window)
        window.show()
        steps: list[str] = []
        window.desk.connection.changed.connect(lambda: steps.append(window.desk.connection.step))
        window.desk.connection.open()
        page = window.page
        assert isinstance(page, OverviewPage)
        qtbot.waitUntil(lambda: window.desk.connection.state == "starting", timeout=WAIT_MS)
        assert page.tiles["engine"].verdict() == "Starting"
        qtbot.waitUntil(lambda: window.desk.connected and window.desk.known is not None, timeout=60_000)
        assert len({step for step in steps if step}) >= 2, steps
        found = launch.read(running.profile)
        assert found is not None
        psutil.Process(found.pid).kill()
        qtbot.waitUntil(lambda: window.desk.connection.state == "unreachable", timeout=WAIT_MS)
        assert page.lost.isVisible()
        qtbot.mouseClick(page.lost.start, Qt.MouseButton.LeftButton)
        qtbot.waitUntil(lambda: window.desk.connected, timeout=60_000)
        qtbot.waitUntil(lambda: not page.lost.isVisible(), timeout=WAIT_MS)
        menu = QMenu()
        qtbot.addWidget(menu)
        window.fill_engine_menu(menu)
        stop = next(action for action in menu.actions() if action.text() == "Stop engine")
        assert stop.isEnabled()
        stop.trigger()
        qtbot.waitUntil(lambda: window.desk.connection.state == "stopped", timeout=WAIT_MS)
        assert page.lost.title.text() == "The engine is stopped"
        assert window.rail.engine.words() == "Stopped"
        window.close()


def test_closing_the_window_leaves_the_engine_running(console: Shell, world: object) -> None:
    console.close()
    found = launch.read(world.engine.profile)  # type: ignore[attr-defined]
    assert found is not None
    assert running(found.pid, found.started)


def test_new_notices_are_said_once_and_bad_ones_before_good_ones(server: Server, qtbot: QtBot) -> None:
    window = opened(qtbot, server)
    qtbot.waitUntil(lambda: window.notices.data is not None, timeout=WAIT_MS)

    def notice(number: int, tone: str, target: str | None = None) -> types_operation.Notice:
        return types_operation.Notice(
            str(number), "2026-11-25T00:00:00Z", "x", tone, f"Notice {number}", "Said.", target, False
        )  # type: ignore[arg-type]

    said = [notice(3, "ok"), notice(2, "error", "item:item3"), notice(1, "info")]
    server.answers["/api/notices"] = lambda _q: types_operation.Notices(said)
    server.tell("notices")
    qtbot.waitUntil(lambda: window.toast.words == "Notice 2. Said.", timeout=WAIT_MS)
    window.toast.act()
    assert window.toast.words == ""
    assert window.current == "banks"
    asked = sum(path.startswith("/api/notices") for path in server.asked)
    server.tell("notices")
    qtbot.waitUntil(lambda: sum(path.startswith("/api/notices") for path in server.asked) > asked, timeout=WAIT_MS)
    qtbot.waitUntil(lambda: not window.notices.busy, timeout=WAIT_MS)
    assert window.toast.words == ""
    window.close()
