"""From a webhook's sending to its row being readable, over real HTTP, through a whole engine.

The sandbox bank makes one transaction at a time and announces it; its own time (receipt to answer of
/transactions/sync, by its own log) is taken off. Signatures are verified with a cached key, and the user has bills
that every sync is matched against. The reference is the floor that no such path can beat, taken in the same run:
two commits and one HTTP call on the same servers.
"""

from __future__ import annotations

import random
import statistics
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg

from engine import launch
from engine.api import types, types_banks, types_bills
from engine.api.client import Client
from engine.demo.bank import BankControl
from engine.host import postgres
from tests.support.engines import Engine, engine

SINGLES = 200
WARM_UP = 15
APART_S = 0.03
BILLS = 12
LONGEST_S = 20.0

_HOPS = """
    select extract(epoch from b.received_at)::float8 * 1000, extract(epoch from r.started_at)::float8 * 1000,
        r.timing, extract(epoch from r.finished_at)::float8 * 1000
    from syncdesk.transactions t join syncdesk.sync_runs r on r.id = t.first_run
        left join syncdesk.inbox b on b.correlation_id = r.correlation_id
    where t.transaction_id = %s order by b.id desc limit 1
"""
_SHOPS = (("12.40", "Corner Bakery"), ("64.00", "Harbor Gym"), ("88.15", "Northwind Electric"), ("9.99", "Streamly"))
_SEEN = "select 1 from syncdesk.transactions where transaction_id = %s and removed_at is null"


def run() -> dict[str, Any]:
    """See the module. Aims: p50_ms, p99_ms."""
    # One bank after another webhook: neither Plaid's limits nor the distance between a bank's syncs are measured here.
    limits = {"SYNCDESK_PLAID_ITEM_LIMIT": "1000000", "SYNCDESK_PLAID_CLIENT_LIMIT": "1000000"}
    with engine(**limits, SYNCDESK_SYNC_DISTANCE_S="0") as made:
        made.up()
        found = launch.read(made.profile)
        assert found is not None
        with Client(str(found.admin), found.token) as client:
            url = client.get("status", types.Status).engine.plaid_url
            with BankControl(str(url)) as bank, _database(made) as connection, ThreadPoolExecutor(1) as asking:
                item = _link(client, bank, connection, f"{found.public}/api/webhooks/plaid")
                for _ in range(WARM_UP):
                    _single(bank, connection, item, asking)
                before = _cpu(made)
                singles = [_single(bank, connection, item, asking) for _ in range(SINGLES)]
                after = _cpu(made)
                floor = _floor(bank, connection)
    spent = {role: round((after[role] - before[role]) / SINGLES, 2) for role in before}
    return _report(singles, floor, spent)


def _cpu(made: Engine) -> dict[str, float]:
    """Milliseconds of processor time that each part has used, with its children's."""
    used = {}
    for role, process in made.pids.items():
        family = [process, *process.children(recursive=True)] if role == "database" else [process]
        used[role] = sum(sum(one.cpu_times()[:2]) for one in family) * 1000
    return used


def _database(made: Engine) -> psycopg.Connection[Any]:
    url = postgres.running_url(made.profile)
    assert url is not None
    return psycopg.connect(url, autocommit=True)


def _link(client: Client, bank: BankControl, connection: psycopg.Connection[Any], hook: str) -> str:
    """A household's bank with its first sync done, and bills for it; Plaid's item id."""
    bank.do("life", running=False)
    made = bank.do("items", institution_id="ins_900001", living=False, webhook=hook, seed="latency")
    for number, bill in enumerate(made["bills"][:BILLS]):
        client.act(
            "bills",
            types_bills.BillWrite(
                name=bill["name"],
                amount=str(bill["amount"]),
                cadence="monthly",
                anchor_date=f"2026-01-{1 + number:02d}",
                category=bill.get("category"),
                user="bench",
            ),
        )
    client.act("items/link", types_banks.LinkRequest(public_token=made["public_token"], user="bench"))
    item = str(made["item_id"])
    bank.do("ready", item_id=item)
    wanted = bank.ask("truth", item_id=item)["items"][item]["count"]
    end = time.monotonic() + LONGEST_S
    while connection.execute("select count(*) from syncdesk.transactions").fetchone() != (wanted,):
        assert time.monotonic() < end, "the first sync did not end in time"
        time.sleep(0.05)
    return item


