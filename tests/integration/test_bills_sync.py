"""Bills inside a sync: tagged in the commit that brings the row, and kept right by what follows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from engine.store import Transport
from engine.sync.rematch import rematch
from tests.support.days import ago
from tests.support.scripted_plaid import ScriptedPlaid, error, page, transaction
from tests.support.syncing import World, deps

SYNC = "/transactions/sync"
pytestmark = pytest.mark.usefixtures("one_day")


@pytest.fixture
def world(any_store: Transport, any_database_url: str, scripted_bank: ScriptedPlaid) -> Iterator[World]:
    made = World(deps(any_store, scripted_bank.url), any_database_url).link()
    yield made
    made.deps.plaid.close()


def charge(key: str, amount: float = 15.49, days_ago: int = 2, **more: Any) -> dict[str, Any]:
    day = ago(days_ago)
    values = {"name": "NETFLIX.COM", "merchant_name": "Netflix", "date": day, "authorized_date": None}
    return transaction(key, amount, **{**values, **more})


def add_bill(world: World, name: str = "Netflix", amount: str = "15.49", days_ago: int = 3) -> str:
    anchor = ago(days_ago)
    body = {"name": name, "amount": amount, "cadence": "monthly", "anchor_date": anchor}
    made = world.deps.store.call("bill_put", bill=None, user="me", body=body)
    return str(made["id"])


def tags(world: World) -> dict[str, str]:
    found = world.rows("select transaction_id, state from syncdesk.matches order by transaction_id")
    return {row["transaction_id"]: row["state"] for row in found}


def changes(world: World, identity: str) -> list[str]:
    return [line["change"] for line in world.history(identity)]


def test_a_row_is_tagged_by_the_commit_that_brings_it(world: World, scripted_bank: ScriptedPlaid) -> None:
    bill = add_bill(world)
    scripted_bank.answer(
        SYNC, page([charge("t1"), charge("shop", 80, name="GROCER", merchant_name="Grocer")], cursor="c1")
    )
    result = world.sync()
    assert (result.state, result.tagged) == ("done", 1)
    assert tags(world) == {"t1": "auto"}
    assert changes(world, "t1") == ["added", "tagged"]
    line = world.history("t1")[-1]
    assert (line["source"], line["correlation_id"], line["new"]["bill_id"]) == ("matcher", "corr-1", bill)
    match = world.rows("select * from syncdesk.matches")[0]
    assert str(match["run_id"]) == result.run_id
    assert {entry["feature"] for entry in match["evidence"]} >= {"amount", "name", "date"}


def test_history_that_arrives_at_first_is_matched_as_far_back_as_it_goes(
    world: World, scripted_bank: ScriptedPlaid
) -> None:
    add_bill(world)
    rows = [charge(f"t{n}", days_ago=2 + 30 * n) for n in range(10)]
    scripted_bank.answer(
        SYNC, page(rows[:4], cursor="c1", status="INITIAL_UPDATE_COMPLETE"), page(rows[4:], cursor="c2")
    )
    world.sync()
    world.sync()
    assert tags(world) == {f"t{n}": "auto" for n in range(10)}


def test_pending_posts_a_refund_and_a_removal(world: World, scripted_bank: ScriptedPlaid) -> None:
    add_bill(world)
    posted = charge("t1", 15.99, 1, pending_transaction_id="p1")
    scripted_bank.answer(
        SYNC,
        page([charge("p1", pending=True)], cursor="c1"),
        page([posted], removed=["p1"], cursor="c2"),
        page([charge("r1", -15.99, 0)], cursor="c3"),
        page([], removed=["r1"], cursor="c4"),
        page([], removed=["t1"], cursor="c5"),
    )
    world.sync()
    assert tags(world) == {"p1": "auto"}
    world.sync()
    assert tags(world) == {"t1": "auto"}
    world.sync()
    assert tags(world) == {}
    assert changes(world, "t1")[-1] == "untagged"
    world.sync()
    assert tags(world) == {"t1": "auto"}
    world.sync()
    assert tags(world) == {}


def test_a_confirmation_goes_with_the_payment_when_it_posts(world: World, scripted_bank: ScriptedPlaid) -> None:
    add_bill(world)
    scripted_bank.answer(SYNC, page([charge("p1", pending=True)], cursor="c1"))
    world.sync()
    match = world.rows("select id from syncdesk.matches")[0]
    world.deps.store.call("match_decide", match=str(match["id"]), decision="confirm", version=None, correlation="c")
    posted = charge("t1", 18.20, 1, pending_transaction_id="p1")
    scripted_bank.answer(SYNC, page([posted], removed=["p1"], cursor="c2"))
    world.sync()
    assert tags(world) == {"t1": "confirmed"}


def test_a_confirmation_goes_along_where_the_link_is_guessed_and_comes_back(
    world: World, scripted_bank: ScriptedPlaid
) -> None:
    add_bill(world)
    scripted_bank.answer(SYNC, page([charge("p1", pending=True)], cursor="c1"))
    world.sync()
    match = world.rows("select id from syncdesk.matches")[0]
    world.deps.store.call("match_decide", match=str(match["id"]), decision="confirm", version=None, correlation="c")
    scripted_bank.answer(SYNC, page([charge("t1", 15.49, 1)], removed=["p1"], cursor="c2"))
    world.sync()
    assert tags(world) == {"t1": "confirmed"}
    labels = world.rows("select transaction_id from syncdesk.match_labels")
    assert [label["transaction_id"] for label in labels] == ["t1"]
    assert world.rows("select rematch_wanted from syncdesk.users")[0]["rematch_wanted"] is False
    number = world.live()["t1"]["id"]
    undone = world.deps.store.call("posting_undo", id=number, correlation="c")
    assert undone["rematch"]
    rematch(world.deps.store, undone["user_id"], correlation="c")
    # What was confirmed is the pending payment's again; the posted one is weighed by itself.
    assert tags(world)["p1"] == "confirmed"
    assert tags(world).get("t1") in (None, "auto", "suggested")


def test_a_replay_that_does_not_bring_a_payment_again_takes_its_tag(world: World, scripted_bank: ScriptedPlaid) -> None:
    add_bill(world)
    scripted_bank.answer(
        SYNC, page([charge("t1"), charge("t2", 80, name="GROCER", merchant_name="Grocer")], cursor="c1")
    )
    world.sync()
    world.execute("update syncdesk.items set cursor = null")
    scripted_bank.answer(SYNC, page([charge("t2", 80, name="GROCER", merchant_name="Grocer")], cursor="c2"))
    world.sync()
    assert tags(world) == {}
    assert changes(world, "t1") == ["added", "tagged", "removed", "untagged"]


def test_a_refused_cursor_takes_the_tag_of_a_payment_that_the_bank_no_longer_has(
    world: World, scripted_bank: ScriptedPlaid
) -> None:
    add_bill(world)
    grocer = charge("t2", 80, name="GROCER", merchant_name="Grocer")
    scripted_bank.answer(SYNC, page([charge("t1"), grocer], cursor="c1"))
    world.sync()
    assert tags(world) == {"t1": "auto"}
    refused = error("INVALID_FIELD", "INVALID_REQUEST", message="cursor not associated with access_token")
    scripted_bank.answer(SYNC, refused, page([grocer], cursor="c2"))
    world.sync()
    assert tags(world) == {}
    assert changes(world, "t1") == ["added", "tagged", "removed", "untagged"]


def test_a_first_bill_written_during_the_run_misses_nothing(world: World, scripted_bank: ScriptedPlaid) -> None:
    def meanwhile(_: dict[str, Any]) -> Any:
        add_bill(world)
        return page([charge("t1")], cursor="c1")

    scripted_bank.answer(SYNC, meanwhile)
    assert world.sync().state == "done"
    assert tags(world) == {"t1": "auto"}


def test_a_bill_changed_during_the_run_is_matched_as_it_is_now(world: World, scripted_bank: ScriptedPlaid) -> None:
    add_bill(world, "Something else", "400.00")

    def meanwhile(_: dict[str, Any]) -> Any:
        add_bill(world)
        return page([charge("t1")], cursor="c1")

    scripted_bank.answer(SYNC, meanwhile)
    result = world.sync()
    assert (result.state, result.tagged) == ("done", 1)
    assert tags(world) == {"t1": "auto"}


def test_a_row_that_the_database_refuses_is_not_tagged(world: World, scripted_bank: ScriptedPlaid) -> None:
    add_bill(world)
    scripted_bank.answer(SYNC, page([charge("t1", name="NET\x00FLIX")], cursor="c1"))
    result = world.sync()
    assert (result.state, result.tagged) == ("done", 0)
    assert tags(world) == {}
