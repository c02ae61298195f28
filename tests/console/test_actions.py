"""Every action of the console, through its widgets down to the engine."""

from __future__ import annotations

import json
from collections.abc import Callable

import psycopg
import pytest
from PySide6.QtCore import QPoint, Qt, QUrl
from PySide6.QtGui import QDesktopServices
from pytestqt.qtbot import QtBot

from engine import http
from engine.api import types, types_banks, types_bills, types_jobs, types_operation
from engine.host import postgres
from gui.kit.button import Button
from gui.kit.listview import List
from gui.pages.banks import BanksPage
from gui.pages.bills import BillsPage
from gui.pages.jobs import JobsPage
from gui.pages.overview import OverviewPage
from gui.pages.schedule import SchedulePage
from gui.pages.workers import WorkersPage
from gui.shell import Shell
from tests.console.conftest import WAIT_MS, World

LEFT = Qt.MouseButton.LeftButton


def click(qtbot: QtBot, button: Button) -> None:
    """A person's click: the button must be in sight and enabled, at the latest after what is being laid out."""
    qtbot.waitUntil(lambda: button.isVisible() and button.isEnabled(), timeout=WAIT_MS)
    assert button.isVisible(), button.accessibleName()
    assert button.isEnabled(), button.toolTip()
    qtbot.mouseClick(button, LEFT)


def click_row(qtbot: QtBot, view: List, key: str, button: str = "") -> None:
    """A click on a row, or on one of its buttons."""
    place = view.rows.find(key)
    assert place >= 0, key
    view.scrollTo(view.rows.index(place))
    area = view.visualRect(view.rows.index(place))
    spot = view.button_box(key, button).center() if button else QPoint(area.x() + 160, area.center().y())
    qtbot.mouseClick(view.viewport(), LEFT, pos=spot)


def wait(qtbot: QtBot, condition: Callable[[], bool]) -> None:
    """Wait for a state, with a deadline."""
    qtbot.waitUntil(condition, timeout=WAIT_MS)


# ---------------------------------------------------------------- overview


def test_overview_answers_the_three_questions(console: Shell, qtbot: QtBot) -> None:
    page = console.page
    assert isinstance(page, OverviewPage)
    wait(qtbot, lambda: len(page.queues.table.rows) == 3)
    wait(qtbot, lambda: page.tiles["engine"].verdict().startswith("Running"))
    assert page.tiles["banks"].sentence().startswith("2 of 2 banks")
    wait(qtbot, lambda: {service.state for service in page.services.table.rows} <= {"ok", "unknown"})
    assert console.rail.engine.words() == "Running"


def test_pausing_and_resuming_the_whole_engine(console: Shell, world: World, qtbot: QtBot) -> None:
    page = console.page
    assert isinstance(page, OverviewPage)
    click(qtbot, page.pause)
    wait(qtbot, lambda: page.tiles["engine"].verdict() == "Paused")
    with world.client() as client:
        assert client.get("status", types.Status).engine.state == "paused"
    assert console.rail.engine.words() == "Paused"
    assert page.pause.text() == "Resume"
    click(qtbot, page.pause)
    wait(qtbot, lambda: page.tiles["engine"].verdict() == "Running")
    with world.client() as client:
        assert client.get("status", types.Status).engine.state == "running"


def test_syncing_all_banks_brings_new_rows(console: Shell, world: World, qtbot: QtBot) -> None:
    page = console.page
    assert isinstance(page, OverviewPage)
    before = world.item("harborview").transactions
    with world.bank() as bank:
        bank.do("transactions", item_id=world.plaid["harborview"], count=2, fire=False)
    click(qtbot, page.sync)
    wait(qtbot, lambda: console.toast.words == "2 banks will sync.")
    wait(qtbot, lambda: world.item("harborview").transactions == before + 2)
    wait(qtbot, lambda: "2 new" in "".join(row.text for row in page.activity.table.rows))


# ---------------------------------------------------------------- jobs


