"""The base that every world is a copy of: an install with 200 linked banks of three users, synced and stopped."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import psycopg

from engine import clock, launch
from engine.api import types_banks, types_bills
from engine.api.client import Client
from engine.host import postgres
from engine.host.binaries_process import free_port
from engine.profile import Profile
from tests.faults import truth
from tests.faults.bank import BankProcess
from tests.faults.script import BILLS, Item
from tests.support import tether
from tests.support.engines import Engine
from tests.support.wait import until

ITEMS = 200
USERS = ("Kim", "Noor", "Sam")
INSTITUTIONS = ("ins_900001", "ins_900002", "ins_900003", "ins_900006", "ins_900007")
DAYS = 10
"""Of history at each bank before the world begins."""
HOUSEHOLD_BILLS = 4
_LINKING = 4
_FAST = {"SYNCDESK_PLAID_ITEM_LIMIT": "1000000", "SYNCDESK_PLAID_CLIENT_LIMIT": "1000000"}


@dataclass(frozen=True)
class Base:
    """A stopped install in ``folder`` and its bank's journal. ``tops``: each item's latest change at the bank."""

    folder: Path
    journal: Path
    api_port: int
    items: Sequence[Item]
    tops: dict[str, int]
    today: date

    def remove(self) -> None:
        postgres.forget(Profile("base", self.folder))
        shutil.rmtree(self.folder, ignore_errors=True)
        for left in self.journal.parent.glob(f"{self.journal.stem}*"):
            left.unlink(missing_ok=True)


def throw_away_folder() -> Path:
    """A new folder directly in the temporary one, which the database's account can pass through to."""
    folder = Path(tempfile.mkdtemp(prefix="syncdesk-faults-"))
    tether.hold(folder)
    return folder


def copy(base: Base, folder: Path) -> None:
    """Put a copy of the install into an empty folder, owners and modes kept."""
    subprocess.run(["cp", "-a", f"{base.folder}/.", str(folder)], check=True)
    for left in ("ports.json", "up.out"):
        (folder / left).unlink(missing_ok=True)


def prepare(items: int = ITEMS) -> Base:
    """Link the banks, sync them, stop everything; some twenty seconds."""
    folder = throw_away_folder()
    journal = folder.with_name(f"{folder.name}.bank.jsonl")
    port, api_port = free_port(), free_port()
    bank = BankProcess(journal, port)
    environment = {"SYNCDESK_PLAID_URL": bank.url, "API_PORT": str(api_port), "SYNCDESK_BACKUP_EVERY_S": "900", **_FAST}
    engine = Engine(Profile("base", folder), environment)
    today = clock.now().date()
    try:
        bank.start()
        engine.up(wait=False)
        bank.ready()
        made = _create(bank, items)
        found = engine.ready(120)
        _link(found, made)
        tops = {item["item_id"]: item["transactions"] for _, item in made}
        _await_synced(engine.profile, tops)
        _put_bills(found, made)
        _await_synced(engine.profile, tops)
        launch.stop(engine.profile)
    finally:
        engine.end()
        bank.end()
    known = [Item(item["item_id"], user, item["accounts"][0]["account_id"], item["currency"]) for user, item in made]
    return Base(folder, journal, api_port, known, tops, today)


def _create(bank: BankProcess, count: int) -> list[tuple[str, dict[str, Any]]]:
    with bank.control() as control:
        return [
            (user, control.do("items", institution_id=bank_, days=DAYS, living=False, ready=True, seed=f"faults {n}"))
            for n, user, bank_ in zip(range(count), itertools.cycle(USERS), itertools.cycle(INSTITUTIONS))
        ]


def _link(found: launch.Discovery, made: Sequence[tuple[str, dict[str, Any]]]) -> None:
    def some(part: int) -> None:
        with Client(str(found.admin), found.token) as client:
            for user, item in made[part::_LINKING]:
                client.act("items/link", types_banks.LinkRequest(public_token=item["public_token"], user=user))

    with ThreadPoolExecutor(_LINKING) as pool:
        list(pool.map(some, range(_LINKING)))


def _put_bills(found: launch.Discovery, made: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """For each user those that the script pays, and some that the first of their banks has paid already."""
    this_month = clock.now().date().replace(day=1)
    with Client(str(found.admin), found.token) as client:
        for user in USERS:
            for name, cents in BILLS:
                due = clock.now().date().isoformat()
                bill = types_bills.BillWrite(
                    name=name, amount=f"{cents / 100:.2f}", cadence="monthly", anchor_date=due, user=user
                )
                client.act("bills", bill)
            first = next((item for owner, item in made if owner == user), None)
            for bill_ in first["bills"][:HOUSEHOLD_BILLS] if first else []:
                client.act(
                    "bills",
                    types_bills.BillWrite(
                        name=bill_["name"], amount=str(bill_["amount"]), cadence="monthly", category=bill_["category"],
                        anchor_date=this_month.replace(day=bill_["day"]).isoformat(), currency=bill_["currency"],
                        account_id=bill_["account_id"], user=user,
                    ),
                )  # fmt: skip


def _await_synced(profile: Profile, tops: dict[str, int]) -> None:
    url = postgres.running_url(profile)
    assert url is not None
    with psycopg.connect(url, autocommit=True) as connection:
        until(
            lambda: not truth.behind(connection, tops) and not truth.unfinished(connection),
            120,
            "all banks to be synced",
        )
