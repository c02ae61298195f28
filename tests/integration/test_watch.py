"""Accounts over time, silence, and links that are looked at sooner than the base schedule would."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from engine import clock
from engine.errors import StoreUnavailable
from engine.notify.words import notice
from engine.plaid.errors import NeedsPerson
from engine.plaid.pages import account_json
from engine.plaid.types import Account
from engine.queue.connection import connect
from engine.queue.hints import Hints
from engine.queue.keys import Keys
from engine.store import Transport
from engine.sync import accounts, linking
from scheduler.eager import Eager
from scheduler.process import Scheduler
from scheduler.work import Tools
from tests.support.bank import RunningBank, running_bank
from tests.support.scripted_plaid import ScriptedPlaid, error, page, transaction
from tests.support.syncing import World, deps
from tests.support.wait import until

pytestmark = pytest.mark.usefixtures("one_day")
SYNC = "/transactions/sync"
BASE = {"id": "backup_sync", "paused": False, "trigger": {"every_s": 900}}


@pytest.fixture
def plaid() -> Iterator[ScriptedPlaid]:
    made = ScriptedPlaid()
    yield made
    made.close()


@pytest.fixture
def world(store: Transport, database_url: str, plaid: ScriptedPlaid) -> Iterator[World]:
    """A link that was made a while ago and has its history."""
    made = World(deps(store, plaid.url), database_url).link()
    plaid.answer(SYNC, page([transaction("t1")], cursor="c1"))
    made.run("link")
    made.execute("update syncdesk.items set quick_until = null, webhook_seen_at = now()")
    yield made
    made.deps.plaid.close()


# ---------------------------------------------------------------- accounts


def seen(world: World, *found: Account) -> dict[str, Any]:
    answer: dict[str, Any] = world.deps.store.call(
        "accounts_seen", item=world.item, accounts=[account_json(each) for each in found]
    )
    return answer


def stored(world: World) -> dict[str, tuple[bool, str | None]]:
    rows = world.rows("select plaid_account_id, closed_at, replaced_by from syncdesk.accounts")
    return {row["plaid_account_id"]: (row["closed_at"] is not None, row["replaced_by"]) for row in rows}


def test_accounts_appear_vanish_and_come_back(world: World) -> None:
    checking = Account("acc-1", "Checking", mask="0001", type="depository", subtype="checking")
    card = Account("acc-2", "Card", mask="0002", type="credit")
    assert seen(world, checking, card)["appeared"] == ["acc-2"]
    assert seen(world, card)["vanished"] == ["acc-1"]
    assert stored(world) == {"acc-1": (True, None), "acc-2": (False, None)}
    shown = world.deps.store.call("item_get", item=world.item)["accounts"]
    assert [(each["name"], each["closed_at"] is None, each["last_success_at"] is None) for each in shown] == [
        ("Card", True, False),
        ("Checking", False, True),
    ]
    assert seen(world)["vanished"] == []
    # What it held stays.
    assert list(world.live()) == ["t1"]
    assert seen(world, checking, card)["appeared"] == ["acc-1"]
    assert stored(world)["acc-1"] == (False, None)
    assert seen(world, checking, card) == {
        "appeared": [], "vanished": [], "replaced": [], "rematch": False, "user_id": world.user
    }  # fmt: skip


@pytest.mark.parametrize("lasting", [None, "lasting-1"], ids=["by mask and name", "by its lasting id"])
def test_an_account_that_takes_anothers_place_keeps_its_bills(world: World, lasting: str | None) -> None:
    old = Account(
        "acc-1", "Checking", mask="0001", type="depository", subtype="checking", persistent_account_id=lasting
    )
    seen(world, old)
    world.execute(
        "insert into syncdesk.bills (user_id, name, amount, cadence, anchor_date, account_id)"
        " select user_id, 'Rent', 10, 'monthly', '2026-01-01', 'acc-1' from syncdesk.items"
    )
    new = Account(
        "acc-9", "Checking", mask="0001", type="depository", subtype="checking", persistent_account_id=lasting
    )
    if lasting:
        new.name, new.mask = "Renamed", "7777"
    other = Account("acc-8", "Savings", mask="0008", type="depository", subtype="savings")
    answer = seen(world, new, other)
    assert (answer["replaced"], answer["rematch"]) == (["acc-1"], True)
    assert stored(world)["acc-1"] == (True, "acc-9")
    assert world.rows("select account_id from syncdesk.bills")[0]["account_id"] == "acc-9"


def test_two_that_could_have_taken_the_place_took_none(world: World) -> None:
    like = {"name": "Checking", "mask": "0001", "type": "depository", "subtype": "checking"}
    seen(world, Account("acc-1", **like))  # type: ignore[arg-type]
    answer = seen(world, Account("acc-8", **like), Account("acc-9", **like))  # type: ignore[arg-type]
    assert (answer["vanished"], answer["replaced"]) == (["acc-1"], [])


def test_the_list_of_accounts_is_read_once_a_day(world: World, plaid: ScriptedPlaid) -> None:
    listed = {"accounts": page()["accounts"], "item": {"item_id": "plaid-x"}, "request_id": "r"}
    plaid.handlers["/accounts/get"] = lambda body: listed
    accounts.watch(world.deps, "c")
    accounts.watch(world.deps, "c")
    assert [path for path, _ in plaid.calls].count("/accounts/get") == 1
    assert world.rows("select seen_at from syncdesk.accounts")[0]["seen_at"] is not None
    # A day on, Plaid is away: nothing is closed, and an hour later it is asked again.
    world.execute("update syncdesk.items set accounts_at = now() - interval '25 hours'")
    plaid.handlers["/accounts/get"] = lambda body: error("INTERNAL_SERVER_ERROR", "API_ERROR", status=500)
    accounts.watch(world.deps, "c")
    assert stored(world) == {"acc-1": (False, None)}
    assert world.deps.store.call("accounts_due", limit=9)["items"] == []


def test_an_address_that_changed_is_told_with_the_next_look(store: Transport, database_url: str) -> None:
    old, ours = "http://127.0.0.1:9/old", "http://127.0.0.1:9/hook"
    with running_bank() as bank:
        world = World(deps(store, bank.url), database_url)
        world.item = linking.link(world.deps, bank.public_token(living=False, days=5, webhook=old))
        bank.do("ready", item_id=world.row()["plaid_item_id"])
        world.run("link")
        assert world.row()["webhook_url"] == old
        world.deps.plaid.close()
        world.deps = deps(store, bank.url, webhook_url=ours)
        world.execute("update syncdesk.items set accounts_at = null")
        accounts.watch(world.deps, "c")
        [item] = bank.get("items")["items"]
        assert (world.row()["webhook_url"], item["webhook"]) == (ours, ours)
        # Once: the next look finds nothing to tell. A new link is told at once.
        world.execute("update syncdesk.items set accounts_at = null")
        accounts.watch(world.deps, "c")
        linking.link(world.deps, bank.public_token(living=False, days=5))
        told = bank.get("requests", path="/item/webhook/update")["requests"]
        assert [each["item_id"] for each in told] == [item["item_id"], bank.get("items")["items"][1]["item_id"]]
        world.deps.plaid.close()


def test_accounts_that_change_at_the_bank(store: Transport, database_url: str) -> None:
    with running_bank() as bank:
        world = World(deps(store, bank.url), database_url)
        world.item = linking.link(world.deps, bank.public_token(living=False, days=20))
        item = world.row()["plaid_item_id"]
        bank.do("ready", item_id=item)
        world.run("link")
        before = stored(world)
        old = bank.get("truth", item_id=item)["items"][item]["accounts"][0]
        like = {name: old[name] for name in ("name", "mask", "type", "subtype")}
        ids = bank.do("accounts", item_id=item, close=[old["account_id"]], open=[like, {"name": "New"}])["account_ids"]
        rows = len(world.live())
        accounts.refresh(world.deps, world.item, "c")
        after = stored(world)
        assert after[old["account_id"]] == (True, ids[0])
        assert {name for name, (closed, _) in after.items() if not closed} == {*before, *ids} - {old["account_id"]}
        made = bank.do("transactions", item_id=item, transactions=[{"amount": 5, "account_id": ids[0]}])
        assert world.sync().added == 1
        assert made["transaction_ids"][0] in world.live()
        assert len(world.live()) == rows + 1
        world.deps.plaid.close()


# ---------------------------------------------------------------- two clocks


def spread(world: World, plaid: ScriptedPlaid, *back: int) -> None:
    """Transactions so many days ago, and a success now."""
    today = clock.now().date()
    rows = [transaction(f"d{n}", date=(today - timedelta(days=n)).isoformat()) for n in back]
    plaid.answer(SYNC, page(rows, cursor=f"c{back[0]}"))
    world.sync()


def notices(world: World) -> list[dict[str, Any]]:
    return world.rows("select * from syncdesk.outbox where kind = 'account_silent' order by id")


def test_an_account_silent_for_longer_than_ever_is_told_once(world: World, plaid: ScriptedPlaid) -> None:
    plaid.answer(SYNC, page(removed=["t1"], cursor="c1b"))
    world.sync()
    world.execute("update syncdesk.accounts set newest_data_at = null")
    spread(world, plaid, *range(20, 100, 8))
    look = world.deps.store.call
    assert look("accounts_silent", correlation="c")["told"] == 1
    assert look("accounts_silent", correlation="c")["told"] == 0
    [told] = notices(world)
    said = notice(told)
    assert (said.tone, said.target) == ("info", f"item:{world.item}")
    assert "20 days" in said.sentence
    assert "8" in said.sentence
    # Our success is one clock, the bank's newest data another.
    assert world.row()["last_success_at"] > clock.now() - timedelta(minutes=5)
    newest = world.rows("select newest_data_at from syncdesk.accounts")[0]["newest_data_at"]
    assert newest < clock.now() - timedelta(days=19)
    # The bank tells late, of a day three days ago.
    spread(world, plaid, 3)
    look("accounts_silent", correlation="c")
    assert world.rows("select silent_since from syncdesk.accounts")[0]["silent_since"] is None
    assert len(notices(world)) == 1


@pytest.mark.parametrize("why", ["usual for it", "little known", "bank in trouble", "paused", "closed"])
def test_silence_that_says_nothing_is_not_told(world: World, plaid: ScriptedPlaid, why: str) -> None:
    plaid.answer(SYNC, page(removed=["t1"], cursor="c1b"))
    world.sync()
    world.execute("update syncdesk.accounts set newest_data_at = null")
    days = {"usual for it": range(20, 200, 15), "little known": range(20, 40, 8)}.get(why, range(20, 100, 8))
    spread(world, plaid, *days)
    changes = {
        "bank in trouble": "update syncdesk.items set state = 'bank_trouble'",
        "paused": "update syncdesk.items set paused_at = now()",
        "closed": "update syncdesk.accounts set closed_at = now()",
    }
    if why in changes:
        world.execute(changes[why])
    assert world.deps.store.call("accounts_silent", correlation="c")["told"] == 0
    assert notices(world) == []


# ---------------------------------------------------------------- looking sooner


def due(world: World, base_s: int = 900) -> int:
    """How many wishes a look raises; they are settled at once."""
    found = world.deps.store.call("items_want_due", base_s=base_s, limit=10, correlation="c")["hints"]
    world.execute("update syncdesk.items set done = wanted")
    return len(found)


def tried(world: World, seconds: int) -> None:
    world.execute("update syncdesk.items set last_attempt_at = now() - %s * interval '1 second'", seconds)


@pytest.mark.parametrize(
    ("changes", "base_s", "interval_s"),
    [
        ("webhook_seen_at = now()", 900, 900),
        ("webhook_seen_at = null", 900, 300),
        ("webhook_seen_at = now() - interval '4 days'", 900, 300),
        ("usual_hours = (1 << 24) - 1", 900, 300),
        ("usual_hours = (1 << 24) - 1, webhook_seen_at = null", 900, 120),
        ("usual_hours = (1 << 24) - 1, webhook_seen_at = null", 60, 60),
        ("webhook_seen_at = null", 7200, 2400),
        ("webhook_seen_at = null, state = 'bank_trouble'", 900, 900),
        ("quick_until = now() + interval '1 minute'", 900, 5),
        ("quick_until = now() - interval '1 second'", 900, 900),
    ],
)
def test_how_soon_a_link_is_looked_at(world: World, changes: str, base_s: int, interval_s: int) -> None:
    world.execute(f"update syncdesk.items set {changes}")
    tried(world, interval_s - 30 if interval_s > 30 else 0)
    assert due(world, base_s) == 0
    tried(world, interval_s + 1)
    assert due(world, base_s) == 1


@pytest.mark.parametrize(
    "changes",
    ["paused_at = now()", "state = 'needs_you'", "removed_at = now(), state = 'removed'", "wanted = done + 1"],
)
def test_some_links_are_not_looked_at(world: World, changes: str) -> None:
    world.execute(f"update syncdesk.items set {changes}")
    tried(world, 100_000)
    assert due(world) == 0


def test_the_next_look_is_told(world: World) -> None:
    get = world.deps.store.call
    assert get("item_get", item=world.item)["item"]["next_sync_at"] is None
    world.execute(
        "insert into syncdesk.schedule (id, label, trigger, next_run_at)"
        " values ('backup_sync', 'Backup sync', '{\"every_s\": 900}', now() + interval '15 minutes')"
    )
    tried(world, 0)
    world.execute("update syncdesk.items set webhook_seen_at = null")
    at = clock.parse(get("item_get", item=world.item)["item"]["next_sync_at"])
    assert timedelta(minutes=2) < at - clock.now() < timedelta(minutes=6)
    world.execute("update syncdesk.schedule set paused_at = now()")
    assert get("item_get", item=world.item)["item"]["next_sync_at"] is None


def test_refused_keys_leave_it_to_the_base_schedule(world: World) -> None:
    world.execute("insert into syncdesk.settings (key, value) values ('install_trouble', '{}')")
    tried(world, 100_000)
    assert due(world) == 0


def test_a_new_link_and_a_repaired_one_are_looked_at_every_few_seconds(world: World, plaid: ScriptedPlaid) -> None:
    fresh = World(world.deps, world.database_url).link()
    assert fresh.row()["quick_until"] > clock.now() + timedelta(seconds=60)
    plaid.answer(SYNC, error("ITEM_LOGIN_REQUIRED"))
    with pytest.raises(NeedsPerson):
        world.sync()
    assert world.row()["quick_until"] is None
    linking.mended(world.deps, world.item, "link")
    assert world.row()["quick_until"] > clock.now() + timedelta(seconds=60)


def test_hours_and_webhooks_are_learned(world: World) -> None:
    world.execute("update syncdesk.items set webhook_seen_at = null")
    world.execute(
        "insert into syncdesk.sync_runs (id, item_id, user_id, trigger, correlation_id, fence, state, from_cursor,"
        " added, started_at) select gen_random_uuid(), id, user_id, 'schedule', 'c', 1, 'done', 'c1', 1,"
        " date_trunc('day', now() at time zone 'UTC') at time zone 'UTC' - d * interval '1 day' + h * interval '1 hour'"
        " from syncdesk.items, (values (1, 6), (2, 6), (3, 6), (1, 9), (2, 9), (1, 23)) t (d, h)"
    )
    world.execute(
        "insert into syncdesk.inbox (body, body_sha256, correlation_id, verified_by, webhook_type, item_id)"
        " select '{}', 'x', 'c', 'jwt', 'TRANSACTIONS', id from syncdesk.items"
    )
    world.deps.store.call("items_learn")
    assert world.row()["usual_hours"] == 1 << 6
    assert world.row()["webhook_seen_at"] is not None
    assert world.deps.store.call("items_learn")["changed"] == 0


@pytest.fixture
def tools(world: World, redis_url: str, namespace: str) -> Iterator[Tools]:
    client, keys = connect(redis_url, "api"), Keys(namespace)
    yield Tools(
        settings=world.deps.settings,
        store=world.deps.store,
        hints=Hints(client, keys),
        deps=lambda: world.deps,
        publish=lambda topic, found=None: None,
    )
    client.close()


def test_what_a_person_did_to_the_schedule_holds_for_sooner_looks(world: World, tools: Tools) -> None:
    tried(world, 1000)
    assert Eager(tools).look([{**BASE, "paused": True}]) == 0
    assert Eager(tools).look([{**BASE, "trigger": {"every_s": 3600}}]) == 0
    eager = Eager(tools)
    assert eager.look([BASE]) == 1
    assert eager.look([BASE]) == 0
    assert world.row()["wanted"] == world.row()["done"] + 1


def test_after_a_long_sleep_each_link_is_wished_for_once(world: World, tools: Tools) -> None:
    others = [World(world.deps, world.database_url).link() for _ in range(3)]
    world.execute("update syncdesk.items set quick_until = null, done = wanted")
    tried(world, 50_000)
    for _ in range(3):
        Eager(tools).look([BASE])
    for each in (world, *others):
        assert each.row()["wanted"] == each.row()["done"] + 1


def test_a_repaired_bank_is_found_though_nobody_tells(store: Transport, database_url: str) -> None:
    """Reset at the bank, told, mended by a new sign-in: nobody is asked to sign in again afterwards."""
    with running_bank() as bank:
        world = World(deps(store, bank.url), database_url)
        world.item = linking.link(world.deps, bank.public_token(living=False, days=5))
        item = world.row()["plaid_item_id"]
        bank.do("ready", item_id=item)
        world.run("link")
        _broken(world, bank, item)
        bank.do("repair", item_id=item, update_mode=True)
        linking.mended(world.deps, world.item, "link")
        assert world.run("link").state == "done"
        assert (world.row()["state"], world.row()["state_code"], world.row()["next_probe_at"]) == (
            "healthy",
            None,
            None,
        )
        assert store.call("items_probe", limit=10)["items"] == []
        told = world.rows("select id from syncdesk.outbox where kind = 'item_state'")
        assert len(told) == 1
        world.deps.plaid.close()


def _broken(world: World, bank: RunningBank, item: str) -> None:
    bank.do("break", item_id=item)
    for _ in range(2):
        with pytest.raises(NeedsPerson):
            world.sync()
    assert world.row()["state"] == "needs_you"


class Away:
    """A database that is away, and how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def call(self, name: str, /, **params: Any) -> Any:
        self.asked += 1
        raise StoreUnavailable("The database does not answer.")


def test_a_schedule_without_its_database_says_so_once_and_gives_no_alarm(
    tools: Tools, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "syncdesk")
    store = Away()
    made = Scheduler(tools.settings, replace(tools, store=store))
    thread = threading.Thread(target=made.run)
    thread.start()
    until(lambda: store.asked >= 3, what="three looks")
    made.stop()
    thread.join(20)
    assert not thread.is_alive()
    said = [(one.levelname, one.getMessage()) for one in caplog.records if one.name == "syncdesk.scheduler"]
    assert said.count(("INFO", "The schedule could not be looked at")) == 1
    assert {level for level, _ in said} == {"INFO"}


def test_the_schedule_itself_looks_sooner(world: World, tools: Tools) -> None:
    world.execute("update syncdesk.items set quick_until = now() + interval '1 minute'")
    tried(world, 60)
    made = Scheduler(tools.settings, tools)
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        until(lambda: world.row()["wanted"] > world.row()["done"], what="a wish from the schedule")
    finally:
        made.stop()
        thread.join(20)
    assert not thread.is_alive()
    assert world.row()["wanted_trigger"] == "schedule"
