"""What happens at the banks of a world: a fixed sequence from a seed, so that every world ends with the same truth.

Ids, amounts, names and dates are all chosen here, none by the bank, so two worlds made from one base can be
compared row by row. Pure: nothing is asked of the bank.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from engine.sandbox.model import identifier

SHOPS = (
    ("GREENGROCER 0417", "Greengrocer", "FOOD_AND_DRINK", "FOOD_AND_DRINK_GROCERIES"),
    ("SQ *LANTERN CAFE", "Lantern Cafe", "FOOD_AND_DRINK", "FOOD_AND_DRINK_COFFEE"),
    ("HIGHWAY FUEL 22", "Highway Fuel", "TRANSPORTATION", "TRANSPORTATION_GAS"),
    ("PAPER + INK ONLINE", "Paper + Ink", "GENERAL_MERCHANDISE", "GENERAL_MERCHANDISE_ONLINE_MARKETPLACES"),
)
#: A person's bills that only the script pays: name and usual amount in cents. No history has such names.
BILLS = (
    ("Granite Water Works", 4310),
    ("Osprey Broadband", 5725),
    ("Meridian Mutual Insurance", 13180),
    ("Halcyon Music School", 9640),
    ("Larkspur Storage", 7455),
    ("Northern Light Power", 11890),
)
LONG = 1_100
"""Rows of a long update: three pages of 500."""
_LONG_AT = (0.2, 0.5, 0.7)


@dataclass(frozen=True)
class Item:
    """A linked bank as the script knows it."""

    item_id: str
    user: str
    account_id: str
    currency: str


@dataclass(frozen=True)
class Event:
    """One call of the bank's control surface; ``changes``: how many numbers it adds to the item's ledger."""

    operation: str
    item_id: str
    body: dict[str, Any]
    changes: int

    @property
    def long(self) -> bool:
        """Whether it takes several pages."""
        return self.changes >= LONG


@dataclass
class _Book:
    """What the script put on one item and still is there."""

    item: Item
    pending: list[dict[str, Any]] = field(default_factory=list)
    posted: list[dict[str, Any]] = field(default_factory=list)


def script(items: Sequence[Item], today: date, *, seed: int = 1, count: int = 240) -> list[Event]:
    """``count`` events over all items: purchases, pending ones that post or vanish, changes, bills, long updates."""
    return list(_Writer(items, today, seed).events(count))


class _Writer:
    def __init__(self, items: Sequence[Item], today: date, seed: int) -> None:
        self._rng = random.Random(seed)
        self._books = [_Book(item) for item in items]
        self._today = today
        self._seed = seed
        self._made = 0
        users = sorted({item.user for item in items})
        self._bills = [(user, name, cents) for user in users for name, cents in BILLS]
        self._rng.shuffle(self._bills)

    def events(self, count: int) -> Iterator[Event]:
        long = {int(count * share) for share in _LONG_AT}
        # Every bill is paid once, pending first; what is paid late enough still posts.
        bill_every = max(2, count * 3 // 4 // max(1, len(self._bills)))
        for number in range(count):
            if number in long:
                book = self._books[number % len(self._books)]
                yield self._add(book, [self._purchase(book) for _ in range(LONG)])
            elif number % bill_every == 1 and self._bills:
                yield self._pay(*self._bills.pop())
            else:
                yield self._any()

    def _any(self) -> Event:
        rng = self._rng
        dice, busy = rng.random(), [book for book in self._books if book.pending]
        if busy and dice < 0.30:
            book = rng.choice(busy)
            return self._post(book, book.pending.pop(0))
        if busy and dice < 0.35:
            book = rng.choice(busy)
            plain = [row for row in book.pending if not row.get("bill")]
            if plain:
                book.pending.remove(plain[0])
                return _remove(book, plain[0])
        changeable = [book for book in self._books if book.posted]
        if changeable and dice < 0.50:
            return self._modify(rng.choice(changeable))
        if changeable and dice < 0.58:
            book = rng.choice(changeable)
            return _remove(book, book.posted.pop(rng.randrange(len(book.posted))))
        book = rng.choice(self._books)
        pending = dice > 0.75
        return self._add(
            book, [self._purchase(book, pending=pending) for _ in range(1 if pending else rng.randint(1, 3))]
        )

    # -- events

    def _add(self, book: _Book, rows: list[dict[str, Any]]) -> Event:
        if len(rows) < LONG:
            for row in rows:
                (book.pending if row["pending"] else book.posted).append(row)
        sent = [{name: value for name, value in row.items() if name not in ("bill", "cents")} for row in rows]
        return Event("transactions", book.item.item_id, {"transactions": sent}, len(rows))

    def _pay(self, user: str, name: str, cents: int) -> Event:
        book = self._rng.choice(
            [book for book in self._books if book.item.user == user and book.item.currency == "USD"]
        )
        row = self._row(
            book, cents, name.upper(), name, "RENT_AND_UTILITIES", "RENT_AND_UTILITIES_OTHER_UTILITIES", True
        )
        return self._add(book, [{**row, "bill": True}])

    def _post(self, book: _Book, row: dict[str, Any]) -> Event:
        """The posted form: another id, now and then another amount (a bill's stays within its tolerance)."""
        more = 0 if row.get("bill") or self._rng.random() < 0.5 else self._rng.randrange(10, 200)
        changes = {
            "transaction_id": self._id(),
            "amount": self._money(book, row["cents"] + more),
            "date": self._today.isoformat(),
            "name": f"{row['name']} POSTED",
        }
        posted = {**row, **changes, "cents": row["cents"] + more, "pending": False}
        if not row.get("bill"):
            book.posted.append(posted)
        body = {"transaction_id": row["transaction_id"], "changes": changes}
        return Event("post", book.item.item_id, body, 2)

    def _modify(self, book: _Book) -> Event:
        row = self._rng.choice(book.posted)
        changes: dict[str, Any] = {"name": f"{row['merchant_name'].upper()} {self._rng.randrange(10_000):04d}"}
        if self._rng.random() < 0.5:
            changes["amount"] = self._money(book, row["cents"] + self._rng.randrange(1, 500))
        return Event("modify", book.item.item_id, {"transaction_id": row["transaction_id"], "changes": changes}, 1)

    # -- rows

    def _purchase(self, book: _Book, *, pending: bool = False) -> dict[str, Any]:
        text, merchant, primary, detailed = self._rng.choice(SHOPS)
        return self._row(book, self._rng.randrange(150, 2500), text, merchant, primary, detailed, pending)

    def _row(
        self, book: _Book, cents: int, text: str, merchant: str, primary: str, detailed: str, pending: bool
    ) -> dict[str, Any]:
        day = (self._today - timedelta(days=self._rng.randrange(0, 3))).isoformat()
        return {
            "transaction_id": self._id(),
            "account_id": book.item.account_id,
            "amount": self._money(book, cents),
            "cents": cents,
            "date": day,
            "authorized_date": day,
            "name": text,
            "merchant_name": merchant,
            "iso_currency_code": book.item.currency,
            "personal_finance_category": {"primary": primary, "detailed": detailed},
            "payment_channel": "in store",
            "pending": pending,
        }

    def _money(self, book: _Book, cents: int) -> str:
        return str(cents) if book.item.currency == "JPY" else f"{cents / 100:.2f}"

    def _id(self) -> str:
        self._made += 1
        return identifier("faults", self._seed, self._made)


def _remove(book: _Book, row: dict[str, Any]) -> Event:
    return Event("remove", book.item.item_id, {"transaction_ids": [row["transaction_id"]]}, 1)
