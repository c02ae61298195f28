"""The bank's own control surface, ``/sandbox/_control/*``: not Plaid's, for demos, tests and benches.

Each is a POST with a JSON object (or a GET), answered by a JSON object. Mistakes in a request are
answered 400 with ``{"message"}``.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec

from engine import clock
from engine.errors import UsageError
from engine.sandbox.bank import Bank
from engine.sandbox.deliveries import Delivery
from engine.sandbox.endpoints import fire, made_by_hand
from engine.sandbox.items import HISTORICAL, INITIAL, Item
from engine.sandbox.life import Life
from engine.sandbox.model import Transaction, identifier
from engine.sandbox.requestlog import RequestLog

Body = dict[str, Any]


class Control:
    """The operations by name."""

    def __init__(self, bank: Bank, life: Life, log: RequestLog) -> None:
        self._bank = bank
        self._life = life
        self._log = log
        self.latency_s = 0.0
        self.reads: Mapping[str, Callable[[Mapping[str, str]], Body]] = {
            "truth": self.truth,
            "items": self.items,
            "requests": self.requests,
            "webhooks": self.webhooks,
            "faults": self.list_faults,
        }
        self.writes: Mapping[str, Callable[[Body], Body]] = {
            "items": self.create_item,
            "transactions": self.add,
            "post": self.post,
            "modify": self.modify,
            "remove": self.remove,
            "mutate": self.mutate,
            "accounts": self.change_accounts,
            "ready": self.ready,
            "break": self.break_item,
            "repair": self.repair,
            "webhook": self.webhook,
            "faults": self.add_fault,
            "faults/clear": self.clear_faults,
            "life": self.set_life,
            "latency": self.set_latency,
            "keys/rotate": lambda _: {"kid": self._bank.keys.rotate()},
        }

    # -- reading

    def truth(self, query: Mapping[str, str]) -> Body:
        """Every live transaction as Plaid would give it; ``?item_id=`` for one item."""
        wanted = query.get("item_id")
        items = [self._bank.by_id(wanted)] if wanted else list(self._bank.items.values())
        return {"items": {item.item_id: self._truth(item) for item in items}}

    def _truth(self, item: Item) -> Body:
        rows = list(item.ledger.live())
        return {
            "status": item.status,
            "removed": item.removed,
            "error": item.error,
            "count": len(rows),
            "pending": sum(row.pending for row in rows),
            "accounts": item.accounts,
            "transactions": rows,
        }

    def items(self, query: Mapping[str, str]) -> Body:
        """What items there are, with their tokens and the bills of their households."""
        return {"items": [_item(item) for item in self._bank.items.values()]}

    def requests(self, query: Mapping[str, str]) -> Body:
        """Answered requests, oldest first, after ``?after=`` and only of ``?path=``, ``?item_id=``."""
        after = int(query.get("after", "0"))
        rows = [
            row
            for row in self._log.after(after)
            if query.get("path") in (None, row.path) and query.get("item_id") in (None, row.item_id)
        ]
        return {"requests": rows}

    def webhooks(self, query: Mapping[str, str]) -> Body:
        """Webhooks, oldest first, after ``?after=`` and only of ``?item_id=``."""
        after = int(query.get("after", "0"))
        return {
            "webhooks": [
                each.view()
                for each in self._bank.deliveries
                if each.number > after and query.get("item_id") in (None, each.item_id)
            ]
        }

    def list_faults(self, query: Mapping[str, str]) -> Body:
        return {"faults": self._bank.faults.all()}

    # -- items

    def create_item(self, body: Body) -> Body:
        """A login. ``exchange``: at once, answering the access token. ``ready``: its history is there at once.

        Also ``institution_id``, ``products``, ``webhook``, ``username``, ``password``, ``days``, ``seed``,
        ``transactions`` (so many plain ones instead of a household's), ``living``.
        """
        item = self._bank.create_item(
            body.get("institution_id", "ins_900001"),
            body.get("products"),
            webhook=body.get("webhook"),
            username=body.get("username", "user_good"),
            password=body.get("password"),
            days=body.get("days", 90),
            bulk=body.get("transactions", 0),
            seed=body.get("seed"),
        )
        if "living" in body:
            item.living = bool(body["living"]) and item.household is not None
        if body.get("exchange"):
            self._bank.exchange(item.opening.public_token)
        if body.get("ready"):
            self._bank.advance(item, HISTORICAL)
        return _item(item)

    def ready(self, body: Body) -> Body:
        """Bring the history in now; ``status`` INITIAL_UPDATE_COMPLETE for its newest part only."""
        item = self._item(body)
        self._bank.advance(item, body.get("status", HISTORICAL) if body.get("status") == INITIAL else HISTORICAL)
        return {"status": item.status}

    def break_item(self, body: Body) -> Body:
        """The item needs the person: ``error_code`` until it is repaired."""
        self._bank.break_item(self._item(body), body.get("error_code", "ITEM_LOGIN_REQUIRED"))
        return {}

    def repair(self, body: Body) -> Body:
        """The item works again, by itself (LOGIN_REPAIRED) unless ``update_mode``."""
        self._bank.repair(self._item(body), by_itself=not body.get("update_mode", False))
        return {}

    # -- transactions

    def add(self, body: Body) -> Body:
        """New ones: ``transactions`` (Plaid's fields; all but amount are optional) or ``count`` made up.

        ``pending``, ``dates_back`` (days before today) apply to made-up ones; ``fire`` (true) sends news.
        """
        item = self._item(body)
        if "transactions" in body:
            rows = [_given(item, entry) for entry in body["transactions"]]
        else:
            rows = [self._made(item, body) for _ in range(body.get("count", 1))]
        self._bank.add(item, rows)
        return {"transaction_ids": [row.transaction_id for row in rows], **self._fired(item, body, len(rows))}

    def _made(self, item: Item, body: Body) -> Transaction:
        day = clock.now().date() - timedelta(days=body.get("dates_back", 0))
        pending = bool(body.get("pending", False))
        if item.household is not None:
            key = ("added", secrets.token_hex(8))
            return item.household.purchase(day, self._bank.random, key, pending=pending)
        cents = self._bank.random.randrange(100, 20_000)
        entry = {
            "date_transacted": day.isoformat(),
            "date_posted": day.isoformat(),
            "amount": Decimal(cents) / 100,
            "description": f"PURCHASE {cents}",
        }
        return msgspec.structs.replace(made_by_hand(item, entry), pending=pending)

    def post(self, body: Body) -> Body:
        """A pending one posts (the oldest without ``transaction_id``); ``changes`` to the posted form."""
        item = self._item(body)
        wanted = body.get("transaction_id") or next(iter(item.pending), None)
        if wanted is None:
            raise UsageError("The item has no pending transaction.")
        row = self._bank.post(item, self._bank.transaction(item, wanted), _money(body.get("changes") or {}))
        answer = {"transaction_id": row.transaction_id, "pending_transaction_id": wanted}
        return {**answer, **self._fired(item, body, 1)}

    def modify(self, body: Body) -> Body:
        """Change fields: ``transaction_id``, ``changes``."""
        item = self._item(body)
        row = self._bank.modify(item, body["transaction_id"], _money(body["changes"]))
        return {"transaction": row, **self._fired(item, body, 0)}

    def remove(self, body: Body) -> Body:
        """Take away ``transaction_ids``, or the newest ``count``."""
        item = self._item(body)
        ids = body.get("transaction_ids")
        if ids is None:
            ids = [row.transaction_id for row in item.ledger.live()][-body.get("count", 1) :]
        self._bank.remove(item, ids)
        return {"transaction_ids": ids, **self._fired(item, body, 0)}

    def mutate(self, body: Body) -> Body:
        """Make an update that is being paged restart, as if a row of an earlier page had changed."""
        self._item(body).ledger.disturb()
        return {}

    def change_accounts(self, body: Body) -> Body:
        """``close``: account ids. ``open``: name, mask, type, subtype and, where the bank has one,
        ``persistent_account_id``. Answers the ids of those that were opened."""
        item = self._item(body)
        opened = [
            {
                "account_id": identifier(item.item_id, "opened", len(item.accounts), number, uuid.uuid4().hex),
                "name": each.get("name", "Plaid Checking"),
                "mask": each.get("mask", "0000"),
                "official_name": None,
                "type": each.get("type", "depository"),
                "subtype": each.get("subtype", "checking"),
                "balances": {"available": "100", "current": "100"},
                **{key: each[key] for key in ("persistent_account_id",) if key in each},
            }
            for number, each in enumerate(body.get("open", []))
        ]
        self._bank.change_accounts(item, body.get("close", []), opened)
        return {"account_ids": [each["account_id"] for each in opened]}

    # -- webhooks and trouble

    def webhook(self, body: Body) -> Body:
        """Send any webhook: ``webhook_code`` with Plaid's fields, or ``webhook_type`` and ``fields`` of one's own."""
        item = self._item(body)
        before = self._bank.deliveries[-1].number if self._bank.deliveries else 0
        if "webhook_type" in body:
            self._bank.tell(item, body["webhook_type"], body["webhook_code"], **body.get("fields", {}))
        else:
            fire(self._bank, item, body["webhook_code"])
        return {"webhook_ids": [each.number for each in self._bank.deliveries if each.number > before]}

    def add_fault(self, body: Body) -> Body:
        """Take a rule of `engine.sandbox.faults.Fault` into force."""
        return {"id": self._bank.faults.add(body).id}

    def clear_faults(self, body: Body) -> Body:
        return {"cleared": self._bank.faults.clear(body.get("id"))}

    def set_life(self, body: Body) -> Body:
        """``running``: whether households live; ``speed``; ``step``: one event of ``item_id`` now."""
        if "running" in body:
            self._life.running = bool(body["running"])
        if "speed" in body:
            self._bank.options.speed = max(0.001, float(body["speed"]))
        if body.get("step"):
            return {"transactions": self._life.step(self._item(body))}
        return {"running": self._life.running, "speed": self._bank.options.speed}

    def set_latency(self, body: Body) -> Body:
        """Every answer of Plaid's endpoints takes ``ms`` longer."""
        self.latency_s = max(0.0, float(body.get("ms", 0))) / 1000
        return {"ms": self.latency_s * 1000}

    def _item(self, body: Body) -> Item:
        return self._bank.by_id(str(body.get("item_id")))

    def _fired(self, item: Item, body: Body, new: int) -> Body:
        delivery: Delivery | None = self._bank.tell_news(item, new) if body.get("fire", True) else None
        return {"webhook_id": delivery.number if delivery else None}


def _item(item: Item) -> Body:
    opening = item.opening
    bills = item.household.bills if item.household is not None else []
    return {
        "item_id": item.item_id,
        "access_token": item.access_token if item.exchanged else None,
        "public_token": opening.public_token,
        "institution_id": item.institution.institution_id,
        "institution_name": item.institution.name,
        "currency": item.institution.currency,
        "username": opening.username,
        "webhook": item.webhook,
        "status": item.status,
        "error": item.error,
        "removed": item.removed,
        "exchanged": item.exchanged,
        "sync_called": item.sync_called,
        "accounts": item.accounts,
        "transactions": len(item.ledger),
        "bills": [_bill(item, number) for number in range(len(bills))],
    }


def _bill(item: Item, number: int) -> Body:
    """A bill as a person would write it down: name, usual amount, category, day."""
    household = item.household
    if household is None:
        return {}
    bill = household.bills[number]
    amount = household.money(bill.cents)
    return {
        "name": bill.name,
        "amount": amount,
        "currency": item.institution.currency,
        "category": bill.detailed,
        "cadence": "monthly",
        "day": bill.day,
        "varies": bill.season > 0,
        "account_id": household.checking,
    }


def _given(item: Item, entry: Body) -> Transaction:
    """A transaction from some of Plaid's fields."""
    today = clock.now().date().isoformat()
    fields = {
        "transaction_id": identifier(item.item_id, "given", secrets.token_hex(8)),
        "account_id": item.accounts[0].account_id,
        "date": today,
        "authorized_date": entry.get("date", today),
        "name": "PURCHASE",
        "iso_currency_code": item.accounts[0].balances.iso_currency_code,
        **_money(entry),
    }
    return msgspec.convert(fields, Transaction)


def _money(entry: Body) -> Body:
    """Amounts may come as numbers or as text; they stay exact."""
    if "amount" not in entry:
        return entry
    return {**entry, "amount": Decimal(str(entry["amount"]))}
