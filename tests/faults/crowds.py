"""Faults of too much or too many: webhooks, delayed jobs, hosts, workers, and a job that kills whoever takes it."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from engine import launch
from engine.host.binaries_process import free_port
from engine.profile import Profile, prepare
from engine.queue.hints import Hints
from engine.queue.keys import Keys
from tests.faults.run import LASTS_S
from tests.faults.world import World
from tests.support.engines import Engine
from tests.support.wait import until

SECRET = "a relay of the person's own"
WEBHOOKS = 10_000
_SENDERS = 8
_TAKEN = "select count(*) from syncdesk.inbox where verified_by = 'hmac' and state in ('received', 'processed')"
DELAYED = 5_000
HOUR_MS = 3_600_000
STARTS = 3
"""So often a job may take its worker with it."""


def webhooks_flood(world: World) -> None:
    """Ten thousand webhooks, a third of them repeated, in no order; each is sent until it is taken."""
    rng = random.Random(1)
    fresh = [_signed(world, rng, number) for number in range(WEBHOOKS * 2 // 3)]
    sent = fresh + rng.sample(fresh, WEBHOOKS - len(fresh))
    rng.shuffle(sent)
    with ThreadPoolExecutor(_SENDERS) as pool:
        list(pool.map(lambda part: _send(world.api_port, sent[part::_SENDERS]), range(_SENDERS)))
    with world.database() as connection:
        taken = connection.execute(_TAKEN).fetchone()
    assert taken == (len(fresh),), f"{taken} of {len(fresh)} webhooks were taken"


def _signed(world: World, rng: random.Random, number: int) -> tuple[bytes, str]:
    item = rng.choice(world.base.items)
    code = "SYNC_UPDATES_AVAILABLE" if number % 4 else "DEFAULT_UPDATE"
    news = {"webhook_type": "TRANSACTIONS", "webhook_code": code, "item_id": item.item_id, "environment": "sandbox"}
    body = json.dumps({**news, "historical_update_complete": True, "new_transactions": number}).encode()
    at = int(time.time()) - rng.randrange(120)
    digest = hmac.new(SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return body, f"t={at},v1={digest}"


def _send(port: int, webhooks: Sequence[tuple[bytes, str]]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for body, signature in webhooks:
        headers = {"content-type": "application/json", "x-syncdesk-signature": signature}
        until(lambda: _taken(connection, body, headers), 60, "a webhook to be taken")  # noqa: B023
    connection.close()


def _taken(connection: http.client.HTTPConnection, body: bytes, headers: dict[str, str]) -> bool:
    try:
        connection.request("POST", "/api/webhooks/plaid", body, headers)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return False
    assert answer.status in (200, 401, 503), answer.status
    return answer.status != 503  # 401: a relay's signature that came before


def delayed_behind(world: World) -> None:
    """Retries fall due behind five thousand jobs that wait for an hour."""
    hints = Hints(world.redis(), Keys("syncdesk"))
    for number in range(DELAYED):
        hints.put(
            "transactions",
            f"delayed {number}",
            user_id=None,
            lane="high",
            trigger="retry",
            correlation="",
            delay_ms=HOUR_MS,
        )
    with world.bank.control() as control:
        control.do("faults", path="/transactions/sync", kind="error", error_code="INTERNAL_SERVER_ERROR")
        time.sleep(LASTS_S)
        control.do("faults/clear")


def poison(world: World) -> None:
    """A job whose worker dies each time that it runs."""
    item_id = world.base.items[0].item_id
    with world.bank.control() as control:
        rule = control.do("faults", path="/transactions/sync", item_id=item_id, kind="delay", delay_s=60)
        for _ in range(STARTS):
            control.do("webhook", item_id=item_id, webhook_code="SYNC_UPDATES_AVAILABLE")
            until(lambda: world.runs(item_id), 30, "the job to run")
            os.kill(world.pid("worker-sync"), signal.SIGKILL)
            until(lambda: not world.runs(item_id), 30, "the dead worker's lease to be given back")
        control.do("faults/clear", id=rule["id"])
    until(lambda: _stopped(world, item_id), 30, "the job to be stopped")


def _stopped(world: World, item_id: str) -> bool:
    with world.database() as connection:
        query = (
            "select exists (select from syncdesk.failed_jobs f join syncdesk.items i on i.id = f.item_id"
            " where i.plaid_item_id = %s)"
        )
        row = connection.execute(query, [item_id]).fetchone()
    return bool(row and row[0])


def two_hosts(world: World) -> None:
    """A second host works on the same database and broker for a while, and dies."""
    profile = Profile("second", world.beside("second"))
    prepare(profile)
    second = Engine(profile, {**world.elsewhere(), "API_PORT": str(free_port())})
    world.at_end(second.end)
    second.up()
    time.sleep(LASTS_S)
    assert second.process is not None
    second.process.kill()
    second.process.wait(10)


def replicas(world: World) -> None:
    """A worker joins, the old one dies and is replaced, then the one that joined dies."""
    profile = Profile("replica", world.beside("replica"))
    prepare(profile)
    replica = _worker(profile, world)
    world.at_end(_kill, replica)
    time.sleep(LASTS_S / 2)
    os.kill(world.pid("worker-sync"), signal.SIGKILL)
    time.sleep(LASTS_S / 2)
    assert replica.poll() is None, (profile.root / "worker.out").read_text()
    _kill(replica)


def _worker(profile: Profile, world: World) -> subprocess.Popen[bytes]:
    engine = Engine(profile, world.elsewhere())
    with open(profile.root / "worker.out", "wb") as output:
        return subprocess.Popen(
            launch.self_command(["worker", "--pool", "all"]),
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=engine.environment, cwd=profile.root,
        )  # fmt: skip


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.wait(10)
