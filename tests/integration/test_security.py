"""What anonymous callers and other users can reach, found by walking the catalogue: nothing may be forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from engine.store import migrate
from tests.support import servers

ALICE = "00000000-0000-0000-0000-00000000a11c"
BOB = "00000000-0000-0000-0000-0000000000b0"
ITEM = "00000000-0000-0000-0000-000000001111"
BILL = "00000000-0000-0000-0000-000000002222"

#: A row of everything that a person has, for Alice; Bob owns nothing.
ROWS = f"""
insert into syncdesk.users (id, name) values ('{ALICE}', 'alice'), ('{BOB}', 'bob');
insert into syncdesk.items (id, user_id, plaid_item_id, environment, access_token, access_key_id)
    values ('{ITEM}', '{ALICE}', 'plaid-item', 'sandbox', 'sealed', 'key');
insert into syncdesk.accounts (item_id, user_id, plaid_account_id) values ('{ITEM}', '{ALICE}', 'account');
insert into syncdesk.transactions (item_id, user_id, transaction_id, account_id, amount, date)
    values ('{ITEM}', '{ALICE}', 'transaction', 'account', 12.50, '2026-01-31');
insert into syncdesk.transaction_history (item_id, user_id, transaction_id, change, source)
    values ('{ITEM}', '{ALICE}', 'transaction', 'added', 'run');
insert into syncdesk.bills (id, user_id, name, cadence, anchor_date)
    values ('{BILL}', '{ALICE}', 'Rent', 'monthly', '2026-01-31');
insert into syncdesk.matches (user_id, bill_id, item_id, transaction_id, period, state)
    values ('{ALICE}', '{BILL}', '{ITEM}', 'transaction', '2026-01-31', 'auto');
insert into syncdesk.outbox (kind, user_id) values ('test', '{ALICE}');
insert into syncdesk.settings (key, value) values ('test', '1');
insert into syncdesk.audit (who, action) values ('test', 'test');
"""
READABLE = {"items", "accounts", "transactions", "transaction_history", "bills", "matches"}

RELATIONS = """
    select c.oid::regclass::text, c.relkind::text from pg_class c
     where (c.relnamespace = 'syncdesk'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'S'))
        or (c.relnamespace = 'public'::regnamespace and c.relname like 'syncdesk\\_%')
     order by 1
"""
FUNCTIONS = """
    select p.oid::regprocedure::text, p.proname, p.pronamespace::regnamespace::text, p.prosecdef,
           coalesce(array_to_string(p.proconfig, ' '), ''), p.prorettype::regtype::text, p.oid
      from pg_proc p
     where p.pronamespace = 'syncdesk'::regnamespace
        or (p.pronamespace = 'public'::regnamespace and p.proname like 'syncdesk\\_%')
     order by 1
"""
CLUSTERS = ["cluster", pytest.param("cluster15", marks=pytest.mark.debian15)]


@pytest.fixture(params=CLUSTERS)
def admin(request: pytest.FixtureRequest) -> Iterator[psycopg.Connection[Any]]:
    """The owner's connection to a database with Alice's rows."""
    server: servers.Cluster = request.getfixturevalue(request.param)
    with server.fresh() as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute(ROWS)
        yield connection


def as_role(admin: psycopg.Connection[Any], role: str, subject: str | None, query: sql.Composable | str) -> Any:
    """Run one query as a role with a token's subject, in a transaction that is rolled back."""
    with admin.transaction(force_rollback=True):
        claims = f'{{"sub": "{subject}", "role": "{role}"}}' if subject else "{}"
        admin.execute("select set_config('request.jwt.claims', %s, true)", [claims])
        admin.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
        cursor = admin.execute(query)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else cursor.rowcount


def outcome(admin: psycopg.Connection[Any], role: str, subject: str | None, query: sql.Composable | str) -> Any:
    """The same, with a refusal as the word ``denied``; any other error is not a refusal and fails the test."""
    try:
        return as_role(admin, role, subject, query)
    except psycopg.errors.InsufficientPrivilege:
        return "denied"
    except psycopg.errors.ObjectNotInPrerequisiteState:
        return "denied"  # a view over several tables takes no rows from anybody


