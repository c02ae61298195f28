"""What the households do while the bank runs: they buy, purchases post, bills fall due, things are sent back."""

from __future__ import annotations

import secrets
from datetime import date, timedelta

from engine import clock
from engine.sandbox.bank import Bank
from engine.sandbox.items import HISTORICAL, Item
from engine.sandbox.model import Transaction

EVENTS_A_DAY = 12.0
DAY_S = 86_400.0


class Life:
    """Drives the items that live. ``speed`` 1440 makes a day of a minute; dates stay today's."""

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        self.running = bank.options.living
        self._random = bank.random
        self._schedule()

    def step(self, item: Item) -> list[Transaction]:
        """One event of one item's household, sent as news; returns the transactions that came."""
        if item.household is None:
            return []
        rows = self._due(item) or self._event(item)
        self._bank.tell_news(item, len(rows))
        return rows

    def _due(self, item: Item) -> list[Transaction]:
        """Bills and pay since the last look; a day that is over brings them once."""
        today, last = clock.now().date(), date.fromisoformat(item.billed_until)
        if item.household is None or last >= today:
            return []
        rows: list[Transaction] = []
        while last < today:
            last += timedelta(days=1)
            rows += item.household.due(last)
        self._bank.set(item, billed_until=last.isoformat())
        return self._bank.add(item, rows)

    def _event(self, item: Item) -> list[Transaction]:
        household, rng, bank = item.household, self._random, self._bank
        if household is None:
            return []
        dice, today = rng.random(), clock.now().date()
        waiting = next(iter(item.pending.values()), None)
        if waiting is not None and dice < 0.45:
            return [bank.post(item, waiting)]
        if waiting is not None and dice < 0.48:
            bank.remove(item, [waiting.transaction_id])
            return []
        posted = [row for row in item.ledger.live() if row.amount > 0 and not row.pending] if dice > 0.95 else []
        if posted:
            bought = rng.choice(posted[-40:])
            return bank.add(item, [household.refund(bought, today, ("refund", secrets.token_hex(8)))])
        key = ("bought", secrets.token_hex(8))
        return bank.add(item, [household.purchase(today, rng, key, pending=dice < 0.85)])

    def _schedule(self) -> None:
        living = [item for item in self._bank.items.values() if _lives(item)]
        mean = DAY_S / EVENTS_A_DAY / self._bank.options.speed / max(1, len(living))
        wait = self._random.expovariate(1 / mean)
        # Looked at again soon: the speed may change, items come and go.
        self._bank.at(min(wait, 1.0), lambda: self._happen(wait <= 1.0))

    def _happen(self, due: bool) -> None:
        living = [item for item in self._bank.items.values() if _lives(item)]
        if due and self.running and living:
            self.step(self._random.choice(living))
        self._schedule()


def _lives(item: Item) -> bool:
    return item.living and item.status == HISTORICAL and not item.removed and item.error is None
