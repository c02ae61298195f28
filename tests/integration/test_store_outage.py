"""Transports when the database goes away, comes back, or was never there."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from engine.errors import SchemaError, StoreRefused, StoreUnavailable
from engine.host.postgres import Postgres
from engine.settings import Settings
from engine.store import migrate, open_store
from engine.store.direct import Direct
from engine.store.rest import Rest
from tests.support import servers
from tests.support.rpc_server import RpcServer
from tests.support.wait import until


@pytest.fixture
def database() -> Iterator[Postgres]:
    """A server of the test's own, which it may kill."""
    with servers.throwaway_profile() as profile:
        made = Postgres(profile, durable=False)
        made.start()
        migrate.migrate(made.url)
        yield made
        made.stop()


@pytest.fixture
def store(database: Postgres) -> Iterator[Direct]:
    made = Direct(database.url, connect_s=30.0)
    yield made
    made.close()


def names(store: Direct | Rest) -> list[str]:
    return [row["name"] for row in store.call("schema")["migrations"]]


def test_the_first_call_after_a_restart_works(database: Postgres, store: Direct) -> None:
    before = names(store)
    database.stop()
    database.start()
    assert names(store) == before


def test_the_first_call_after_a_kill_works(database: Postgres, store: Direct) -> None:
    before = names(store)
    servers.kill(database.pid)
    assert not database.alive()
    database.start()
    assert names(store) == before


def test_while_it_is_away_calls_say_so_and_later_ones_work(database: Postgres, store: Direct) -> None:
    names(store)
    database.stop()
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="does not answer") as caught:
            names(store)
        assert caught.value.retryable
        assert caught.value.__context__ is None
    database.start()
    assert names(store)


def test_a_wrong_password_is_not_repeated_in_the_error(database: Postgres) -> None:
    user, password = database.url.removeprefix("postgresql://").split("@")[0].split(":")
    wrong = database.url.replace(f"{user}:{password}", f"{user}:wrong-password")
    store = Direct(wrong, connect_s=30.0)
    try:
        with pytest.raises(StoreRefused, match="check DATABASE_URL") as caught:
            names(store)
        assert "wrong-password" not in f"{caught.value!r} {caught.value.detail}"
    finally:
        store.close()


def test_a_database_that_does_not_exist(database: Postgres) -> None:
    store = Direct(database.url.replace("/syncdesk?", "/nowhere?"), connect_s=30.0)
    with pytest.raises(StoreRefused, match="no such database"):
        names(store)
    store.close()


def test_an_address_that_is_no_database() -> None:
    store = Direct("postgresql://user:hidden@127.0.0.1:1/x", connect_s=1.0)
    with pytest.raises(StoreUnavailable) as caught:
        names(store)
    assert "hidden" not in f"{caught.value!r} {caught.value.detail}"
    store.close()


def test_a_database_before_its_first_migration(cluster: servers.Cluster) -> None:
    with cluster.fresh("template1") as url:
        store = Direct(url)
        with pytest.raises(SchemaError, match="db migrate"):
            migrate.check(store)
        migrate.migrate(url)
        migrate.check(store)
        store.close()


def test_a_project_that_does_not_answer() -> None:
    store = Rest("http://127.0.0.1:1", "some-key")
    with pytest.raises(StoreUnavailable) as caught:
        names(store)
    assert caught.value.__context__ is None
    store.close()


def test_a_wrong_service_key(database_url: str) -> None:
    with RpcServer(database_url, "the-right-key") as server:
        store = Rest(server.url, "the-wrong-key")
        with pytest.raises(StoreRefused, match="SUPABASE_SERVICE_ROLE_KEY") as caught:
            names(store)
        assert "the-wrong-key" not in f"{caught.value!r} {caught.value.detail}"
        store.close()


def test_the_settings_choose_the_transport(database_url: str) -> None:
    with RpcServer(database_url, "key") as server:
        rest = Settings(supabase_url=server.url, supabase_service_role_key="key")
        both = Settings(supabase_url=server.url, supabase_service_role_key="key", database_url=database_url)
        for settings, kind in ((rest, Rest), (both, Direct), (Settings(database_url=database_url), Direct)):
            store = open_store(settings)
            assert isinstance(store, kind)
            migrate.check(store)
            store.close()
    with pytest.raises(StoreUnavailable, match="DATABASE_URL"):
        open_store(Settings())


def test_a_closed_store_leaves_no_connection(cluster: servers.Cluster, database_url: str) -> None:
    import psycopg

    store = Direct(database_url)
    names(store)
    store.close()
    del store
    gc.collect()
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
        ours = "select 1 from pg_stat_activity where datname = %s"
        database = urlsplit(database_url).path.removeprefix("/")
        until(lambda: not connection.execute(ours, [database]).fetchall(), what="an end of all connections")
