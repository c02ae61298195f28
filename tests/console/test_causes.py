"""Causes of failures of a day on which hundreds of banks are down: paged, and no more said than is known."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytestqt.qtbot import QtBot

from gui.models.paged import PAGE, TOP
from gui.pages.jobs import JobsPage
from tests.console.support import scenes
from tests.console.support.server import Server
from tests.console.support.windows import opened
from tests.console.test_actions import wait


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(scenes.World("full").answers()) as made:
        yield made


@pytest.fixture
def page(server: Server, qtbot: QtBot) -> Iterator[JobsPage]:
    with opened(server, qtbot) as window:
        window.open("jobs")
        found = window.page
        assert isinstance(found, JobsPage)
        yield found


def test_causes_are_fetched_as_they_are_scrolled_to(page: JobsPage, server: Server, qtbot: QtBot) -> None:
    wait(qtbot, lambda: page.counts.text() == f"25 failed jobs, {PAGE}+ causes")
    assert len(page.causes.rows) == PAGE
    bar = page.cause_list.verticalScrollBar()

    def at_end() -> bool:
        """To the end, again and again: while a refresh is out the list fetches nothing."""
        bar.setValue(0)
        bar.setValue(bar.maximum())
        return page.groups.complete

    wait(qtbot, at_end)
    wait(qtbot, lambda: page.counts.text() == "25 failed jobs, 340 causes")
    assert [after for after in (100, 200, 300) if not any(f"&after={after}" in asked for asked in server.asked)] == []
    last = page.causes.find("cause:more334")
    assert last == len(page.causes.rows) - 1 == 339
    bar.setValue(bar.maximum())
    assert page.cause_list.visualRect(page.causes.index(last)).bottom() <= page.cause_list.viewport().height()

    page._turn(page.causes.get("cause:f1"))  # its jobs come beneath it, the causes stay
    wait(qtbot, lambda: page.causes.find(f"job:{scenes.World('full').job(0).id}") == 1)
    assert page.counts.text() == "25 failed jobs, 340 causes"
    before = len(server.asked)
    page.refresh()
    wait(qtbot, lambda: any(asked.startswith("/api/failures") for asked in server.asked[before:]))
    assert f"limit={TOP}" in next(asked for asked in server.asked[before:] if asked.startswith("/api/failures"))
    wait(qtbot, lambda: not page.groups._busy())
    assert page.causes.find("cause:more334") > 0

    page.span.setFocus()
    page.span.choose("7d")
    wait(qtbot, lambda: page.counts.text() == f"25 failed jobs, {PAGE}+ causes")
