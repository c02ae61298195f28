"""Redis dies in the middle of an hour's webhooks, comes back empty, and is emptied once more: nobody notices."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from engine import launch
from engine.api import types_banks
from engine.api.client import Client
from engine.demo.bank import BankControl
from engine.demo.ledger import Ledger, bank_rows
from engine.host.valkey import Valkey
from tests.support import servers
from tests.support.engines import Engine, engine
from tests.support.wait import until

BANKS = 10
WEBHOOKS = 2000
UNDER_WAY = 100  # webhooks that the bank sends at a time
NOTICES = 5  # every so manieth webhook is one that must become a notice; the others say that there is news

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals"),
    pytest.mark.slow,
    pytest.mark.timeout(400),
]


@pytest.fixture
def broker() -> Iterator[Valkey]:
    """A broker of the person's own, which nobody starts again but the test. It keeps no file."""
    with servers.broker() as made:
        yield made


class Bank:
    """The engine's sandbox bank with linked items, and the webhooks that it sends one after the other."""

    def __init__(self, running: Engine, control: BankControl) -> None:
        self._control = control
        self.items: list[str] = []
        self.sent = 0
        self.notices = 0
        found = launch.read(running.profile)
        assert found is not None
        with Client(str(found.admin), found.token) as client:
            for _ in range(BANKS):
                hook = f"{found.public}/api/webhooks/plaid"
                made = control.do("items", living=False, transactions=20, webhook=hook)
                self.items.append(made["item_id"])
                client.act("items/link", types_banks.LinkRequest(public_token=made["public_token"], user="Kim"))
                control.do("ready", item_id=made["item_id"])
        self._before = self._answered = self._last()

    def send(self, count: int) -> None:
        """So many webhooks, each about something that happened."""
        for _ in range(count):
            item = self.items[self.sent % BANKS]
            self.sent += 1
            if (self.sent // BANKS) % NOTICES:
                self._control.do("transactions", item_id=item)
            else:
                self._control.do("webhook", item_id=item, webhook_code="NEW_ACCOUNTS_AVAILABLE")
                self.notices += 1
            if self.sent % UNDER_WAY == 0:
                until(lambda: self._unanswered() < UNDER_WAY, 120, "answers to the webhooks")

    def all_taken_at_once(self) -> None:
        """Each was answered with 200 at its first try."""
        until(lambda: not self._unanswered(), 120, "answers to the webhooks")
        sent = self._control.ask("webhooks", after=self._before)["webhooks"]
        tries = [[attempt["status"] for attempt in each["attempts"]] for each in sent]
        assert len(tries) == self.sent
        assert all(statuses == [200] for statuses in tries)

    def truth(self) -> dict[str, Any]:
        return dict(self._control.ask("truth")["items"])

    def _unanswered(self) -> int:
        """How many wait for their answer; those before the first such one are not looked at again."""
        rows = self._control.ask("webhooks", after=self._answered)["webhooks"]
        waiting = [each["id"] for each in rows if each["state"] == "waiting"]
        self._answered = min(waiting) - 1 if waiting else max((each["id"] for each in rows), default=self._answered)
        return len(waiting)

    def _last(self) -> int:
        return max((each["id"] for each in self._control.ask("webhooks")["webhooks"]), default=0)


def test_redis_is_gone_while_an_hours_webhooks_come_in(broker: Valkey) -> None:
    services = {"REDIS_URL": broker.url, "SYNCDESK_PLAID_ITEM_LIMIT": "1000000"}
    with engine(**services) as running:
        running.up()
        with BankControl(str(running.look()["engine"]["plaid_url"])) as control, Ledger(running.profile) as ledger:
            bank = Bank(running, control)
            bank.send(WEBHOOKS // 4)
            assert broker.pid is not None
            os.kill(broker.pid, signal.SIGKILL)
            bank.send(WEBHOOKS // 4)
            broker.stop()
            broker.start()  # another server, empty, at the same address
            bank.send(WEBHOOKS // 4)
            with redis.Redis.from_url(broker.url) as client:
                client.flushall()
            bank.send(WEBHOOKS // 4)
            bank.all_taken_at_once()

            def equal() -> bool:
                truth = bank.truth()
                return all(ledger.rows(item) == bank_rows(truth[item]) for item in bank.items)

            until(equal, 120, "a database equal to the banks")
            until(lambda: not ledger.one("select count(*) from syncdesk.inbox where state = 'received'"), 120)
            until(lambda: not ledger.one("select count(*) from syncdesk.outbox where sent_at is null"), 120)
            until(lambda: not ledger.one("select count(*) from syncdesk.items where wanted > done"), 120)
            assert ledger.one("select count(*) from syncdesk.inbox where state = 'processed'") >= bank.sent
            told = "select count(*) from syncdesk.outbox where payload ->> 'code' = 'NEW_ACCOUNTS_AVAILABLE'"
            assert ledger.one(told) == bank.notices
            once = "select count(*) from syncdesk.notices n join syncdesk.outbox o on o.id = n.outbox_id"
            assert ledger.one(once + " where o.payload ->> 'code' = 'NEW_ACCOUNTS_AVAILABLE'") == bank.notices
            assert ledger.added_twice() == 0
            assert ledger.one("select count(*) from syncdesk.failed_jobs") == 0
