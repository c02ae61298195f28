"""Rules of Plaid's that docs/plaid.md lists, each tried against the sandbox bank."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from engine.plaid import client
from engine.plaid.errors import PlaidError, PlaidUnreachable
from engine.plaid.table import CODES, MASTER_KEY, MISSING_KEYS, POLICIES, UNREACHABLE, Reaction
from engine.settings import Settings
from engine.store import Transport
from engine.sync import linking
from tests.support.bank import RunningBank, running_bank
from tests.support.scripted_plaid import ScriptedPlaid, page, transaction
from tests.support.syncing import World, deps

SYNC = "/transactions/sync"
ENGINE = Path(__file__).parents[2]


@pytest.fixture
def world(store: Transport, database_url: str, bank: RunningBank) -> Iterator[World]:
    made = linked(store, database_url, bank, days=5)
    made.run("link")
    yield made
    made.deps.plaid.close()


def linked(store: Transport, database_url: str, bank: RunningBank, *, ready: bool = True, **options: Any) -> World:
    """An item through the public door, its history at hand but not yet fetched."""
    made = World(deps(store, bank.url), database_url)
    made.item = linking.link(made.deps, bank.public_token(living=False, **options))
    if ready:
        bank.do("ready", item_id=made.row()["plaid_item_id"])
    return made


@pytest.mark.parametrize("reaction", list(Reaction))
def test_every_code_has_the_reaction_of_its_row(world: World, bank: RunningBank, reaction: Reaction) -> None:
    ours = (MASTER_KEY, MISSING_KEYS, UNREACHABLE)
    codes = [code for code, found in CODES.items() if found is reaction and code not in ours]
    policy = POLICIES[reaction]
    for code in codes or ["A_CODE_OF_NEXT_YEAR"]:
        bank.do("faults", path=SYNC, error_code=code)
        with pytest.raises(PlaidError) as caught:
            world.sync()
        assert (caught.value.reaction, caught.value.plaid_code) == (reaction, code)
        assert caught.value.request_id, code
        item = world.row()
        assert item["state"] == (policy.item or "healthy"), code
        assert (item["wanted"] == item["done"]) is policy.settles, code
        assert world.rows("select * from syncdesk.item_leases") == [], code
        bank.do("faults/clear")
        if reaction is Reaction.REMOVED:
            assert world.run().state == "removed"
            world.execute("update syncdesk.items set removed_at = null, state = 'healthy'")
        if reaction is Reaction.INSTALL:
            assert len(world.rows("select * from syncdesk.outbox where kind = 'install_trouble'")) == 1, code
            world.want("probe")
            assert world.run("probe").state == "done"
            assert world.rows("select * from syncdesk.settings where key = 'install_trouble'") == []
            world.execute("update syncdesk.outbox set kind = 'seen' where kind = 'install_trouble'")
        # No state of trouble keeps away the sync that ends it.
        assert world.sync().state == "done", code
        assert (world.row()["state"], world.row()["state_code"]) == ("healthy", None), code


@pytest.mark.parametrize("kind", ["html", "empty", "truncated", "reset"])
def test_broken_answers_are_one_typed_error(world: World, bank: RunningBank, kind: str) -> None:
    before = world.row()["cursor"]
    bank.do("faults", path=SYNC, kind=kind, **({"status": 502} if kind == "html" else {}))
    with pytest.raises(PlaidUnreachable) as caught:
        world.sync()
    assert caught.value.retryable
    bank.do("faults/clear")
    assert (world.row()["cursor"], world.row()["state"]) == (before, "healthy")
    assert world.sync().state == "done"


@pytest.mark.parametrize(
    "answer",
    [
        b'{"request_id": "req-broken", "added": [' + b" " * 10_000_000 + b"]}",
        b'{"added": [' + b" " * 10_000_000 + b'], "request_id": "req-broken"}',
        b'{"request_id": "req-broken", "has_more": "perhaps", "next_cursor": []}',
        b'{"request_id": "req-broken", "has_more": NaN, "next_cursor": "c"}',
        b'{"request_id": "req-broken", "has_more": false, "next_cursor": "c", "added": {"a": 1}}',
        b'{"request_id": "req-broken", "error": "' + b"[" * 50_000,
    ],
    ids=["ten megabytes", "ten megabytes, the id at the end", "wrong types", "NaN", "an object for a list", "cut off"],
)
@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_that_is_none_keeps_its_request_id(
    world: World, store: Transport, answer: bytes, status: int
) -> None:
    plaid = ScriptedPlaid()
    world.deps = deps(store, plaid.url)
    plaid.answer(SYNC, (status, answer, {}))
    with pytest.raises(PlaidUnreachable) as caught:
        world.sync()
    assert (caught.value.request_id, caught.value.http_status) == ("req-broken", status)
    run = world.rows("select * from syncdesk.sync_runs order by started_at desc limit 1")[0]
    assert run["error"]["request_id"] == "req-broken"
    assert world.row()["state"] == "healthy"
    world.deps.plaid.close()
    plaid.close()


@pytest.fixture
def scripted() -> Iterator[ScriptedPlaid]:
    made = ScriptedPlaid()
    yield made
    made.close()


def test_a_connection_that_breaks_within_an_answer_keeps_its_request_id(scripted: ScriptedPlaid) -> None:
    half = (200, b'{"request_id": "req-broken", "added": [{"trans', {"Content-Length": "9000"})
    scripted.answer(SYNC, half, half)
    with pytest.raises(PlaidUnreachable) as caught:
        asked(scripted)
    assert (caught.value.request_id, caught.value.http_status) == ("req-broken", 200)
    assert len(scripted.calls) == 2, "a page may be asked for twice"
    scripted.answer(SYNC, half, page([transaction("t1")]))
    assert b"t1" in asked(scripted)


def test_a_limit_without_plaids_body_is_a_limit(scripted: ScriptedPlaid) -> None:
    scripted.answer(SYNC, (429, b'<html>"request_id": "req-proxy"', {}))
    with pytest.raises(PlaidError) as caught:
        asked(scripted)
    assert (caught.value.reaction, caught.value.request_id) == (Reaction.RATE_LIMIT, "req-proxy")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_an_answer_that_leads_elsewhere_is_not_followed(scripted: ScriptedPlaid, status: int) -> None:
    """What holds a token goes to Plaid's address and to no other."""
    elsewhere = ScriptedPlaid()
    scripted.answer(SYNC, (status, b"", {"Location": f"{elsewhere.url}{SYNC}"}))
    with pytest.raises(PlaidUnreachable):
        asked(scripted)
    assert elsewhere.calls == []
    elsewhere.close()


