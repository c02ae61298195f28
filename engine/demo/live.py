"""The demo's world kept alive for the console: banks whose households live, one in trouble, bills to review."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal

from engine import clock, launch
from engine.api import types, types_banks, types_bills
from engine.api.client import Client
from engine.demo.bank import BankControl
from engine.demo.stage import require, throw_away
from engine.demo.story import CEDAR, HARBORVIEW, LAKESIDE, SAKURA
from engine.errors import SyncdeskError
from engine.profile import Profile

OASIS = "ins_900005"
KASTANIEN = "ins_900006"
BANKS = ((LAKESIDE, "Household"), (HARBORVIEW, "Household"), (SAKURA, "Studio"), (CEDAR, "Studio"), (OASIS, "Parents"),
         (KASTANIEN, "Parents"))  # fmt: skip
SPEED = 1440.0
"""A day of purchases in a minute."""
OLD_PRICE = Decimal("0.84")
"""What a bill that is not up to date says of its price: beyond the usual tolerance."""
SETTINGS: Mapping[str, str] = {"SYNCDESK_BACKUP_EVERY_S": "60"}


def run(announce: Callable[[str], None]) -> int:
    """Print where the profile is as one line of JSON, then live until standard input ends or a signal comes.

    Raises:
        SyncdeskError: the engine or the world did not start.
    """

    def born(profile: Profile) -> None:
        print(json.dumps({"profile": str(profile.root)}), flush=True)
        threading.Thread(target=_watch_input, args=(profile,), name="watch-input", daemon=True).start()

    ended = threading.Event()
    throw_away(lambda profile, engine: _live(engine, ended), announce, SETTINGS, born=born, ended=ended)
    return 0


def _watch_input(profile: Profile) -> None:
    """Whoever started us holds our standard input; its end is ours, also while the engine still starts."""
    descriptor = sys.stdin.fileno()  # not sys.stdin itself: its lock would be held when this process ends
    while os.read(descriptor, 4096):
        pass
    try:
        launch.stop(profile, deadline_s=15)
    except SyncdeskError as error:
        print(error.message, file=sys.stderr)


def _live(engine: launch.Discovery, ended: threading.Event) -> None:
    require(engine.admin, "The engine has no admin listener.")
    with Client(str(engine.admin), engine.token) as client:
        plaid_url = client.get("status", types.Status).engine.plaid_url
        require(plaid_url, "The engine has no simulated bank.")
        with BankControl(str(plaid_url)) as bank:
            _populate(client, bank, f"{engine.public}/api/webhooks/plaid")
    ended.wait()


def _populate(client: Client, bank: BankControl, hook: str) -> None:
    items: dict[str, str] = {}
    for institution, user in BANKS:
        made = bank.do("items", institution_id=institution, webhook=hook, seed=institution)
        items[institution] = made["item_id"]
        for number, bill in enumerate(made["bills"]):
            if institution in (LAKESIDE, SAKURA):
                _bill(client, bill, user, vague=number % 3 == 2)
        if institution == KASTANIEN:  # one job that fails for good, and can be retried once the fault is worn out
            bank.do(
                "faults",
                path="/transactions/sync",
                item_id=made["item_id"],
                error_code="INTERNAL_SERVER_ERROR",
                times=4,
            )
        client.act("items/link", types_banks.LinkRequest(public_token=made["public_token"], user=user))
        bank.do("ready", item_id=made["item_id"])
    bank.do("break", item_id=items[CEDAR])
    bank.do("life", running=True, speed=SPEED)


def _bill(client: Client, bill: Mapping[str, object], user: str, *, vague: bool) -> None:
    """As a person would type it; a vague one has an old price and no category, so that its payments wait for review."""
    month = clock.now().date().replace(day=1) - timedelta(days=1)
    wanted = types_bills.BillWrite(
        name=str(bill["name"]),
        amount=str(Decimal(str(bill["amount"])) * (OLD_PRICE if vague else 1)),
        cadence="monthly",
        anchor_date=month.replace(day=int(str(bill["day"]))).isoformat(),
        currency=str(bill["currency"]),
        category=None if vague else str(bill["category"]),
        business_day_shift="next",
        user=user,
    )
    client.act("bills", wanted)
