"""Kill -9 of each part in the middle of a living world: nothing is lost, nothing is doubled."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import psutil
import psycopg
import pytest

from engine import launch
from engine.api import types_banks, types_bills
from engine.api.client import Client
from engine.demo.bank import BankControl
from engine.demo.ledger import Ledger, bank_rows
from engine.errors import NotRunningError
from tests.support.engines import END_S, LEFT_BEHIND_S, Engine, engine
from tests.support.wait import until

BANKS = ("ins_900001", "ins_900002", "ins_900003")
BEFORE, AFTER = 6, 6
DOUBLED = (
    "select count(*) from (select 1 from syncdesk.matches where state = 'auto'"
    " group by item_id, transaction_id having count(*) > 1) twice"
)
FAST = {
    "SYNCDESK_BACKUP_EVERY_S": "3",
    "SYNCDESK_BACKOFF_FIRST_S": "0.3",
    "SYNCDESK_BACKOFF_FACTOR": "1.5",
    "SYNCDESK_BACKOFF_JITTER": "0",
}

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals"),
    pytest.mark.slow,
    pytest.mark.timeout(400),
]


class World:
    """Linked banks of a running engine; events on them, and whether the database says what they say."""

    def __init__(self, running: Engine) -> None:
        self.engine = running
        self.items: list[str] = []

    def _found(self) -> launch.Discovery:
        found = launch.read(self.engine.profile)
        assert found is not None
        return found

    def bank(self) -> BankControl:
        return BankControl(str(self.engine.look()["engine"]["plaid_url"]))

    def link(self) -> None:
        """Three banks with a history, and the bills of the first."""
        found = self._found()
        with Client(str(found.admin), found.token) as client, self.bank() as bank:
            for institution in BANKS:
                hook = f"{found.public}/api/webhooks/plaid"
                made = bank.do("items", institution_id=institution, living=False, webhook=hook)
                self.items.append(made["item_id"])
                for bill in made["bills"][:4] if institution == BANKS[0] else []:
                    client.act(
                        "bills",
                        types_bills.BillWrite(
                            name=bill["name"], amount=str(bill["amount"]), cadence="monthly",
                            anchor_date=f"2026-01-{bill['day']:02d}", category=bill["category"], user="Kim",
                        ),
                    )  # fmt: skip
                client.act("items/link", types_banks.LinkRequest(public_token=made["public_token"], user="Kim"))
                bank.do("ready", item_id=made["item_id"])

    def happen(self, times: int) -> None:
        """So many events on each bank, each announced: new ones, a pending one that posts, one that goes."""
        with self.bank() as bank:
            for number in range(times):
                for item in self.items:
                    bank.do("transactions", item_id=item, count=2, pending=number % 3 == 0)
                    if number % 3 == 1:
                        bank.do("post", item_id=item)
                    if number % 3 == 2:
                        bank.do("remove", item_id=item, count=1)

    def equal(self) -> bool:
        """Whether the database has what each bank has."""
        try:
            with self.bank() as bank, Ledger(self.engine.profile) as ledger:
                truth = bank.ask("truth")["items"]
                return all(ledger.rows(item) == bank_rows(truth[item]) for item in self.items)
        except (NotRunningError, psycopg.OperationalError):
            return False  # the database is not back yet

    def settled(self) -> None:
        """Everything arrived, and the history tells it once."""
        until(self.equal, 120, "a database equal to the banks")
        with Ledger(self.engine.profile) as ledger:
            assert ledger.added_twice() == 0
            assert ledger.one(DOUBLED) == 0
            assert ledger.one("select count(*) from syncdesk.matches where state = 'auto'") > 0
            unfinished = "select not exists (select from syncdesk.items where wanted > done)"
            ledger.wait("A wish was left unserved.", unfinished, deadline_s=60)
            assert (
                ledger.one("select count(*) from syncdesk.item_leases where expires_at < now() - interval '1 min'") == 0
            )


@pytest.fixture
def world() -> Iterator[World]:
    with engine(**FAST) as running:
        running.up()
        made = World(running)
        made.link()
        yield made


@pytest.mark.parametrize("role", ["worker-sync", "worker-events", "broker", "database", "scheduler"])
def test_a_part_is_killed_in_the_middle(world: World, role: str) -> None:
    world.happen(BEFORE)
    victim = int(world.engine.row(role)["pid"])
    os.kill(victim, signal.SIGKILL)
    world.happen(AFTER)
    world.settled()

    def back() -> bool:
        row = world.engine.row(role)
        return row["state"] == "running" and row["pid"] != victim

    until(back, 60, f"another {role}")


def test_the_host_is_killed_in_the_middle(world: World) -> None:
    world.happen(BEFORE)
    parts = list(world.engine.pids.values())
    os.kill(world.engine.process.pid, signal.SIGKILL)  # type: ignore[union-attr]
    world.engine.process.wait(END_S)  # type: ignore[union-attr]
    _gone, alive = psutil.wait_procs(parts, timeout=LEFT_BEHIND_S)
    assert [process.pid for process in alive] == []
    world.engine.up()
    world.happen(AFTER)
    world.settled()