def asked(plaid: ScriptedPlaid) -> bytes:
    """One call of the engine's own client."""
    client_ = client.PlaidClient(Settings(plaid_url=plaid.url))
    try:
        return client_.transactions_sync("access-simulated-1", None)
    finally:
        client_.close()


def test_an_amount_that_is_no_number_costs_only_its_row(world: World, store: Transport) -> None:
    plaid = ScriptedPlaid()
    world.deps = deps(store, plaid.url)
    text = json.dumps(page([transaction("good"), transaction("bad", "NAN")], cursor="c9")).replace('"NAN"', "NaN")
    plaid.answer(SYNC, (200, text.encode(), {}))
    result = world.sync()
    assert (result.state, result.added, result.skipped) == ("done", 1, 1)
    assert "good" in world.live()
    world.deps.plaid.close()
    plaid.close()


def test_an_answer_that_drips_ends(world: World, bank: RunningBank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_S", 0.2)
    bank.do("faults", path=SYNC, kind="drip", delay_s=0.05)
    with pytest.raises(PlaidUnreachable) as caught:
        world.sync()
    assert caught.value.retryable
    bank.do("faults/clear")
    assert world.sync().state == "done"


@pytest.mark.parametrize("code", ["INTERNAL_SERVER_ERROR", "ITEM_LOGIN_REQUIRED", "TRANSACTIONS_SYNC_LIMIT"])
def test_any_failure_on_a_later_page_voids_the_pages_before_it(
    store: Transport, database_url: str, bank: RunningBank, code: str
) -> None:
    world = linked(store, database_url, bank, transactions=1200)
    bank.do("faults", path=SYNC, error_code=code, after=1, times=1)
    with pytest.raises(PlaidError):
        world.run("link")
    assert (world.live(), world.row()["cursor"]) == ({}, None)
    assert world.rows("select * from syncdesk.stage") == []
    world.want()
    assert world.run().added == 1200
    asked = bank.get("requests", path=SYNC)["requests"]
    assert len(asked) == 5  # one good, one refused, then all three anew


def test_no_number_of_pages_is_too_many(store: Transport, database_url: str, bank: RunningBank) -> None:
    world = linked(store, database_url, bank, transactions=60)
    whole = world.deps.plaid.transactions_sync
    # Pages of one row: as many as a history of thirty thousand has.
    world.deps.plaid.transactions_sync = lambda token, cursor, count=1: whole(token, cursor, 1)  # type: ignore[method-assign]
    result = world.run("link")
    assert (result.pages, result.added) == (60, 60)
    assert sorted(world.live()) == sorted(bank.truth(world.row()["plaid_item_id"]))


def test_history_that_is_not_there_yet_is_awaited(store: Transport, database_url: str) -> None:
    with running_bank(initial_s=3600, historical_s=3600) as slow:
        world = linked(store, database_url, slow, ready=False, days=60)
        # Plaid tells of news only after a first call, so it is made though its answer is empty.
        assert world.row()["wanted"] > world.row()["done"]
        item = world.row()["plaid_item_id"]
        assert world.run("link").state == "not_ready"
        assert (world.row()["cursor"], world.row()["last_success_at"]) == (None, None)
        slow.do("ready", item_id=item, status="INITIAL_UPDATE_COMPLETE")
        world.sync()
        assert world.row()["update_status"] == "INITIAL_UPDATE_COMPLETE"
        recent = set(world.live())
        assert recent == set(slow.truth(item))
        slow.do("ready", item_id=item)
        world.sync()
        assert world.row()["update_status"] == "HISTORICAL_UPDATE_COMPLETE"
        assert set(world.live()) == set(slow.truth(item)) > recent
        world.deps.plaid.close()


def test_money_of_any_kind_has_one_currency_and_its_sign(world: World, bank: RunningBank) -> None:
    item = world.row()["plaid_item_id"]
    given = [
        {"amount": Decimal("12.30"), "iso_currency_code": "EUR"},
        {"amount": Decimal("-0.00000001"), "iso_currency_code": None, "unofficial_currency_code": "BTC"},
        {"amount": Decimal("5000"), "iso_currency_code": "JPY"},
    ]
    known = set(world.live())
    bank.do("transactions", item_id=item, transactions=given)
    world.sync()
    came = [row for identity, row in world.live().items() if identity not in known]
    assert sorted((row["amount"], row["iso_currency_code"], row["unofficial_currency_code"]) for row in came) == [
        (Decimal("-0.00000001"), None, "BTC"),
        (Decimal("12.30"), "EUR", None),
        (Decimal(5000), "JPY", None),
    ]


def test_nothing_forces_plaid_to_look_for_new_data() -> None:
    """/transactions/refresh is billed: no part of the engine or the schedule asks for it."""
    callers = [
        path.relative_to(ENGINE).as_posix()
        for room in ("engine", "scheduler")
        for path in sorted((ENGINE / room).rglob("*.py"))
        if "transactions_refresh(" in path.read_text(encoding="utf-8") and "sandbox" not in path.parts
    ]
    assert callers == ["engine/plaid/client.py"]


def test_plaids_slow_models_are_on_no_path() -> None:
    """plaid-python's typed answers take seconds for 500 transactions: only its configuration and its pool are used."""
    users = [
        (path.relative_to(ENGINE).as_posix(), line.strip())
        for room in ("engine", "scheduler", "gui")
        for path in sorted((ENGINE / room).rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.match(r"\s*(from|import) plaid\b", line)
    ]
    assert users == [
        ("engine/plaid/client.py", "from plaid.api_client import ApiClient"),
        ("engine/plaid/client.py", "from plaid.configuration import Configuration"),
    ]
