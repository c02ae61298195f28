"""How runs, wishes and sign-ins end when something else happens at the same moment."""

from __future__ import annotations

import hashlib
import random
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from engine.errors import SettingsError
from engine.plaid.errors import BankTrouble, InstallTrouble, PlaidUnreachable, RateLimited
from engine.plaid.webhooks import Verified
from engine.queue import buckets
from engine.queue.connection import connect
from engine.queue.keys import Keys
from engine.store import Transport
from engine.sync import inbox, linking
from tests.support.scripted_plaid import ScriptedPlaid, error, page, transaction
from tests.support.syncing import World, deps

SYNC = "/transactions/sync"
NEWS = b'{"webhook_type": "TRANSACTIONS", "webhook_code": "SYNC_UPDATES_AVAILABLE", "item_id": "plaid-1"}'


@pytest.fixture
def world(store: Transport, database_url: str, scripted_bank: ScriptedPlaid) -> Iterator[World]:
    made = World(deps(store, scripted_bank.url), database_url).link(plaid_item_id="plaid-1")
    yield made
    made.deps.plaid.close()


def test_an_item_removed_while_it_syncs_stays_removed(world: World, scripted_bank: ScriptedPlaid) -> None:
    def meanwhile(body: dict[str, Any]) -> Any:
        world.deps.store.call("item_remove", item=world.item, by="person", correlation="c")
        return page([transaction("t1")], cursor="c1")

    scripted_bank.answer(SYNC, meanwhile)
    assert world.run("link").state == "stale"
    item = world.row()
    assert (item["state"], item["cursor"]) == ("removed", None)
    assert world.live() == {}
    assert world.run().state == "removed"


def test_an_item_with_trouble_of_its_own_does_not_keep_the_install_paused(
    world: World, scripted_bank: ScriptedPlaid
) -> None:
    other = World(world.deps, world.database_url).link()
    scripted_bank.answer(SYNC, error("INVALID_API_KEYS", "INVALID_INPUT"))
    with pytest.raises(InstallTrouble):
        world.run("link")
    tried: list[str] = []
    for answer in (error("INSTITUTION_DOWN", "INSTITUTION_ERROR"), page([transaction("t1")])):
        hints = world.deps.store.call("items_want_stale", age_s=0, limit=10, correlation="c")["hints"]
        assert len(hints) == 1
        probing = world if hints[0]["item_id"] == world.item else other
        tried.append(probing.item)
        scripted_bank.answer(SYNC, answer)
        if len(tried) == 1:
            with pytest.raises(BankTrouble):
                probing.run("schedule")
            probing.execute("update syncdesk.items set done = wanted where id = %s", probing.item)
        else:
            assert probing.run("schedule").state == "done"
    assert len(set(tried)) == 2
    assert world.rows("select * from syncdesk.settings where key = 'install_trouble'") == []


def test_news_for_an_item_whose_commit_takes_long_goes_through_the_queue(world: World) -> None:
    before = world.row()["wanted"]
    verified = Verified("jwt", uuid.uuid4().hex, hashlib.sha256(NEWS).hexdigest())
    with psycopg.connect(world.database_url) as commit:
        commit.execute("select from syncdesk.items where id = %s for no key update", [world.item])
        received = inbox.receive(world.deps.store, verified, NEWS)
        assert (received.state, received.raised) == ("received", None)
    assert inbox.process(world.deps, received.inbox_id).state == "processed"
    assert world.row()["wanted"] == before + 1


def test_a_body_of_nothing_but_brackets_is_no_webhook() -> None:
    assert inbox.read(b'{"a":' + b"[" * 100_000).webhook_type == ""


def test_a_sign_in_that_met_an_outage_is_taken_at_the_next_look(world: World, scripted_bank: ScriptedPlaid) -> None:
    scripted_bank.answer(
        "/link/token/create",
        {
            "link_token": "link-1",
            "expiration": "2030-01-01T00:00:00Z",
            "request_id": "r",
            "hosted_link_url": "http://x",
        },
    )
    session = linking.start(world.deps).session
    scripted_bank.handlers["/link/token/get"] = lambda body: {
        "link_token": "link-1",
        "request_id": "r",
        "link_sessions": [
            {
                "link_session_id": "s",
                "finished_at": "2026-01-01T00:00:00Z",
                "results": {"item_add_results": [{"public_token": "public-1"}]},
            }
        ],
    }
    scripted_bank.answer("/item/public_token/exchange", (502, b"<html>", {}))
    with pytest.raises(PlaidUnreachable):
        linking.follow(world.deps, session)
    exchanged = {"access_token": "access-2", "item_id": "plaid-2", "request_id": "r"}
    scripted_bank.answer("/item/public_token/exchange", exchanged)
    item = {"item_id": "plaid-2", "institution_id": "ins_1", "institution_name": "Bank", "webhook": None, "error": None}
    scripted_bank.answer("/accounts/get", {"accounts": [], "item": item, "request_id": "r"})
    followed = linking.follow(world.deps, session)
    assert followed.state == "done"
    assert len(world.rows("select * from syncdesk.items where plaid_item_id = 'plaid-2'")) == 1
    # What came of it is taken once.
    assert linking.follow(world.deps, session).ids == followed.ids


