"""Transports when the database answers but takes no writes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from engine.errors import StoreFull, StoreReadOnly, SyncdeskError
from engine.host import postgres_folders as folders
from engine.host.postgres import Postgres
from engine.store import Transport
from engine.store.direct import Direct
from engine.store.rest import Rest
from tests.support import stopped
from tests.support.rpc_server import RpcServer
from tests.support.wait import until

DOORS = ("direct", "rest")


@contextlib.contextmanager
def doors(url: str) -> Iterator[dict[str, Transport]]:
    """Both transports to one database."""
    with RpcServer(url, "key") as server:
        made: dict[str, Transport] = {"direct": Direct(url), "rest": Rest(server.url, "key")}
        yield made
        for store in made.values():
            store.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with stopped.server() as made:
        yield made


@pytest.fixture(scope="module")
def stores(server: Postgres) -> Iterator[dict[str, Transport]]:
    with doors(server.url) as made:
        yield made


def refusal(store: Transport, name: str = "writable", **params: object) -> SyncdeskError | None:
    try:
        store.call(name, **params)
    except SyncdeskError as error:
        return error
    return None


@pytest.mark.parametrize("door", DOORS)
def test_a_read_only_database_says_so_and_is_noticed_when_it_writes_again(
    server: Postgres, stores: dict[str, Transport], door: str
) -> None:
    store = stores[door]
    assert store.call("writable") == {}
    stopped.read_only(server.url, True)
    try:
        # A connection that was open before reads its configuration anew with its next statement or the one after.
        told = until(lambda: refusal(store), what="the refusal")
        assert isinstance(told, StoreReadOnly)
        assert told.code == "DATABASE_READ_ONLY"
        assert told.retryable
        assert "takes no writes" in told.message
        assert isinstance(refusal(store, "audit_add", who="me", action="look"), StoreReadOnly)
        assert store.call("schema")["migrations"]  # it can still be read
    finally:
        stopped.read_only(server.url, False)
    until(lambda: refusal(store) is None, what="the first write")


@pytest.fixture(scope="module")
def disk() -> Iterator[stopped.SmallDisk]:
    with stopped.small_disk() as made:
        yield made


@pytest.mark.parametrize("door", DOORS)
def test_a_full_disk_says_so_and_is_noticed_when_there_is_room(disk: stopped.SmallDisk, door: str) -> None:
    with doors(disk.url) as made:
        store = made[door]
        assert store.call("writable") == {}
        disk.fill(leave=1_000_000)  # a row still fits; a page of transactions does not
        told = refusal(store)
        assert isinstance(told, StoreFull)
        assert told.code == "DATABASE_FULL"
        assert told.retryable
        assert "free some space" in told.message
        disk.free()
        until(lambda: refusal(store) is None, what="the first write")


def test_the_probe_leaves_nothing_behind(server: Postgres, stores: dict[str, Transport]) -> None:
    for _ in range(5):
        stores["direct"].call("writable")
    with psycopg.connect(server.url) as connection:
        assert connection.execute("select count(*) from syncdesk.probe").fetchone() == (1,)
        assert connection.execute("select pg_relation_size('syncdesk.probe_room')").fetchone() == (0,)


@pytest.mark.parametrize("door", DOORS)
def test_a_standby_takes_no_writes(server: Postgres, door: str) -> None:
    signal = data_folder(server) / "standby.signal"
    server.stop()
    signal.touch()
    try:
        server.start()
        with doors(server.url) as made:
            assert made[door].call("schema")["migrations"]
            for name, params in (("writable", {}), ("leases_release", {"owner": "x"})):
                assert isinstance(refusal(made[door], name, **params), StoreReadOnly)
    finally:
        server.stop()
        signal.unlink()
        server.start()


def data_folder(server: Postgres) -> Path:
    (found,) = folders.data_folder(server.profile, None).glob("[0-9][0-9]")
    return found
