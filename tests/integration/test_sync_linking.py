"""Links and probes when a process ends, or a database or Plaid is away, at the wrong moment."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

import pytest

from engine import clock
from engine.errors import StoreUnavailable
from engine.plaid.errors import PlaidError
from engine.store import Transport
from engine.sync import inbox, linking
from tests.integration.test_webhook_flow import ITEM, deliver, handle, scripted_link
from tests.support.scripted_plaid import ScriptedPlaid, error, page
from tests.support.syncing import World, deps

EXCHANGE = "/item/public_token/exchange"
SIGNED_IN = {"status": "SUCCESS", "link_token": "link-1", "link_session_id": "s", "public_tokens": ["public-1"]}


@pytest.fixture
def world(store: Transport, database_url: str, scripted_bank: ScriptedPlaid) -> Iterator[World]:
    made = World(deps(store, scripted_bank.url), database_url).link()
    made.execute("update syncdesk.items set done = wanted, state = 'healthy'")
    yield made
    made.deps.plaid.close()


class Faulty:
    """A store that carries a call out, but whose answer to one of them is lost (or kills)."""

    def __init__(self, store: Transport, name: str, error: BaseException, *, before: bool = False) -> None:
        self._store, self._name, self._error, self._before = store, name, error, before

    def call(self, name: str, /, **params: Any) -> Any:
        if name == self._name and self._before:
            raise self._error
        answer = self._store.call(name, **params)
        if name == self._name:
            self._name = ""
            raise self._error
        return answer


def begin(world: World, bank: ScriptedPlaid) -> str:
    page_ = {
        "link_token": "link-1",
        "expiration": "2030-01-01T00:00:00Z",
        "hosted_link_url": "http://x",
        "request_id": "r",
    }
    bank.answer("/link/token/create", page_)
    return linking.start(world.deps).session


def linked(world: World) -> int:
    return len(world.rows("select from syncdesk.items where plaid_item_id = 'plaid-new'"))


def exchanges(bank: ScriptedPlaid) -> int:
    return [path for path, _ in bank.calls].count(EXCHANGE)


# ---------------------------------------------------------------- sign-ins


def test_a_token_taken_by_a_process_that_ended_is_taken_again(
    world: World, scripted_bank: ScriptedPlaid, store: Transport
) -> None:
    session = begin(world, scripted_bank)
    world.deps.store = Faulty(store, "link_session_take", KeyboardInterrupt())
    received = deliver(world, "LINK", "SESSION_FINISHED", **SIGNED_IN)
    with pytest.raises(KeyboardInterrupt):
        inbox.process(world.deps, received.inbox_id)
    world.deps.store = store
    scripted_link(scripted_bank)
    assert linking.finish(world.deps, "link-1", ["public-1"], over=True, status="SUCCESS")
    assert (linked(world), exchanges(scripted_bank)) == (0, 0)  # for a minute it may still be at work
    world.execute(
        "update syncdesk.settings set value = jsonb_set(value, '{taken}', (select jsonb_object_agg(key,"
        " value::text::float8 - 61) from jsonb_each(value -> 'taken'))) where key = %s",
        f"link_session/{session}",
    )
    for _ in range(2):
        assert linking.finish(world.deps, "link-1", ["public-1"], over=True, status="SUCCESS")
    assert (linked(world), exchanges(scripted_bank)) == (1, 1)


def test_a_token_that_plaid_refused_is_not_tried_for_ever(world: World, scripted_bank: ScriptedPlaid) -> None:
    session = begin(world, scripted_bank)
    scripted_bank.answer(EXCHANGE, error("INVALID_PUBLIC_TOKEN", "INVALID_INPUT"))
    with pytest.raises(PlaidError):
        linking.finish(world.deps, "link-1", ["public-1"], over=True, status="SUCCESS")
    taken = world.rows(
        "select value -> 'taken' as taken from syncdesk.settings where key = %s", f"link_session/{session}"
    )
    assert list(taken[0]["taken"].values()) == [None]
    assert linking.finish(world.deps, "link-1", ["public-1"], over=True, status="SUCCESS")
    assert exchanges(scripted_bank) == 1


def test_a_link_whose_storing_had_no_answer_is_kept(
    world: World, scripted_bank: ScriptedPlaid, store: Transport
) -> None:
    scripted_link(scripted_bank)
    world.deps.store = Faulty(store, "item_link", StoreUnavailable("Away."))
    item = linking.link(world.deps, "public-1")
    assert str(world.rows("select id from syncdesk.items where plaid_item_id = 'plaid-new'")[0]["id"]) == item
    assert "/item/remove" not in [path for path, _ in scripted_bank.calls]


def test_a_link_that_was_not_stored_is_given_back(world: World, scripted_bank: ScriptedPlaid, store: Transport) -> None:
    scripted_link(scripted_bank)
    scripted_bank.answer("/item/remove", {"request_id": "r"})
    world.deps.store = Faulty(store, "item_link", StoreUnavailable("Away."), before=True)
    with pytest.raises(StoreUnavailable):
        linking.link(world.deps, "public-1")
    assert scripted_bank.calls[-1][0] == "/item/remove"
    assert linked(world) == 0


def test_a_processed_sign_in_keeps_no_public_token(world: World, scripted_bank: ScriptedPlaid) -> None:
    begin(world, scripted_bank)
    scripted_link(scripted_bank)
    handle(world, "LINK", "SESSION_FINISHED", **SIGNED_IN)
    deliver(world, "LINK", "ITEM_ADD_RESULT", signature="once", public_token="public-2")
    deliver(world, "LINK", "ITEM_ADD_RESULT", signature="once", public_token="public-2")
    body = json.dumps({"webhook_type": "LINK", "public_tokens": ["public-3", "public-4"]}).encode()
    inbox.refuse(world.deps.store, "a wrong signature", body)
    inbox.refuse(world.deps.store, "a wrong signature", body[:-12])
    found = world.rows("select state, body, body_sha256 from syncdesk.inbox order by id")
    assert [row["state"] for row in found] == ["processed", "received", "duplicate", "refused", "refused"]
    assert json.loads(found[0]["body"])["public_tokens"] == []
    assert json.loads(found[0]["body"])["link_token"] == "link-1"
    assert found[0]["body_sha256"] == "digest"
    # One that is not processed yet needs its token.
    assert ["public-" in row["body"] for row in found] == [False, True, False, False, False]


# ---------------------------------------------------------------- probes


def expiring(world: World, days: int = 7) -> dt.datetime:
    until = clock.now() + dt.timedelta(days=days)
    handle(world, "ITEM", "PENDING_EXPIRATION", consent_expiration_time=until.isoformat())
    return until


def probe(world: World, bank: ScriptedPlaid, consent: dt.datetime | None) -> int:
    world.execute("update syncdesk.items set next_probe_at = now() - interval '1 minute'")
    told = {**ITEM, "consent_expiration_time": consent.isoformat() if consent else None}
    bank.answer("/item/get", {"item": told, "request_id": "r"})
    return linking.probe_due(world.deps)


def hours_to_probe(world: World) -> float:
    return round((world.row()["next_probe_at"] - clock.now()).total_seconds() / 3600)


def test_consent_that_was_renewed_ends_the_warning(world: World, scripted_bank: ScriptedPlaid) -> None:
    ends = expiring(world)
    assert probe(world, scripted_bank, ends) == 0
    assert (world.row()["state"], hours_to_probe(world)) == ("expiring", 24)
    assert probe(world, scripted_bank, None) == 0
    assert probe(world, scripted_bank, ends + dt.timedelta(days=360)) == 1
    assert world.row()["state"] == "healthy"


def test_a_warning_that_comes_after_the_renewal_warns_of_nothing(world: World, scripted_bank: ScriptedPlaid) -> None:
    ends = clock.now() + dt.timedelta(days=7)
    told = {**ITEM, "consent_expiration_time": (ends + dt.timedelta(days=360)).isoformat()}
    scripted_bank.handlers["/item/get"] = lambda body: {"item": told, "request_id": "r"}
    handle(world, "ITEM", "PENDING_EXPIRATION", consent_expiration_time=ends.isoformat())
    assert world.row()["state"] == "healthy"
    assert world.rows("select id from syncdesk.outbox where kind = 'item_state'") == []
    told["consent_expiration_time"] = ends.isoformat()
    handle(world, "ITEM", "PENDING_EXPIRATION", consent_expiration_time=ends.isoformat())
    assert world.row()["state"] == "expiring"


def test_a_bank_that_expires_is_looked_at_once_a_day_though_it_syncs(
    world: World, scripted_bank: ScriptedPlaid
) -> None:
    expiring(world)
    assert hours_to_probe(world) == 24
    scripted_bank.answer("/transactions/sync", page())
    assert world.sync().state == "done"
    assert (world.row()["state"], hours_to_probe(world)) == ("expiring", 24)
    assert linking.probe_due(world.deps) == 0


def test_a_day_that_went_by_without_harm_ends_the_warning(world: World, scripted_bank: ScriptedPlaid) -> None:
    expiring(world, days=-1)
    assert probe(world, scripted_bank, None) == 1
    assert world.row()["state"] == "healthy"


def test_a_look_that_plaid_did_not_answer_is_repeated_soon(world: World, scripted_bank: ScriptedPlaid) -> None:
    handle(world, "ITEM", "ERROR", error={"error_code": "ITEM_LOGIN_REQUIRED", "error_type": "ITEM_ERROR"})
    world.execute("update syncdesk.items set next_probe_at = now() - interval '1 minute'")
    scripted_bank.answer("/item/get", error("INTERNAL_SERVER_ERROR", "API_ERROR", status=500))
    assert linking.probe_due(world.deps) == 0
    assert hours_to_probe(world) == 1
    world.execute("update syncdesk.items set next_probe_at = now() - interval '1 minute'")
    still = {**ITEM, "error": {"error_code": "ITEM_LOGIN_REQUIRED", "error_type": "ITEM_ERROR"}}
    scripted_bank.answer("/item/get", {"item": still, "request_id": "r"})
    assert linking.probe_due(world.deps) == 0
    assert hours_to_probe(world) == 24
