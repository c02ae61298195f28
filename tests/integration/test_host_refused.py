"""A start that cannot be: one sentence with what to do or where the log is, and nothing left."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import launch
from engine.errors import ProfileError
from engine.profile import Profile
from tests.support import tether
from tests.support.engines import NO_BANK, Engine, clean_environment, engine
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
    done = idle.run("up", timeout_s=150)
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


def test_a_persons_own_service_that_is_away_is_one_sentence() -> None:
    with engine(**NO_BANK, DATABASE_URL="postgresql://nobody@127.0.0.1:9/none") as made:
        done = made.run("up")
        assert done.returncode == 1
        assert "database" in done.stderr.lower()
        assert "Traceback" not in done.stderr
    with engine(**NO_BANK, REDIS_URL="redis://127.0.0.1:9") as made:
        done = made.run("up", timeout_s=150)
        assert done.returncode == 1
        assert "Redis cannot be reached" in done.stderr


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
        until(lambda: not tether.processes(folder), 30, "the end of every process")
        subprocess.run(["umount", folder], check=True)
    finally:
        folder.rmdir()


def _up_on(folder: Path) -> subprocess.CompletedProcess[str]:
    made = Engine(Profile("test", folder), dict(NO_BANK))
    try:
        return made.run("up")
    finally:
        made.end()


def test_a_disk_that_fills_up_is_one_sentence(small_disk: Path) -> None:
    done = _up_on(small_disk)
    assert done.returncode == 1
    assert f"the disk is full. Its log is {small_disk}/logs/postgres.log" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_disk_that_fills_up_in_a_demo_is_one_sentence(small_disk: Path) -> None:
    done = subprocess.run(
        launch.self_command(["demo"]), env=launch.self_environment(clean_environment(TMPDIR=str(small_disk))),
        capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
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