def test_a_failed_job_is_retried_by_clicking(console: Shell, world: World, qtbot: QtBot) -> None:
    job = world.fail("harborview")
    console.open("jobs")
    page = console.page
    assert isinstance(page, JobsPage)
    cause = f"cause:{job.group}"
    wait(qtbot, lambda: page.causes.find(cause) >= 0)
    click_row(qtbot, page.cause_list, cause)
    wait(qtbot, lambda: page.causes.find(f"job:{job.id}") >= 0)
    click_row(qtbot, page.cause_list, f"job:{job.id}")
    wait(qtbot, page.pane.act_buttons["retry"].isVisible)
    attempts = [step for step in page.pane.timeline.steps if step.title.startswith("Attempt")]
    assert [step.title for step in attempts] == ["Attempt 1", "Attempt 2", "Attempt 3", "Attempt 4"]
    assert "INTERNAL_SERVER_ERROR" in page.pane.code.text()
    assert any("Sync began" in step.title for step in page.pane.hops.steps)
    click(qtbot, page.pane.act_buttons["retry"])
    wait(qtbot, lambda: page.causes.find(f"job:{job.id}") < 0)
    with world.client() as client:
        wait(qtbot, lambda: not client.get("jobs", types_jobs.JobPage, state="failed", group=job.group or "").jobs)
    wait(qtbot, lambda: world.item("harborview").state == "healthy")


def cause_of(page: JobsPage, job: types_jobs.Job, qtbot: QtBot) -> str:
    """The row of a job's cause, when it is there with something to retry."""
    cause = f"cause:{job.group}"
    wait(qtbot, lambda: page.causes.find(cause) >= 0 and page.causes.get(cause).group.open_jobs == 1)
    return cause


def test_a_cause_is_retried_as_a_whole_by_its_button(console: Shell, world: World, qtbot: QtBot) -> None:
    job = world.fail("lakeside")
    console.open("jobs")
    page = console.page
    assert isinstance(page, JobsPage)
    cause = cause_of(page, job, qtbot)
    click_row(qtbot, page.cause_list, cause, "cure")
    wait(qtbot, lambda: page.strip.isVisible() and page.strip.title.text().startswith("1 job starts in"))
    wait(qtbot, lambda: console.toast.words == "1 job runs again in 60 s.")
    click(qtbot, page.strip.button)
    wait(qtbot, lambda: console.toast.words == "Undone: 1 job left as it was.")
    wait(qtbot, lambda: not page.strip.isVisible())
    with world.client() as client:
        assert client.get(f"jobs/{job.id}", types_jobs.JobDetail).job.state == "failed"

    click_row(qtbot, page.cause_list, cause, "cure")
    wait(qtbot, lambda: page.strip.isVisible() and page.strip.title.text().startswith("1 job starts in"))
    world.release()
    wait(qtbot, lambda: page.strip.title.text() == "Retried 1 job")
    assert page.strip.progress.text() == "1 done, 0 skipped, 0 failed"
    wait(qtbot, lambda: page.causes.find(cause) < 0 or page.causes.get(cause).group.open_jobs == 0)
    wait(qtbot, lambda: world.item("lakeside").state == "healthy")
    click(qtbot, page.strip.close_button)
    assert not page.strip.isVisible()


def test_all_failed_jobs_are_discarded_after_a_question_with_their_number(
    console: Shell, world: World, qtbot: QtBot
) -> None:
    job = world.fail("lakeside")
    console.open("jobs")
    page = console.page
    assert isinstance(page, JobsPage)
    cause_of(page, job, qtbot)
    wait(qtbot, page.discard_all.isVisible)
    click(qtbot, page.discard_all)
    wait(qtbot, lambda: page.bulks.dialog is not None and page.bulks.dialog.isVisible())
    assert page.bulks.dialog is not None
    words = page.bulks.dialog.yes.text()
    with world.client() as client:
        number = client.get("jobs", types_jobs.JobPage, state="failed").counts["failed"]
    assert words == f"Discard {number} job{'' if number == 1 else 's'}"
    click(qtbot, page.bulks.dialog.yes)
    wait(qtbot, page.strip.isVisible)
    world.release()
    wait(qtbot, lambda: page.strip.title.text().startswith("Discarded"))
    with world.client() as client:
        assert client.get("jobs", types_jobs.JobPage, state="failed").counts["failed"] == 0
        assert client.get(f"jobs/{job.id}", types_jobs.JobDetail).job.state == "discarded"
        client.act("sync", types_banks.SyncRequest(item_id=world.items["lakeside"]))
    wait(qtbot, lambda: world.item("lakeside").state == "healthy")
    wait(qtbot, lambda: not page.discard_all.isVisible())
    click(qtbot, page.strip.close_button)


def chosen(console: Shell, job: types_jobs.Job, qtbot: QtBot) -> JobsPage:
    """The page of failed jobs, one by one, with this one chosen."""
    console.open("jobs", "failed")
    page = console.page
    assert isinstance(page, JobsPage)
    page.view.choose("job")
    wait(qtbot, lambda: page.jobs.find(job.id) >= 0)
    click_row(qtbot, page.job_list, job.id)
    return page


