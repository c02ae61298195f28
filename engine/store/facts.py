"""What a Postgres server tells of itself, for checks and reports: version, clock, sizes. Needs a connection string."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from engine.errors import SyncdeskError
from engine.store import driver

CONNECT_S = 5

_SIZES = """
    select c.relname, pg_total_relation_size(c.oid), greatest(c.reltuples, 0)::bigint
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'syncdesk' and c.relkind in ('r', 'p') order by 2 desc, 1
"""


@dataclass(frozen=True)
class Table:
    """``rows`` is the planner's estimate."""

    name: str
    bytes: int
    rows: int


@dataclass(frozen=True)
class Facts:
    """``now``: the server's clock, seconds since the epoch."""

    version: str
    now: float
    tables: list[Table]


def facts(url: str) -> Facts:
    """Ask the server at ``url``.

    Raises:
        StoreUnavailable: it does not answer.
        StoreRefused: it refuses our user, or has another name.
    """
    failure: SyncdeskError
    try:
        with psycopg.connect(url, autocommit=True, prepare_threshold=None, connect_timeout=CONNECT_S) as link:
            tables = [Table(*row) for row in link.execute(_SIZES).fetchall()]
            asked = "select current_setting('server_version'), extract(epoch from clock_timestamp())::float8"
            row = link.execute(asked).fetchone()
    except psycopg.Error as error:
        failure = driver.failure("facts", error)
    else:
        version, now = row if row is not None else ("", 0.0)
        return Facts(str(version), float(now), tables)
    raise failure
