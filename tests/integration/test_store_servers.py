"""The embedded database, and both servers where they cannot start: what they survive, and what they say."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from engine.errors import StartError
from engine.host import postgres
from engine.host.postgres import Postgres
from engine.host.valkey import Valkey
from engine.profile import Profile, prepare
from tests.support import servers
from tests.support.servers import dead, kill, query

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")


@pytest.fixture
def profile() -> Iterator[Profile]:
    with servers.throwaway_profile() as made:
        yield made


@pytest.fixture
def database(profile: Profile) -> Iterator[Postgres]:
    made = Postgres(profile, durable=False)
    yield made
    made.stop()


@pytest.fixture
def broker(profile: Profile) -> Iterator[Valkey]:
    made = Valkey(profile)
    yield made
    made.stop()


def test_it_starts_twice_with_the_same_address_and_data(database: Postgres) -> None:
    database.start()
    url = database.url
    query(url, "create table kept as select 7 as n")
    database.stop()
    assert database.pid is None
    database.start()
    assert database.url == url
    assert query(url, "select n from kept") == 7


def test_a_fresh_object_finds_the_data_and_tells_the_running_url(profile: Profile, database: Postgres) -> None:
    database.start()
    query(database.url, "create table kept as select 7 as n")
    assert postgres.running_url(profile) == database.url
    database.stop()
    assert postgres.running_url(profile) is None
    other = Postgres(profile, durable=False)
    other.start()
    try:
        assert query(other.url, "select n from kept") == 7
    finally:
        other.stop()


def test_commits_survive_a_kill(database: Postgres) -> None:
    database.start()
    query(database.url, "create table kept as select 7 as n")
    kill(database.pid)
    assert not database.alive()
    database.start()
    assert query(database.url, "select n from kept") == 7


@posix
def test_it_asks_for_the_password_and_its_socket_is_closed_to_others(profile: Profile, database: Postgres) -> None:
    database.start()
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(database.url.replace(":", ":wrong", 2).replace(":wrong//", "://", 1))
    folder = Path(parse_qs(urlsplit(database.url).query)["host"][0])  # elsewhere where the profile's path is long
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((profile.root / "database.json").stat().st_mode) == 0o600
    assert query(database.url, "show listen_addresses") == ""


def test_settings_that_matter(profile: Profile) -> None:
    database = Postgres(profile)
    database.start()
    try:
        shown = {name: query(database.url, f"show {name}") for name in ("fsync", "synchronous_commit", "timezone")}
        assert shown == {"fsync": "on", "synchronous_commit": "on", "timezone": "UTC"}
        assert query(database.url, "select datlocale from pg_database where datname = 'syncdesk'") == "C.UTF-8"
        assert (
            query(database.url, "select upper('straße ñ')") == "STRASSE Ñ"
            or query(database.url, "select upper('ñ')") == "Ñ"
        )
    finally:
        database.stop()


def test_no_statement_of_a_person_reaches_the_log(database: Postgres) -> None:
    database.start()
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        query(database.url, "select 'Zebra Confidential'::numeric")
    with pytest.raises(psycopg.errors.UniqueViolation):
        query(database.url, "create table t (v text unique); insert into t values ('Zebra'), ('Zebra')")
    database.stop()
    assert "Zebra" not in database.log.read_text()


def write_pid_file(data: Path, pid: int, like: str) -> None:
    lines = like.split("\n")
    (data / "postmaster.pid").write_text("\n".join([str(pid), *lines[1:]]))


@posix
def test_a_stale_pid_that_belongs_to_another_program_is_no_obstacle(profile: Profile, database: Postgres) -> None:
    database.start()
    data = next((profile.root / "pg").resolve().glob("1*/PG_VERSION")).parent
    content = (data / "postmaster.pid").read_text()
    kill(database.pid)
    owner = data.stat()
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    apart = {"user": owner.st_uid, "group": owner.st_gid} if os.geteuid() == 0 else {}
    # The account itself may have no way to the virtual environment's interpreter; any program of its own will do.
    other = subprocess.Popen(["/bin/sleep", "600"] if apart else command, **apart)  # type: ignore[arg-type]
    try:
        write_pid_file(data, other.pid, content)
        database.start()
        assert query(database.url, "select 1") == 1
        assert other.poll() is None, "the other program must be left alone"
    finally:
        other.kill()
        other.wait()


@posix
def test_a_postmaster_whose_engine_died_is_ended_and_replaced(profile: Profile) -> None:
    orphan = Postgres(profile, durable=False)
    orphan.start()
    pid = orphan.pid
    assert pid
    fresh = Postgres(profile, durable=False)
    fresh.start()
    try:
        assert fresh.pid != pid
        assert dead(pid)
        assert query(fresh.url, "select 1") == 1
    finally:
        fresh.stop()


def test_a_half_made_data_folder_is_made_anew(profile: Profile, database: Postgres) -> None:
    (profile.root / "pg").mkdir()
    (profile.root / "pg" / "18.new").mkdir()
    (profile.root / "pg" / "18.new" / "PG_VERSION").write_text("18\n")
    database.start()
    assert query(database.url, "select 1") == 1


def test_data_of_another_major_is_left_alone_and_told(profile: Profile, database: Postgres) -> None:
    old = profile.root / "pg" / "17"
    old.mkdir(parents=True)
    (old / "PG_VERSION").write_text("17\n")
    with pytest.raises(StartError, match=r"made by Postgres 17; this Syncdesk brings Postgres 18.*postgres\.log"):
        database.start()
    assert [path.name for path in (profile.root / "pg").iterdir()] == ["17"]


def test_damaged_data_is_told_with_the_log(profile: Profile, database: Postgres) -> None:
    database.start()
    database.stop()
    data = next((profile.root / "pg").resolve().glob("1*/PG_VERSION")).parent
    (data / "global" / "pg_control").unlink()
    with pytest.raises(StartError, match=r"did not start.*postgres\.log"):
        database.start()


@posix
def test_a_path_too_long_for_a_socket(profile: Profile) -> None:
    deep = Profile("deep", profile.root / ("d" * 60) / ("e" * 60))
    profile.root.chmod(0o755)
    prepare(deep)
    deep.root.parent.chmod(0o755)
    database = Postgres(deep, durable=False)
    database.start()
    try:
        assert query(database.url, "select 1") == 1
    finally:
        database.stop()
        postgres.forget(deep)


@posix
def test_a_squatted_socket_folder_is_refused(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.host import postgres_folders

    target = profile.root / "elsewhere"
    target.mkdir()
    squat = profile.root / "squat"
    squat.symlink_to(target)
    monkeypatch.setattr(postgres_folders, "_SOCKET_FOLDER_BYTES", 1)
    monkeypatch.setattr(postgres_folders, "_short_folder", lambda of: squat)
    with pytest.raises(StartError, match="belongs to somebody else"):
        Postgres(profile, durable=False).start()


@posix
@pytest.mark.parametrize("kind", [Postgres, Valkey])
def test_a_folder_that_is_a_file(profile: Profile, kind: type[Postgres] | type[Valkey]) -> None:
    blocked = profile.root / ("pg" if kind is Postgres else "valkey")
    blocked.write_text("in the way")
    part = kind(profile, durable=False)
    with pytest.raises(StartError) as caught:
        part.start()
    assert str(part.log) in caught.value.message
    assert str(blocked) in caught.value.message


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /dev/full")
@pytest.mark.parametrize("kind", [Postgres, Valkey])
def test_a_full_disk_is_told(kind: type[Postgres] | type[Valkey]) -> None:
    """On a file system of one page."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    place = Path(tempfile.mkdtemp(prefix="syncdesk-full-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        place.rmdir()
        pytest.skip("this machine lets nobody mount")
    try:
        place.chmod(0o755)
        profile = Profile("full", place / "profile")
        prepare(profile)
        (profile.root / "filler").write_bytes(b"x" * (1_900_000 if kind is Valkey else 500_000))
        if kind is Valkey:
            with open(profile.root / "more", "wb") as more, pytest.raises(OSError, match="No space"):
                more.write(b"x" * 1_000_000)
        part = kind(profile, durable=True)
        with pytest.raises(StartError) as caught:
            part.start()
        assert "disk is full" in caught.value.message or "No space left" in caught.value.message
        assert str(part.log) in caught.value.message
    finally:
        subprocess.run(["umount", str(place)], check=True)
        place.rmdir()


def test_no_programs(profile: Profile, tmp_path: Path) -> None:
    with pytest.raises(StartError, match="holds no Postgres"):
        Postgres(profile, home=tmp_path).start()
    with pytest.raises(StartError, match="no-such-program"):
        Valkey(profile, program=tmp_path / "no-such-program").start()


@posix
def test_ctrl_c_in_the_terminal_does_not_reach_them(database: Postgres, broker: Valkey) -> None:
    database.start()
    broker.start()
    groups = {os.getpgid(pid) for pid in (database.pid, broker.pid) if pid}
    assert os.getpgrp() not in groups
    assert signal.getsignal(signal.SIGINT) is not None
