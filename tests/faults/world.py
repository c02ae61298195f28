"""One world: a copy of the base with a bank of its own, events running, to be disturbed from outside."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import redis

from engine.host import postgres, valkey
from engine.host.binaries_process import free_port
from engine.profile import Profile, prepare
from engine.secrets.keeper import Keeper
from engine.secrets.sealing import MASTER_KEY
from tests.faults import base as bases
from tests.faults import truth
from tests.faults.bank import BankProcess, Player, rewrite_address
from tests.faults.base import Base
from tests.faults.preload import Preload
from tests.faults.script import Event, script
from tests.support.engines import Engine
from tests.support.wait import until

PER_SECOND = 6.0
EVENTS = 180
LOOK_S = 0.1
#: A shorter interval than the usual quarter of an hour: what no webhook could announce is found within ten seconds.
USUAL = {"SYNCDESK_BACKUP_EVERY_S": "10"}


@dataclass(frozen=True)
class Shape:
    """How a world differs from the usual one.

    ``own_broker``: Redis is the person's, not the engine's. ``tmpfs_mb``: the profile lies on a small disk of its own.
    ``preload``: the engine's processes can be told another time, or to take memory.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    own_broker: bool = False
    tmpfs_mb: int = 0
    preload: bool = False


class World:
    """An engine (``syncdeskctl up``), a bank, and a player of the script. `opened` makes and ends one."""

    def __init__(self, base: Base, shape: Shape, folder: Path, events: int) -> None:
        self.base = base
        self.shape = shape
        self.folder = folder
        self.profile = Profile(folder.name, folder)
        self.journal = folder.with_name(f"{folder.name}.bank.jsonl")
        self.api_port = free_port()
        self.bank = BankProcess(self.journal, free_port())
        self.engine: Engine = Engine(self.profile, self.environment())
        self.events: list[Event] = script(base.items, base.today, count=events)
        self.player = Player(self.bank, self.events, base.tops, PER_SECOND)
        self.preload = Preload(self.beside("preload"))
        self._ends = contextlib.ExitStack()
        self._broker: valkey.Valkey | None = None

    def environment(self) -> dict[str, str]:
        """Of the engine."""
        return {
            **USUAL,
            "SYNCDESK_PLAID_URL": self.bank.url,
            "API_PORT": str(self.api_port),
            **self.shape.environment,
        }

    def start(self) -> None:
        """Bring bank and engine up; nothing happens yet."""
        shutil.copyfile(self.base.journal, self.journal)
        rewrite_address(self.journal, self.base.api_port, self.api_port)
        if self.shape.own_broker:
            self._start_broker()
        if self.shape.preload:
            self.engine.environment |= self.preload.environment()
        self.bank.start()
        self.engine.up(wait=False)
        self.bank.ready()
        self.engine.ready(120)

    def at_end(self, action: Any, *arguments: Any) -> None:
        """Do something when the world ends, last first."""
        self._ends.callback(action, *arguments)

    def end(self) -> None:
        self.player.stop()
        self._ends.close()
        self.engine.end()
        self.bank.end()
        if self._broker is not None:
            self._broker.stop()

    def _start_broker(self) -> None:
        profile = Profile("broker", self.beside("broker"))
        prepare(profile)
        self._broker = valkey.Valkey(profile)
        self._broker.start()
        self.engine.environment["REDIS_URL"] = self._broker.url

    @property
    def broker(self) -> valkey.Valkey:
        """The person's own."""
        assert self._broker is not None
        return self._broker

    def beside(self, name: str) -> Path:
        """A folder beside the profile, removed with it."""
        folder = self.folder.with_name(f"{self.folder.name}.{name}")
        folder.mkdir(exist_ok=True, mode=0o755)
        return folder

    def elsewhere(self) -> dict[str, str]:
        """The environment of another host or worker on the same database and broker."""
        database, broker = postgres.running_url(self.profile), valkey.running_url(self.profile)
        key = Keeper(self.profile, {"SYNCDESK_SECRETS": "file"}).get(MASTER_KEY)
        assert database, "the database does not run"
        assert broker, "the broker does not run"
        assert key, "there is no master key"
        addresses = {"DATABASE_URL": database, "REDIS_URL": broker, "SYNCDESK_PLAID_URL": self.bank.url}
        return {**USUAL, **addresses, "SYNCDESK_MASTER_KEY": key}

    # -- looking

    def runs(self, item_id: str) -> bool:
        """Whether a sync of this item runs."""
        query = (
            "select exists (select from syncdesk.item_leases l join syncdesk.items i on i.id = l.item_id"
            " where i.plaid_item_id = %s and l.expires_at > clock_timestamp())"
        )
        with self.database() as connection:
            row = connection.execute(query, [item_id]).fetchone()
        return bool(row and row[0])

    def database(self) -> psycopg.Connection[Any]:
        """A connection of one's own.

        Raises:
            psycopg.OperationalError: it is away.
        """
        url = postgres.running_url(self.profile)
        if url is None:
            raise psycopg.OperationalError("the database does not run")
        return psycopg.connect(url, autocommit=True, connect_timeout=5)

    def redis(self) -> redis.Redis:
        """A client of the broker as an operator has one."""
        url = self.engine.environment.get("REDIS_URL") or valkey.running_url(self.profile)
        assert url is not None, "the broker does not run"
        return redis.Redis.from_url(url)

    def pid(self, role: str) -> int:
        """The process of a part now."""
        return int(until(lambda: self.engine.row(role)["pid"], 30, f"the {role}'s process"))

    def caught_up(self, tops: Mapping[str, int], deadline_s: float) -> float | None:
        """Seconds until the database has read all that the bank had at ``tops``; None: not within the deadline."""
        return self._awaited(lambda connection: truth.behind(connection, tops) == 0, deadline_s)

    def settled(self, deadline_s: float) -> bool:
        """Wait until everything is read and nothing is open."""
        tops = self.player.tops()
        ready = self._awaited(lambda found: truth.behind(found, tops) + truth.unfinished(found) == 0, deadline_s)
        return ready is not None

    def _awaited(self, reached: Any, deadline_s: float) -> float | None:
        began = time.monotonic()
        connection: psycopg.Connection[Any] | None = None
        try:
            while time.monotonic() < began + deadline_s:
                try:
                    connection = connection or self.database()
                    if reached(connection):
                        return time.monotonic() - began
                except psycopg.Error:
                    if connection is not None:
                        connection.close()
                    connection = None
                time.sleep(LOOK_S)
            return None
        finally:
            if connection is not None:
                connection.close()


@contextlib.contextmanager
def opened(base: Base, shape: Shape, events: int = EVENTS) -> Iterator[World]:
    """A world that was not started yet; ended and removed afterwards, whatever happened to it."""
    folder = bases.throw_away_folder()
    if shape.tmpfs_mb:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={shape.tmpfs_mb}m,mode=0755", "tmpfs", str(folder)], check=True
        )
    try:
        bases.copy(base, folder)
        world = World(base, shape, folder, events)
        try:
            yield world
        finally:
            world.end()
            postgres.forget(world.profile)
    finally:
        if shape.tmpfs_mb:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)
        shutil.rmtree(folder, ignore_errors=True)
        for left in folder.parent.glob(f"{folder.name}.*"):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