def relations(admin: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    found = admin.execute(RELATIONS).fetchall()
    assert len(found) > 30, "the walk must have found the tables"
    return found


def a_column(admin: psycopg.Connection[Any], table: str) -> str:
    row = admin.execute(
        "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 and attidentity = '' "
        "and attname <> 'id' and not attisdropped limit 1",
        [table],
    ).fetchone()
    assert row
    return str(row[0])


@pytest.mark.parametrize(("role", "subject"), [("anon", None), ("authenticated", BOB), ("authenticated", None)])
def test_strangers_read_no_row_anywhere(admin: psycopg.Connection[Any], role: str, subject: str | None) -> None:
    for name, kind in relations(admin):
        if kind != "S":
            rows = outcome(admin, role, subject, f"select count(*) from {name}")
            assert rows in ("denied", [(0,)]), (name, rows)


@pytest.mark.parametrize(("role", "subject"), [("anon", None), ("authenticated", BOB), ("authenticated", ALICE)])
def test_nobody_writes_anywhere(admin: psycopg.Connection[Any], role: str, subject: str | None) -> None:
    for name, kind in relations(admin):
        if kind == "S":
            assert outcome(admin, role, subject, f"select nextval('{name}')") == "denied", name
            continue
        column = a_column(admin, name)
        for query in (
            f"insert into {name} default values",
            f"update {name} set {column} = {column}",
            f"delete from {name}",
            f"truncate {name}",
        ):
            if kind == "v" and query.startswith("truncate"):
                continue
            assert outcome(admin, role, subject, query) == "denied", query


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_no_function_can_be_called(admin: psycopg.Connection[Any], role: str) -> None:
    functions = admin.execute(FUNCTIONS).fetchall()
    assert len(functions) > 20
    for signature, name, *_rest, oid in functions:
        allowed = admin.execute("select has_function_privilege(%s, %s::oid, 'execute')", [role, oid]).fetchone()
        expected = role == "authenticated" and name == "current_user_id"
        assert allowed == (expected,), signature
    assert outcome(admin, role, BOB, "select public.syncdesk_schema()") == "denied"


def test_public_itself_may_call_nothing(admin: psycopg.Connection[Any]) -> None:
    rows = admin.execute(
        """select p.oid::regprocedure from pg_proc p
             cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
            where a.grantee = 0 and (p.pronamespace = 'syncdesk'::regnamespace or p.proname like 'syncdesk\\_%')"""
    ).fetchall()
    assert rows == []


def test_service_role_calls_the_public_functions_and_touches_no_table(admin: psycopg.Connection[Any]) -> None:
    for signature, _name, schema, *_rest, oid in admin.execute(FUNCTIONS).fetchall():
        allowed = admin.execute("select has_function_privilege('service_role', %s::oid, 'execute')", [oid]).fetchone()
        assert allowed == (schema == "public",), signature
    assert outcome(admin, "service_role", None, "select count(*) from syncdesk.items") == "denied"


def test_every_function_of_the_api_is_built_alike(admin: psycopg.Connection[Any]) -> None:
    for signature, _name, schema, definer, config, returns, _oid in admin.execute(FUNCTIONS).fetchall():
        if schema != "public":
            continue
        assert definer, f"{signature} must be security definer"
        assert 'search_path=""' in config, f"{signature} must set search_path = ''"
        assert "statement_timeout=" in config, f"{signature} must set its statement_timeout"
        assert "TimeZone=UTC" in config, f"{signature} must count days in UTC"
        assert returns == "jsonb", f"{signature} must return one jsonb"


def test_security_definers_elsewhere_pin_their_path_too(admin: psycopg.Connection[Any]) -> None:
    for signature, _name, _schema, definer, config, *_ in admin.execute(FUNCTIONS).fetchall():
        assert not definer or 'search_path=""' in config, signature


def test_row_level_security_is_on_for_every_table(admin: psycopg.Connection[Any]) -> None:
    off = admin.execute(
        "select oid::regclass::text from pg_class where relnamespace = 'syncdesk'::regnamespace "
        "and relkind in ('r', 'p') and not relrowsecurity"
    ).fetchall()
    assert off == []


@pytest.mark.parametrize("subject", [ALICE, "alice"])
def test_a_person_reads_what_is_theirs(admin: psycopg.Connection[Any], subject: str) -> None:
    for table in READABLE:
        assert as_role(admin, "authenticated", subject, f"select count(*) from public.syncdesk_{table}") == [(1,)]
        assert as_role(admin, "authenticated", subject, f"select * from public.syncdesk_{table}")
        assert as_role(admin, "authenticated", subject, f"select id from syncdesk.{table}")
    for name, kind in relations(admin):
        bare = name.removeprefix("syncdesk.").removeprefix("syncdesk_")
        if kind != "S" and bare not in READABLE:
            assert outcome(admin, "authenticated", subject, f"select 1 from {name}") == "denied", name


@pytest.mark.parametrize("subject", ["not-a-uuid", "", "' or true --", "00000000-0000-0000-0000-000000000000"])
def test_a_strange_subject_reads_nothing(admin: psycopg.Connection[Any], subject: str) -> None:
    assert as_role(admin, "authenticated", subject, "select * from public.syncdesk_transactions") == []


@pytest.mark.parametrize("column", ["access_token", "access_key_id", "cursor", "*"])
def test_the_sealed_token_is_shown_to_nobody(admin: psycopg.Connection[Any], column: str) -> None:
    assert outcome(admin, "authenticated", ALICE, f"select {column} from syncdesk.items") == "denied"


def test_tables_join_the_realtime_publication_where_there_is_one(admin: psycopg.Connection[Any]) -> None:
    admin.execute("create publication supabase_realtime")
    admin.execute("select syncdesk.secure()")
    admin.execute("select syncdesk.secure()")
    found = admin.execute("select tablename from pg_publication_tables where pubname = 'supabase_realtime'").fetchall()
    assert {row[0] for row in found} == {"accounts", "transactions", "bills", "matches"}


def test_what_is_added_later_is_closed_and_counts_in_utc_by_its_own_migration(admin: psycopg.Connection[Any]) -> None:
    admin.execute(
        "create table syncdesk.later (user_id uuid, note text); grant all on syncdesk.later to public;"
        "create function public.syncdesk_later() returns jsonb language sql as $$ select '1'::jsonb $$;"
        "grant execute on function public.syncdesk_later() to anon"
    )
    admin.execute(migrate.CLOSE)
    assert outcome(admin, "anon", None, "select public.syncdesk_later()") == "denied"
    assert outcome(admin, "authenticated", ALICE, "select * from syncdesk.later") == "denied"
    row = admin.execute("select count(*) from pg_policy where polrelid = 'syncdesk.later'::regclass").fetchone()
    assert row == (1,)
    row = admin.execute("select proconfig from pg_proc where proname = 'syncdesk_later'").fetchone()
    assert row == (["TimeZone=UTC"],)
