"""The host as its user meets it: whole engines as processes, killed and stopped in every way."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from engine import launch
from engine.errors import ProfileError, SyncdeskError
from engine.host import keeper, valkey
from engine.profile import Profile
from engine.settings import load
from tests.support.engines import NO_BANK, Engine, clean_environment, engine
from tests.support.wait import until

ROLES = {"host", "keeper", "broker", "database", "worker-sync", "worker-events", "scheduler"}
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")


@pytest.fixture
def idle() -> Iterator[Engine]:
    """An engine without a bank, not started."""
    with engine(**NO_BANK) as made:
        yield made


def _health(url: str) -> int:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return refusal.code


def test_up_status_down(idle: Engine) -> None:
    before = idle.status()
    assert before["engine"]["state"] == "stopped"
    assert before["processes"] == []
    found = idle.up().ready()
    status = idle.status()
    assert status["engine"]["state"] == "running"
    assert status["engine"]["pid"] == found.pid == idle.process.pid  # type: ignore[union-attr]
    assert {row["role"] for row in status["processes"]} == ROLES
    assert {row["state"] for row in status["processes"]} == {"running"}
    assert set(status["endpoints"]) == {"public", "admin", "health"}
    assert _health(status["endpoints"]["health"]) == 200
    assert idle.profile.discovery_file.stat().st_mode & 0o077 == 0
    done = idle.run("down", "--json")
    assert json.loads(done.stdout) == {"ok": True, "ended": True}
    assert idle.process.wait(5) == 0  # type: ignore[union-attr]
    assert idle.gone()
    assert not idle.profile.discovery_file.exists()
    assert idle.status()["engine"]["state"] == "stopped"
    assert json.loads(idle.run("down", "--json").stdout) == {"ok": True, "ended": False}


def test_a_second_start_says_where_the_first_one_runs(idle: Engine) -> None:
    found = idle.up().ready()
    second = idle.run("up")
    assert second.returncode == 1
    assert str(found.pid) in second.stderr
    assert str(found.admin) in second.stderr
    assert (engine_now := idle.status()["engine"])["state"] == "running", engine_now


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything_in_order(idle: Engine, number: signal.Signals) -> None:
    idle.up()
    assert idle.process is not None
    idle.process.send_signal(number)
    assert idle.process.wait(10) == 0  # the promise: within 10 s
    assert idle.gone()
    assert "database system is shut down" in (idle.profile.logs / "postgres.log").read_text()
    assert "ready to exit" in (idle.profile.logs / "valkey.log").read_text()
    log = (idle.profile.logs / "worker-sync.log").read_text()
    assert '"Worker stopped"' in log


@pytest.mark.parametrize(
    "hung", [["worker-sync"], ["broker"], sorted(ROLES - {"host"})], ids=["worker", "broker", "all"]
)
def test_whatever_hangs_the_end_comes_in_time(idle: Engine, hung: list[str]) -> None:
    idle.up()
    assert idle.process is not None
    for role in hung:
        idle.pids[role].suspend()
    idle.process.send_signal(signal.SIGTERM)
    assert idle.process.wait(10) in (0, 1)  # the promise: within 10 s
    until(idle.gone, 2, "the end of every part")
    assert not idle.profile.discovery_file.exists()
    if len(hung) == 1:
        assert "The end takes too long" not in (idle.profile.logs / "host.log").read_text()
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
    assert idle.process.wait(10) in (0, 1)
    until(lambda: not _of_profile(idle), 5, "the end of every process")
    idle.up()


def test_a_killed_host_leaves_nothing_behind_and_the_next_start_goes_on(idle: Engine) -> None:
    idle.up()
    assert idle.process is not None
    os.kill(idle.process.pid, signal.SIGKILL)
    idle.process.wait(5)
    until(idle.gone, 15, "the end of every part")
    assert not idle.profile.discovery_file.exists()
    assert "database system is shut down" in (idle.profile.logs / "postgres.log").read_text()
    idle.up()
    assert (engine_now := idle.status()["engine"])["state"] == "running", engine_now


def test_host_and_keeper_killed_together(idle: Engine) -> None:
    idle.up()
    assert idle.process is not None
    servers = [idle.pids["broker"], idle.pids["database"]]
    for role in ("keeper", "host"):
        idle.pids[role].kill()
    idle.process.wait(5)
    assert all(process.is_running() for process in servers)
    idle.up()
    assert [process for process in servers if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []
    assert (engine_now := idle.status()["engine"])["state"] == "running", engine_now


def test_a_killed_keeper_is_replaced_and_does_its_work(idle: Engine) -> None:
    idle.up()
    assert idle.process is not None
    first = idle.pids["keeper"]
    first.kill()

    def replaced() -> int | None:
        pid = idle.row("keeper")["pid"]
        return pid if pid not in (None, first.pid) else None

    idle.pids["keeper"] = psutil.Process(until(replaced, 10, "another keeper"))
    # It takes its lock when it runs; a host killed before that is the case of the test above.
    until(lambda: "sleeping" in idle.pids["keeper"].status() and _locked(idle), 10, "its lock")
    os.kill(idle.process.pid, signal.SIGKILL)
    idle.process.wait(5)
    until(idle.gone, 15, "the end of every part")


def _locked(made: Engine) -> bool:
    import filelock

    try:
        with filelock.FileLock(keeper.lock_file(made.profile)).acquire(timeout=0):
            return False
    except filelock.Timeout:
        return True


def test_stale_files_of_an_engine_whose_pid_is_another_program_now(idle: Engine) -> None:
    mine = psutil.Process()
    stale = {"pid": mine.pid, "started": mine.create_time() - 1000}
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

        until(back, 20, f"another {role}")
        until(lambda: idle.look()["engine"]["state"] == "running", 10, "a running engine")
    found = launch.read(idle.profile)
    assert found is not None
    until(lambda: _health(str(found.health)) == 200, 20, "health")


def test_a_crash_loop_is_left_stopped_with_one_sentence(idle: Engine) -> None:
    idle.up()
    last = 0
    for _ in range(5):

        def alive(last: int = last) -> psutil.Process | None:
            row = idle.row("scheduler")
            return psutil.Process(row["pid"]) if row["state"] == "running" and row["pid"] not in (None, last) else None

        process = until(alive, 20, "a scheduler")
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


def test_two_profiles_side_by_side() -> None:
    with engine(**NO_BANK) as one, engine(**NO_BANK) as two:
        one.up(wait=False)
        two.up()
        one.ready()
        first, second = one.status(), two.status()
        assert first["engine"]["state"] == second["engine"]["state"] == "running", (first, second)
        assert not set(first["endpoints"].values()) & set(second["endpoints"].values())
        one.run("down")
        assert two.status()["engine"]["state"] == "running"


def test_a_taken_port_is_one_sentence(idle: Engine) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        idle.environment["API_PORT"] = str(port)
        done = idle.run("up")
    assert done.returncode == 1
    assert re.search(rf"127\.0\.0\.1:{port}: another program uses this port", done.stderr)
    assert "Traceback" not in done.stderr
    assert idle.status()["engine"]["cause"] in done.stderr


def test_a_worker_that_cannot_start_ends_the_start_with_its_log(idle: Engine) -> None:
    idle.environment["SYNCDESK_SYNC_THREADS"] = "5"
    (idle.profile.root / "logs").mkdir()
    (idle.profile.logs / "worker-sync.log").mkdir()  # its log cannot be written
    done = idle.run("up", timeout_s=90)
    assert done.returncode == 1
    assert "worker" in done.stderr
    assert str(idle.profile.logs) in done.stderr
    assert "Traceback" not in done.stderr
    assert not idle.profile.discovery_file.exists()


def test_data_of_another_major_is_one_sentence(idle: Engine) -> None:
    data = idle.profile.root / "pg" / "12"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("12\n")
    done = idle.run("up")
    assert done.returncode == 1
    assert "Postgres 12" in done.stderr
    assert "postgres.log" in done.stderr


def test_down_ends_an_engine_that_is_still_starting(idle: Engine) -> None:
    idle.up(wait=False)
    until(lambda: launch.progress(idle.profile), 20, "the first step")
    assert launch.stop(idle.profile)
    assert idle.process is not None
    assert idle.process.wait(10) == 0
    assert launch.read(idle.profile) is None


def test_started_for_a_console_it_outlives_its_starter(idle: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ) - set(idle.environment):
        monkeypatch.delenv(name)
    for name, value in idle.environment.items():
        monkeypatch.setenv(name, value)
    starting = launch.start(idle.profile)
    found = starting.wait()
    assert os.getsid(found.pid) == found.pid  # a session of its own
    again = launch.start(idle.profile).wait()
    assert again == found
    assert launch.call(found, "GET", "/api/status")["engine"]["state"] == "running"
    assert launch.stop(idle.profile)


def test_a_console_is_told_why_a_start_failed(idle: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in idle.environment.items():
        monkeypatch.setenv(name, value)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("API_PORT", str(taken.getsockname()[1]))
        starting = launch.start(idle.profile)
        with pytest.raises(launch.StartError, match="another program uses this port"):
            starting.wait()


def _of_profile(made: Engine) -> list[list[str]]:
    """The command line of every process that has the profile's folder there or in its environment."""
    root = str(made.profile.root)
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            words = process.cmdline()
            if any(root in word for word in (*words, *process.environ().values())):
                found.append(words)
    return found


