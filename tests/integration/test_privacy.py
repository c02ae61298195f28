"""Nothing secret or personal in Redis, logs, job arguments or error reports: canaries through a real worker."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from engine.profile import Profile
from engine.queue import Keys, connect
from engine.queue.hints import Hints
from engine.secrets import Secrets
from engine.secrets.sealing import new_key
from engine.settings import Settings
from engine.store import Transport
from tests.support.api import relay_signature
from tests.support.engines import ROOT, clean_environment
from tests.support.scripted_plaid import ScriptedPlaid, error, page, transaction
from tests.support.syncing import World, deps
from tests.support.wait import until

SYNC = "/transactions/sync"
MERCHANT = "Canary Clinic of Quietville"
AMOUNT = "31415.92"
TOKEN = "access-canary-0f9e8d7c"
KEY = new_key()
GIVEN = {
    "SYNCDESK_MASTER_KEY": KEY,
    "SYNCDESK_TOKEN": "admin-token-canary-of-thirty-two-letters",
    "PLAID_CLIENT_ID": "client-id-canary",
    "PLAID_SECRET": "plaid-secret-canary",
    "PLAID_WEBHOOK_SECRET": "relay-secret-canary",
    "CRON_SECRET": "cron-secret-canary",
}
CANARIES = (MERCHANT, AMOUNT, TOKEN, "Quietville", *GIVEN.values())
HANGS_S = 90
"""Only to end where a process hangs."""
TABLES = ("failed_jobs", "failure_groups", "sync_runs", "outbox", "notices", "job_stats", "audit", "bulks", "settings")


class Sealed:
    """`engine.secrets.Secrets` as the sync's tests need it."""

    def __init__(self, secrets: Secrets) -> None:
        self.seal = secrets.seal
        self.unseal = secrets.unseal


