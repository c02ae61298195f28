"""The bank's state and everything that can happen to it. No HTTP here; used by one thread at a time.

Whatever changes what an item is goes through `Bank._do`, which writes it to the journal first, so
that a bank started again on the same journal is the same bank.
"""

from __future__ import annotations

import heapq
import random
import secrets
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from engine import clock
from engine.errors import NotFound
from engine.sandbox import custom
from engine.sandbox.deliveries import KEPT, Delivery
from engine.sandbox.faults import Faults
from engine.sandbox.institutions import find
from engine.sandbox.items import HISTORICAL, INITIAL, NOT_READY, Item, Opening, open_item
from engine.sandbox.journal import Journal
from engine.sandbox.limits import Limits
from engine.sandbox.model import Transaction, encode, identifier
from engine.sandbox.refusals import TABLE, Refusal
from engine.sandbox.signing import Keys

PUBLIC_TOKEN_S = 30 * 60


@dataclass
class Options:
    """How the bank behaves. Times are real seconds; ``speed`` makes its life and its retries so much faster.

    ``client_id`` and ``secret``: the only keys it takes (None: any). ``item_limit`` and
    ``client_limit``: calls of /transactions/sync a minute (None: unlimited; Plaid's sandbox: 50, 1000).
    ``older_webhooks`` sends DEFAULT_UPDATE beside SYNC_UPDATES_AVAILABLE.
    """

    seed: int = 1
    speed: float = 1.0
    client_id: str | None = None
    secret: str | None = None
    initial_s: float = 0.3
    historical_s: float = 1.0
    item_limit: int | None = None
    client_limit: int | None = None
    older_webhooks: bool = False
    living: bool = True
    state: Path | None = None
    hosted_base: str = "http://127.0.0.1"


