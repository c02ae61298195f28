"""Calls that meet each other, and connections that are lost in the middle: the real things."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from engine.errors import StoreUnavailable
from engine.host.postgres import Postgres
from engine.store import Transport
from engine.store.direct import Direct
from tests.conftest import BACKENDS
from tests.support import servers, stopped
from tests.support.scripted_plaid import ScriptedPlaid, page, transaction
from tests.support.syncing import World, deps
from tests.support.wait import until

SYNC = "/transactions/sync"
#: Both callers hold their first row, or have taken their snapshot, before either goes on. A sequence counts the calls,
#: also those that are rolled back.
FUNCTIONS = """
create table public.t_rows (id integer primary key, n integer not null);
insert into public.t_rows values (1, 0), (2, 0);
create sequence public.t_calls;
create function public.t_both() returns void language plpgsql as $$
    begin
        perform nextval('public.t_calls');
        while (select last_value from public.t_calls) < 2 loop perform pg_sleep(0.01); end loop;
    end $$;
create function public.syncdesk_t_pair(p_first integer, p_second integer) returns jsonb
language plpgsql security definer set statement_timeout = '60s' as $$
    begin
        update public.t_rows set n = n + 1 where id = p_first;
        perform public.t_both();
        update public.t_rows set n = n + 1 where id = p_second;
        return '1';
    end $$;
create function public.syncdesk_t_bump() returns jsonb
language plpgsql security definer set statement_timeout = '60s' as $$
    begin
        perform n from public.t_rows where id = 1;
        perform public.t_both();
        update public.t_rows set n = n + 1 where id = 1;
        return '1';
    end $$;
create function public.syncdesk_t_always(p_state text) returns jsonb language plpgsql security definer as $$
    begin
        perform nextval('public.t_calls');
        raise exception using errcode = p_state;
    end $$;
select syncdesk.secure();
notify pgrst, 'reload schema';
"""
both_doors = pytest.mark.parametrize("any_backend", BACKENDS[:2], indirect=True)


@pytest.fixture
def store_with(any_database_url: str, any_store: Transport) -> Transport:
    with psycopg.connect(any_database_url, autocommit=True) as connection:
        connection.execute(FUNCTIONS)
    return any_store


def look(url: str, query: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


@both_doors
def test_a_deadlock_is_repeated_and_both_calls_are_done(store_with: Transport, any_database_url: str) -> None:
    answers = at_once(
        lambda: store_with.call("t_pair", first=1, second=2), lambda: store_with.call("t_pair", first=2, second=1)
    )
    assert answers == [1, 1]
    assert look(any_database_url, "select n from public.t_rows order by id") == [(2,), (2,)]
    ((calls,),) = look(any_database_url, "select last_value from public.t_calls")
    assert calls > 2  # there was a deadlock: one, or another where the repeat comes before the one that it let go


@both_doors
def test_a_transaction_that_cannot_be_serialized_is_repeated(store_with: Transport, any_database_url: str) -> None:
    with psycopg.connect(any_database_url, autocommit=True) as connection:
        setting = "set default_transaction_isolation = 'repeatable read'"
        connection.execute(f"alter database {connection.info.dbname} {setting}".encode())
    assert at_once(lambda: store_with.call("t_bump"), lambda: store_with.call("t_bump")) == [1, 1]
    assert look(any_database_url, "select n from public.t_rows where id = 1") == [(2,)]
    assert look(any_database_url, "select last_value from public.t_calls") == [(3,)]


@both_doors
@pytest.mark.parametrize(("state", "calls"), [("40P01", 4), ("40001", 4), ("57P01", 1), ("08006", 1), ("55P03", 1)])
def test_only_what_was_rolled_back_is_repeated_and_not_for_ever(
    store_with: Transport, any_database_url: str, state: str, calls: int
) -> None:
    with pytest.raises(StoreUnavailable):
        store_with.call("t_always", state=state)
    assert look(any_database_url, "select last_value from public.t_calls") == [(calls,)]


def once_each(world: World, identities: list[str]) -> None:
    assert sorted(world.live()) == identities
    for identity in identities:
        assert [line["change"] for line in world.history(identity)] == ["added"]
    assert world.row()["transactions"] == len(identities)


@both_doors
def test_a_connection_that_is_cut_in_a_commit(
    any_store: Transport, any_database_url: str, scripted_bank: ScriptedPlaid
) -> None:
    world = World(deps(any_store, scripted_bank.url), any_database_url).link()
    scripted_bank.handlers[SYNC] = lambda _: page([transaction("t1"), transaction("t2")], cursor="c1")
    failures: list[BaseException] = []

    def run() -> None:
        try:
            world.sync()
        except StoreUnavailable as error:
            failures.append(error)

    with psycopg.connect(any_database_url) as blocker:
        blocker.execute("lock table syncdesk.outbox in access exclusive mode")
        thread = threading.Thread(target=run)
        thread.start()
        waiting = "select pg_terminate_backend(pid) from pg_stat_activity where wait_event_type = 'Lock'" \
            " and query like '%sync_commit%' and pid <> pg_backend_pid() and datname = current_database()"  # fmt: skip
        until(lambda: look(any_database_url, waiting))
        blocker.rollback()
    thread.join(60)
    assert not thread.is_alive()
    assert len(failures) == 1
    assert world.live() == {}
    until(lambda: world.sync().state == "done")
    once_each(world, ["t1", "t2"])
    world.deps.plaid.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with stopped.server() as made:
        yield made


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_database_that_starts_anew_between_two_pages(
    server: Postgres, scripted_bank: ScriptedPlaid, how: str
) -> None:
    store = Direct(server.url)
    world = World(deps(store, scripted_bank.url, lease_s=1.0), server.url).link()
    restarted = threading.Event()

    def answer(body: dict[str, Any]) -> Any:
        if body.get("cursor") != "p1":
            return page([transaction("t1")], cursor="p1", more=True)
        if not restarted.is_set():
            # Only once the first page is staged, so that there is something to lose.
            until(lambda: look(server.url, "select 1 from syncdesk.stage") or restarted.is_set())
            restart(server, how)
            restarted.set()
        return page([transaction("t2")], cursor="p2")

    scripted_bank.handlers[SYNC] = answer

    def finished() -> bool:  # as the job's retry does
        try:
            return world.sync().state == "done"
        except StoreUnavailable:
            return False

    until(finished, 60, what="a run that goes through")
    assert restarted.is_set()
    assert world.row()["cursor"] == "p2"
    once_each(world, ["t1", "t2"])
    world.deps.plaid.close()
    store.close()


def restart(server: Postgres, how: str) -> None:
    if how == "killed":
        servers.kill(server.pid)
    else:
        server.stop()
    server.start()
