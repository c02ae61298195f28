"""An install in parts for benches: a database, a broker, a paced bank, many linked items, and workers as replicas."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import redis

from engine.host.postgres import Postgres
from engine.host.valkey import Valkey
from engine.http import open_here
from engine.profile import Profile, prepare
from engine.queue import Hints, Keys, connect
from engine.queue.limits import from_settings
from engine.secrets import Secrets
from engine.settings import Settings
from engine.store import migrate
from engine.store.direct import Direct
from tests.support import tether
from tests.support.engines import clean_environment

LONGEST_S = 900.0


@dataclass(kw_only=True)
class Install:
    """What replicas share."""

    profile: Profile
    environment: dict[str, str]
    settings: Settings
    bank_url: str
    store: Direct
    client: redis.Redis
    keys: Keys
    database: psycopg.Connection[Any]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def hints(self) -> Hints:
        return Hints(self.client, self.keys)

    def link(self, count: int, user: str = "bench") -> list[str]:
        """``count`` new items that were never synced and of which nobody wishes a sync; their ids."""
        secrets, ids = Secrets(self.profile, self.settings), [str(uuid.uuid4()) for _ in range(count)]
        for item in ids:
            sealed = secrets.seal(f"access-{item}", item)
            self.store.call(
                "item_link", id=item, user=user, plaid_item_id=item, institution_id="ins_1",
                institution_name="Bench Bank", label="", environment="simulated", access_token=sealed.text,
                access_key_id=sealed.key_id, webhook_url=None, accounts=[], correlation="bench",
            )  # fmt: skip
        self.database.execute("update syncdesk.items set done = wanted")
        return ids

    def limit(self, concurrency: int) -> None:
        """Syncs at a time in the whole install."""
        limits = from_settings(self.settings) | {"transactions:concurrency": str(concurrency)}
        self.client.hset(self.keys.limits, mapping=limits)

    def start(self, count: int = 1) -> list[subprocess.Popen[bytes]]:
        """More replicas of the sync worker, ready to work."""
        before = self._beating()
        made = [
            subprocess.Popen(
                [sys.executable, "-m", "scheduler.command", "worker", "--pool", "sync"], env=self.environment,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            for _ in range(count)
        ]  # fmt: skip
        self.workers += made
        self.wait(lambda: self._beating() >= before + count, "the workers' start")
        return made

    def stop(self) -> None:
        """End all replicas in order."""
        for process in self.workers:
            process.terminate()
        for process in self.workers:
            process.wait(30)
        self.workers = []
        self.client.delete(self.keys.workers)

    def _beating(self) -> int:
        return int(self.client.zcard(self.keys.workers))

    def open(self) -> int:
        """Items whose wish is not served yet."""
        return int(self.one("select count(*) from syncdesk.items where wanted > done"))

    def one(self, query: str, *values: Any) -> Any:
        row = self.database.execute(query, values).fetchone()
        return row[0] if row else None

    def counts(self) -> dict[str, int]:
        """Calls that the bank answered and refused so far."""
        with open_here(self.bank_url + "/counts", 60) as answer:
            found: dict[str, int] = json.load(answer)
        return found

    def wait(self, condition: Any, what: str, every_s: float = 0.02) -> None:
        """Until ``condition()`` is true.

        Raises:
            AssertionError: it does not come.
        """
        end = time.monotonic() + LONGEST_S
        while not condition():
            assert time.monotonic() < end, f"{what} did not come"
            time.sleep(every_s)


@contextlib.contextmanager
def install(
    *, latency_ms: int = 0, item_limit: int = 0, client_limit: int = 0, faster: int = 1, **environ: str
) -> Iterator[Install]:
    """Limits a minute; 0: the bank has none, and the buckets are as good as off.

    With ``faster`` the bank counts over so much less than a minute, and the install is told so much higher limits.
    """
    with tether.folder() as folder, contextlib.ExitStack() as stack:
        profile = Profile("bench", folder / "profile")
        prepare(profile)
        database, broker = Postgres(profile), Valkey(profile)
        database.start()
        stack.callback(database.stop)
        broker.start()
        stack.callback(broker.stop)
        migrate.migrate(database.url)
        bank = stack.enter_context(_bank(latency_ms, item_limit, client_limit, 60 / faster))
        item_limit, client_limit = item_limit * faster or 1_000_000, client_limit * faster or 100_000_000
        given: dict[str, str] = {
            "SYNCDESK_PROFILE": str(profile.root), "DATABASE_URL": database.url, "REDIS_URL": broker.url,
            "SYNCDESK_PLAID_URL": bank, "SYNCDESK_PLAID_ITEM_LIMIT": str(item_limit),
            "SYNCDESK_PLAID_CLIENT_LIMIT": str(client_limit), **environ,
        }  # fmt: skip
        environment = clean_environment(**given)
        settings = Settings(
            database_url=database.url, redis_url=broker.url, plaid_url=bank,
            plaid_item_limit=item_limit, plaid_client_limit=client_limit,
        )  # fmt: skip
        store, client = Direct(database.url), connect(broker.url, "api")
        stack.callback(store.close)
        stack.callback(client.close)
        connection = stack.enter_context(psycopg.connect(database.url, autocommit=True))
        made = Install(
            profile=profile, environment=environment, settings=settings, bank_url=bank, store=store, client=client,
            keys=Keys(settings.redis_namespace), database=connection,
        )  # fmt: skip
        stack.callback(made.stop)
        yield made


@contextlib.contextmanager
def _bank(*arguments: float) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.paced_bank", *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.communicate()
