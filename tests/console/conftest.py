"""The console's fixtures: one real engine for the session, a window on it for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from engine import launch
from engine.api import types_banks, types_bills, types_jobs
from engine.api.client import Client
from engine.demo.bank import BankControl
from engine.demo.ledger import Ledger
from tests.support.engines import Engine, engine
from tests.support.wait import until

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

    from gui.shell import Shell

FAST = {
    "SYNCDESK_BACKOFF_FIRST_S": "0.05",
    "SYNCDESK_BACKOFF_FACTOR": "1",
    "SYNCDESK_BACKOFF_JITTER": "0",
    "SYNCDESK_BACKUP_EVERY_S": "3600",
    "SYNCDESK_BULK_HOLD_S": "60",  # tests decide themselves when it is over: `World.release`
}
BANKS = {"lakeside": "ins_900001", "harborview": "ins_900002"}
WAIT_MS = 60_000


@dataclass
class World:
    """A running engine with two linked banks and the bills of the first."""

    engine: Engine
    plaid: dict[str, str] = field(default_factory=dict)
    items: dict[str, str] = field(default_factory=dict)

    def client(self) -> Client:
        """A client of its admin API that is not the console's: what the tests compare with."""
        found = launch.read(self.engine.profile)
        assert found is not None
        return Client(str(found.admin), found.token)

    def bank(self) -> BankControl:
        """The simulated bank's control."""
        return BankControl(str(self.engine.look()["engine"]["plaid_url"]))

    def item(self, name: str) -> types_banks.Item:
        """A bank link as the engine has it now."""
        with self.client() as client:
            return client.get(f"items/{self.items[name]}", types_banks.ItemDetail).item

    def populate(self) -> None:
        """Link the banks, add the bills, wait until their history is in."""
        found = launch.read(self.engine.profile)
        assert found is not None
        with self.client() as client, self.bank() as bank:
            for name, institution in BANKS.items():
                hook = f"{found.public}/api/webhooks/plaid"
                made = bank.do("items", institution_id=institution, living=False, webhook=hook, seed=name)
                self.plaid[name] = made["item_id"]
                if name == "lakeside":
                    self._bills(client, made["bills"])
                token = types_banks.LinkRequest(public_token=made["public_token"], user="Kim")
                self.items[name] = client.act("items/link", token).ids[0]
                bank.do("ready", item_id=made["item_id"])
        until(self._settled, 60, "the first syncs to their end")

    def _settled(self) -> bool:
        """Whether everything of the banks is in and nobody is about to look again: only the tests make news now.

        A bank that was just linked would be looked at every few seconds, and a test's news found before its click.
        """
        with self.bank() as bank, Ledger(self.engine.profile) as ledger:
            if any(hook["state"] != "delivered" for hook in bank.ask("webhooks")["webhooks"]):
                return False
            ledger.one("update syncdesk.items set quick_until = null returning 1")
            truth = bank.ask("truth")["items"]
            return not ledger.one(
                "select exists (select from syncdesk.inbox where state = 'received')"
                " or exists (select from syncdesk.items where wanted > done)"
            ) and all(self.item(name).transactions == truth[self.plaid[name]]["count"] for name in BANKS)

    def _bills(self, client: Client, bills: list[dict[str, object]]) -> None:
        for number, bill in enumerate(bills[:4]):
            client.act(
                "bills",
                types_bills.BillWrite(
                    name=str(bill["name"]) if number else "Something else",
                    amount=str(bill["amount"]),
                    cadence="monthly",
                    anchor_date=f"2026-01-{bill['day']:02d}",
                    currency=str(bill["currency"]),
                    category=str(bill["category"]) if number else None,
                    user="Kim",
                ),
            )

    def release(self) -> None:
        """Begin the bulk action that is held, as when its seconds have passed."""
        held = "update syncdesk.bulks set release_at = clock_timestamp() where state = 'held' returning true"
        with Ledger(self.engine.profile) as ledger:
            until(lambda: ledger.one(held), what="a bulk action that is held")

    def fail(self, name: str) -> types_jobs.Job:
        """Have a sync of a bank fail for good, however often it is tried early; returns the failed job."""
        with self.client() as client, self.bank() as bank:
            fault = {"path": "/transactions/sync", "item_id": self.plaid[name], "error_code": "INTERNAL_SERVER_ERROR"}
            bank.do("faults", **fault)
            before = {job.id for job in client.get("jobs", types_jobs.JobPage, state="failed").jobs}
            client.act("sync", types_banks.SyncRequest(item_id=self.items[name]))

            def failed() -> types_jobs.Job | None:
                jobs = client.get("jobs", types_jobs.JobPage, state="failed").jobs
                return next((job for job in jobs if job.id not in before), None)

            try:
                return until(failed, 60, "a failed job")
            finally:
                bank.do("faults/clear")


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """The session's engine."""
    with engine(**FAST) as running:
        running.up()
        made = World(running)
        made.populate()
        yield made


@pytest.fixture(autouse=True)
def quiet(request: pytest.FixtureRequest) -> Iterator[None]:
    """Qt itself has nothing to complain about."""
    if "qtbot" not in request.fixturenames:
        yield
        return
    log = request.getfixturevalue("qtlog")
    yield
    said = [record.message for record in log.records if record.type.name not in {"QtDebugMsg", "QtInfoMsg"}]
    # The offscreen platform says it of every dialog of a fixed width.
    assert [words for words in said if words != "This plugin does not support propagateSizeHints()"] == []


@pytest.fixture(autouse=True)
def themed(request: pytest.FixtureRequest) -> None:
    """The application has its theme, in light, with a locale that tests can rely on."""
    if "qapp" not in request.fixturenames and "qtbot" not in request.fixturenames:
        return
    from PySide6.QtCore import QLocale

    from gui import main, theme

    request.getfixturevalue("qapp")
    QLocale.setDefault(QLocale(QLocale.Language.English, QLocale.Country.UnitedStates))
    main.application()
    theme.current().set_dark(False)


@pytest.fixture
def console(world: World, qtbot: QtBot) -> Iterator[Shell]:
    """A window attached to the engine, with its first page there."""
    from gui.client.connection import Local
    from gui.main import build

    window = build(Local(world.engine.profile), start=False, remember=False)
    qtbot.addWidget(window)
    window.show()
    window.desk.connection.open()
    qtbot.waitUntil(lambda: window.desk.connected and window.desk.known is not None, timeout=WAIT_MS)
    yield window
    window.close()
