"""The first sync of one item with 50,000 transactions, by a real worker process, against COPY of the same rows.

The bank is `tests.support.page_server`: its pages are made beforehand, so that it costs little. The reference
copies the very transactions and history rows that the sync wrote, from memory, into tables of the same shapes
and indexes. Sync and reference alternate; each is the median of three, and both begin with empty tables.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import sql

from engine.host.postgres import Postgres
from engine.host.valkey import Valkey
from engine.profile import Profile, prepare
from engine.queue import Keys, connect
from engine.queue.hints import Hints
from engine.secrets import Secrets
from engine.settings import Settings
from engine.store import migrate
from engine.store.direct import Direct
from tests.support import tether

ROWS = 50_000
ROUNDS = 3
WARM_UP = 1_000
TABLES = ("transactions", "transaction_history")
LONGEST_S = 120.0


def run(rows: int = ROWS) -> dict[str, Any]:
    """See the module. Aims: copy_ratio (COPY's time by the sync's), peak_worker_mb."""
    with tether.folder() as folder, _ground(folder) as ground:
        with ground.bank(WARM_UP) as url, ground.worker(url):
            ground.sync()
        with ground.bank(rows) as url, ground.worker(url) as worker:
            syncs, copies = [], []
            for _ in range(ROUNDS):
                ground.empty()
                syncs.append(ground.sync())
                ground.check(rows)
                copies.append(ground.copy())
            peak = worker.peak_mb()
            hops = ground.hops()
    ratio = round(statistics.median(copies) / statistics.median(syncs), 3)
    return {
        "bench": "ingest",
        "figures": {
            "rows": rows,
            "sync_s": [round(value, 3) for value in syncs],
            "rows_a_second": round(rows / statistics.median(syncs)),
            "hops_ms": hops,
        },
        "reference": {"what": "COPY of transactions and history", "copy_s": [round(value, 3) for value in copies]},
        "ratio": ratio,
        "aims": {
            "copy_ratio": {"value": ratio, "aim": ">= 0.45", "ok": ratio >= 0.45},
            "peak_worker_mb": {"value": round(peak, 1), "aim": "<= 150", "ok": peak <= 150},
        },
    }


class _Watch(threading.Thread):
    """The highest memory a process reached: the kernel's own mark on Linux, sampled elsewhere."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self._highest = 0.0
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.02):
            try:
                self._highest = max(self._highest, self._process.memory_info().rss / 1e6)
            except psutil.Error:
                return

    def peak_mb(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status")
        if status.exists():
            mark = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
            return max(self._highest, int(mark.split()[1]) / 1024)
        return self._highest


@dataclass
class _Ground:
    """Servers, a linked item, and the ways to measure on them."""

    profile: Profile
    database: str
    broker: str
    store: Direct
    connection: psycopg.Connection[Any]
    item: str = ""

    @contextmanager
    def bank(self, rows: int) -> Iterator[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.page_server", str(rows)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.communicate()

    @contextmanager
    def worker(self, bank: str) -> Iterator[_Watch]:
        environ = {
            **os.environ,
            "SYNCDESK_PROFILE": str(self.profile.root),
            "DATABASE_URL": self.database,
            "REDIS_URL": self.broker,
            "SYNCDESK_PLAID_URL": bank,
            "SYNCDESK_PLAID_ITEM_LIMIT": "1000000",
            "SYNCDESK_PLAID_CLIENT_LIMIT": "1000000",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "scheduler.command", "worker", "--pool", "sync"],
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        watch = _Watch(process.pid)
        watch.start()
        try:
            yield watch
        finally:
            watch.done.set()
            process.terminate()
            process.wait(20)

    def link(self) -> None:
        self.item = str(uuid.uuid4())
        settings = Settings(database_url=self.database)
        sealed = Secrets(self.profile, settings).seal("access-bench", self.item)
        self.store.call(
            "item_link", id=self.item, user="me", plaid_item_id=self.item, institution_id="ins_1",
            institution_name="Bench Bank", label="", environment="simulated", access_token=sealed.text,
            access_key_id=sealed.key_id, webhook_url=None, accounts=[], correlation="bench",
        )  # fmt: skip

    def sync(self) -> float:
        """Seconds from the hint to the commit of the item's first sync."""
        self.link()
        user = str(self._one("select user_id from syncdesk.items where id = %s", self.item))
        hints = Hints(connect(self.broker, "api"), Keys("syncdesk"))
        began = time.time()
        hints.sync(self.item, user, "Bench Bank", "high", "link", "bench")
        end = time.monotonic() + LONGEST_S
        while time.monotonic() < end:
            done = self._one(
                "select extract(epoch from max(finished_at))::float8 from syncdesk.sync_runs"
                " where item_id = %s and state = 'done'",
                self.item,
            )
            if done is not None:
                return float(done) - began
            time.sleep(0.02)
        raise AssertionError("the first sync did not end in time")

    def check(self, rows: int) -> None:
        for table in TABLES:
            found = self._one(f"select count(*) from syncdesk.{table} where item_id = %s", self.item)
            assert found == rows, (table, found)

    def empty(self) -> None:
        self.connection.execute("truncate syncdesk.transactions, syncdesk.transaction_history, syncdesk.stage")
        self.connection.execute("checkpoint")

    def copy(self) -> float:
        """Seconds of COPY from memory of what the sync wrote."""
        data = {table: self._dump(table) for table in TABLES}
        self.connection.execute("drop schema if exists reference cascade; create schema reference")
        for table in TABLES:
            self.connection.execute(f"create table reference.{table} (like syncdesk.{table} including all)")
        self.empty()
        began = time.perf_counter()
        with self.connection.transaction(), self.connection.cursor() as cursor:
            for table in TABLES:
                columns = sql.SQL(", ").join(map(sql.Identifier, self._columns(table)))
                with cursor.copy(
                    sql.SQL("copy {} ({}) from stdin").format(sql.Identifier("reference", table), columns)
                ) as into:
                    for start in range(0, len(data[table]), 1 << 20):
                        into.write(data[table][start : start + (1 << 20)])
        return time.perf_counter() - began

    def hops(self) -> Any:
        return self._one("select timing from syncdesk.sync_runs where state = 'done' order by finished_at desc limit 1")

    def _dump(self, table: str) -> bytes:
        columns = sql.SQL(", ").join(map(sql.Identifier, self._columns(table)))
        query = sql.SQL("copy (select {} from {} order by id) to stdout").format(
            columns, sql.Identifier("syncdesk", table)
        )
        with self.connection.cursor() as cursor, cursor.copy(query) as out:
            return b"".join(bytes(part) for part in out)

    def _columns(self, table: str) -> list[str]:
        found = self.connection.execute(
            "select column_name from information_schema.columns where table_schema = 'syncdesk' and table_name = %s"
            " and column_name <> 'id' order by ordinal_position",
            (table,),
        )
        return [row[0] for row in found]

    def _one(self, query: str, *values: Any) -> Any:
        row = self.connection.execute(query, values).fetchone()
        return row[0] if row else None


@contextmanager
def _ground(folder: Path) -> Iterator[_Ground]:
    profile = Profile("bench", folder / "profile")
    prepare(profile)
    database, broker = Postgres(profile), Valkey(profile)
    database.start()
    try:
        broker.start()
        try:
            migrate.migrate(database.url)
            store = Direct(database.url)
            with psycopg.connect(database.url, autocommit=True) as connection:
                yield _Ground(profile, database.url, broker.url, store, connection)
            store.close()
        finally:
            broker.stop()
    finally:
        database.stop()