def test_a_refusal_for_a_limit_slows_everyone_down(
    store: Transport, database_url: str, scripted_bank: ScriptedPlaid, redis_url: str, namespace: str
) -> None:
    client, keys = connect(redis_url, "worker"), Keys(namespace)
    made = deps(store, scripted_bank.url)
    made.slow = lambda name, per_minute, seconds: buckets.slow_down(client, keys, name, per_minute, seconds)
    world, limit = World(made, database_url).link(), made.settings.plaid_client_limit
    assert buckets.take(client, keys, "client", limit) == 0
    scripted_bank.answer(SYNC, error("TRANSACTIONS_SYNC_LIMIT", "RATE_LIMIT_EXCEEDED"))
    with pytest.raises(RateLimited):
        world.run("link")

    def shut_s(name: str, per_minute: float) -> float:
        return max(buckets.take(client, keys, name, per_minute) for _ in range(2))  # one may go through, to try it

    assert 1 < shut_s(f"item:{world.item}", made.settings.plaid_item_limit) <= 15
    assert buckets.take(client, keys, "client", limit) == 0  # it may be this item's limit alone
    scripted_bank.answer(SYNC, error("TRANSACTIONS_SYNC_LIMIT", "RATE_LIMIT_EXCEEDED"))
    with pytest.raises(RateLimited):
        World(made, database_url).link().run("link")
    assert 1 < shut_s("client", limit) <= 15
    client.close()
    made.plaid.close()


def test_a_token_never_reaches_another_environment(
    store: Transport, database_url: str, scripted_bank: ScriptedPlaid
) -> None:
    world = World(deps(store, scripted_bank.url), database_url).link()
    world.deps = deps(store, scripted_bank.url, plaid_env="production", plaid_client_id="c", plaid_secret="s")
    for attempt in (
        world.run,
        lambda: linking.probe(world.deps, world.item),
        lambda: linking.remove(world.deps, world.item),
    ):
        with pytest.raises(SettingsError, match="simulated"):
            attempt()
    assert scripted_bank.calls == []
    assert world.row()["state"] == "first_data"


def test_a_commit_that_ends_the_installs_trouble_waits_for_no_other_commit(
    world: World, scripted_bank: ScriptedPlaid
) -> None:
    """Two commits that each wait for the other's item would end one of them."""
    other, idle = World(world.deps, world.database_url).link(), World(world.deps, world.database_url).link()
    world.execute("update syncdesk.items set done = wanted where id <> %s", world.item)
    world.execute("insert into syncdesk.settings (key, value) values ('install_trouble', '{}')")
    scripted_bank.answer(SYNC, page([transaction("t1")]))
    states: list[str] = []
    with psycopg.connect(world.database_url) as commit:
        commit.execute("select from syncdesk.items where id = %s for no key update", [other.item])
        run = threading.Thread(target=lambda: states.append(world.run("link").state))
        run.start()
        run.join(60)
        waited = run.is_alive()
        commit.rollback()
    run.join(30)
    assert (states, waited) == (["done"], False)
    assert idle.row()["wanted"] > idle.row()["done"]
    assert other.row()["wanted"] == other.row()["done"]


@pytest.mark.parametrize("pages", [1, 2])
def test_an_id_too_long_for_an_index_is_set_aside(world: World, scripted_bank: ScriptedPlaid, pages: int) -> None:
    long = random.Random(1).randbytes(6000).hex()
    rows = [transaction("t1"), transaction(long), transaction("t2")]
    if pages == 2:
        scripted_bank.answer(SYNC, page([transaction("t0")], cursor="c0", more=True))
    scripted_bank.answer(SYNC, page(rows))
    result = world.run("link")
    assert (result.state, result.skipped) == ("done", 1)
    assert sorted(world.live()) == (["t1", "t2"] if pages == 1 else ["t0", "t1", "t2"])
    assert world.rows("select reason from syncdesk.skipped_rows")[0]["reason"].startswith("sqlstate 54")


@pytest.mark.parametrize(
    "change", ["update syncdesk.transaction_history set new = null", "delete from syncdesk.transaction_history"]
)
def test_history_is_only_added_to(world: World, scripted_bank: ScriptedPlaid, change: str) -> None:
    scripted_bank.answer(SYNC, page([transaction("t1")]))
    assert world.run("link").added == 1
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="only added to"):
        world.execute(change)
    world.execute("delete from syncdesk.items where id = %s", world.item)
    assert len(world.history("t1")) == 1