@pytest.mark.parametrize("seen", ["keeper", "initdb", "postgres", "worker"])
def test_killed_while_it_starts_it_leaves_nothing_behind(idle: Engine, seen: str) -> None:
    idle.up(wait=False)
    assert idle.process is not None

    def there() -> bool:
        return any(word == seen or word.endswith(f"/bin/{seen}") for words in _of_profile(idle) for word in words[:6])

    until(there, 30, seen)
    os.kill(idle.process.pid, signal.SIGKILL)
    idle.process.wait(5)
    until(lambda: not _of_profile(idle), 20, "the end of every process")
    idle.up()
    assert (engine_now := idle.status()["engine"])["state"] == "running", engine_now


def test_services_of_the_persons_own_are_used(database_url: str, redis_url: str, namespace: str) -> None:
    own = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "SYNCDESK_REDIS_NAMESPACE": namespace}
    with engine(**NO_BANK, **own) as made:
        made.up()
        until(lambda: {row["state"] for row in made.look()["processes"]} == {"running"}, 20)
        assert {row["role"] for row in made.look()["processes"]} == ROLES - {"broker", "database"}
        assert not (made.profile.root / "pg").exists()
        assert made.run("down").returncode == 0


def test_a_persons_own_service_that_is_away_is_one_sentence() -> None:
    with engine(**NO_BANK, DATABASE_URL="postgresql://nobody@127.0.0.1:9/none") as made:
        done = made.run("up")
        assert done.returncode == 1
        assert "database" in done.stderr.lower()
        assert "Traceback" not in done.stderr
    with engine(**NO_BANK, REDIS_URL="redis://127.0.0.1:9") as made:
        done = made.run("up", timeout_s=90)
        assert done.returncode == 1
        assert "Redis cannot be reached" in done.stderr


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
    given = load(None, {**own, away: gone[away], "SYNCDESK_DATABASE_TIMEOUT_S": "1"})
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