def test_a_failed_job_tells_that_its_bank_went_through_since(console: Shell, world: World, qtbot: QtBot) -> None:
    job = world.fail("lakeside")
    with world.client() as client:
        client.act("sync", types_banks.SyncRequest(item_id=world.items["lakeside"]))
        detail = f"jobs/{job.id}"
        wait(qtbot, lambda: client.get(detail, types_jobs.JobDetail).went_through is not None)
    page = chosen(console, job, qtbot)
    wait(qtbot, lambda: ", by job " in page.pane.facts.value("Went through"))
    assert page.pane.sentence.text().endswith("nothing is left to do.")
    click(qtbot, page.pane.act_buttons["discard"])
    wait(qtbot, lambda: page.jobs.find(job.id) < 0)


def test_a_muted_cause_is_in_no_badge(console: Shell, world: World, qtbot: QtBot) -> None:
    job = world.fail("lakeside")
    console.open("jobs")
    page = console.page
    assert isinstance(page, JobsPage)
    cause = cause_of(page, job, qtbot)
    assert [entry.label for entry in page._cause_menu(page.causes.get(cause))][-1] == "Mute until it grows"
    page._press(cause, "mute")
    wait(qtbot, lambda: page.causes.get(cause).group.muted)
    with world.client() as client:
        queue = next(row for row in client.get("queues", types_jobs.Queues).queues if row.name == "transactions")
    assert queue.muted == queue.failed > 0
    wait(qtbot, lambda: console.rail.items["jobs"].badge == 0)
    page._press(cause, "mute")
    wait(qtbot, lambda: not page.causes.get(cause).group.muted)
    page._press(cause, "cure")
    wait(qtbot, page.strip.isVisible)
    world.release()
    wait(qtbot, lambda: world.item("lakeside").state == "healthy" and page.strip.title.text() == "Retried 1 job")


