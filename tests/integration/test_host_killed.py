"""A host, a keeper or a part that is killed: nothing stays behind, and the engine goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import killed_at, tether
from tests.support.engines import LEFT_BEHIND_S, NO_BANK, ROOT, Engine, engine
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


STARTED = {"keeper": "keeper", "broker": "/valkey-server", "initdb": "/initdb", "database": "/postgres", "pool": "sync"}
_MOMENTS = [
    (part, moment)
    for part in STARTED
    for moment in killed_at.MOMENTS
    if part != "keeper" or moment == "spawned"  # it is told of, not told
]


@pytest.mark.parametrize(("part", "moment"), _MOMENTS, ids=["-".join(found) for found in _MOMENTS])
def test_killed_at_any_moment_of_its_start_it_leaves_nothing_behind(idle: Engine, part: str, moment: str) -> None:
    command = [sys.executable, "-P", str(Path(killed_at.__file__)), STARTED[part], moment, "up"]
    done = subprocess.run(
        command, cwd=idle.profile.root, env=idle.environment, capture_output=True, text=True, timeout=120,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    until(lambda: not tether.processes(idle.profile.root), LEFT_BEHIND_S, "the end of every process")
    if moment == "told":
        idle.up()
        assert (engine_now := idle.status()["engine"])["state"] == "running", engine_now


_STARTER = """
import sys
from tests.support.engines import NO_BANK, engine
with engine(**NO_BANK) as made:
    made.up(wait=False)
    print(made.profile.root, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("waits_for", ["run/start.json", "engine.json"], ids=["starting", "running"])
def test_an_engine_of_a_test_ends_with_the_test_that_is_killed(waits_for: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _STARTER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        folder = Path(starter.stdout.readline().strip())
        until((folder / waits_for).exists, 60, waits_for)
        starter.kill()
    until(lambda: not tether.processes(folder), 60, "the end of every process")
    until(lambda: not folder.exists(), 30, "the end of its folder")