@dataclass
class Bank:
    """Items, tokens, faults and webhooks. ``deliver`` takes a webhook to be sent (none: it is only noted)."""

    options: Options = field(default_factory=Options)
    deliver: Callable[[Delivery], None] | None = None

    def __post_init__(self) -> None:
        self.keys = Keys()
        self.faults = Faults()
        self.deliveries: deque[Delivery] = deque(maxlen=KEPT)
        self.items: dict[str, Item] = {}
        self._by_token: dict[str, Item] = {}
        self._public: dict[str, tuple[Item, float]] = {}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count(1)
        self.limits = Limits()
        self.random = random.Random(self.options.seed)  # noqa: S311 - a simulated life, no secret
        self._journal = Journal(self.options.state)
        self._operations: Mapping[str, Callable[..., Any]] = {
            "key": self.keys.restore,
            "open": self._open,
            "exchange": self._exchange,
            "stage": lambda item_id, status: self.items[item_id].stage(status),
            "add": lambda item_id, rows: self.items[item_id].add(rows),
            "modify": lambda item_id, rows: self.items[item_id].modify(rows),
            "remove": lambda item_id, transaction_ids: self.items[item_id].remove(transaction_ids),
            "accounts": lambda item_id, close, opened: self.items[item_id].change_accounts(close, opened),
            "set": self._set,
            "token": self._token,
        }
        self._resume()

    # -- the journal

    def _do(self, operation: str, **arguments: Any) -> Any:
        result = self._operations[operation](**arguments)
        self._journal.write(operation, arguments)
        return result

    def _resume(self) -> None:
        known = False
        for operation, arguments in self._journal.read():
            known = True
            self._operations[operation](**arguments)
        self._journal.open()
        if self.options.state is not None and not known:
            self._journal.write("key", self.keys.export())
        for item in self.items.values():
            if not item.removed:
                self._get_ready(item)

    def close(self) -> None:
        """Let go of the journal."""
        self._journal.close()

    # -- time

    def at(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something later; it is done by `tick`."""
        heapq.heappush(self._agenda, (clock.monotonic() + delay_s, next(self._numbers), action))

    def tick(self) -> float | None:
        """Do what is due; seconds until the next thing, None where nothing waits."""
        while self._agenda:
            wait = self._agenda[0][0] - clock.monotonic()
            if wait > 0:
                return wait
            _, _, action = heapq.heappop(self._agenda)
            action()
        return None

    # -- items

    def create_item(
        self,
        institution_id: str,
        products: list[str] | None = None,
        *,
        webhook: str | None = None,
        username: str = "user_good",
        password: object = None,
        days: int = 90,
        bulk: int = 0,
        seed: str | None = None,
    ) -> Item:
        """A login that was just linked: its public token waits to be exchanged.

        Raises:
            Refusal: the institution or the custom user is not right.
        """
        find(institution_id)
        custom_user: str | None = None
        if username == "user_custom" or isinstance(password, dict) or str(password).lstrip().startswith("{"):
            custom.parse(password)
            custom_user = password if isinstance(password, str) else encode(password).decode()
        elif isinstance(password, str) and password.startswith("error_") and password[6:] in TABLE:
            raise Refusal(password[6:])  # one of the published test credentials
        # The usual user is another person at every link; one with a name of its own is the same person again.
        person = f"link {len(self.items)}" if username in ("user_good", "user_custom") else username
        # Ids and tokens are not the seed's: two banks of one seed must not give the same ones to one database.
        opening = Opening(
            item_id=identifier(uuid.uuid4().hex),
            access_token=f"access-sandbox-{uuid.uuid4()}",
            public_token=f"public-sandbox-{uuid.uuid4()}",
            institution_id=institution_id,
            products=products or ["transactions"],
            webhook=webhook,
            username=username,
            custom_user=custom_user,
            days=days,
            today=_today().isoformat(),
            created_at=clock.iso(clock.now()),
            seed=seed or f"{self.options.seed}:{person}",
            bulk=bulk,
        )
        item: Item = self._do("open", opening=msgspec.to_builtins(opening))
        return item

    def exchange(self, public_token: str) -> Item:
        """The access token for a public token, once and within 30 minutes.

        Raises:
            Refusal: it is unknown, used or too old.
        """
        found = self._public.get(public_token)
        if found is None or clock.monotonic() > found[1]:
            raise Refusal("INVALID_PUBLIC_TOKEN")
        item: Item = self._do("exchange", public_token=public_token)
        self._get_ready(item)
        return item

    def item(self, access_token: str) -> Item:
        """The item of an access token.

        Raises:
            Refusal: never issued, of another environment, or removed.
        """
        item = self._by_token.get(access_token)
        if item is None:
            raise Refusal("INVALID_ACCESS_TOKEN", _token_trouble(access_token))
        if item.removed:
            raise Refusal("ITEM_NOT_FOUND")
        return item

    def peek(self, access_token: str) -> Item | None:
        """The item of an access token, also a removed one."""
        return self._by_token.get(access_token)

    def by_id(self, item_id: str) -> Item:
        """The item of this id.

        Raises:
            NotFound: there is none.
        """
        item = self.items.get(item_id)
        if item is None:
            raise NotFound(f"The bank has no item {item_id!r}.")
        return item

    def set(self, item: Item, **values: Any) -> None:
        """Change what an item is: webhook, error, removed, sync_called, consent_expires."""
        self._do("set", item_id=item.item_id, values=values)

    def rotate_token(self, item: Item) -> str:
        """Another access token for the item; the old one is unknown from now on."""
        token = f"access-sandbox-{uuid.uuid4()}"
        self._do("token", item_id=item.item_id, access_token=token)
        return token

    # -- transactions

    def add(self, item: Item, rows: Iterable[Transaction]) -> list[Transaction]:
        """New transactions on an item."""
        made = list(rows)
        if made:
            self._do("add", item_id=item.item_id, rows=made)
            item.last_update = clock.iso(clock.now())
        return made

    def modify(self, item: Item, transaction_id: str, changes: Mapping[str, Any]) -> Transaction:
        """Change fields of a live transaction.

        Raises:
            NotFound: it is not there.
            UsageError: a field does not exist or has a wrong type.
        """
        row = self.transaction(item, transaction_id)
        merged = {**msgspec.to_builtins(row, builtin_types=(Decimal, msgspec.Raw)), **changes}
        changed = msgspec.json.decode(encode(merged), type=Transaction)
        self._do("modify", item_id=item.item_id, rows=[changed])
        return changed

    def transaction(self, item: Item, transaction_id: str) -> Transaction:
        """A live transaction.

        Raises:
            NotFound: it is not there.
        """
        row = item.ledger.get(transaction_id)
        if row is None:
            raise NotFound(f"The item has no transaction {transaction_id!r}.")
        return row

    def remove(self, item: Item, transaction_ids: list[str]) -> None:
        """Take transactions away.

        Raises:
            NotFound: one is not there.
        """
        for transaction_id in transaction_ids:
            self.transaction(item, transaction_id)
        self._do("remove", item_id=item.item_id, transaction_ids=transaction_ids)

    def change_accounts(self, item: Item, close: list[str], opened: list[dict[str, Any]]) -> None:
        """Close accounts and open others (`Account`'s fields)."""
        self._do("accounts", item_id=item.item_id, close=close, opened=opened)

    def post(self, item: Item, pending: Transaction, changes: Mapping[str, Any] | None = None) -> Transaction:
        """A pending transaction posts: it goes, and its posted form comes with another id."""
        key = ("posted", secrets.token_hex(8))
        if item.household is not None:
            row = item.household.posted(pending, _today(), self.random, key)
        else:
            row = msgspec.structs.replace(
                pending,
                transaction_id=identifier(item.item_id, *key),
                pending=False,
                pending_transaction_id=pending.transaction_id,
            )
        row = msgspec.structs.replace(row, **dict(changes or {}))
        self.remove(item, [pending.transaction_id])
        self.add(item, [row])
        return row

    # -- webhooks

    def send(
        self, url: str | None, kind: str, code: str, fields: Mapping[str, Any], item: Item | None = None
    ) -> Delivery | None:
        """Send a webhook; None where there is no address for it."""
        if url is None:
            return None
        body = {"webhook_type": kind, "webhook_code": code, **fields, "environment": "sandbox"}
        delivery = Delivery(next(self._numbers), url, item.item_id if item else None, code, encode(body))
        self.deliveries.append(delivery)
        if item is not None:
            item.last_webhook = (clock.iso(clock.now()), code)
        if self.deliver is not None:
            self.deliver(delivery)
        return delivery

    def tell(self, item: Item, kind: str, code: str, **fields: Any) -> Delivery | None:
        """Send a webhook about an item to its address."""
        return self.send(item.webhook, kind, code, {"item_id": item.item_id, **fields}, item)

    def tell_news(self, item: Item, new: int = 0, *, always: bool = False) -> Delivery | None:
        """SYNC_UPDATES_AVAILABLE, which Plaid holds back until /transactions/sync was called once."""
        if item.removed:
            return None
        if self.options.older_webhooks and new and item.status == HISTORICAL:
            self.tell(item, "TRANSACTIONS", "DEFAULT_UPDATE", error=None, new_transactions=new)
        if not (item.sync_called or always):
            return None
        return self.tell(
            item,
            "TRANSACTIONS",
            "SYNC_UPDATES_AVAILABLE",
            initial_update_complete=item.status != NOT_READY,
            historical_update_complete=item.status == HISTORICAL,
        )

    # -- what happens by itself

    def _get_ready(self, item: Item) -> None:
        if item.exchanged and item.status == NOT_READY:
            self.at(self.options.initial_s, lambda: self.advance(item, INITIAL))
        if item.exchanged and item.status in (NOT_READY, INITIAL):
            self.at(self.options.historical_s, lambda: self.advance(item, HISTORICAL))

    def advance(self, item: Item, status: str) -> None:
        """Bring the first 30 days in, or all the rest; sends what Plaid sends."""
        if item.removed or item.status in (HISTORICAL, status):
            return
        if status == HISTORICAL and item.status == NOT_READY:
            self.advance(item, INITIAL)
        new = self._do("stage", item_id=item.item_id, status=status)
        item.last_update = clock.iso(clock.now())
        code = "INITIAL_UPDATE" if status == INITIAL else "HISTORICAL_UPDATE"
        self.tell(item, "TRANSACTIONS", code, error=None, new_transactions=new)
        self.tell_news(item)

    def break_item(self, item: Item, code: str = "ITEM_LOGIN_REQUIRED") -> None:
        """The item needs the person from now on; ITEM: ERROR is sent."""
        self.set(item, error=code)
        self.tell(item, "ITEM", "ERROR", error={**Refusal(code).error(), "status": Refusal(code).status})

    def repair(self, item: Item, *, by_itself: bool) -> None:
        """The item works again. LOGIN_REPAIRED is sent where no update mode did it."""
        was_broken = item.error is not None
        self.set(item, error=None, consent_expires=None)
        if by_itself and was_broken:
            self.tell(item, "ITEM", "LOGIN_REPAIRED")
        if was_broken:
            self.tell_news(item)

    # -- operations, also done again from the journal

    def _open(self, opening: Mapping[str, Any]) -> Item:
        item = open_item(msgspec.convert(opening, Opening))
        self.items[item.item_id] = item
        self._by_token[item.access_token] = item
        self._public[item.opening.public_token] = (item, clock.monotonic() + PUBLIC_TOKEN_S)
        item.living = item.household is not None and not item.opening.bulk
        return item

    def _exchange(self, public_token: str) -> Item:
        item, _ = self._public.pop(public_token)
        item.exchanged = True
        return item

    def _set(self, item_id: str, values: Mapping[str, Any]) -> None:
        item = self.items[item_id]
        for name, value in values.items():
            setattr(item, name, value)

    def _token(self, item_id: str, access_token: str) -> None:
        item = self.items[item_id]
        self._by_token.pop(item.access_token, None)
        item.access_token = access_token
        self._by_token[access_token] = item


def _today() -> date:
    return clock.now().date()


def _token_trouble(token: str) -> str | None:
    parts = token.split("-", 2)
    if len(parts) != 3 or parts[0] != "access" or not parts[2]:
        return "provided access token is in an invalid format. expected format: access-<environment>-<identifier>"
    if parts[1] != "sandbox":
        return f'provided access token is for the wrong Plaid environment. expected "sandbox", got "{parts[1][:20]}"'
    return None


def unix_ms() -> float:
    """Wall clock in Unix milliseconds, for logs that are compared with other programs'."""
    return time.time() * 1000
