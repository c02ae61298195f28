"""Faults of broker and database: killed, away, emptied, cut off, not writable."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

import psycopg

from tests.faults.run import LASTS_S
from tests.faults.world import World

READ_ONLY_S = 30.0
CUT_EVERY_S = 0.5
FAILING_S = 3.0
"""Of the bank, so that there are retries which fall due 15 s later."""
_PIECE = b"\0" * 1_048_576


def broker_killed(world: World) -> None:
    """The embedded broker dies."""
    os.kill(world.pid("broker"), signal.SIGKILL)


def broker_away(world: World) -> None:
    """A broker of the person's own is away while retries fall due."""
    broker = world.broker
    with world.bank.control() as control:
        control.do("faults", path="/transactions/sync", kind="error", error_code="INTERNAL_SERVER_ERROR")
        time.sleep(FAILING_S)
        broker.stop()
        control.do("faults/clear")
    time.sleep(LASTS_S)
    broker.start()


def broker_emptied(world: World) -> None:
    """Somebody empties the broker."""
    world.redis().flushall()


def broker_replaced(world: World) -> None:
    """A broker of the person's own is replaced by one that knows nothing."""
    world.broker.stop()
    shutil.rmtree(world.broker.profile.broker_data)
    world.broker.start()


def database_killed(world: World) -> None:
    """The embedded database dies."""
    os.kill(world.pid("database"), signal.SIGKILL)


def connections_cut(world: World) -> None:
    """Every connection to broker and database is cut, again and again."""
    broker = world.redis()
    cut = (
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where pid <> pg_backend_pid() and backend_type = 'client backend'"
    )
    with world.database() as connection:
        end = time.monotonic() + LASTS_S
        while time.monotonic() < end:
            connection.execute(cut)
            for kind in ("normal", "pubsub"):
                broker.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
            time.sleep(CUT_EVERY_S)


def database_read_only(world: World) -> None:
    """The database takes no writes, as a hosted one does whose disk quota is used up."""
    with world.database() as connection:
        _read_only(connection, "on")
        time.sleep(READ_ONLY_S)
        _read_only(connection, "off")


def _read_only(connection: psycopg.Connection[object], value: str) -> None:
    connection.execute(f"alter system set default_transaction_read_only = {value}")
    connection.execute("select pg_reload_conf()")


def disk_full(world: World) -> None:
    """The disk of the profile is full; what is freed meanwhile is filled as well."""
    filler = world.folder / "filler"
    end = time.monotonic() + LASTS_S
    while time.monotonic() < end:
        _fill(filler)
        time.sleep(0.2)
    assert filler.stat().st_size > 1_048_576, "the disk was full before"
    filler.unlink()


def _fill(filler: Path) -> None:
    with contextlib.suppress(OSError), open(filler, "ab", buffering=0) as file:
        size = len(_PIECE)
        while size:
            try:
                file.write(_PIECE[:size])
            except OSError:
                size //= 2
