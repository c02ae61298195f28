"""Killed parts, hosts and keepers, and whatever hangs: the end comes in time and the engine goes on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from engine import launch
from engine.errors import SyncdeskError
from engine.host import keeper, valkey
from engine.processes import alive, start_time
from engine.profile import Profile
from engine.settings import load
from tests.support import tether
from tests.support.engines import END_S, LEFT_BEHIND_S, NO_BANK, ROLES, Engine, engine, health
from tests.support.wait import until

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals"),
    pytest.mark.timeout(300),  # whole engines, on a machine with much to do
]


@pytest.fixture
def idle() -> Iterator[Engine]:
    """An engine without a bank, not started."""
    with engine(**NO_BANK) as made:
        yield made


def _was_ended_in_order(made: Engine) -> bool:
    """Whether the database was asked to end. How long it then writes, at most as long as it is given, is its disk's."""
    return "received fast shutdown request" in (made.profile.logs / "postgres.log").read_text()


@pytest.mark.parametrize(
    "hung", [["worker-sync"], ["broker"], sorted(ROLES - {"host"})], ids=["worker", "broker", "all"]
)
def test_whatever_hangs_the_end_comes_in_time(idle: Engine, hung: list[str]) -> None:
    idle.up()
    assert idle.process is not None
    for role in hung:
        idle.pids[role].suspend()
    idle.process.send_signal(signal.SIGTERM)
    assert idle.process.wait(END_S) in (0, 1)
    until(idle.gone, what="the end of every part")
    assert not idle.profile.discovery_file.exists()
    if len(hung) == 1:
        assert _was_ended_in_order(idle)  # it came to that although another part hung
    else:
        idle.up()


def test_a_start_that_hangs_ends_in_time(idle: Engine) -> None:
    idle.up(wait=False)
    assert idle.process is not None
    host = psutil.Process(idle.process.pid)

    def making() -> psutil.Process | None:
        with contextlib.suppress(psutil.Error):
            return next((child for child in host.children(recursive=True) if child.name() == "initdb"), None)
        return None

    making_it = until(making, 30, "initdb")
    making_it.suspend()
    idle.process.send_signal(signal.SIGTERM)
    assert idle.process.wait(END_S) in (0, 1)
    until(lambda: not tether.processes(idle.profile.root), what="the end of every process")
    idle.up()


def test_a_killed_host_leaves_nothing_behind_and_the_next_start_goes_on(idle: Engine) -> None:
    idle.up()
    assert idle.process is not None
    os.kill(idle.process.pid, signal.SIGKILL)
    idle.process.wait(END_S)
    until(idle.gone, LEFT_BEHIND_S, "the end of every part")
    assert not idle.profile.discovery_file.exists()
    assert _was_ended_in_order(idle)
    idle.up()
    assert (engine_now := idle.status()["engine"])["state"] == "running", engine_now


def test_host_and_keeper_killed_together(idle: Engine) -> None:
    idle.up()
    assert idle.process is not None
    servers = [idle.pids["broker"], idle.pids["database"]]
    idle.pids["host"].suspend()  # else it might have another keeper before it is killed
    for role in ("keeper", "host"):
        idle.pids[role].kill()
    idle.process.wait(END_S)
    assert all(process.is_running() for process in servers)
    idle.up()
    assert not [process for process in servers if alive(process)]
    assert (engine_now := idle.status()["engine"])["state"] == "running", engine_now


def test_a_killed_keeper_is_replaced_and_does_its_work(idle: Engine) -> None:
    idle.up()
    assert idle.process is not None
    first = idle.pids["keeper"]
    first.kill()

    def replaced() -> int | None:
        pid = idle.row("keeper")["pid"]
        return pid if pid not in (None, first.pid) else None

    idle.pids["keeper"] = psutil.Process(until(replaced, 30, "another keeper"))
    # It takes its lock when it runs; a host killed before that is the case of the test above.
    until(lambda: "sleeping" in idle.pids["keeper"].status() and _locked(idle), 30, "its lock")
    os.kill(idle.process.pid, signal.SIGKILL)
    idle.process.wait(END_S)
    until(idle.gone, LEFT_BEHIND_S, "the end of every part")


def _locked(made: Engine) -> bool:
    import filelock

    try:
        with filelock.FileLock(keeper.lock_file(made.profile)).acquire(timeout=0):
            return False
    except filelock.Timeout:
        return True


