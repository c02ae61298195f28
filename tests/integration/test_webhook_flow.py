"""Every webhook has its reaction, may come twice, and is needed by nothing."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from engine.errors import Conflict
from engine.plaid.errors import PlaidError
from engine.plaid.webhooks import Refused, Verified
from engine.store import Transport
from engine.sync import inbox, linking
from tests.support.scripted_plaid import ScriptedPlaid, error, page, transaction
from tests.support.syncing import TOKEN, World, deps

ITEM = {
    "item_id": "plaid-new",
    "institution_id": "ins_1",
    "institution_name": "First Lakeside Bank",
    "webhook": None,
    "error": None,
    "available_products": [],
    "billed_products": ["transactions"],
    "consent_expiration_time": None,
    "update_type": "background",
}
ACCOUNTS = page()["accounts"]


@pytest.fixture
def world(store: Transport, database_url: str, scripted_bank: ScriptedPlaid) -> Iterator[World]:
    made = World(deps(store, scripted_bank.url), database_url).link()
    made.execute("update syncdesk.items set done = wanted, state = 'healthy'")
    yield made
    made.deps.plaid.close()


@pytest.fixture
def any_world(any_store: Transport, any_database_url: str, scripted_bank: ScriptedPlaid) -> Iterator[World]:
    made = World(deps(any_store, scripted_bank.url), any_database_url).link()
    made.execute("update syncdesk.items set done = wanted, state = 'healthy'")
    yield made
    made.deps.plaid.close()


def deliver(world: World, kind: str, code: str, *, by: Any = "jwt", signature: str | None = None, **fields: Any) -> Any:
    body = json.dumps(
        {
            "webhook_type": kind,
            "webhook_code": code,
            "item_id": f"plaid-{world.item}",
            "environment": "sandbox",
            **fields,
        }
    ).encode()
    return inbox.receive(world.deps.store, Verified(by, signature or uuid.uuid4().hex, "digest"), body)


def handle(world: World, kind: str, code: str, **fields: Any) -> inbox.Processed:
    """Deliver and process, twice: a straggler must change nothing more."""
    received = deliver(world, kind, code, **fields)
    assert received.state == "received"
    outcome = inbox.process(world.deps, received.inbox_id)
    again = inbox.process(world.deps, received.inbox_id)
    assert again.state == outcome.state
    return outcome


def wishes(world: World) -> int:
    row = world.row()
    return int(row["wanted"] - row["done"])


@pytest.mark.parametrize("code", sorted(code for _, code in inbox.NEWS))
def test_news_raises_the_wish_in_the_same_commit(world: World, code: str) -> None:
    received = deliver(world, "TRANSACTIONS", code)
    assert received.state == "processed"
    assert received.raised is not None
    assert (received.raised.item_id, received.raised.lane) == (world.item, "high")
    assert wishes(world) == 1
    assert world.row()["wanted_correlation"] == received.correlation


def test_the_same_delivery_twice_is_one_wish(any_world: World) -> None:
    first = deliver(any_world, "TRANSACTIONS", "SYNC_UPDATES_AVAILABLE", signature="s1")
    second = deliver(any_world, "TRANSACTIONS", "SYNC_UPDATES_AVAILABLE", signature="s1")
    assert (first.duplicate, second.duplicate) == (False, True)
    assert second.raised is None
    assert wishes(any_world) == 1
    states = [row["state"] for row in any_world.rows("select state from syncdesk.inbox order by id")]
    assert states == ["processed", "duplicate"]


def test_a_relay_may_not_replay(world: World) -> None:
    deliver(world, "TRANSACTIONS", "SYNC_UPDATES_AVAILABLE", by="hmac", signature="h1")
    with pytest.raises(Refused):
        deliver(world, "TRANSACTIONS", "SYNC_UPDATES_AVAILABLE", by="hmac", signature="h1")
    assert wishes(world) == 1


def test_news_for_nobody_is_kept_and_raises_nothing(world: World) -> None:
    received = deliver(world, "TRANSACTIONS", "SYNC_UPDATES_AVAILABLE", item_id="somebody-else")
    assert (received.state, received.raised) == ("unhandled", None)
    assert wishes(world) == 0


@pytest.mark.parametrize(
    ("kind", "code", "fields", "state", "state_code", "wish"),
    [
        ("ITEM", "ERROR", {"error": {"error_code": "ITEM_LOGIN_REQUIRED", "error_type": "ITEM_ERROR"}},
         "needs_you", "ITEM_LOGIN_REQUIRED", 0),
        ("ITEM", "ERROR", {"error": {"error_code": "INSTITUTION_DOWN", "error_type": "INSTITUTION_ERROR"}},
         "bank_trouble", "INSTITUTION_DOWN", 0),
        ("ITEM", "ERROR", {"error": {"error_code": "NEVER_HEARD_OF", "error_type": "ITEM_ERROR"}}, "healthy", None, 1),
        ("ITEM", "ERROR", {"error": None}, "healthy", None, 1),
        ("ITEM", "LOGIN_REPAIRED", {}, "healthy", None, 1),
        ("ITEM", "PENDING_EXPIRATION", {"consent_expiration_time": "2026-12-02T00:00:00Z"},
         "expiring", "PENDING_EXPIRATION", 0),
        ("ITEM", "PENDING_DISCONNECT", {"reason": "INSTITUTION_MIGRATION", "disconnect_time": "2026-12-02T00:00:00Z"},
         "expiring", "PENDING_DISCONNECT", 0),
        ("ITEM", "USER_PERMISSION_REVOKED", {}, "needs_you", "USER_PERMISSION_REVOKED", 0),
        ("ITEM", "USER_ACCOUNT_REVOKED", {"account_id": "acc-1"}, "needs_you", "USER_ACCOUNT_REVOKED", 0),
        ("ITEM", "NEW_ACCOUNTS_AVAILABLE", {}, "healthy", None, 0),
        ("ITEM", "WEBHOOK_UPDATE_ACKNOWLEDGED", {"new_webhook_url": "https://example.org/hook"}, "healthy", None, 0),
        ("TRANSACTIONS", "RECURRING_TRANSACTIONS_UPDATE", {"account_ids": []}, "healthy", None, 0),
    ],
)  # fmt: skip
def test_reactions(
    world: World, kind: str, code: str, fields: dict[str, Any], state: str, state_code: str | None, wish: int
) -> None:
    assert handle(world, kind, code, **fields).state == "processed"
    item = world.row()
    assert (item["state"], item["state_code"], wishes(world)) == (state, state_code, wish)
    told = world.rows("select payload from syncdesk.outbox where kind = 'item_state'")
    assert len(told) == (1 if state in ("needs_you", "expiring") or code == "NEW_ACCOUNTS_AVAILABLE" else 0)
    if state == "expiring":
        assert item["expires_at"].isoformat().startswith("2026-12-02")
    if code == "USER_ACCOUNT_REVOKED":
        assert world.rows("select closed_at from syncdesk.accounts")[0]["closed_at"] is not None
    if code == "WEBHOOK_UPDATE_ACKNOWLEDGED":
        assert item["webhook_url"] == "https://example.org/hook"


@pytest.mark.parametrize(
    ("kind", "code"), [("AUTH", "DEFAULT_UPDATE"), ("ITEM", "SOMETHING_NEW"), ("", ""), ("TRANSACTIONS", "ODD")]
)
def test_unknown_webhooks_are_kept_and_marked(world: World, kind: str, code: str) -> None:
    assert handle(world, kind, code).state == "unhandled"
    assert world.rows("select reason from syncdesk.inbox")[0]["reason"]


@pytest.mark.parametrize("body", [b"", b"[]", b"not json", b'{"webhook_type": 5}', b'{"webhook_code": "a\\u0000b"}'])
def test_a_body_that_is_no_webhook_is_kept(world: World, body: bytes) -> None:
    received = inbox.receive(world.deps.store, Verified("jwt", uuid.uuid4().hex, "d"), body)
    assert inbox.process(world.deps, received.inbox_id).state == "unhandled"


def test_refused_deliveries_are_cut_and_bounded(world: World) -> None:
    world.execute(
        "insert into syncdesk.inbox (body, body_sha256, correlation_id, state)"
        " select 'x', 'x', 'x', 'refused' from generate_series(1, 1500)"
    )
    inbox.refuse(world.deps.store, "a wrong signature", b"\0" + b"y" * 100_000)
    found = world.rows(
        "select count(*) as n, max(length(body)) as longest from syncdesk.inbox where state = 'refused'"
    )[0]
    assert found["n"] <= 1001
    assert found["longest"] <= 2000
    # What was stored for good is not touched by a flood.
    assert world.rows("select count(*) as n from syncdesk.inbox where state = 'processed'")[0]["n"] == 0


def test_an_error_webhook_does_not_block_the_sync_that_clears_it(world: World, scripted_bank: ScriptedPlaid) -> None:
    handle(world, "ITEM", "ERROR", error={"error_code": "ITEM_LOGIN_REQUIRED", "error_type": "ITEM_ERROR"})
    assert world.deps.store.call("items_want_stale", age_s=0, limit=10, correlation="c")["hints"] == []
    scripted_bank.answer("/transactions/sync", page([transaction("t1")]))
    deliver(world, "TRANSACTIONS", "SYNC_UPDATES_AVAILABLE")
    assert world.run().state == "done"
    assert world.row()["state"] == "healthy"


# ---------------------------------------------------------------- linking


def scripted_link(bank: ScriptedPlaid, item_id: str = "plaid-new") -> None:
    bank.answer("/item/public_token/exchange", {"access_token": "access-new", "item_id": item_id, "request_id": "r"})
    bank.answer("/accounts/get", {"accounts": ACCOUNTS, "item": {**ITEM, "item_id": item_id}, "request_id": "r"})


def test_a_link_is_sealed_and_wants_its_first_sync_at_once(any_world: World, scripted_bank: ScriptedPlaid) -> None:
    scripted_link(scripted_bank)
    item = linking.link(any_world.deps, "public-1", "anna")
    row = any_world.rows("select i.*, u.name as who from syncdesk.items i join syncdesk.users u on u.id = i.user_id"
                         " where i.id = %s", item)[0]  # fmt: skip
    assert (row["who"], row["institution_name"], row["state"]) == ("anna", "First Lakeside Bank", "first_data")
    assert row["access_token"].startswith("sealed:")
    assert row["wanted"] == row["done"] + 1
    assert any_world.rows("select name, mask from syncdesk.accounts where item_id = %s", item)[0]["mask"] == "0001"


def test_a_link_that_cannot_be_kept_is_given_back(world: World, scripted_bank: ScriptedPlaid) -> None:
    scripted_bank.answer(
        "/item/public_token/exchange", {"access_token": "access-new", "item_id": "x", "request_id": "r"}
    )
    down = error("INTERNAL_SERVER_ERROR", "API_ERROR", status=500)
    scripted_bank.answer("/accounts/get", down)
    scripted_bank.answer("/item/get", down)
    scripted_bank.answer("/item/remove", {"request_id": "r"})
    with pytest.raises(PlaidError):
        linking.link(world.deps, "public-1")
    assert scripted_bank.calls[-1][0] == "/item/remove"
    assert len(world.rows("select * from syncdesk.items")) == 1


def test_a_second_link_of_one_login_is_refused_with_real_banks(
    store: Transport, database_url: str, scripted_bank: ScriptedPlaid
) -> None:
    world = World(
        deps(store, scripted_bank.url, plaid_env="production", plaid_client_id="id", plaid_secret="secret"),
        database_url,
    ).link()
    scripted_link(scripted_bank)
    scripted_bank.answer("/item/remove", {"request_id": "r"})
    with pytest.raises(Conflict, match="linked already"):
        linking.link(world.deps, "public-1", "me")
    assert len(world.rows("select * from syncdesk.items")) == 1


def test_hosted_sign_in_by_webhook_and_by_browser_is_one_item(world: World, scripted_bank: ScriptedPlaid) -> None:
    scripted_bank.answer(
        "/link/token/create",
        {
            "link_token": "link-1",
            "expiration": "2026-12-01T00:00:00Z",
            "hosted_link_url": "https://hosted",
            "request_id": "r",
        },
    )
    begun = linking.start(world.deps, "anna")
    assert begun.url == "https://hosted"
    request = scripted_bank.calls[-1][1]
    assert request["transactions"] == {"days_requested": 730}
    assert "anna" not in json.dumps(request)
    scripted_link(scripted_bank)
    outcome = handle(
        world, "LINK", "SESSION_FINISHED", status="SUCCESS", link_token="link-1", link_session_id="s",
        public_tokens=["public-1"], item_id=None,
    )  # fmt: skip
    assert outcome.state == "processed"
    scripted_bank.answer(
        "/link/token/get",
        {
            "link_token": "link-1",
            "link_sessions": [
                {
                    "link_session_id": "s",
                    "finished_at": "2026-11-25T00:00:00Z",
                    "results": {"item_add_results": [{"public_token": "public-1"}]},
                }
            ],
        },
    )
    followed = linking.follow(world.deps, begun.session)
    assert len(world.rows("select * from syncdesk.items where plaid_item_id = 'plaid-new'")) == 1
    assert "linked" in followed.message
    assert [path for path, _ in scripted_bank.calls].count("/item/public_token/exchange") == 1


def test_events_of_a_session_are_taken_and_link_nothing(world: World, scripted_bank: ScriptedPlaid) -> None:
    events = [{"event_name": "OPEN", "event_id": "1", "timestamp": "2026-11-25T00:00:00Z", "event_metadata": {}}]
    assert handle(world, "LINK", "EVENTS", link_token="other", link_session_id="s", events=events).state == "processed"
    assert scripted_bank.calls == []


def test_update_mode_asks_for_no_product_and_offers_accounts_where_these_are_the_matter(
    world: World, scripted_bank: ScriptedPlaid
) -> None:
    made = {"link_token": "l", "expiration": "2030-01-01T00:00:00Z", "hosted_link_url": "http://h", "request_id": "r"}
    scripted_bank.handlers["/link/token/create"] = lambda body: made
    for state, code, offered in (
        ("needs_you", "ITEM_LOGIN_REQUIRED", False),
        ("needs_you", "NO_ACCOUNTS", True),
        ("needs_you", "USER_ACCOUNT_REVOKED", True),
        ("healthy", None, True),  # as NEW_ACCOUNTS_AVAILABLE leaves it
    ):
        world.execute("update syncdesk.items set state = %s, state_code = %s", state, code)
        linking.start(world.deps, "me", world.item)
        request = scripted_bank.calls[-1][1]
        assert request["access_token"] == TOKEN
        assert request["update"] == {"account_selection_enabled": offered}
        assert {"products", "transactions"} & set(request) == set()


def test_a_session_of_somebody_else_is_not_ours(world: World) -> None:
    assert handle(world, "LINK", "SESSION_FINISHED", link_token="other", public_tokens=["p"]).state == "unhandled"


def test_removing_ends_billing_first(world: World, scripted_bank: ScriptedPlaid) -> None:
    scripted_bank.answer("/item/remove", error("INTERNAL_SERVER_ERROR", "API_ERROR", status=500))
    with pytest.raises(PlaidError):
        linking.remove(world.deps, world.item)
    assert world.row()["removed_at"] is None
    scripted_bank.answer("/item/remove", error("ITEM_NOT_FOUND", "ITEM_ERROR"))
    linking.remove(world.deps, world.item)
    assert world.row()["state"] == "removed"


def test_the_daily_probe_finds_what_was_repaired(world: World, scripted_bank: ScriptedPlaid) -> None:
    handle(world, "ITEM", "ERROR", error={"error_code": "ITEM_LOGIN_REQUIRED", "error_type": "ITEM_ERROR"})
    assert linking.probe_due(world.deps) == 0
    world.execute("update syncdesk.items set next_probe_at = now() - interval '1 minute'")
    still = {**ITEM, "error": {"error_code": "ITEM_LOGIN_REQUIRED", "error_type": "ITEM_ERROR"}}
    scripted_bank.answer("/item/get", {"item": still, "request_id": "r"})
    assert linking.probe_due(world.deps) == 0
    assert world.row()["state"] == "needs_you"
    world.execute("update syncdesk.items set next_probe_at = now() - interval '1 minute'")
    scripted_bank.answer("/item/get", {"item": ITEM, "request_id": "r"})
    assert linking.probe_due(world.deps) == 1
    assert (world.row()["state"], wishes(world)) == ("healthy", 1)