def test_discarding_is_undone_and_a_discarded_job_is_restored(console: Shell, world: World, qtbot: QtBot) -> None:
    job = world.fail("harborview")
    page = chosen(console, job, qtbot)
    wait(qtbot, page.pane.act_buttons["discard"].isVisible)
    click(qtbot, page.pane.act_buttons["discard"])
    wait(qtbot, lambda: page.jobs.find(job.id) < 0)
    wait(qtbot, console.toast.undoable)
    qtbot.keyClick(console, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    wait(qtbot, lambda: page.jobs.find(job.id) >= 0)
    page.job_list.setFocus()
    click_row(qtbot, page.job_list, job.id)
    qtbot.keyClick(page.job_list, Qt.Key.Key_Delete)
    wait(qtbot, lambda: page.jobs.find(job.id) < 0)
    page.tabs.choose("discarded")
    wait(qtbot, lambda: page.jobs.find(job.id) >= 0)
    click_row(qtbot, page.job_list, job.id)
    wait(qtbot, page.pane.act_buttons["restore"].isVisible)
    click(qtbot, page.pane.act_buttons["restore"])
    wait(qtbot, lambda: page.jobs.find(job.id) < 0)
    page.tabs.choose("failed")
    wait(qtbot, lambda: page.jobs.find(job.id) >= 0)
    click_row(qtbot, page.job_list, job.id)
    qtbot.keyClick(page.job_list, Qt.Key.Key_R)
    wait(qtbot, lambda: page.jobs.find(job.id) < 0)


# ---------------------------------------------------------------- banks


def test_sync_now_says_that_it_began_and_how_it_ended(console: Shell, world: World, qtbot: QtBot) -> None:
    with world.bank() as bank:
        bank.do("transactions", item_id=world.plaid["lakeside"], count=3, fire=False)
    console.open("banks")
    page = console.page
    assert isinstance(page, BanksPage)
    wait(qtbot, lambda: page.items.rowCount() == 2)
    click_row(qtbot, page.view, world.items["lakeside"])
    wait(qtbot, page.pane.sync.isEnabled)
    said: list[str] = []
    console.desk.said.connect(lambda words, _undo, _action: said.append(words))
    click(qtbot, page.pane.sync)
    wait(qtbot, lambda: any("3 new" in words for words in said))
    wait(qtbot, lambda: "The sync is queued." in said)
    wait(qtbot, lambda: bool(page.pane.runs.rows) and page.pane.runs.rows[0].added == 3)


def test_pausing_one_bank_and_undoing_it(console: Shell, world: World, qtbot: QtBot) -> None:
    console.open("banks", world.items["harborview"])
    page = console.page
    assert isinstance(page, BanksPage)
    wait(qtbot, lambda: page.pane.item is not None and page.pane.pause.isVisible())
    click(qtbot, page.pane.pause)
    wait(qtbot, lambda: page.pane.pause.text() == "Resume" and not page.pane.sync.isEnabled())
    assert world.item("harborview").state == "paused"
    wait(qtbot, console.toast.undoable)
    console.toast.act()
    wait(qtbot, lambda: page.pane.pause.text() == "Pause")
    assert world.item("harborview").state != "paused"


def test_rows_that_were_set_aside_are_shown_and_tried_again(console: Shell, world: World, qtbot: QtBot) -> None:
    good = {"transaction_id": "aside-1", "account_id": "a", "amount": "5", "date": "2025-01-20", "name": "Shop"}
    with psycopg.connect(str(postgres.running_url(world.engine.profile)), autocommit=True) as connection:
        connection.execute(
            "insert into syncdesk.skipped_rows (item_id, user_id, run_id, transaction_id, reason, body)"
            " select item_id, user_id, id, 'aside-1', 'sqlstate 23514 house_rule', %s::jsonb"
            " from syncdesk.sync_runs where item_id = %s and state = 'done' limit 1",
            [json.dumps(good), world.items["harborview"]],
        )
    console.open("banks", world.items["harborview"])
    page = console.page
    assert isinstance(page, BanksPage)
    wait(qtbot, page.pane.retry.isVisible)
    assert "1 row was not taken in" in page.pane._refused_rows.text()
    assert "breaks a rule of the database (house_rule)" in page.pane._refused_rows.text()
    said: list[str] = []
    console.desk.said.connect(lambda words, _undo, _action: said.append(words))
    click(qtbot, page.pane.retry)
    wait(qtbot, lambda: "1 row is in now." in said)
    wait(qtbot, lambda: not page.pane.aside.isVisible())


def test_signing_in_again_on_the_banks_page(
    console: Shell, world: World, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world.bank() as bank:
        bank.do("break", item_id=world.plaid["harborview"])
    with world.client() as client:
        client.act("sync", types_banks.SyncRequest(item_id=world.items["harborview"]))
    console.open("banks", world.items["harborview"])
    page = console.page
    assert isinstance(page, BanksPage)
    wait(qtbot, lambda: page.pane.item is not None and page.pane.item.state == "needs_you")
    wait(qtbot, lambda: console.rail.items["banks"].badge == 1)
    pages: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: pages.append(QUrl(url).toString()) or True)
    click(qtbot, page.pane.banner.button)
    wait(qtbot, lambda: bool(pages))
    finish_hosted_page(pages[0])
    wait(qtbot, lambda: page.pane.item is not None and page.pane.item.state == "healthy")
    wait(qtbot, lambda: not console.linking.waiting)


def finish_hosted_page(address: str) -> None:
    """What a person does in the browser: open the page and press its first button."""
    import re
    from urllib.parse import urljoin

    with http.client(address, timeout_s=10, local=True) as browser:
        shown = browser.get(address)
        assert shown.status_code == 200, shown.text
        form = re.search(r'<form[^>]*action="([^"]*)"', shown.text)
        fields = dict(re.findall(r'<input[^>]*name="([^"]*)"[^>]*value="([^"]*)"', shown.text))
        fields |= dict(re.findall(r'<button[^>]*name="([^"]*)"[^>]*value="([^"]*)"', shown.text)[:1])
        answer = browser.post(urljoin(address, form.group(1) if form else ""), data=fields)
        assert answer.status_code < 400, answer.text


# ---------------------------------------------------------------- bills


def test_matches_are_confirmed_rejected_and_undone(console: Shell, world: World, qtbot: QtBot) -> None:
    console.open("bills", "auto")
    page = console.page
    assert isinstance(page, BillsPage)
    wait(qtbot, lambda: page.matches.rowCount() >= 3)
    first, second = (match.id for match in page.matches.rows[:2])
    click_row(qtbot, page.match_list, first)
    wait(qtbot, lambda: page.match_pane.confirm.isVisible() and bool(page.match_pane.reasons.rows))
    click(qtbot, page.match_pane.confirm)
    wait(qtbot, lambda: page.matches.find(first) < 0)
    assert state_of(world, first) == "confirmed"
    click_row(qtbot, page.match_list, second)
    page.match_list.setFocus()
    qtbot.keyClick(page.match_list, Qt.Key.Key_X)
    wait(qtbot, lambda: page.matches.find(second) < 0)
    assert state_of(world, second) == "rejected"
    wait(qtbot, lambda: console.toast.undoable() and "not proposed" in console.toast.words)
    console.toast.act()
    wait(qtbot, lambda: state_of(world, second) != "rejected")
    page.tabs.choose("confirmed")
    wait(qtbot, lambda: page.matches.find(first) >= 0)
    click_row(qtbot, page.match_list, first, "undo")
    wait(qtbot, lambda: page.matches.find(first) < 0)
    assert state_of(world, first) != "confirmed"


def state_of(world: World, match_id: str) -> str:
    """A match's state in the engine; ``gone`` where the next weighing made a new one of it."""
    with world.client() as client:
        for state in ("suggested", "auto", "confirmed", "rejected"):
            page = client.get("bills/review", types_bills.MatchPage, state=state, limit=500)
            if any(match.id == match_id for match in page.matches):
                return state
    return "gone"


def test_a_bill_shows_what_paid_it(console: Shell, qtbot: QtBot) -> None:
    console.open("bills", "bills")
    page = console.page
    assert isinstance(page, BillsPage)
    wait(qtbot, lambda: page.bills.rowCount() == 4)
    click_row(qtbot, page.bill_list, page.bills.rows[0].id)
    wait(qtbot, lambda: page.bill_pane.query.data is not None)
    assert page.bill_pane.facts.value("Usually").startswith("$")


# ---------------------------------------------------------------- workers and schedule


def test_a_pool_is_made_quiet_and_takes_jobs_again(console: Shell, world: World, qtbot: QtBot) -> None:
    console.open("workers")
    page = console.page
    assert isinstance(page, WorkersPage)
    wait(qtbot, lambda: "sync" in page.pools)
    card = page.pools["sync"]
    wait(qtbot, card.quiet.isEnabled)
    click(qtbot, card.quiet)
    wait(qtbot, lambda: card.quiet.text() == "Resume")
    wait(qtbot, lambda: pool(world, "sync").state == "quiet")  # a late sign of life leaves it unknown for a moment
    wait(qtbot, card.quiet.isEnabled)
    click(qtbot, card.quiet)
    wait(qtbot, lambda: card.quiet.text() == "Quiet")
    wait(qtbot, lambda: pool(world, "sync").state == "running")


def test_a_pool_is_restarted_and_its_concurrency_changed(console: Shell, world: World, qtbot: QtBot) -> None:
    console.open("workers")
    page = console.page
    assert isinstance(page, WorkersPage)
    wait(qtbot, lambda: "events" in page.pools)
    card = page.pools["events"]
    wait(qtbot, card.restart.isEnabled)
    stepper = card.steppers["webhooks"]
    wait(qtbot, lambda: stepper.value.text() == "10")
    click(qtbot, stepper.less)
    wait(qtbot, lambda: pool(world, "events").concurrency["webhooks"] == 9)
    click(qtbot, stepper.more)
    wait(qtbot, lambda: pool(world, "events").concurrency["webhooks"] == 10)
    before = pool(world, "events").processes[0].pid
    click(qtbot, card.restart)
    wait(qtbot, lambda: card._pool.state == "running" and card._pool.processes[0].pid not in {None, before})


def pool(world: World, name: str) -> types_operation.Pool:
    """A pool as the engine has it now."""
    with world.client() as client:
        return next(pool for pool in client.get("workers", types_operation.Workers).pools if pool.name == name)


def test_a_scheduled_job_is_run_paused_and_resumed(console: Shell, world: World, qtbot: QtBot) -> None:
    console.open("schedule", "health_check")
    page = console.page
    assert isinstance(page, SchedulePage)
    wait(qtbot, lambda: page.pane.job is not None)
    runs = len(scheduled(world).history)
    click(qtbot, page.pane.run)
    wait(qtbot, lambda: len(scheduled(world).history) > runs)
    wait(qtbot, lambda: bool(page.pane.last.rows))
    click_row(qtbot, page.view, "health_check", "switch")
    wait(qtbot, lambda: page.pane.pause.text() == "Resume")
    assert scheduled(world).paused
    click(qtbot, page.pane.pause)
    wait(qtbot, lambda: page.pane.pause.text() == "Pause")
    assert not scheduled(world).paused


def scheduled(world: World) -> types_operation.ScheduledJob:
    """The health check as the engine has it now."""
    with world.client() as client:
        found = client.get("schedule", types_operation.Schedule)
        return next(job for job in found.jobs if job.id == "health_check")
