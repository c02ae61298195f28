"""Nothing secret or personal in Redis, logs, job arguments or error reports: canaries through a real worker."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.profile import Profile
from engine.queue import Keys, connect
from engine.queue.hints import Hints
from engine.secrets import Secrets
from engine.secrets.sealing import new_key
from engine.settings import Settings
from engine.store import Transport
from tests.support.engines import ROOT, clean_environment
from tests.support.scripted_plaid import ScriptedPlaid, error, page, transaction
from tests.support.syncing import World, deps
from tests.support.wait import until

SYNC = "/transactions/sync"
MERCHANT = "Canary Clinic of Quietville"
AMOUNT = "31415.92"
TOKEN = "access-canary-0f9e8d7c"
CANARIES = (MERCHANT, AMOUNT, TOKEN, "Quietville")


class Sealed:
    """`engine.secrets.Secrets` as the sync's tests need it."""

    def __init__(self, secrets: Secrets) -> None:
        self.seal = secrets.seal
        self.unseal = secrets.unseal


@pytest.fixture
def bank() -> Iterator[ScriptedPlaid]:
    made = ScriptedPlaid()
    yield made
    made.close()


def test_canaries_stay_in_the_database(
    store: Transport, database_url: str, redis_url: str, namespace: str, bank: ScriptedPlaid, tmp_path: Path
) -> None:
    key = new_key()
    profile = Profile("canary", tmp_path / "profile")
    world = World(deps(store, bank.url), database_url)
    secrets = Secrets(profile, Settings(master_key=key))
    world.deps.secrets = Sealed(secrets)
    world.link(TOKEN)
    environ = clean_environment(
        SYNCDESK_PROFILE=str(profile.root),
        SYNCDESK_MASTER_KEY=key,
        DATABASE_URL=database_url,
        REDIS_URL=redis_url,
        SYNCDESK_REDIS_NAMESPACE=namespace,
        SYNCDESK_PLAID_URL=bank.url,
        SYNCDESK_BACKOFF_FIRST_S="0.05",
        SYNCDESK_BACKOFF_FACTOR="1",
    )
    output = tmp_path / "worker.out"
    with output.open("wb") as file:
        worker = subprocess.Popen(
            [sys.executable, "-m", "scheduler.command", "worker", "--pool", "all"],
            cwd=ROOT, env=environ, stdout=file, stderr=file, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    client = connect(redis_url, "api")
    hints = Hints(client, Keys(namespace))
    seen: list[str] = []
    try:
        _good(world, bank, hints)
        seen.append(_redis(client, namespace))
        _row_that_the_database_refuses_with_its_values(world, bank, hints)
        seen.append(_redis(client, namespace))
        _error_that_repeats_what_we_sent(world, bank, hints)
        seen.append(_redis(client, namespace))
    finally:
        worker.terminate()
        worker.wait(20)
        world.deps.plaid.close()
    seen.append(output.read_text())
    seen += [path.read_text() for path in (profile.root / "logs").glob("*") if path.is_file()]
    for table in ("failed_jobs", "failure_groups", "sync_runs", "outbox", "notices", "job_stats", "audit"):
        seen.append(json.dumps(world.rows(f"select to_jsonb(t) as body from syncdesk.{table} t"), default=str))
    # What is looked at is not empty, and the canaries are where they belong.
    assert len(seen[0]) > 100
    assert world.item in seen[3]
    assert MERCHANT in json.dumps(list(world.live().values()), default=str)
    for place, text in enumerate(seen):
        for canary in CANARIES:
            assert canary not in text, (place, canary)


def _good(world: World, bank: ScriptedPlaid, hints: Hints) -> None:
    bank.answer(SYNC, page([transaction("t1", float(AMOUNT), name=MERCHANT, merchant_name=MERCHANT)], cursor="c1"))
    _hint(world, hints)
    until(lambda: world.row()["cursor"] == "c1", 30)


def _row_that_the_database_refuses_with_its_values(world: World, bank: ScriptedPlaid, hints: Hints) -> None:
    world.execute(
        "create function public.complain() returns trigger language plpgsql as $$ begin"
        " raise exception 'no %% for %%', new.amount, new.name using errcode = 'P0001', detail = new.name; end $$"
    )
    world.execute(
        "create trigger complain before insert or update on syncdesk.transactions"
        " for each row when (new.transaction_id = 'bad') execute function public.complain()"
    )
    bank.handlers[SYNC] = lambda body: page([transaction("bad", float(AMOUNT), name=MERCHANT)], cursor="c2")
    _failed(world, hints, 1)


def _error_that_repeats_what_we_sent(world: World, bank: ScriptedPlaid, hints: Hints) -> None:
    echo = error("BRAND_NEW_CODE", "API_ERROR", message=f"{TOKEN} {MERCHANT} {AMOUNT}")
    bank.handlers[SYNC] = lambda body: echo
    _failed(world, hints, 2)
    html = (502, f"<html>{TOKEN} {MERCHANT}</html>".encode(), {"Content-Type": "text/html"})
    bank.handlers[SYNC] = lambda body: html
    _failed(world, hints, 3)


def _hint(world: World, hints: Hints) -> None:
    world.want()
    hints.sync(world.item, world.user, "First Lakeside Bank", "high", "webhook", f"corr-{uuid.uuid4()}")


def _failed(world: World, hints: Hints, count: int) -> None:
    _hint(world, hints)
    until(lambda: world.rows("select count(*) as n from syncdesk.failed_jobs")[0]["n"] == count, 40)


def _redis(client: Any, namespace: str) -> str:
    """Every key of the namespace with all it holds."""
    found: list[Any] = []
    for key in client.scan_iter(match=f"*{namespace}*", count=1000):
        kind = client.type(key)
        kind = kind.decode() if isinstance(kind, bytes) else kind
        read = {
            "string": lambda k=key: client.get(k),
            "hash": lambda k=key: client.hgetall(k),
            "list": lambda k=key: client.lrange(k, 0, -1),
            "zset": lambda k=key: client.zrange(k, 0, -1, withscores=True),
            "set": lambda k=key: client.smembers(k),
            "stream": lambda k=key: client.xrange(k),
        }.get(kind, lambda: None)
        found.append((key, read()))
    return repr(found)


def test_settings_do_not_show_their_secrets() -> None:
    told = repr(Settings(plaid_secret="s3cret-canary", master_key="k3y-canary", database_url="postgresql://u:p4ss@h/d"))
    assert "canary" not in told
    assert "p4ss" not in told