def test_an_operator_stops_starts_and_restarts_a_pool(idle: Engine) -> None:
    found = idle.up().ready()

    def act(action: str) -> None:
        launch.call(found, "POST", f"/api/workers/events/{action}", 20)

    act("stop")
    assert idle.row("worker-events")["state"] == "stopped"
    assert _health(str(found.health)) == 503
    act("start")
    until(lambda: _health(str(found.health)) == 200, 20, "health")
    before = idle.row("worker-events")["pid"]
    act("restart")
    until(lambda: idle.row("worker-events")["state"] == "running", 20)
    assert idle.row("worker-events")["pid"] != before
    assert idle.row("worker-events")["restarts"] == 0  # asked for, not suffered


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 8 MB: too small for a database; where the database's account can reach it."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("only root on Linux can mount a small file system")
    folder = Path(tempfile.mkdtemp(prefix="syncdesk-disk-"))
    folder.chmod(0o755)
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True)
        if mounted.returncode != 0:
            pytest.skip("this machine lets nobody mount a small file system")
        yield folder
        subprocess.run(["umount", folder], check=True)
    finally:
        folder.rmdir()


def _up_on(folder: Path) -> subprocess.CompletedProcess[str]:
    made = Engine(Profile("test", folder), dict(NO_BANK))
    try:
        return made.run("up")
    finally:
        made.end()
        until(lambda: not _of_profile(made), 20, "the end of every process")


def test_a_disk_that_fills_up_is_one_sentence(small_disk: Path) -> None:
    done = _up_on(small_disk)
    assert done.returncode == 1
    assert f"the disk is full. Its log is {small_disk}/logs/postgres.log" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_disk_that_fills_up_in_a_demo_is_one_sentence(small_disk: Path) -> None:
    done = subprocess.run(
        launch.self_command(["demo"]), env=launch.self_environment(clean_environment(TMPDIR=str(small_disk))),
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"the disk is full. Its log is {small_disk}" in done.stdout
    assert "Traceback" not in done.stderr
    assert list(small_disk.iterdir()) == []


def test_a_demo_without_a_temporary_folder_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from engine.demo.stage import throw_away

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(ProfileError, match=re.escape(f"{tmp_path / 'none'}")):
        throw_away(lambda profile, engine: None, lambda sentence: None, {})


def test_a_full_disk_is_one_sentence(small_disk: Path) -> None:
    with open(small_disk / "fill", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(65536))
    done = _up_on(small_disk)
    assert done.returncode == 1
    assert re.search(rf"{re.escape(str(small_disk))}\S+: No space left", done.stderr)
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_written_is_one_sentence(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    done = _up_on(small_disk)
    assert done.returncode == 1
    assert f"Cannot write to the folder {small_disk}" in done.stderr
    assert "Traceback" not in done.stderr
