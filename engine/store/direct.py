"""The transport over a Postgres connection: the embedded database, or ``DATABASE_URL``, also behind a pooler."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec
import psycopg
from psycopg import conninfo, sql
from psycopg.pq import TransactionStatus
from psycopg.types.json import Jsonb, set_json_loads

from engine.errors import StoreUnavailable, SyncdeskError
from engine.store import driver, failures
from engine.store.again import repeated
from engine.store.pool import Connection, Exhausted, Pool

#: From this many characters on, parameters travel beside the statement, not quoted in it: 300 kB in 3 ms less.
_LARGE = 16_384
#: A network that went away without a word is noticed within half a minute, not when the system's two hours are over:
#: seconds until the first probe, between probes, probes without an answer; ms for what was sent (Linux). Source:
#: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-KEEPALIVES
_SILENCE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 25_000}
_LIMIT = sql.SQL("set local statement_timeout = %s")
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_UNITS_MS = {"": 1.0, "ms": 1.0, "s": 1000.0, "min": 60_000.0}
_TIMEOUTS = """
    select p.proname, (select split_part(c, '=', 2) from unnest(p.proconfig) c where c like 'statement_timeout=%')
    from pg_catalog.pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname like 'syncdesk\\_%'
"""


class _Statement(NamedTuple):
    """A call, and the same with its time limit before it."""

    call: bytes
    limited: bytes


class Direct:
    """Calls over a pool of connections that opens on first use and may be used from several threads.

    A call is ``set local statement_timeout; select function(...)`` in one round trip and one transaction, with nothing
    prepared and nothing left in the session, as a pooler in transaction mode needs it.
    A function's own ``statement_timeout`` counts where it has one, since Postgres itself would start to heed it only
    with the next statement.
    """

    def __init__(self, url: str, *, size: int = 10, timeout_s: float = 15.0, connect_s: float = 5.0) -> None:
        self._default_ms = int(timeout_s * 1000)
        self._timeouts: dict[str, int] | None = None
        self._statements: dict[tuple[str, ...], _Statement] = {}
        self._pool = Pool(lambda: _connect(url, connect_s), size, wait_s=timeout_s)

    def call(self, name: str, /, **params: Any) -> Any:
        """See `engine.store.Transport.call`."""
        return repeated(lambda: self._once(name, params))

    def _once(self, name: str, params: dict[str, Any]) -> Any:
        failure: SyncdeskError
        try:
            return self._call(name, params)
        except Exhausted:
            failure = StoreUnavailable("All connections to the database are in use.", function=name)
        except UnicodeEncodeError:
            failure = failures.from_sqlstate(name, failures.UNTRANSLATABLE)
        except psycopg.Error as error:
            failure = driver.failure(name, error)
        # Outside the handler, so that the driver's error, which holds values, does not travel along as context.
        raise failure

    def close(self) -> None:
        """Close the connections; calls after this fail."""
        self._pool.close()

    def _call(self, name: str, params: dict[str, Any]) -> Any:
        statement = self._statement(name, tuple(params))
        values = [_value(value) for value in params.values()]
        with self._pool.connection() as connection:
            limit = self._limit_ms(connection, name)
            run = _run_large if sum(map(_size, values)) > _LARGE else _run_small
            row = run(connection, limit, statement, values)
        return row[0] if row else None

    def _statement(self, name: str, keys: tuple[str, ...]) -> _Statement:
        statement = self._statements.get((name, *keys))
        if statement is None:
            for word in (name, *keys):
                if not _NAME.match(word):
                    raise ValueError(f"{word!r} cannot be a name of a function or parameter")
            arguments = sql.SQL(", ").join(sql.SQL("{} => %s").format(sql.Identifier(f"p_{key}")) for key in keys)
            call = sql.SQL("select public.{}({})").format(sql.Identifier(f"syncdesk_{name}"), arguments)
            statement = _Statement(call.as_bytes(None), sql.SQL("{}; {}").format(_LIMIT, call).as_bytes(None))
            self._statements[name, *keys] = statement
        return statement

    def _limit_ms(self, connection: Connection, name: str) -> int:
        timeouts = self._timeouts
        if timeouts is None:
            rows = connection.execute(_TIMEOUTS).fetchall()
            timeouts = {row[0]: _milliseconds(row[1]) for row in rows if row[1]}
            if rows:  # before the first migration there is nothing to remember
                self._timeouts = timeouts
        return timeouts.get(f"syncdesk_{name}", self._default_ms)


def _connect(url: str, connect_s: float) -> Connection:
    connection = psycopg.connect(
        conninfo.make_conninfo("", **{**_SILENCE, **conninfo.conninfo_to_dict(url)}),
        autocommit=True,
        prepare_threshold=None,
        connect_timeout=max(2, int(connect_s)),
        fallback_application_name="syncdesk",
    )
    set_json_loads(msgspec.json.decode, connection)
    return connection


def _run_small(connection: Connection, limit_ms: int, statement: _Statement, values: list[Any]) -> Any:
    """One simple-protocol message, with the values quoted into it by libpq."""
    with psycopg.ClientCursor(connection) as cursor:
        cursor.execute(statement.limited, [limit_ms, *values])
        cursor.nextset()
        return cursor.fetchone()


def _run_large(connection: Connection, limit_ms: int, statement: _Statement, values: list[Any]) -> Any:
    """One pipeline of the extended protocol: quoting a page of transactions would cost more than it saves."""
    try:
        with connection.pipeline():
            connection.execute("begin")
            connection.execute(sql.SQL("set local statement_timeout = {}").format(limit_ms))
            cursor = connection.execute(statement.call, values)
            connection.execute("commit")
        return cursor.fetchone()
    except psycopg.Error:
        if connection.info.transaction_status == TransactionStatus.INERROR:
            connection.rollback()
        raise


def _size(value: Any) -> int:
    if isinstance(value, Jsonb):
        return len(value.obj)
    return len(value) if isinstance(value, str) else 0


def _value(value: Any) -> Any:
    if isinstance(value, (dict, list, tuple)):
        return Jsonb(msgspec.json.encode(value), dumps=_as_it_is)
    if isinstance(value, float):
        raise TypeError("a float cannot be sent to the database exactly; send text")
    return value


def _as_it_is(encoded: bytes) -> bytes:
    return encoded


def _milliseconds(text: str) -> int:
    """A duration as Postgres writes it in a setting: ``30s``, ``500ms``, ``2min``, or a bare number of milliseconds."""
    number, unit = re.fullmatch(r"'?(\d+)\s*([a-z]*)'?", text.strip()).groups()  # type: ignore[union-attr]
    return int(int(number) * _UNITS_MS[unit])
