"""Bringing databases to this program's schema."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from engine.errors import SchemaError, StoreRefused, StoreUnavailable
from engine.store import Transport, migrate
from engine.store.facts import facts
from tests.support import servers

#: What a file creates, functions with their parameters.
CREATED = re.compile(
    r"^create (?:or replace |unique |unlogged )*"
    r"((?:function|aggregate|type|table|view|index|trigger) [\w.]+(?:\([^)]*\))?)",
    re.MULTILINE,
)


@pytest.fixture
def empty_url(cluster: servers.Cluster) -> Iterator[str]:
    """A database with nothing in it."""
    with cluster.fresh("template1") as url:
        yield url


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two small migrations of the test's own."""
    (tmp_path / "0001_one.sql").write_text("create table syncdesk.one (n integer);")
    (tmp_path / "0002_two.sql").write_text("insert into syncdesk.one values (1); insert into syncdesk.one values (2);")
    return tmp_path


def rows(url: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


def test_all_of_it_once_and_then_nothing(empty_url: str) -> None:
    names = [migration.name for migration in migrate.migrations()]
    first = migrate.migrate(empty_url)
    assert (first.applied, first.before) == (names, 0)
    second = migrate.migrate(empty_url)
    assert (second.applied, second.before) == ([], len(names))


def test_files_apply_in_order_and_only_new_ones(empty_url: str, folder: Path) -> None:
    assert migrate.migrate(empty_url, folder).applied == ["0001_one", "0002_two"]
    (folder / "0010_three.sql").write_text("insert into syncdesk.one values (3);")
    assert migrate.migrate(empty_url, folder).applied == ["0010_three"]
    assert rows(empty_url, "select n from syncdesk.one order by 1") == [(1,), (2,), (3,)]


def test_a_failing_file_leaves_nothing_of_itself(empty_url: str, folder: Path) -> None:
    (folder / "0003_bad.sql").write_text("insert into syncdesk.one values (3); select nonsense;")
    with pytest.raises(SchemaError, match="0003_bad failed"):
        migrate.migrate(empty_url, folder)
    assert rows(empty_url, "select count(*) from syncdesk.one") == [(2,)]
    (folder / "0003_bad.sql").write_text("insert into syncdesk.one values (4);")
    assert migrate.migrate(empty_url, folder).applied == ["0003_bad"]


def test_a_changed_file_is_refused(empty_url: str, folder: Path) -> None:
    migrate.migrate(empty_url, folder)
    (folder / "0001_one.sql").write_text("create table syncdesk.one (n bigint);")
    with pytest.raises(SchemaError, match="migration 0001_one is not this program's"):
        migrate.migrate(empty_url, folder)


def test_a_database_of_another_line_is_not_called_newer(empty_url: str, folder: Path) -> None:
    migrate.migrate(empty_url, folder)
    (folder / "0002_two.sql").rename(folder / "0003_two.sql")
    with pytest.raises(SchemaError, match=r"migration 0002_two is not this program's.*empty database"):
        migrate.migrate(empty_url, folder)


def test_a_newer_database_is_refused(empty_url: str, folder: Path) -> None:
    (folder / "9000_future.sql").write_text("select 1;")
    migrate.migrate(empty_url, folder)
    (folder / "9000_future.sql").unlink()
    with pytest.raises(SchemaError, match="newer Syncdesk"):
        migrate.migrate(empty_url, folder)


def test_nothing_is_created_twice() -> None:
    """Whoever reads a function finds it once, as it is. (Once a version is released, its files stay as they are.)"""
    created: dict[str, list[str]] = {}
    for migration in migrate.migrations():
        for thing in CREATED.findall(migration.text):
            created.setdefault(thing, []).append(migration.name)
    assert "syncdesk_sync_commit" in " ".join(created)
    assert {thing: names for thing, names in created.items() if len(names) > 1} == {}


def test_several_at_once_apply_each_file_once(empty_url: str, folder: Path) -> None:
    reports: list[migrate.Report] = []
    gate = threading.Barrier(4)

    def work() -> None:
        gate.wait()
        reports.append(migrate.migrate(empty_url, folder))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(name for report in reports for name in report.applied) == ["0001_one", "0002_two"]
    assert rows(empty_url, "select n from syncdesk.one order by 1") == [(1,), (2,)]


def test_the_printed_script_makes_the_same_schema(empty_url: str, any_store: Transport) -> None:
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute(migrate.printed().encode())
    assert migrate.migrate(empty_url).applied == []
    assert {row["name"] for row in any_store.call("schema")["migrations"]} == {
        name for (name,) in rows(empty_url, "select name from syncdesk.migrations")
    }


@pytest.mark.parametrize("ask", [migrate.migrate, facts], ids=["migrate", "facts"])
def test_who_is_refused_is_told_so_not_that_nobody_answers(empty_url: str, ask: Callable[[str], object]) -> None:
    stranger = re.sub(r"//[^@/]*@", "//nobody:wrong@", empty_url)
    with pytest.raises(StoreRefused, match="refuses Syncdesk's user or key"):
        ask(stranger)
    with pytest.raises(StoreRefused, match="no such database"):
        ask(re.sub(r"/test_\d+", "/nowhere", empty_url))


def test_a_missing_schema_is_told_over_every_transport(any_database_url: str, any_store: Transport) -> None:
    with psycopg.connect(any_database_url, autocommit=True) as connection:
        connection.execute("drop function public.syncdesk_schema(); notify pgrst, 'reload schema'")
    with pytest.raises(SchemaError, match="db migrate"):
        migrate.check(any_store)


def test_an_older_schema_is_told(any_database_url: str, any_store: Transport) -> None:
    with psycopg.connect(any_database_url, autocommit=True) as connection:
        last = migrate.migrations()[-1].name
        connection.execute("delete from syncdesk.migrations where name = %s", [last])
    with pytest.raises(SchemaError, match=f"from {last} on"):
        migrate.check(any_store)


def test_a_database_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        migrate.migrate(f"postgresql://x@/x?host={quote(str(tmp_path))}")