def _single(
    bank: BankControl, connection: psycopg.Connection[Any], item: str, asking: ThreadPoolExecutor
) -> dict[str, float]:
    """One new transaction; milliseconds of the whole, without the bank's own time, and by hop."""
    time.sleep(APART_S)
    identity = f"bench{uuid.uuid4().hex}"
    amount, shop = random.choice(_SHOPS)
    new = {"transaction_id": identity, "amount": amount, "name": shop.upper(), "merchant_name": shop}
    # Beside: the row may be there before the bank has told us that it made it.
    making = asking.submit(bank.do, "transactions", item_id=item, transactions=[new])
    end = time.monotonic() + LONGEST_S
    while connection.execute(_SEEN, (identity,)).fetchone() is None:
        assert time.monotonic() < end, "a row did not come in time"
        time.sleep(0.001)  # looked at more often, the looking would take the cores from the work
    seen = time.time() * 1000
    made = making.result()
    hook = bank.ask("webhooks", item_id=item, after=made["webhook_id"] - 1)["webhooks"][0]
    sent = float(hook["attempts"][0]["sent_ms"])
    asked = [
        row
        for row in bank.ask("requests", path="/transactions/sync")["requests"]
        if sent <= float(row["received_ms"]) <= seen
    ]
    own = sum(float(row["own_ms"]) for row in asked)
    received, started, timing, finished = connection.execute(_HOPS, (identity,)).fetchone() or (0, 0, {}, 0)
    return {
        "total": seen - sent - own,
        "bank_own": own,
        "received": received - sent if received else 0.0,
        "pick_up": started - received if received else 0.0,
        "claim": float(timing.get("claim_ms", 0)),
        "plaid_call": float(timing.get("plaid_ms", 0)) - own,
        "decode": float(timing.get("decode_ms", 0)),
        "match": float(timing.get("match_ms", 0)),
        "commit_sql": float(timing.get("commit_ms", 0)),
        "commit_to_seen": seen - finished,
    }


def _floor(bank: BankControl, connection: psycopg.Connection[Any]) -> list[float]:
    connection.execute("create table if not exists public.bench_floor (id bigserial, at timestamptz default now())")
    taken = []
    for _ in range(SINGLES):
        began = time.perf_counter()
        connection.execute("insert into public.bench_floor default values")
        bank.ask("faults")
        connection.execute("insert into public.bench_floor default values")
        taken.append((time.perf_counter() - began) * 1000)
    connection.execute("drop table public.bench_floor")
    return taken


def _report(singles: list[dict[str, float]], floor: list[float], spent: dict[str, float]) -> dict[str, Any]:
    totals = sorted(single["total"] for single in singles)
    p50, p99 = round(statistics.median(totals), 2), round(totals[int(len(totals) * 0.99) - 1], 2)
    reference = round(statistics.median(floor), 2)
    hops = {
        name: round(statistics.median(single[name] for single in singles), 2) for name in singles[0] if name != "total"
    }
    return {
        "bench": "latency",
        "figures": {
            "webhooks": len(singles),
            "hops_p50_ms": hops,
            "max_ms": round(totals[-1], 2),
            "cpu_ms_each": spent,
        },
        "reference": {"what": "two commits and one HTTP call", "p50_ms": reference},
        "ratio": round(p50 / reference, 2),
        "aims": {
            "p50_ms": {"value": p50, "aim": "<= 15", "ok": p50 <= 15},
            "p99_ms": {"value": p99, "aim": "<= 60", "ok": p99 <= 60},
        },
    }
