"""The page Webhooks, through its widgets down to the engine."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from engine import http, launch
from engine.api.types_webhooks import Webhook, WebhookPage
from gui.pages import webhooks_detail
from gui.pages import webhooks_rows as rows
from gui.pages.webhooks import WebhooksPage
from gui.shell import Shell
from tests.console.conftest import WAIT_MS, World
from tests.console.support import scenes
from tests.console.support.server import Server
from tests.console.support.windows import opened
from tests.console.test_actions import click, click_row, wait


@pytest.fixture
def page(console: Shell, qtbot: QtBot) -> WebhooksPage:
    console.open("webhooks")
    found = console.page
    assert isinstance(found, WebhooksPage)
    wait(qtbot, lambda: found.webhooks.loaded)
    return found


def listed(page: WebhooksPage, **wanted: str) -> list[Webhook]:
    return [row for row in page.webhooks.rows if all(getattr(row, name) == value for name, value in wanted.items())]


def inbox(world: World, **asked: str) -> list[Webhook]:
    with world.client() as client:
        return client.get("webhooks", WebhookPage, **asked).webhooks


def test_a_webhook_shows_as_it_comes_and_is_replayed_by_clicking(
    page: WebhooksPage, console: Shell, world: World, qtbot: QtBot
) -> None:
    before = {row.id for row in page.webhooks.rows}
    with world.bank() as bank:
        bank.do("webhook", item_id=world.plaid["harborview"], webhook_code="SYNC_UPDATES_AVAILABLE")

    def came() -> list[Webhook]:
        return [row for row in listed(page, state="processed", verified_by="jwt") if row.id not in before]

    wait(qtbot, lambda: bool(came()))
    hook = came()[0]
    assert hook.item_id == world.items["harborview"]
    click_row(qtbot, page.view, hook.id)
    wait(qtbot, lambda: "SYNC_UPDATES_AVAILABLE" in page.pane.body.text())
    assert page.pane.title.text() == "New transactions are ready"
    click(qtbot, page.pane.replay)
    wait(qtbot, lambda: console.toast.words == "1 webhook replayed.")
    wait(qtbot, lambda: bool(listed(page, repeats=hook.id, verified_by="replay", state="processed")))
    wait(qtbot, lambda: [row.repeats for row in page.pane.again.rows] == [hook.id])
    again = inbox(world, item=world.items["harborview"])
    assert any(row.repeats == hook.id and row.verified_by == "replay" for row in again)


def test_an_unsigned_webhook_is_shown_as_refused_and_never_replayed(
    page: WebhooksPage, console: Shell, world: World, qtbot: QtBot
) -> None:
    found = launch.read(world.engine.profile)
    assert found is not None
    news = {"webhook_type": "TRANSACTIONS", "webhook_code": "SYNC_UPDATES_AVAILABLE", "item_id": "x"}
    with http.client(local=True) as client:
        assert client.post(f"{found.public}/api/webhooks/plaid", json=news).status_code == 401
    page.tabs.choose("refused")
    wait(qtbot, lambda: bool(listed(page, reason="no signature")))
    assert {row.state for row in page.webhooks.rows} == {"refused"}
    hook = listed(page, reason="no signature")[0]
    click_row(qtbot, page.view, hook.id)
    wait(qtbot, page.detail_open)
    assert page.pane.title.text() == "Unsigned message"
    assert not page.pane.replay.isEnabled()
    assert "nobody vouched for it" in page.pane.replay.toolTip()
    qtbot.keyClick(page.view, Qt.Key.Key_R)
    assert "nobody vouched for it" in console.toast.words
    assert not [row for row in inbox(world) if row.repeats == hook.id]


def test_the_search_asks_the_engine_and_is_cleared_again(page: WebhooksPage, qtbot: QtBot) -> None:
    qtbot.keyClicks(page.search, "no such words")
    wait(qtbot, page.listing.is_empty)
    assert page.listing.empty.sentence.text() == "No webhook matches no such words."
    click(qtbot, page.listing.empty.button)
    assert page.search.text() == ""
    wait(qtbot, lambda: bool(page.webhooks.rows) and not page.listing.is_empty())


def test_the_bank_of_a_webhook_is_one_click_away(qtbot: QtBot) -> None:
    with Server(scenes.World("normal").answers()) as server, opened(server, qtbot) as window:
        window.open("webhooks", "700")
        page = window.page
        assert isinstance(page, WebhooksPage)
        qtbot.waitUntil(page.pane.bank.isVisible, timeout=WAIT_MS)
        click(qtbot, page.pane.bank)
        assert window.current == "banks"


def test_what_a_refused_webhook_claims_is_not_said_to_be_so() -> None:
    hook = Webhook(
        "1", "2026-11-28T07:00:00Z", "refused", "a wrong signature", None, "ITEM", "ERROR", None, None, None, None,
        None, "c",
    )  # fmt: skip
    assert rows.says(hook) == "Message that was not believed"
    assert rows.code(hook) == "a wrong signature"
    assert rows.story(hook).startswith("Refused for a wrong signature.")


def test_a_long_body_is_shown_by_its_beginning() -> None:
    assert webhooks_detail._pretty('{"a": 1}') == '{\n  "a": 1\n}'
    assert webhooks_detail._pretty('{"cut": ') == '{"cut": '
    shown = webhooks_detail._pretty("x" * 262_144)
    assert len(shown) < webhooks_detail.SHOWN + 100
    assert shown.endswith("Copy details.")


def test_every_row_fits_a_list_of_any_width() -> None:
    for width in (500, rows.WIDE - 1, rows.WIDE, 1600):
        assert sum(column.width for column in rows.columns(width)) < width
        assert [column.title for column in rows.columns(width)][-1] == "What came of it"
