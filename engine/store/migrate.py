"""Bringing a database's schema to this program's version: numbered SQL files, each applied once in a transaction.

What was applied is recorded in ``syncdesk.migrations`` with a checksum. Changing a schema cannot go through a
Supabase project's REST API: it needs a connection string once, or the SQL that `printed` gives, run by hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from engine.errors import SchemaError, StoreUnavailable
from engine.store import driver
from engine.store.transport import Transport

FOLDER = Path(__file__).parent / "migrations"
_BOOK = """
create schema if not exists syncdesk;
create table if not exists syncdesk.migrations (
    name       text primary key,
    checksum   text not null,
    applied_at timestamptz not null default clock_timestamp()
);
"""
#: Ends every migration, so that what a later file adds is closed as well, counts in UTC, and is seen by a project's
#: REST API.
CLOSE = """
do $$ begin if to_regprocedure('syncdesk.secure()') is not null then perform syncdesk.secure(); end if; end $$;
do $$ begin
    if to_regprocedure('syncdesk.count_in_utc()') is not null then perform syncdesk.count_in_utc(); end if;
end $$;
notify pgrst, 'reload schema';
"""
#: Two that migrate at once: the one that comes second finds the other's schema in its way, and looks again.
_COLLISIONS = ("23505", "42P06", "42P07", "40P01", "55P03")


@dataclass(frozen=True)
class Migration:
    """One file of the folder."""

    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of its text; line ends do not count."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class Report:
    """What a migration did: names of the files applied now, and how many were there before."""

    applied: list[str]
    before: int


def migrations(folder: Path = FOLDER) -> list[Migration]:
    """The files in the order in which they apply."""
    return [Migration(path.stem, path.read_text(encoding="utf-8")) for path in sorted(folder.glob("[0-9]*.sql"))]


def migrate(url: str, folder: Path = FOLDER, *, timeout_s: float = 10.0) -> Report:
    """Apply what is missing; nothing when nothing is.

    Raises:
        SchemaError: the database is newer than this program, or a file failed or was changed after it was applied.
        StoreUnavailable: the database cannot be reached.
        StoreRefused: it refuses our user, or has another name.
    """
    wanted = migrations(folder)
    applied: list[str] = []
    try:
        with psycopg.connect(
            url, autocommit=True, prepare_threshold=None, connect_timeout=int(timeout_s)
        ) as connection:
            before = missing(wanted, _recorded(connection))
            for _ in range(len(before) + 5 if before else 0):
                name = _apply_next(connection, wanted)
                if name is None:
                    break
                if name:
                    applied.append(name)
    except psycopg.OperationalError as error:
        raise driver.failure("migrate", error) from None
    return Report(applied, len(wanted) - len(before))


def missing(wanted: Sequence[Migration], recorded: dict[str, str]) -> list[Migration]:
    """The migrations that are not recorded yet.

    Raises:
        SchemaError: something is recorded that this program does not have, or has otherwise. A later version only adds
            files: a database that also lacks one of ours is of another line.
    """
    known = {migration.name: migration.checksum for migration in wanted}
    lacking = known.keys() - recorded.keys()
    unknown = sorted(recorded.keys() - known.keys())
    changed = sorted(name for name in known if recorded.get(name, known[name]) != known[name])
    if changed or (unknown and lacking):
        raise SchemaError(
            f"This database was made by a Syncdesk whose migration {(changed or unknown)[0]} is not this program's. "
            "Use that Syncdesk, or start with an empty database or a new profile."
        )
    if unknown:
        raise SchemaError(
            f"The database was made by a newer Syncdesk ({unknown[-1]}); install that version or a later one."
        )
    return [migration for migration in wanted if migration.name not in recorded]


def check(store: Transport) -> None:
    """Make sure, over either transport, that the database has exactly this program's schema.

    Raises:
        SchemaError: it is missing, older or newer.
    """
    left = missing(migrations(), {row["name"]: row["checksum"] for row in store.call("schema")["migrations"]})
    if left:
        raise SchemaError(
            f"The database lacks {len(left)} migrations, from {left[0].name} on; run `syncdeskctl db migrate`."
        )


def printed(folder: Path = FOLDER) -> str:
    """All of it as one SQL script, for a project whose connection string is not at hand. Runs as one transaction."""
    parts = ["begin;", _BOOK.strip()]
    for migration in migrations(folder):
        parts += [f"\n-- {migration.name}", migration.text.strip(), _record(migration)]
    return "\n".join([*parts, "", CLOSE, "commit;", ""])


def _record(migration: Migration) -> str:
    insert = sql.SQL("insert into syncdesk.migrations (name, checksum) values ({}, {});")
    return insert.format(migration.name, migration.checksum).as_string(None)


def _recorded(connection: psycopg.Connection[tuple[str, ...]]) -> dict[str, str]:
    found = connection.execute("select to_regclass('syncdesk.migrations')").fetchone()
    if found is None or found[0] is None:
        return {}
    return dict(connection.execute("select name, checksum from syncdesk.migrations").fetchall())  # type: ignore[arg-type]


def _apply_next(connection: psycopg.Connection[tuple[str, ...]], wanted: Sequence[Migration]) -> str | None:
    """Apply the first one that is missing: its name, None when nothing is, "" when somebody else was in the way."""
    left: list[Migration] = []
    try:
        with connection.transaction():
            connection.execute("set local statement_timeout = 0; set local lock_timeout = '10s'")
            connection.execute(_BOOK)
            connection.execute("lock table syncdesk.migrations in exclusive mode")
            left = missing(wanted, _recorded(connection))
            if not left:
                return None
            connection.execute(left[0].text.encode())
            connection.execute(_record(left[0]).encode())
            connection.execute(CLOSE)
            return left[0].name
    except psycopg.OperationalError as error:
        if error.sqlstate in _COLLISIONS:
            return ""
        raise StoreUnavailable("The connection was lost during a migration; nothing of it remains.") from None
    except psycopg.Error as error:
        if not left and error.sqlstate in _COLLISIONS:
            return ""
        name = left[0].name if left else "the list of migrations"
        raise SchemaError(
            f"The migration {name} failed: {error.diag.message_primary}.", sqlstate=error.sqlstate, migration=name
        ) from None
