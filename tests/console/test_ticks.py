"""Several jobs at once: ticked in the list by box, keyboard or range, and retried as one action."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from engine.api.types_bulk import BulkEntryPage
from gui.client.connection import Remote
from gui.kit.dialog import Confirm
from gui.main import build
from gui.pages.jobs import JobsPage
from gui.shell import Shell
from tests.console.conftest import WAIT_MS, World
from tests.console.support import scenes
from tests.console.support.server import TOKEN, Server
from tests.console.test_actions import LEFT, click, wait


def failed_jobs(console: Shell, qtbot: QtBot) -> JobsPage:
    """The page Jobs with its failures one by one."""
    console.open("jobs")
    page = console.page
    assert isinstance(page, JobsPage)
    page.view.choose("job")
    wait(qtbot, lambda: page.jobs.loaded)
    return page


def test_ticked_jobs_are_retried_together(console: Shell, world: World, qtbot: QtBot) -> None:
    ids = {world.fail(name).id for name in ("harborview", "lakeside")}
    page = failed_jobs(console, qtbot)
    wait(qtbot, lambda: all(page.jobs.find(job) >= 0 for job in ids))
    first, second = sorted(ids, key=page.jobs.find)
    qtbot.mouseClick(page.job_list.viewport(), LEFT, pos=page.job_list.tick_box(first).center())
    assert not page.detail_open()
    assert page.retry_all.text() == "Retry 1 ticked"
    page.job_list.setFocus()
    page.job_list.choose(second)
    qtbot.keyClick(page.job_list, Qt.Key.Key_Space)
    assert page.retry_all.text() == "Retry 2 ticked"

    click(qtbot, page.discard_all)
    wait(qtbot, lambda: page.bulks.dialog is not None and page.bulks.dialog.isVisible())
    dialog = page.bulks.dialog
    assert isinstance(dialog, Confirm)
    assert dialog.windowTitle() == "Discard 2 jobs?"
    click(qtbot, dialog.no)
    assert page.jobs.ticked == ids

    click(qtbot, page.retry_all)
    wait(qtbot, lambda: page.strip.isVisible() and page.strip.title.text().startswith("2 jobs start in"))
    assert page.jobs.ticked == set()
    bulk = page.strip.bulk
    assert bulk is not None
    with world.client() as client:
        entries = client.get(f"bulks/{bulk.id}/entries", BulkEntryPage).entries
        assert {entry.job_id for entry in entries} == ids
    world.release()
    wait(qtbot, lambda: page.strip.bulk is not None and page.strip.bulk.state == "done")
    assert page.strip.bulk is not None
    # A bank that a run of its own brought up to date meanwhile is left out.
    assert (page.strip.bulk.done + page.strip.bulk.skipped, page.strip.bulk.failed) == (2, 0)
    for name in ("harborview", "lakeside"):
        wait(qtbot, lambda name=name: world.item(name).state == "healthy")  # type: ignore[misc]


@pytest.fixture
def page(qtbot: QtBot) -> Iterator[JobsPage]:
    with Server(scenes.World("trouble").answers()) as server:
        window = build(Remote(server.url, TOKEN), start=False, remember=False)
        qtbot.addWidget(window)
        window.show()
        window.desk.connection.open()
        qtbot.waitUntil(lambda: window.desk.known is not None, timeout=WAIT_MS)
        found = failed_jobs(window, qtbot)
        wait(qtbot, lambda: len(found.jobs.rows) > 5)
        yield found
        window.close()


def test_shift_ticks_a_range_control_one_and_escape_none(page: JobsPage, qtbot: QtBot) -> None:
    view, keys = page.job_list, [row.id for row in page.jobs.rows]

    def press(place: int, held: Qt.KeyboardModifier) -> None:
        qtbot.mouseClick(view.viewport(), LEFT, held, view.visualRect(page.jobs.index(place)).center())

    view.setFocus()
    view.choose(keys[1])
    press(4, Qt.KeyboardModifier.ShiftModifier)
    assert page.jobs.ticked == set(keys[1:5])
    press(2, Qt.KeyboardModifier.ControlModifier)
    assert page.jobs.ticked == {keys[1], keys[3], keys[4]}
    assert page.jobs.index(3).data().startswith("Ticked, ")
    assert not page.jobs.index(2).data().startswith("Ticked")
    assert page.detail_open()
    qtbot.keyClick(view, Qt.Key.Key_Escape)
    assert not page.detail_open()
    assert len(page.jobs.ticked) == 3
    qtbot.keyClick(view, Qt.Key.Key_Escape)
    assert page.jobs.ticked == set()
    assert page.retry_all.text() == "Retry all 25…"


def test_a_job_that_left_the_list_is_ticked_no_more(page: JobsPage) -> None:
    gone, stays = page.jobs.rows[0], page.jobs.rows[1]
    page.jobs.ticked = {gone.id, stays.id}
    page.jobs.show(page.jobs.rows[1:])
    assert page.jobs.ticked == {stays.id}
    assert page.retry_all.text() == "Retry 1 ticked"


def test_only_failed_jobs_have_a_box(page: JobsPage, qtbot: QtBot) -> None:
    assert not page.job_list.tick_box(page.jobs.rows[0].id).isEmpty()
    page.tabs.choose("all")
    wait(qtbot, lambda: page.jobs.loaded and bool(page.jobs.rows))
    assert page.job_list.tick_box(page.jobs.rows[0].id).isEmpty()
