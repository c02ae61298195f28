"""A whole engine under twenty webhooks a second for ten minutes: does any part's memory grow, does anything pile up?

Every webhook brings one new row to one of ten banks. Memory is what a part holds for itself (nothing shared; of the
database its largest process: the pools open and close connections as calls meet), by the median slope between samples
after a third of the time. The simulated bank keeps all that it ever made, so its slope is shown without an aim. The
reference is the memory at the end of the warm-up.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import psutil
import psycopg
import redis

from engine import launch
from engine.api import types, types_banks
from engine.api.client import Client
from engine.demo.bank import BankControl
from engine.host import postgres
from tests.support.engines import Engine, engine

MINUTES = 10.0
A_SECOND = 20
BANKS = 10
SAMPLE_S = 5.0
WARM_UP = 1 / 3
MB = 1024 * 1024
SLOPE_AIM = 30.0
"""MB an hour. Over ten minutes allocators wander by about two MB, which is twelve an hour."""
BANK = "sandbox"
LONGEST_S = 60.0


@dataclass
class Samples:
    """What was seen every few seconds: by name, values in time."""

    at: list[float] = field(default_factory=list)
    memory: dict[str, list[float]] = field(default_factory=dict)
    open_inbox: list[int] = field(default_factory=list)
    job_keys: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    redis_mb: list[float] = field(default_factory=list)


def run(minutes: float = MINUTES) -> dict[str, Any]:
    """See the module. Aims: slope_<part> in MB/hour, inbox_open, ledger_jobs, redis_keys, redis_slope, lost."""
    with engine(SYNCDESK_PLAID_ITEM_LIMIT="100000", SYNCDESK_PLAID_CLIENT_LIMIT="100000") as made:
        made.up()
        found = launch.read(made.profile)
        url = postgres.running_url(made.profile)
        assert found is not None
        assert url is not None
        broker = redis.Redis.from_url(made.run("queue", "url").stdout.strip())
        with Client(str(found.admin), found.token) as client:
            bank_url = str(client.get("status", types.Status).engine.plaid_url)
            with BankControl(bank_url) as bank, psycopg.connect(url, autocommit=True) as database:
                items = _link(client, bank, f"{found.public}/api/webhooks/plaid")
                seen, sent = _soak(made, bank, database, broker, items, minutes * 60)
                behind_s = _caught_up(bank, database, items)
                inbox = _one(database, "select count(*) from syncdesk.inbox")
                lost = _wanted(bank, items) - _one(database, _ROWS)
    return _report(seen, {"webhooks": sent, "inbox_rows": inbox, "behind_s": behind_s, "minutes": minutes}, lost)


_ROWS = "select count(*) from syncdesk.transactions where removed_at is null"
_OPEN = "select count(*) from syncdesk.inbox where state = 'received'"


def _link(client: Client, bank: BankControl, hook: str) -> list[str]:
    bank.do("life", running=False)
    items = []
    for number in range(BANKS):
        made = bank.do("items", living=False, webhook=hook, seed=f"soak {number}", transactions=50)
        client.act("items/link", types_banks.LinkRequest(public_token=made["public_token"], user="soak"))
        items.append(str(made["item_id"]))
        bank.do("ready", item_id=items[-1])
    return items


def _soak(
    made: Engine,
    bank: BankControl,
    database: psycopg.Connection[Any],
    broker: redis.Redis,
    items: list[str],
    seconds: float,
) -> tuple[Samples, int]:
    """Webhooks at their pace, a sample now and then; samples and how many were sent."""
    seen, sent = Samples(), 0
    began = look = time.monotonic()
    turns = itertools.cycle(items)
    with ThreadPoolExecutor(1) as beside:
        looking = None
        while (now := time.monotonic()) - began < seconds:
            if now >= look:
                if looking is not None:
                    looking.result()
                looking = beside.submit(_sample, seen, now - began, made, database, broker)
                look += SAMPLE_S
            for _ in range(max(0, int((now - began) * A_SECOND) - sent)):
                bank.do("transactions", item_id=next(turns), count=1)
                sent += 1
            time.sleep(1 / A_SECOND)
    return seen, sent


def _sample(seen: Samples, at: float, made: Engine, database: psycopg.Connection[Any], broker: redis.Redis) -> None:
    for role, process in made.pids.items():
        family = [process, *process.children(recursive=True)] if role == "database" else [process]
        seen.memory.setdefault(role, []).append(max(_own(one) for one in family) / MB)
    seen.at.append(at)
    seen.open_inbox.append(_one(database, _OPEN))
    seen.keys.append(int(broker.dbsize()))
    seen.job_keys.append(sum(1 for _ in broker.scan_iter(match="*:job:*", count=1000)))
    seen.redis_mb.append(float(broker.info("memory")["used_memory_dataset"]) / MB)


def _own(process: psutil.Process) -> int:
    try:
        memory = process.memory_info()
        # The database's shared buffers fill up to their fixed size: they are no part's own.
        return int(memory.rss - memory.shared) if hasattr(memory, "shared") else int(process.memory_full_info().uss)
    except psutil.NoSuchProcess:
        return 0  # a backend of the database that has just ended


def _caught_up(bank: BankControl, database: psycopg.Connection[Any], items: list[str]) -> float:
    """Seconds after the last webhook until every row of the banks is in the database."""
    began = time.monotonic()
    wanted = _wanted(bank, items)
    while time.monotonic() - began < LONGEST_S and _one(database, _ROWS) < wanted:
        time.sleep(0.1)
    return round(time.monotonic() - began, 1)


def _wanted(bank: BankControl, items: list[str]) -> int:
    return sum(int(bank.ask("truth", item_id=item)["items"][item]["count"]) for item in items)


def _one(database: psycopg.Connection[Any], query: str) -> int:
    row = database.execute(query).fetchone()
    return int(row[0]) if row else 0


def slope(at: Sequence[float], values: Sequence[float]) -> float:
    """How much ``values`` grow an hour (``at`` in seconds): the median over all pairs, which no single jump moves."""
    pairs = itertools.combinations(zip(at, values, strict=True), 2)
    rises = [(late[1] - early[1]) / (late[0] - early[0]) for early, late in pairs]
    return statistics.median(rises) * 3600 if rises else 0.0


def _report(seen: Samples, figures: dict[str, Any], lost: int) -> dict[str, Any]:
    first = int(len(seen.at) * WARM_UP)
    slopes = {role: round(slope(seen.at[first:], values[first:]), 1) for role, values in seen.memory.items()}
    redis_slope = round(slope(seen.at[first:], seen.redis_mb[first:]), 1)
    bounds = {
        "inbox_open": (max(seen.open_inbox), 5 * A_SECOND),
        "ledger_jobs": (max(seen.job_keys), 200),
        "redis_keys": (max(seen.keys), 500),
        "redis_slope": (redis_slope, SLOPE_AIM),
        "lost": (lost, 0),
    }
    for role, value in slopes.items():
        if role != BANK:
            bounds[f"slope_{role}"] = (value, SLOPE_AIM)
    return {
        "bench": "soak",
        "figures": {
            **figures,
            "slope_mb_an_hour": slopes,
            "memory_mb_at_the_end": {role: round(values[-1], 1) for role, values in seen.memory.items()},
            "samples": len(seen.at),
        },
        "reference": {
            "what": "memory at the end of the warm-up",
            "mb": {role: round(values[first], 1) for role, values in seen.memory.items()},
        },
        "ratio": None,
        "aims": {
            name: {"value": value, "aim": f"<= {bound:g}", "ok": value <= bound}
            for name, (value, bound) in bounds.items()
        },
    }
