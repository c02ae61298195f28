"""A person signed in again: nothing from before that may tell them to do it once more."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from engine.plaid.errors import NeedsPerson
from engine.plaid.webhooks import Verified
from engine.store import Transport
from engine.sync import inbox, linking
from tests.support.bank import RunningBank
from tests.support.receiver import Receiver, receiver
from tests.support.scripted_plaid import ScriptedPlaid, error, page, transaction
from tests.support.syncing import World, deps
from tests.support.wait import until

SYNC = "/transactions/sync"
LOGIN = {"error_code": "ITEM_LOGIN_REQUIRED", "error_type": "ITEM_ERROR"}


@pytest.fixture
def world(store: Transport, database_url: str, bank: RunningBank) -> Iterator[World]:
    made = World(deps(store, bank.url), database_url)
    made.item = linking.link(made.deps, bank.public_token(living=False, days=5))
    bank.do("ready", item_id=made.row()["plaid_item_id"])
    made.run("link")
    yield made
    made.deps.plaid.close()


def told(world: World) -> int:
    return len(world.rows("select id from syncdesk.outbox where kind = 'item_state'"))


def deliver(world: World, code: str, **fields: Any) -> None:
    body = {"webhook_type": "ITEM", "webhook_code": code, "item_id": world.row()["plaid_item_id"], **fields}
    verified = Verified("jwt", uuid.uuid4().hex, "digest")
    received = inbox.receive(world.deps.store, verified, json.dumps(body).encode())
    assert inbox.process(world.deps, received.inbox_id).state == "processed"


def test_an_error_that_is_told_late_is_looked_into(world: World, bank: RunningBank) -> None:
    item = world.row()["plaid_item_id"]
    bank.do("break", item_id=item)
    deliver(world, "ERROR", error=LOGIN)
    assert (world.row()["state"], told(world)) == ("needs_you", 1)
    bank.do("repair", item_id=item, update_mode=True)
    linking.mended(world.deps, world.item, "link")
    # Sent before the repair, delivered after it.
    deliver(world, "ERROR", error=LOGIN)
    assert (world.row()["state"], told(world)) == ("healthy", 1)
    assert world.run().state == "done"
    # A new one is believed.
    bank.do("break", item_id=item)
    deliver(world, "ERROR", error=LOGIN)
    assert (world.row()["state"], told(world)) == ("needs_you", 2)


def test_a_revocation_that_comes_again_is_looked_into(world: World, bank: RunningBank) -> None:
    def wishes() -> int:
        return int(world.row()["wanted"] - world.row()["done"])

    # The bank knows nothing of it, as where a sandbox was told to send it: believed, also when it comes once more.
    for _ in range(2):
        deliver(world, "USER_PERMISSION_REVOKED")
        assert (world.row()["state"], told(world), wishes()) == ("needs_you", 1, 0)
    linking.mended(world.deps, world.item, "link")
    assert world.run().state == "done"
    # Sent before the repair, delivered once more after it.
    deliver(world, "USER_PERMISSION_REVOKED")
    assert (world.row()["state"], told(world), wishes()) == ("healthy", 1, 1)
    assert world.run().state == "done"
    # A new one is believed, and so is one that Plaid cannot be asked about.
    bank.do("break", item_id=world.row()["plaid_item_id"], error_code="USER_PERMISSION_REVOKED")
    deliver(world, "USER_PERMISSION_REVOKED")
    assert (world.row()["state"], told(world), wishes()) == ("needs_you", 2, 0)
    bank.do("repair", item_id=world.row()["plaid_item_id"], update_mode=True)
    linking.mended(world.deps, world.item, "link")
    bank.do("faults", path="/item/get", kind="html", status=502)
    deliver(world, "USER_PERMISSION_REVOKED")
    assert (world.row()["state"], world.row()["state_code"]) == ("needs_you", "USER_PERMISSION_REVOKED")


def test_a_sign_in_that_was_given_up_mends_nothing(world: World, bank: RunningBank) -> None:
    item = world.row()["plaid_item_id"]
    bank.do("break", item_id=item)
    deliver(world, "ERROR", error=LOGIN)
    begun = linking.start(world.deps, "me", world.item)
    page_ = begun.url.removeprefix(bank.url)
    bank.page("GET", page_)
    assert linking.follow(world.deps, begun.session).state == "waiting"
    bank.page("POST", f"{page_}/exit")
    assert linking.follow(world.deps, begun.session).state == "gave_up"
    assert (world.row()["state"], told(world)) == ("needs_you", 1)
    # The page is opened once more, and now the person signs in.
    bank.page("POST", f"{page_}/finish")
    followed = linking.follow(world.deps, begun.session)
    assert (followed.state, followed.ids) == ("done", [world.item])
    assert (world.row()["state"], told(world)) == ("healthy", 1)
    assert world.run().state == "done"
    # The token stays: nothing was exchanged but at the first link.
    assert len(bank.get("requests", path="/item/public_token/exchange")["requests"]) == 1


def test_the_same_trouble_is_told_once_however_often_it_is_met(world: World, bank: RunningBank) -> None:
    bank.do("break", item_id=world.row()["plaid_item_id"])
    deliver(world, "ERROR", error=LOGIN)
    deliver(world, "ERROR", error=LOGIN)
    for _ in range(2):
        with pytest.raises(NeedsPerson):
            world.sync()
    assert told(world) == 1
    # Another trouble is another matter.
    bank.do("break", item_id=world.row()["plaid_item_id"], error_code="ITEM_LOCKED")
    with pytest.raises(NeedsPerson):
        world.sync()
    assert (world.row()["state_code"], told(world)) == ("ITEM_LOCKED", 2)


@pytest.mark.parametrize("form", ["exit", "finish"])
def test_how_a_sign_in_ended_is_told_by_its_webhook(world: World, bank: RunningBank, form: str) -> None:
    bank.do("break", item_id=world.row()["plaid_item_id"])
    deliver(world, "ERROR", error=LOGIN)
    with receiver() as hook:
        world.deps = deps(world.deps.store, bank.url, webhook_url=hook.url)
        begun = linking.start(world.deps, "me", world.item)
        bank.page("POST", f"{begun.url.removeprefix(bank.url)}/{form}")
        until(lambda: ended(hook), what="SESSION_FINISHED")
        received = inbox.receive(world.deps.store, Verified("jwt", uuid.uuid4().hex, "digest"), ended(hook)[0])
    assert inbox.process(world.deps, received.inbox_id).state == "processed"
    assert (world.row()["state"], told(world)) == ("healthy" if form == "finish" else "needs_you", 1)


def ended(hook: Receiver) -> list[bytes]:
    return [body for _, body in list(hook.arrived) if json.loads(body)["webhook_code"] == "SESSION_FINISHED"]


def test_a_new_link_that_was_given_up_is_none(world: World, bank: RunningBank) -> None:
    begun = linking.start(world.deps, "me")
    bank.page("POST", f"{begun.url.removeprefix(bank.url)}/exit")
    followed = linking.follow(world.deps, begun.session)
    assert (followed.state, followed.ids) == ("gave_up", [])
    assert len(world.rows("select id from syncdesk.items")) == 1
    assert len(bank.get("requests", path="/item/public_token/exchange")["requests"]) == 1


def test_an_error_while_plaid_cannot_be_asked_is_believed(world: World, bank: RunningBank) -> None:
    bank.do("faults", path="/item/get", kind="html", status=502)
    deliver(world, "ERROR", error=LOGIN)
    assert world.row()["state"] == "needs_you"
    # The bank is well: any sync clears it.
    bank.do("faults/clear")
    assert world.sync().state == "done"
    assert (world.row()["state"], world.row()["next_probe_at"]) == ("healthy", None)


@pytest.mark.parametrize("before", ["needs_you", "healthy"])
def test_a_run_from_before_the_repair_says_nothing_about_it(store: Transport, database_url: str, before: str) -> None:
    plaid = ScriptedPlaid()
    world = World(deps(store, plaid.url), database_url).link()
    plaid.answer(SYNC, page([transaction("t1")], cursor="c1"))
    world.run("link")
    if before == "needs_you":
        plaid.answer(SYNC, error("ITEM_LOGIN_REQUIRED"))
        with pytest.raises(NeedsPerson):
            world.sync()
    so_far = told(world)

    def meanwhile(body: dict[str, Any]) -> Any:
        linking.mended(world.deps, world.item, "link")
        return error("ITEM_LOGIN_REQUIRED")

    plaid.answer(SYNC, meanwhile)
    with pytest.raises(NeedsPerson):
        world.sync()
    assert (world.row()["state"], told(world)) == ("healthy", so_far)
    assert world.row()["wanted"] > world.row()["done"]
    # The run that the repair asked for meets the trouble itself: that is believed.
    plaid.answer(SYNC, error("ITEM_LOGIN_REQUIRED"))
    with pytest.raises(NeedsPerson):
        world.run()
    assert (world.row()["state"], told(world)) == ("needs_you", so_far + 1)
    world.deps.plaid.close()
    plaid.close()
