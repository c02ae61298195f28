"""A household at a bank, by seed: its accounts, what it bought so far, and what it buys next.

The same seed, bank and day give the same accounts, amounts, names and dates.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from math import cos, pi

import msgspec

from engine.sandbox.institutions import Institution
from engine.sandbox.merchants import COUNTRIES, Bill, Shop
from engine.sandbox.model import Account, Balances, Category, Transaction, encode, identifier

_PURCHASES_A_DAY = 2.0
_CREDIT_SHARE = 0.6


class Household:
    """Who banks here. ``item_id`` makes the ids, ``seed`` everything else."""

    def __init__(self, item_id: str, bank: Institution, seed: str) -> None:
        self._item_id = item_id
        self._country = COUNTRIES[bank.locale]
        self._bank = bank
        self._seed = seed
        self._random = random.Random(f"{seed}:{bank.institution_id}")  # noqa: S311 - a simulated life, no secret
        self._places = Decimal(1) / self._country.scale
        self.bills = self._pick_bills()
        self.accounts = self._make_accounts()

    def _pick_bills(self) -> list[Bill]:
        """This household's bills: the country's, each moved a little in day and amount."""
        made = []
        for bill in self._country.bills:
            cents = (
                round(bill.cents * self._random.uniform(0.9, 1.1)) if bill.season or bill.cents > 20000 else bill.cents
            )
            day = min(28, max(1, bill.day + self._random.randint(-2, 2))) if bill.day > 1 else 1
            made.append(dataclasses.replace(bill, day=day, cents=cents))
        return made

    def _make_accounts(self) -> list[Account]:
        rng = self._random
        kinds = [
            ("checking", "depository", "Checking", "Everyday Checking"),
            ("savings", "depository", "Savings", None),
            ("credit card", "credit", "Rewards Card", f"{self._bank.name} Rewards Card"),
        ]
        made = []
        for number, (subtype, kind, name, official) in enumerate(kinds):
            current = self.money(rng.randrange(40_000, 900_000))
            limit = self.money(1_000_000) if kind == "credit" else None
            available = limit - current if limit is not None else current
            mask = f"{rng.randrange(10_000):04d}"
            made.append(
                Account(
                    account_id=identifier(self._item_id, "account", number),
                    balances=Balances(available, current, limit, self._bank.currency, None),
                    name=name,
                    official_name=official,
                    mask=mask,
                    type=kind,
                    subtype=subtype,
                    persistent_account_id=identifier(self._bank.institution_id, self._seed, mask)
                    if self._bank.persistent
                    else msgspec.UNSET,
                )
            )
        return made

    @property
    def checking(self) -> str:
        return self.accounts[0].account_id

    @property
    def card(self) -> str:
        return self.accounts[2].account_id

    def history(self, today: date, days: int) -> list[Transaction]:
        """Everything of the last ``days`` days until yesterday, oldest first; all of it posted."""
        rows: list[Transaction] = []
        for back in range(days, 0, -1):
            rows += self.day(today - timedelta(days=back))
        return rows

    def day(self, when: date) -> list[Transaction]:
        """One day: bills, pay, purchases and now and then a refund. The same day is always the same."""
        rng = random.Random(f"{self._seed}:{self._bank.institution_id}:{when}")  # noqa: S311 - as above
        rows = [*self.due(when)]
        for number in range(_count(rng, _PURCHASES_A_DAY)):
            rows.append(self.purchase(when, rng, ("day", when, number)))
            if rng.random() < 0.02:
                rows.append(self.refund(rows[-1], when, ("refund", when, number)))
        return rows

    def due(self, when: date) -> Iterator[Transaction]:
        """Bills and pay that fall on a day; at a weekend they are paid on the Monday after."""
        for shift in range(3 if when.weekday() == 0 else 1):
            nominal = when - timedelta(days=shift)
            if when.weekday() >= 5:
                return
            for number, bill in enumerate(self.bills):
                if bill.day == nominal.day:
                    yield self._pay(bill, number, nominal, when)
            if nominal.day in (1, 15):
                yield self._row(
                    ("pay", nominal), self.checking, -self._country.salary, when, self._country.employer,
                    detailed="INCOME_WAGES", channel="other",
                )  # fmt: skip

    def _pay(self, bill: Bill, number: int, nominal: date, when: date) -> Transaction:
        rng = random.Random(f"{self._seed}:{number}:{nominal}")  # noqa: S311 - as above
        swing = 1 + bill.season * cos(2 * pi * (nominal.timetuple().tm_yday - 15) / 365) if bill.season else 1
        cents = round(bill.cents * swing * (rng.uniform(0.94, 1.06) if bill.season else 1))
        return self._row(
            ("bill", number, nominal), self.checking, cents, when, _digits(bill.text, rng), merchant=bill.name,
            detailed=bill.detailed, channel=bill.channel, website=bill.website,
        )  # fmt: skip

    def purchase(
        self, when: date, rng: random.Random, key: tuple[object, ...], *, pending: bool = False
    ) -> Transaction:
        """Something bought, with the card or from the account."""
        shop: Shop = rng.choice(self._country.shops)
        cents = round(shop.low * (shop.high / shop.low) ** rng.betavariate(1.6, 3.2))
        account = self.card if rng.random() < _CREDIT_SHARE else self.checking
        return self._row(
            key, account, cents, when, _digits(shop.text, rng), merchant=shop.name, detailed=shop.detailed,
            channel=shop.channel, website=shop.website, pending=pending,
        )  # fmt: skip

    def refund(self, of: Transaction, when: date, key: tuple[object, ...]) -> Transaction:
        """The money of a purchase comes back."""
        return msgspec.structs.replace(
            of,
            transaction_id=identifier(self._item_id, *key),
            amount=-of.amount,
            date=when.isoformat(),
            authorized_date=when.isoformat(),
            pending=False,
            pending_transaction_id=None,
        )

    def posted(self, pending: Transaction, when: date, rng: random.Random, key: tuple[object, ...]) -> Transaction:
        """The posted form of a pending purchase: a new id, now and then another amount and descriptor."""
        tips = any(shop.tips and shop.name == pending.merchant_name for shop in self._country.shops)
        amount = pending.amount
        if tips and rng.random() < 0.7:
            amount = (amount * Decimal(str(round(rng.uniform(1.05, 1.25), 3)))).quantize(self._places)
        return msgspec.structs.replace(
            pending,
            transaction_id=identifier(self._item_id, *key),
            pending_transaction_id=pending.transaction_id,
            pending=False,
            amount=amount,
            date=max(when, date.fromisoformat(pending.date)).isoformat(),
            name=f"{pending.name} {rng.randrange(10_000):04d}" if rng.random() < 0.3 else pending.name,
        )

    def money(self, cents: int) -> Decimal:
        """An amount from minor units."""
        return (Decimal(cents) / self._country.scale).quantize(self._places)

    def _row(
        self,
        key: tuple[object, ...],
        account_id: str,
        cents: int,
        when: date,
        name: str,
        *,
        merchant: str | None = None,
        detailed: str,
        channel: str,
        website: str | None = None,
        pending: bool = False,
    ) -> Transaction:
        return Transaction(
            transaction_id=identifier(self._item_id, *key),
            account_id=account_id,
            amount=self.money(cents),
            date=when.isoformat(),
            authorized_date=when.isoformat(),
            name=name,
            original_description=name,
            merchant_name=merchant,
            merchant_entity_id=identifier("merchant", merchant) if merchant else None,
            iso_currency_code=self._bank.currency,
            payment_channel=channel,
            personal_finance_category=Category(primary(detailed), detailed),
            pending=pending,
            website=website,
            transaction_type="place" if channel == "in store" else "digital" if channel == "online" else "special",
            counterparties=counterparties(merchant, website),
        )


_PRIMARIES = (
    "INCOME",
    "TRANSFER_IN",
    "TRANSFER_OUT",
    "LOAN_PAYMENTS",
    "BANK_FEES",
    "ENTERTAINMENT",
    "FOOD_AND_DRINK",
    "GENERAL_MERCHANDISE",
    "HOME_IMPROVEMENT",
    "MEDICAL",
    "PERSONAL_CARE",
    "GENERAL_SERVICES",
    "GOVERNMENT_AND_NON_PROFIT",
    "TRANSPORTATION",
    "TRAVEL",
    "RENT_AND_UTILITIES",
)


def primary(detailed: str) -> str:
    """The primary category that a detailed one belongs to."""
    return next((each for each in _PRIMARIES if detailed.startswith(each)), "GENERAL_MERCHANDISE")


def counterparties(merchant: str | None, website: str | None) -> msgspec.Raw:
    """Plaid's list of a transaction's counterparties, encoded."""
    if merchant is None:
        return msgspec.Raw(b"[]")
    party = {
        "name": merchant,
        "type": "merchant",
        "logo_url": None,
        "website": website,
        "entity_id": identifier("merchant", merchant),
        "confidence_level": "VERY_HIGH",
    }
    return msgspec.Raw(encode([party]))


def _digits(text: str, rng: random.Random) -> str:
    return "".join(str(rng.randrange(10)) if letter == "#" else letter for letter in text)


def _count(rng: random.Random, mean: float) -> int:
    """A small number of things in a day, around ``mean``."""
    return sum(rng.random() < mean / 6 for _ in range(6))