def test_stale_files_of_an_engine_whose_pid_is_another_program_now(idle: Engine) -> None:
    mine = psutil.Process()
    stale = {"pid": mine.pid, "started": start_time(mine.pid) - 1000}
    root = idle.profile.root
    idle.profile.discovery_file.write_text(
        json.dumps(
            {**stale, "version": "0", "profile": "x", "token": "t",
             "endpoints": {"public": None, "admin": "http://127.0.0.1:9", "health": None}}
        )
    )  # fmt: skip
    keeper.wards_file(idle.profile).write_text(json.dumps([{**stale, "role": "worker-sync"}]))
    valkey.record_file(idle.profile).write_text(json.dumps({**stale, "url": "redis://127.0.0.1:9"}))
    (root / "run").mkdir()
    (root / "run" / "start.json").write_text(json.dumps({**stale, "state": "starting", "step": "x", "error": None}))
    assert idle.status()["engine"]["state"] == "stopped"
    assert launch.stop(idle.profile) is False
    idle.up()
    assert idle.status()["engine"]["pid"] == idle.process.pid  # type: ignore[union-attr]
    assert mine.is_running()


def test_a_killed_part_is_started_again(idle: Engine) -> None:
    idle.up()
    for role in ("worker-sync", "worker-events", "scheduler", "broker", "database"):
        first = idle.pids[role]
        first.kill()

        def back(role: str = role, first: psutil.Process = first) -> bool:
            row = idle.row(role)
            return row["state"] == "running" and row["pid"] not in (None, first.pid) and row["restarts"] == 1

        until(back, 60, f"another {role}")
        until(lambda: idle.look()["engine"]["state"] == "running", 30, "a running engine")
    found = launch.read(idle.profile)
    assert found is not None
    until(lambda: health(str(found.health)) == 200, 60, "health")


def test_a_crash_loop_is_left_stopped_with_one_sentence(idle: Engine) -> None:
    idle.up()
    last = 0
    for _ in range(5):

        def another(last: int = last) -> psutil.Process | None:
            row = idle.row("scheduler")
            return psutil.Process(row["pid"]) if row["state"] == "running" and row["pid"] not in (None, last) else None

        process = until(another, 20, "a scheduler")
        last = process.pid
        process.kill()
    until(lambda: idle.row("scheduler")["state"] == "given_up", 20, "the end of restarts")
    sentence = idle.row("scheduler")["note"]
    assert "five times within a minute" in sentence
    assert str(idle.profile.logs) in sentence
    status = idle.status()
    assert status["engine"]["state"] == "degraded"
    assert status["engine"]["cause"] == sentence
    assert sentence in idle.run("status").stdout


@pytest.mark.parametrize("away", ["REDIS_URL", "DATABASE_URL"])
def test_what_a_dead_worker_held_is_freed_though_one_of_both_is_away(
    tmp_path: Path, database_url: str, redis_url: str, namespace: str, away: str
) -> None:
    from engine.api import assemble
    from engine.host.up import Host
    from engine.queue.connection import connect
    from engine.queue.keys import Keys

    gone = {"REDIS_URL": "redis://127.0.0.1:9", "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}
    own = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "SYNCDESK_REDIS_NAMESPACE": namespace}
    profile = Profile("test", tmp_path)
    soon = {"SYNCDESK_DATABASE_TIMEOUT_S": "1"} if away == "DATABASE_URL" else {}
    given = load(None, {**own, away: gone[away], **soon})
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("insert into syncdesk.users (id, name) values (gen_random_uuid(), 'Ana')")
        connection.execute(
            "insert into syncdesk.items (user_id, plaid_item_id, institution_name, environment, access_token,"
            " access_key_id) select id, 'i', 'First Bank', 'simulated', 'x', 'k' from syncdesk.users"
        )
        connection.execute(
            "insert into syncdesk.item_leases (item_id, owner, fence, run_id, expires_at)"
            " select id, 'here:7:x', 1, gen_random_uuid(), now() + interval '1 minute' from syncdesk.items"
        )
    keys, client = Keys(namespace), connect(redis_url, "api")
    client.zadd(keys.workers, {"here:7:x": 1})
    host = Host(profile, given, lambda _: None)
    host._parts = assemble.parts(given, profile, owner="host/1")
    try:
        with pytest.raises(SyncdeskError):
            host._free("here:7:", True)
    finally:
        host._parts.close()
    in_redis = client.zcard(keys.workers)
    client.delete(keys.workers)
    client.close()
    with psycopg.connect(database_url) as connection:
        in_postgres = connection.execute("select count(*) from syncdesk.item_leases").fetchone()
    assert (in_redis, in_postgres) == ((1, (0,)) if away == "REDIS_URL" else (0, (1,)))
