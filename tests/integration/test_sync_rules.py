"""The rules of /transactions/sync, on a real database and over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from engine.plaid.errors import (
    BankTrouble,
    InstallTrouble,
    ItemBroken,
    ItemGone,
    MustRestart,
    NeedsPerson,
    OurBug,
    PlaidUnreachable,
    RateLimited,
    UnknownAnswer,
)
from engine.store import Transport
from tests.support.scripted_plaid import ScriptedPlaid, error, page, transaction
from tests.support.syncing import World, deps

SYNC = "/transactions/sync"
MUTATION = error("TRANSACTIONS_SYNC_MUTATION_DURING_PAGINATION", "TRANSACTIONS_ERROR")


@pytest.fixture
def world(store: Transport, database_url: str, scripted_bank: ScriptedPlaid) -> Iterator[World]:
    made = World(deps(store, scripted_bank.url), database_url).link()
    yield made
    made.deps.plaid.close()


@pytest.fixture
def any_world(any_store: Transport, any_database_url: str, scripted_bank: ScriptedPlaid) -> Iterator[World]:
    made = World(deps(any_store, scripted_bank.url), any_database_url).link()
    yield made
    made.deps.plaid.close()


def test_rows_cursor_history_and_record_come_together(any_world: World, scripted_bank: ScriptedPlaid) -> None:
    scripted_bank.answer(SYNC, page([transaction("t1", 12.34), transaction("t2", -5)], cursor="c1"))
    result = any_world.run("link")
    assert (result.state, result.added, result.pages) == ("done", 2, 1)
    live = any_world.live()
    assert live["t1"]["amount"] == Decimal("12.34")
    assert live["t2"]["amount"] == Decimal("-5")
    assert live["t1"]["extra"]["location"] == {"city": "Lakeside"}
    item = any_world.row()
    assert (item["cursor"], item["state"], item["transactions"]) == ("c1", "healthy", 2)
    assert item["wanted"] == item["done"]
    assert [line["change"] for line in any_world.history("t1")] == ["added"]
    assert any_world.history("t1")[0]["new"]["amount"] == "12.34"
    run = any_world.rows("select * from syncdesk.sync_runs")[0]
    assert (run["state"], run["added"], run["to_cursor"], run["correlation_id"]) == ("done", 2, "c1", "corr-1")
    assert any_world.rows("select * from syncdesk.item_leases") == []
    account = any_world.rows("select * from syncdesk.accounts")[0]
    assert account["balance_current"] == Decimal("100.25")
    assert account["newest_data_at"] is not None


def test_many_pages_are_one_change(any_world: World, scripted_bank: ScriptedPlaid) -> None:
    seen: list[int] = []

    def second(body: dict[str, Any]) -> Any:
        seen.append(len(any_world.live()))
        return page([transaction("t2")], cursor="c2", more=True)

    scripted_bank.answer(
        SYNC, page([transaction("t1")], cursor="c1", more=True), second, page([transaction("t3")], cursor="c3")
    )
    result = any_world.run("link")
    assert seen == [0]
    assert (result.added, result.pages) == (3, 3)
    assert sorted(any_world.live()) == ["t1", "t2", "t3"]
    assert scripted_bank.cursors() == [None, "c1", "c2"]
    assert any_world.row()["cursor"] == "c3"
    assert any_world.rows("select * from syncdesk.stage") == []


def test_modified_keeps_only_what_changed(world: World, scripted_bank: ScriptedPlaid) -> None:
    scripted_bank.answer(SYNC, page([transaction("t1")]))
    world.run("link")
    scripted_bank.answer(SYNC, page(modified=[transaction("t1", 13, merchant_name=None)], cursor="c2"))
    assert world.sync().modified == 1
    line = world.history("t1")[1]
    assert line["change"] == "modified"
    assert line["old"] == {"amount": "12.5", "merchant_name": "Shop"}
    assert line["new"] == {"amount": "13", "merchant_name": None}
    assert scripted_bank.cursors() == [None, "c1"]


def test_the_same_again_changes_nothing(world: World, scripted_bank: ScriptedPlaid) -> None:
    scripted_bank.answer(SYNC, page([transaction("t1")]))
    world.run("link")
    before = world.live()["t1"]
    scripted_bank.answer(SYNC, page([transaction("t1", 12.50)], cursor="c2"))
    result = world.sync()
    assert (result.added, result.modified) == (0, 0)
    assert world.live()["t1"]["updated_at"] == before["updated_at"]
    assert len(world.history("t1")) == 1


def test_removed_rows_keep_their_history_and_can_come_back(world: World, scripted_bank: ScriptedPlaid) -> None:
    scripted_bank.answer(SYNC, page([transaction("t1"), transaction("t2")]))
    world.run("link")
    scripted_bank.answer(SYNC, page(removed=["t1", "never-seen"], cursor="c2"))
    assert world.sync().removed == 1
    assert list(world.live()) == ["t2"]
    assert world.row()["transactions"] == 1
    scripted_bank.answer(SYNC, page([transaction("t1", 99)], cursor="c3"))
    world.sync()
    assert [line["change"] for line in world.history("t1")] == ["added", "removed", "restored"]
    assert world.row()["transactions"] == 2
    for answer in (page(removed=["t1"], cursor="c4"), page([transaction("t1", 99)], cursor="c5")):
        scripted_bank.answer(SYNC, answer)
        world.sync()
    assert [line["change"] for line in world.history("t1")][3:] == ["removed", "restored"]  # as it was


@pytest.mark.parametrize("removed_first", [False, True])
def test_pending_to_posted_moves_what_is_attached(
    world: World, scripted_bank: ScriptedPlaid, removed_first: bool
) -> None:
    scripted_bank.answer(SYNC, page([transaction("p1", 10, pending=True)]))
    world.run("link")
    world.execute(
        "update syncdesk.transactions set note = 'lunch', person_category = 'FUN' where transaction_id = 'p1'"
    )
    posted = transaction("t1", 12, pending_transaction_id="p1")
    if removed_first:
        scripted_bank.answer(SYNC, page(removed=["p1"], cursor="c2"))
        world.sync()
        scripted_bank.answer(SYNC, page([posted], cursor="c3"))
    else:
        scripted_bank.answer(SYNC, page([posted], removed=["p1"], cursor="c2"))
    result = world.sync()
    assert result.added == 1
    row = world.live()["t1"]
    assert (row["note"], row["person_category"], row["amount"]) == ("lunch", "FUN", Decimal(12))
    line = world.history("t1")[0]
    assert (line["change"], line["old"], line["new"]["note"]) == ("posted", {"transaction_id": "p1"}, "lunch")
    assert len(world.history("t1")) == 1
    gone = world.rows("select * from syncdesk.transactions where transaction_id = 'p1'")[0]
    assert gone["replaced_by"] == "t1"
    assert gone["removed_at"] is not None
    assert world.row()["transactions"] == 1


def test_posted_that_points_at_an_id_never_seen_is_just_added(world: World, scripted_bank: ScriptedPlaid) -> None:
    scripted_bank.answer(SYNC, page([transaction("t1", pending_transaction_id="p-unknown")]))
    world.run("link")
    assert [line["change"] for line in world.history("t1")] == ["added"]


def test_a_mutation_throws_the_pages_away_and_starts_at_the_first_cursor(
    world: World, scripted_bank: ScriptedPlaid
) -> None:
    scripted_bank.answer(SYNC, page([transaction("t0")], cursor="c0"))
    world.run("link")
    scripted_bank.answer(
        SYNC,
        page([transaction("void")], cursor="c1", more=True),
        MUTATION,
        page([transaction("t1")], cursor="c1b", more=True),
        page([transaction("t2")], cursor="c2"),
    )
    result = world.sync()
    assert result.added == 2
    assert scripted_bank.cursors() == [None, "c0", "c1", "c0", "c1b"]
    assert sorted(world.live()) == ["t0", "t1", "t2"]
    assert world.history("void") == []


def test_mutation_for_ever_is_a_failure_that_may_be_tried_again(world: World, scripted_bank: ScriptedPlaid) -> None:
    scripted_bank.handlers[SYNC] = lambda body: (
        page([transaction("v")], cursor="c1", more=True) if "cursor" not in body else MUTATION
    )
    with pytest.raises(MustRestart) as caught:
        world.run("link")
    assert caught.value.retryable
    assert world.live() == {}
    assert world.rows("select * from syncdesk.stage") == []
    assert world.row()["wanted"] > world.row()["done"]


def test_a_refused_cursor_is_replayed_once_and_swept(any_world: World, scripted_bank: ScriptedPlaid) -> None:
    scripted_bank.answer(SYNC, page([transaction("t1"), transaction("t2"), transaction("t3")], cursor="old"))
    any_world.run("link")
    scripted_bank.answer(
        SYNC,
        error("INVALID_FIELD", "INVALID_REQUEST", message="cursor not associated with access_token"),
        page([transaction("t1"), transaction("t2", 77)], cursor="n1", more=True),
        page([transaction("t4")], cursor="n2"),
    )
    result = any_world.sync()
    assert (result.added, result.modified, result.removed) == (1, 1, 1)
    assert sorted(any_world.live()) == ["t1", "t2", "t4"]
    assert [line["change"] for line in any_world.history("t3")] == ["added", "removed"]
    assert len(any_world.history("t1")) == 1
    assert any_world.row()["cursor"] == "n2"
    assert any_world.row()["transactions"] == 3


def test_a_cursor_refused_again_is_a_failure(world: World, scripted_bank: ScriptedPlaid) -> None:
    scripted_bank.answer(SYNC, page([transaction("t1")], cursor="old"))
    world.run("link")
    refused = error("INVALID_FIELD", "INVALID_REQUEST", message="cursor not associated with access_token")
    scripted_bank.answer(SYNC, refused, refused)
    with pytest.raises(OurBug):
        world.sync()
    assert list(world.live()) == ["t1"]
    assert world.row()["cursor"] == "old"


def test_the_first_page_of_a_stored_cursor_that_always_mutates_is_replayed(
    world: World, scripted_bank: ScriptedPlaid
) -> None:
    scripted_bank.answer(SYNC, page([transaction("t1")], cursor="old"))
    world.run("link")
    scripted_bank.answer(SYNC, MUTATION, MUTATION, MUTATION, page([transaction("t1")], cursor="new"))
    world.sync()
    assert scripted_bank.cursors() == [None, "old", "old", "old", None]
    assert world.row()["cursor"] == "new"


def test_an_incomplete_replay_sweeps_nothing_and_is_replayed_again(world: World, scripted_bank: ScriptedPlaid) -> None:
    scripted_bank.answer(SYNC, page([transaction("t1"), transaction("t2")], cursor="old"))
    world.run("link")
    refused = error("INVALID_FIELD", "INVALID_REQUEST", message="cursor not associated with access_token")
    scripted_bank.answer(SYNC, refused, page([transaction("t1")], cursor="n1", status="INITIAL_UPDATE_COMPLETE"))
    world.sync()
    assert sorted(world.live()) == ["t1", "t2"]
    assert world.row()["cursor"] is None
    scripted_bank.answer(SYNC, page([transaction("t1")], cursor="n2"))
    world.sync()
    assert sorted(world.live()) == ["t1"]
    assert world.row()["cursor"] == "n2"


@pytest.mark.parametrize("cursor", ["", None])
def test_a_replay_that_is_not_ready_sweeps_nothing(world: World, scripted_bank: ScriptedPlaid, cursor: Any) -> None:
    """Whatever its status says: no cursor is "not ready"."""
    scripted_bank.answer(SYNC, page([transaction("t1"), transaction("t2")], cursor="old"))
    world.run("link")
    refused = error("INVALID_FIELD", "INVALID_REQUEST", message="cursor not associated with access_token")
    empty = page(cursor=cursor, status="TRANSACTIONS_UPDATE_STATUS_UNKNOWN")
    scripted_bank.answer(SYNC, refused, empty, page([transaction("t1")], cursor="n1"))
    assert world.sync().state == "not_ready"
    assert sorted(world.live()) == ["t1", "t2"]
    assert world.row()["cursor"] is None
    world.sync()
    assert sorted(world.live()) == ["t1"]


def test_not_ready_is_no_progress(world: World, scripted_bank: ScriptedPlaid) -> None:
    scripted_bank.answer(SYNC, page(cursor="", status="NOT_READY"))
    assert world.run("link").state == "not_ready"
    item = world.row()
    assert (item["cursor"], item["state"], item["last_success_at"]) == (None, "first_data", None)
    assert item["wanted"] == item["done"]
    scripted_bank.answer(SYNC, page([transaction("t1")], cursor="c1", status="INITIAL_UPDATE_COMPLETE"))
    assert world.sync().state == "done"
    assert scripted_bank.cursors() == [None, None]
    assert world.row()["state"] == "healthy"


def test_a_row_that_cannot_be_stored_does_not_sink_its_page(any_world: World, scripted_bank: ScriptedPlaid) -> None:
    any_world.execute("alter table syncdesk.transactions add constraint house_rule check (amount < 1000)")
    rows = [
        transaction("ok1"),
        transaction("no-amount", None),
        transaction("no-date", date="2026-02-30"),
        transaction("nul", name="a\0b"),
        transaction("rule", 5000),
        transaction("ok2"),
    ]
    scripted_bank.answer(SYNC, page(rows))
    result = any_world.run("link")
    assert (result.added, result.skipped) == (2, 4)
    assert sorted(any_world.live()) == ["ok1", "ok2"]
    skipped = {row["transaction_id"]: row["reason"] for row in any_world.rows("select * from syncdesk.skipped_rows")}
    assert skipped["rule"] == "sqlstate 23514 house_rule"
    assert "NUL" in skipped["nul"]
    assert set(skipped) == {"no-amount", "no-date", "nul", "rule"}
    # Mended at the bank: no longer set aside.
    scripted_bank.answer(SYNC, page(modified=[transaction("rule", 500)], cursor="c2"))
    any_world.sync()
    assert any_world.rows("select * from syncdesk.skipped_rows where transaction_id = 'rule'")[0]["resolved_at"]


def test_half_a_character_is_set_aside(world: World, scripted_bank: ScriptedPlaid) -> None:
    raw = page([transaction("ok"), transaction("half", name="NAME")])
    import json

    body = json.dumps(raw).replace("NAME", "caf\\ud83d").encode()
    scripted_bank.answer(SYNC, (200, body, {}))
    result = world.run("link")
    assert (result.added, result.skipped) == (1, 1)


def test_money_keeps_every_digit(world: World, scripted_bank: ScriptedPlaid) -> None:
    import json

    body = json.dumps(page([transaction("t1", "AMOUNT"), transaction("t2", 0.1)])).replace(
        '"AMOUNT"', "12345678901234567.89"
    )
    scripted_bank.answer(SYNC, (200, body.encode(), {}))
    world.run("link")
    assert world.live()["t1"]["amount"] == Decimal("12345678901234567.89")
    assert world.live()["t2"]["amount"] == Decimal("0.1")


def test_an_id_twice_in_a_first_sync_ends_with_the_later_word(world: World, scripted_bank: ScriptedPlaid) -> None:
    scripted_bank.answer(
        SYNC,
        page([transaction("t1", 1), transaction("t2")], cursor="c1", more=True),
        page([transaction("t1", 2)], removed=["t2"], cursor="c2", more=True),
        page([transaction("t3")], cursor="c3"),
    )
    world.run("link")
    live = world.live()
    assert sorted(live) == ["t1", "t3"]
    assert live["t1"]["amount"] == Decimal(2)


@pytest.mark.parametrize(
    ("code", "kind", "raised", "state", "settled"),
    [
        ("ITEM_LOGIN_REQUIRED", "ITEM_ERROR", NeedsPerson, "needs_you", True),
        ("INVALID_ACCESS_TOKEN", "INVALID_INPUT", ItemBroken, "error", True),
        ("ITEM_NOT_FOUND", "ITEM_ERROR", ItemGone, "removed", True),
        ("INSTITUTION_DOWN", "INSTITUTION_ERROR", BankTrouble, "bank_trouble", True),
        ("TRANSACTIONS_SYNC_LIMIT", "RATE_LIMIT_EXCEEDED", RateLimited, "first_data", False),
        ("MISSING_FIELDS", "INVALID_REQUEST", OurBug, "first_data", True),
        ("BRAND_NEW_CODE", "ITEM_ERROR", UnknownAnswer, "first_data", False),
    ],
)
def test_errors_do_what_the_table_says(
    world: World, scripted_bank: ScriptedPlaid, code: str, kind: str, raised: type[Exception], state: str, settled: bool
) -> None:
    scripted_bank.answer(SYNC, error(code, kind, request_id="req-77"))
    with pytest.raises(raised):
        world.run("link")
    item = world.row()
    assert item["state"] == state
    assert (item["wanted"] == item["done"]) is settled
    run = world.rows("select * from syncdesk.sync_runs")[0]
    assert (run["state"], run["error"]["code"], run["error"]["request_id"]) == ("failed", code, "req-77")
    assert world.rows("select * from syncdesk.item_leases") == []
    # No error state blocks the sync that would clear it.
    if state not in ("removed", "first_data"):
        scripted_bank.answer(SYNC, page([transaction("t1")]))
        assert world.sync().state == "done"
        assert world.row()["state"] == "healthy"


def test_trouble_of_the_install_is_one_alarm_and_breaks_no_item(world: World, scripted_bank: ScriptedPlaid) -> None:
    other = World(world.deps, world.database_url).link()
    keys = error("INVALID_API_KEYS", "INVALID_INPUT")
    scripted_bank.answer(SYNC, keys, keys)
    for each in (world, other):
        with pytest.raises(InstallTrouble):
            each.run("link")
    assert world.row()["state"] == other.row()["state"] == "first_data"
    assert len(world.rows("select * from syncdesk.outbox where kind = 'install_trouble'")) == 1
    assert world.sync().state == "install_paused"
    hints = world.deps.store.call("items_want_stale", age_s=0, limit=10, correlation="c")["hints"]
    assert len(hints) == 1
    probing = world if hints[0]["item_id"] == world.item else other
    scripted_bank.answer(SYNC, page([transaction("t1")]))
    assert probing.run("schedule").state == "done"
    assert world.rows("select * from syncdesk.settings where key = 'install_trouble'") == []
    assert all(each.row()["wanted"] > each.row()["done"] for each in (world, other))


@pytest.mark.parametrize(
    "answer",
    [
        (502, b"<html>Bad gateway</html>", {"Content-Type": "text/html"}),
        (200, b"", {}),
        (200, b'{"added": [', {}),
        (200, b'{"added": []', {"Content-Length": "5000"}),
        (200, b"[]", {}),
        (500, b"", {}),
    ],
)
def test_what_is_not_plaid_is_trouble_on_the_way(world: World, scripted_bank: ScriptedPlaid, answer: Any) -> None:
    scripted_bank.answer(SYNC, answer, answer)
    with pytest.raises(PlaidUnreachable) as caught:
        world.run("link")
    assert caught.value.retryable
    assert "<html>" not in str(caught.value.detail)
    assert world.row()["state"] == "first_data"


def test_nobody_answers(world: World, scripted_bank: ScriptedPlaid, store: Transport) -> None:
    scripted_bank.close()
    with pytest.raises(PlaidUnreachable):
        world.run("link")
    assert world.row()["wanted"] > world.row()["done"]