class Processes:
    """Processes of one test, with all that they write in the profile's logs, where the bundle finds it."""

    def __init__(self, profile: Profile, environ: dict[str, str]) -> None:
        self._profile, self._environ = profile, environ
        profile.logs.mkdir(parents=True)
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, module: str, *arguments: str, **environ: str) -> subprocess.Popen[bytes]:
        with (self._profile.logs / f"{name}.log").open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=ROOT, env=self._environ | environ, stdout=file, stderr=file, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self._running.append(process)
        return process

    def said(self, name: str) -> str:
        return (self._profile.logs / f"{name}.log").read_text()

    def run(self, *arguments: str) -> str:
        """One command to its end; all that it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "scheduler.command", *arguments],
            cwd=ROOT, env=self._environ, capture_output=True, text=True, timeout=HANGS_S, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.stdout + done.stderr

    def close(self) -> None:
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.wait(HANGS_S)


@pytest.mark.skipif(sys.platform == "win32", reason="kills workers by POSIX signals")
@pytest.mark.timeout(600)
def test_canaries_stay_in_the_database(
    store: Transport, database_url: str, redis_url: str, namespace: str, scripted_bank: ScriptedPlaid, tmp_path: Path
) -> None:
    profile = Profile("canary", tmp_path / "profile")
    world = World(deps(store, scripted_bank.url), database_url)
    world.deps.secrets = Sealed(Secrets(profile, Settings(master_key=KEY)))
    world.link(TOKEN)
    canaries = [*CANARIES, *(found for url in (database_url, redis_url) if (found := urlsplit(url).password))]
    processes = Processes(
        profile,
        clean_environment(
            **GIVEN,
            SYNCDESK_PROFILE=str(profile.root),
            DATABASE_URL=database_url,
            REDIS_URL=redis_url,
            SYNCDESK_REDIS_NAMESPACE=namespace,
            SYNCDESK_PLAID_URL=scripted_bank.url,
            SYNCDESK_BACKOFF_FIRST_S="0.05",
            SYNCDESK_BACKOFF_FACTOR="1",
            API_PORT="0",
            WORKER_HEALTH_PORT="0",
            TEST_CRASH_TEXT=" ".join(canaries),
        ),
    )
    client = connect(redis_url, "api")
    hints = Hints(client, Keys(namespace))
    seen: dict[str, str] = {}
    try:
        processes.start("api", "scheduler.command", "api")
        worker = processes.start("worker", "scheduler.command", "worker", "--pool", "all")
        _good(world, scripted_bank, hints)
        seen["Redis after a sync"] = _redis(client, namespace)
        _row_that_the_database_refuses_with_its_values(world, scripted_bank, hints)
        seen["Redis after a refused row"] = _redis(client, namespace)
        _error_that_repeats_what_we_sent(world, scripted_bank, hints)
        seen["Redis after errors"] = _redis(client, namespace)
        seen["answers to callers that were refused"] = _callers_that_are_refused(processes)
        _key_of_another_install(world, hints, processes)
        seen["Redis after a wrong key"] = _redis(client, namespace)
        seen["metrics"] = _health(processes)
        worker.terminate()
        worker.wait(HANGS_S)
        _crashes(world, hints, processes, client, namespace)
        seen["Redis after crashes"] = _redis(client, namespace)
        seen["doctor"] = processes.run("doctor")
        seen["bundle's manifest"] = processes.run("doctor", "--bundle", str(tmp_path / "help.zip"), "--yes")
    finally:
        processes.close()
        world.deps.plaid.close()
    with zipfile.ZipFile(tmp_path / "help.zip") as made:
        seen |= {f"bundle/{name}": made.read(name).decode() for name in made.namelist()}
    seen |= {f"logs/{path.name}": path.read_text() for path in profile.logs.glob("*")}
    for table in TABLES:
        seen[table] = json.dumps(world.rows(f"select to_jsonb(t) as body from syncdesk.{table} t"), default=str)
    # What is looked at is not empty, and the canaries are where they belong.
    assert len(seen["Redis after a sync"]) > 100
    assert world.item in seen["logs/worker.log"]
    assert {"POISON", "RuntimeError", "BRAND_NEW_CODE"} <= {
        row["code"] for row in json.loads(seen["bundle/failures.json"])
    }
    assert "An error that nobody caught ends this worker" in seen["bundle/logs/crashing.log"]
    assert "syncdesk_" in seen["metrics"]
    assert "Master key" in seen["doctor"]
    assert MERCHANT in json.dumps(list(world.live().values()), default=str)
    assert [(place, canary) for place, text in seen.items() for canary in canaries if canary in text] == []


def _good(world: World, bank: ScriptedPlaid, hints: Hints) -> None:
    bank.answer(SYNC, page([transaction("t1", float(AMOUNT), name=MERCHANT, merchant_name=MERCHANT)], cursor="c1"))
    _hint(world, hints)
    until(lambda: world.row()["cursor"] == "c1", HANGS_S)


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


def _callers_that_are_refused(processes: Processes) -> str:
    """Webhooks, cron and admin calls with wrong, odd and garbled credentials; all that was answered."""
    until(lambda: "Ready:" in processes.said("api"), HANGS_S)
    public, admin = _addresses(processes)
    told = json.dumps({"webhook_code": MERCHANT, "webhook_type": TOKEN, "item_id": TOKEN, "note": AMOUNT}).encode()
    good = {"X-Syncdesk-Signature": relay_signature(told, GIVEN["PLAID_WEBHOOK_SECRET"])}
    garbled = {"X-Syncdesk-Signature": relay_signature(told[:-4], GIVEN["PLAID_WEBHOOK_SECRET"])}
    answers = []
    with httpx.Client(trust_env=False, timeout=20) as http:
        calls: list[tuple[bytes, dict[str, str]]] = [
            (told, good),
            (told[:-4], garbled),
            (told, {"X-Syncdesk-Signature": relay_signature(told, TOKEN)}),
            (told, {"X-Syncdesk-Signature": TOKEN}),
            (told, {"Plaid-Verification": TOKEN}),
            (told, {}),
        ]
        for body, headers in calls:
            given = {"Content-Type": "application/json", **headers}
            answers.append(http.post(f"{public}/api/webhooks/plaid", content=body, headers=given))
        wrong = {"Authorization": f"Bearer {TOKEN}"}
        right = {"Authorization": f"Bearer {GIVEN['SYNCDESK_TOKEN']}"}
        answers += [
            http.post(f"{public}/api/cron/sync-transactions", headers=wrong),
            http.get(f"{admin}/api/status", headers=wrong),
            http.post(f"{admin}/api/items/link", headers=right, json={"public_token": TOKEN, "item_id": MERCHANT}),
            http.post(f"{admin}/api/sync", headers=right, json={"item_id": TOKEN}),
        ]
    assert answers[0].status_code == 200
    assert all(answer.status_code >= 400 for answer in answers[2:]), [answer.status_code for answer in answers]
    return "\n".join(answer.text for answer in answers)


def _addresses(processes: Processes) -> tuple[str, str]:
    found = re.search(r"webhooks at (\S+), admin at (\S+)\.", processes.said("api"))
    assert found is not None
    return found[1], found[2]


def _health(processes: Processes) -> str:
    """What the health listener tells, and what the admin listener tells of queues, failures and jobs."""
    _, admin = _addresses(processes)
    right = {"Authorization": f"Bearer {GIVEN['SYNCDESK_TOKEN']}"}
    with httpx.Client(trust_env=False, timeout=20) as http:
        health = http.get(f"{admin}/api/status", headers=right).json()["endpoints"]["health"]
        texts = [http.get(f"{health}/{path}").text for path in ("metrics", "health")]
        paths = ("overview", "queues", "failures", "jobs?state=failed", "workers", "items")
        answers = [http.get(f"{admin}/api/{path}", headers=right) for path in paths]
    assert [answer.status_code for answer in answers] == [200] * len(paths)
    return "\n".join([*texts, *(answer.text for answer in answers)])


def _key_of_another_install(world: World, hints: Hints, processes: Processes) -> None:
    other = World(world.deps, world.database_url)
    here = world.deps.secrets
    world.deps.secrets = Sealed(Secrets(Profile("other", Path("nowhere")), Settings(master_key=new_key())))
    other.link(TOKEN)
    world.deps.secrets = here
    _hint(other, hints)
    until(lambda: "MASTER_KEY" in processes.said("worker"), HANGS_S)


def _crashes(world: World, hints: Hints, processes: Processes, client: Any, namespace: str) -> None:
    """A job with an unforeseen error, one that kills its workers, and a thread that ends its worker; all speak."""

    def crash(mode: str) -> None:
        client.set(f"{Keys(namespace).prefix}test:mode:{world.item}", mode)
        _hint(world, hints)

    def start() -> subprocess.Popen[bytes]:
        # What it held when it was killed is soon free.
        return processes.start("crashing", "tests.support.queue_process", "sync", SYNCDESK_LEASE_S="2")

    def failed() -> list[str]:
        return [row["code"] for row in world.rows("select error ->> 'code' as code from syncdesk.failed_jobs")]

    crash("raise")
    worker = start()
    until(lambda: "RuntimeError" in failed(), HANGS_S)
    crash("thread")
    worker.wait(HANGS_S)
    crash("die")
    while "POISON" not in failed():  # found by the one that does not end
        process = start()
        until(lambda process=process: process.poll() is not None or "POISON" in failed(), HANGS_S)


def _hint(world: World, hints: Hints) -> None:
    world.want()
    hints.sync(world.item, world.user, "First Lakeside Bank", "high", "webhook", f"corr-{uuid.uuid4()}")


def _failed(world: World, hints: Hints, count: int) -> None:
    _hint(world, hints)
    until(lambda: world.rows("select count(*) as n from syncdesk.failed_jobs")[0]["n"] == count, HANGS_S)


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


@pytest.mark.parametrize(
    "where", ["raise fail()", "threading.Thread(target=lambda: (_ for _ in ()).throw(fail())).start()"]
)
def test_a_process_that_dies_tells_type_and_place_alone(where: str, tmp_path: Path) -> None:
    code = f"""
import sys, threading
sys.argv = ["syncdeskctl", "--profile", {str(tmp_path / "p")!r}, "status"]
from scheduler.command import main
main()
def fail():
    error = RuntimeError({MERCHANT!r})
    error.__cause__ = ValueError({TOKEN!r})
    return error
{where}
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=60
    )
    assert "nobody caught this: RuntimeError" in done.stderr
    assert not [canary for canary in CANARIES if canary in done.stdout + done.stderr]
