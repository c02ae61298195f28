"""The host as its user meets it: whole engines as processes, started, asked, told and ended."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator

import pytest

from engine import launch
from tests.support.engines import END_S, NO_BANK, ROLES, Engine, engine, health
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
    assert health(status["endpoints"]["health"]) == 200
    assert idle.profile.discovery_file.stat().st_mode & 0o077 == 0
    done = idle.run("down", "--json")
    assert json.loads(done.stdout) == {"ok": True, "ended": True}
    assert idle.process.wait(END_S) == 0  # type: ignore[union-attr]
    until(idle.gone, what="the end of every part")
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
    assert idle.process.wait(END_S) == 0
    until(idle.gone, what="the end of every part")
    # Asked to end, not killed. How long they then write, within what is left of the ten seconds, is their disk's.
    assert "received fast shutdown request" in (idle.profile.logs / "postgres.log").read_text()
    assert "User requested shutdown" in (idle.profile.logs / "valkey.log").read_text()
    log = (idle.profile.logs / "worker-sync.log").read_text()
    assert '"Worker stopped"' in log


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


def test_down_ends_an_engine_that_is_still_starting(idle: Engine) -> None:
    idle.up(wait=False)
    until(lambda: launch.progress(idle.profile), 60, "the first step")
    assert launch.stop(idle.profile)
    assert idle.process is not None
    assert idle.process.wait(END_S) == 0
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
    assert launch.call(found, "GET", "/api/status", 20)["engine"]["state"] == "running"
    assert launch.stop(idle.profile)


def test_services_of_the_persons_own_are_used(database_url: str, redis_url: str, namespace: str) -> None:
    own = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "SYNCDESK_REDIS_NAMESPACE": namespace}
    with engine(**NO_BANK, **own) as made:
        made.up()
        until(lambda: {row["state"] for row in made.look()["processes"]} == {"running"}, 20)
        assert {row["role"] for row in made.look()["processes"]} == ROLES - {"broker", "database"}
        assert not (made.profile.root / "pg").exists()
        assert made.run("down").returncode == 0


def test_an_operator_stops_starts_and_restarts_a_pool(idle: Engine) -> None:
    found = idle.up().ready()

    def act(action: str) -> None:
        launch.call(found, "POST", f"/api/workers/events/{action}", 60)

    act("stop")
    assert idle.row("worker-events")["state"] == "stopped"
    until(lambda: health(str(found.health)) == 503, what="health without a pool")  # one that was killed beats a while
    act("start")
    until(lambda: health(str(found.health)) == 200, 60, "health")
    before = idle.row("worker-events")["pid"]
    act("restart")
    until(lambda: idle.row("worker-events")["state"] == "running", 20)
    assert idle.row("worker-events")["pid"] != before
    assert idle.row("worker-events")["restarts"] == 0  # asked for, not suffered
