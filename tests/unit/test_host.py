"""Small parts of the host: restarts, ports, the environment of the children, how our own command is found."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import engine
from engine import clock, launch, settings
from engine.api.types import Endpoints
from engine.errors import StartError
from engine.host import discovery, ports, restarts
from engine.host.ending import Ending
from engine.host.parts import Part
from engine.host.restarts import Restarts
from engine.host.world import World
from engine.jobs import exits
from engine.profile import DEFAULT, Profile, prepare
from engine.sandbox import serving
from tests.support.wait import until

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    made = Profile("test", tmp_path / "profile")
    prepare(made)
    return made


class TestRestarts:
    def test_pauses_grow_and_the_fifth_end_within_a_minute_is_the_last(self) -> None:
        restarts = Restarts()
        pauses = [restarts.ended(100.0 + number) for number in range(4)]
        assert pauses == sorted(pauses)
        assert pauses[0] == 0.2
        assert restarts.ended(105.0) is None

    def test_ends_now_and_then_are_no_crash_loop(self) -> None:
        restarts = Restarts()
        assert [restarts.ended(20.0 * number) for number in range(100)][-1] is not None

    def test_four_pauses_fit_into_the_window(self) -> None:
        restarts = Restarts()
        now = 0.0
        for _ in range(4):
            pause = restarts.ended(now)
            assert pause is not None
            now += pause + 5  # a part that lives for five seconds each time
        assert restarts.ended(now) is None

    def test_a_start_by_a_person_forgets(self) -> None:
        restarts = Restarts()
        for number in range(4):
            restarts.ended(float(number))
        restarts.forget()
        assert restarts.ended(5.0) == 0.2


class TestPorts:
    def test_free_ports_stay_the_same_where_nothing_fixes_them(self, profile: Profile) -> None:
        ends = Endpoints("http://127.0.0.1:4001", "http://127.0.0.1:4002", "http://127.0.0.1:4003")
        ports.remember(profile, ends)
        wished = ports.wish(profile, settings.Settings())
        assert (wished.api_port, wished.admin_port, wished.worker_health_port) == (4001, 4002, 4003)
        fixed = ports.wish(profile, settings.Settings(api_port=5000))
        assert fixed.api_port == 5000

    def test_the_default_profile_keeps_its_own(self, profile: Profile) -> None:
        default = Profile(DEFAULT, profile.root)
        ports.remember(default, Endpoints("http://127.0.0.1:4001", "http://127.0.0.1:4002", "http://127.0.0.1:4003"))
        wished = ports.wish(default, settings.Settings())
        assert (wished.api_port, wished.admin_port, wished.worker_health_port) == (None, 4002, None)

    def test_a_taken_port_is_left_alone(self, profile: Profile) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            assert ports.again(profile, "bank", lambda: port) == port  # as if it had been ours
            assert ports.again(profile, "bank", lambda: 4010) == 4010
        assert ports.again(profile, "bank", lambda: 4020) == 4010

    @pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such thing")
    def test_a_port_that_is_held_is_the_banks_alone(self) -> None:
        held = ports.hold(0)
        assert held is not None
        with held:
            port = held.getsockname()[1]
            for _ in range(2):  # also after it was killed
                serving.bind("127.0.0.1", port).close()
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", port))
            with serving.bind("127.0.0.1", port):
                assert ports.hold(port) is None

    @pytest.mark.parametrize("text", ["", "[]", '{"public": "x"}', "null"])
    def test_a_damaged_file_is_no_file(self, profile: Profile, text: str) -> None:
        (profile.root / "ports.json").write_text(text)
        assert ports.wish(profile, settings.Settings()) == settings.Settings()


class TestWorld:
    def test_what_the_person_set_stays(self, profile: Profile) -> None:
        given = settings.Settings(redis_url="redis://mine", plaid_url="http://bank", plaid_client_id="me")
        world = World(profile, given, broker_url="redis://ours", database_url="postgresql://ours")
        environment = world.environment()
        assert environment["REDIS_URL"] == "redis://mine"
        assert environment["DATABASE_URL"] == "postgresql://ours"
        assert environment["SYNCDESK_PLAID_URL"] == "http://bank"
        assert environment["PLAID_CLIENT_ID"] == "me"

    def test_a_real_environment_gets_no_simulated_keys_and_no_webhook_address(self, profile: Profile) -> None:
        world = World(profile, settings.Settings(plaid_env="sandbox"), public_url="http://127.0.0.1:3000")
        assert not {"PLAID_CLIENT_ID", "PLAID_SECRET", "SYNCDESK_WEBHOOK_URL"} & set(world.environment())

    def test_the_settings_in_force_tell_what_the_person_set(self, profile: Profile) -> None:
        given = settings.load(None, {"API_PORT": "4444"})
        world = World(profile, given, broker_url="redis://ours", database_url="postgresql://ours")
        applied = world.apply({"API_PORT": "4444"})
        assert applied.redis_url == "redis://ours"
        assert applied.api_port == 4444
        assert dict(applied.origin) == {"api_port": "environment"}


class TestLaunch:
    def test_our_command_frozen_or_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert launch.self_command(["up"]) == [sys.executable, "-P", "-m", "scheduler.command", "up"]
        monkeypatch.setattr(sys, "frozen", True, raising=False)
        monkeypatch.setattr(sys, "executable", str(Path("/opt/syncdesk/syncdesk")))
        assert Path(launch.self_command(["up"])[0]).stem == "syncdeskctl"

    def test_discovery_is_believed_only_with_the_right_start_time(self, profile: Profile) -> None:
        discovery.write(profile, Endpoints("http://a", "http://b", "http://c"), "secret-token", "1")
        found = launch.read(profile)
        assert found is not None
        assert (found.pid, found.admin, found.token) == (os.getpid(), "http://b", "secret-token")
        assert "secret-token" not in repr(found)
        text = json.loads(profile.discovery_file.read_text())
        text["started"] -= 100
        profile.discovery_file.write_text(json.dumps(text))
        assert launch.read(profile) is None

    @pytest.mark.parametrize("text", ["", "{}", "[1]", '{"pid": "x"}', '{"pid": 1, "started": 1, "endpoints": {}}'])
    def test_a_damaged_discovery_is_none(self, profile: Profile, text: str) -> None:
        profile.discovery_file.write_text(text)
        assert launch.read(profile) is None

    def test_clearing_leaves_the_next_engines_file(self, profile: Profile) -> None:
        discovery.write(profile, Endpoints(None, "http://b", None), "t", "1")
        discovery.clear(profile, os.getpid() + 1)
        assert profile.discovery_file.exists()
        discovery.clear(profile, os.getpid())
        assert not profile.discovery_file.exists()

    def test_progress_of_a_process_that_is_gone(self, profile: Profile) -> None:
        discovery.write_progress(profile, "starting", "Starting the database")
        step = launch.progress(profile)
        assert step is not None
        assert step.step == "Starting the database"
        text = json.loads(launch.progress_file(profile).read_text())
        text["started"] -= 100
        launch.progress_file(profile).write_text(json.dumps(text))
        assert launch.progress(profile) is None
        text |= {"state": "failed", "error": "The disk is full."}
        launch.progress_file(profile).write_text(json.dumps(text))
        failed = launch.progress(profile)
        assert failed is not None
        assert failed.error == "The disk is full."


def test_the_version_is_the_distributions() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == engine.__version__


class Script(Part):
    """A part that is a real process which ends with the given exit codes, one a life; then it stays."""

    def __init__(self, codes: list[int], folder: Path) -> None:
        super().__init__("script", "The script", folder / "script.log", lambda role: None)
        self._codes = list(codes)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def _launch(self) -> None:
        what = f"import sys; sys.exit({self._codes.pop(0)})" if self._codes else "import sys; sys.stdin.read()"
        self._process = subprocess.Popen([sys.executable, "-S", "-c", what], stdin=subprocess.PIPE)

    def _wait(self) -> int | None:
        assert self._process is not None
        code = self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        return code

    def _end(self, grace_s: float) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class TestPart:
    def test_one_that_asks_to_be_replaced_did_not_crash(self, tmp_path: Path) -> None:
        part = Script([exits.REPLACE] * 7, tmp_path)
        part.start()
        until(lambda: part.info().restarts == 7 and part.state == "running")
        part.stop(30)
        assert (part.state, part.pid) == ("stopped", None)

    def test_one_that_ends_is_started_again(self, tmp_path: Path) -> None:
        part = Script([1, 0], tmp_path)
        part.start()
        until(lambda: part.info().restarts == 2 and part.state == "running")
        part.stop(30)

    def test_a_crash_loop_stays_stopped_until_a_person_starts_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(restarts, "LONGEST_PAUSE_S", 0.05)
        part = Script([1] * 5, tmp_path)
        part.start()
        until(lambda: part.state == "given_up")
        assert "five times within a minute" in str(part.note)
        assert str(part.log) in str(part.note)
        with pytest.raises(StartError, match="five times"):
            part.wait_settled(30)
        part.start()
        until(lambda: part.state == "running")
        part.stop(30)

    def test_stopped_while_it_waits_to_be_started_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(restarts, "FIRST_PAUSE_S", 60.0)
        monkeypatch.setattr(restarts, "LONGEST_PAUSE_S", 60.0)
        part = Script([1], tmp_path)
        part.start()
        until(lambda: part.state == "crashed")
        part.stop(30)
        assert part.state == "stopped"


class TestEnding:
    def test_steps_share_one_deadline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = 1000.0
        monkeypatch.setattr(clock, "monotonic", lambda: now)
        ending = Ending(8.0)
        assert ending.share(30.0, 3.0) == 5.0  # nobody asked yet: the whole of it
        ending.ask()
        now += 1.0
        assert ending.share(30.0, 3.0) == 4.0
        assert ending.share(2.0, 3.0) == 2.0
        assert ending.share(2.0, 9.0) == 0.1  # late, and still a chance

    def test_the_second_order_gives_no_more_time(self) -> None:
        ending = Ending(0.0)
        ending.ask()
        ending.ask()
        assert ending.share(5.0) == 0.1

    def test_a_step_that_hangs_is_left_behind(self) -> None:
        ending, never = Ending(), threading.Event()
        assert ending.within("quick", lambda: None, 10.0)
        assert not ending.within("hangs", never.wait, 0.05)
        never.set()

    def test_the_last_resort_kills_and_leaves(self) -> None:
        done: list[object] = []
        left = threading.Event()

        def leave(code: int) -> None:
            done.append(code)
            left.set()

        ending = Ending(0.0)
        ending.guard(lambda: done.append("killed"), leave)
        ending.ask()
        assert left.wait(30)
        assert done == ["killed", 1]

    def test_an_end_in_time_needs_no_last_resort(self) -> None:
        done: list[object] = []
        ending = Ending(0.0)
        ending.done()
        ending.guard(lambda: done.append("killed"), done.append)
        ending.ask()
        until(lambda: "last-resort" not in {thread.name for thread in threading.enumerate()})
        assert done == []
