"""What a world's database holds, and whether it is what the bank has and what an undisturbed world came to."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from engine.demo.bank import BankControl
from engine.demo.ledger import Facts, bank_rows

_CURSOR = struct.Struct(">IQQQ")

_ROWS = """
    select i.plaid_item_id, t.transaction_id, t.account_id, t.amount, t.date::text, t.pending, t.name, t.merchant_name,
        coalesce(t.iso_currency_code, t.unofficial_currency_code),
        (syncdesk.bank_json(syncdesk.bank_row_of(t))
            || jsonb_build_object('note', t.note, 'person_category', t.person_category))::text
    from syncdesk.transactions t join syncdesk.items i on i.id = t.item_id where t.removed_at is null
"""
_TAGS = """
    select i.plaid_item_id, m.transaction_id, u.name, b.name, m.period::text, m.state
    from syncdesk.matches m join syncdesk.bills b on b.id = m.bill_id join syncdesk.users u on u.id = m.user_id
        join syncdesk.items i on i.id = m.item_id
    where m.state in ('auto', 'confirmed', 'assigned')
"""
#: How often the history says that a row came and went, against what the row says. A transaction may never have been
#: seen (added and removed between two syncs), but none comes or goes twice.
_TWICE = """
    select count(*) from (
        select item_id, transaction_id,
            count(*) filter (where change = 'added' or (change = 'posted' and old ? 'transaction_id')) as came,
            count(*) filter (where change = 'removed') as went,
            count(*) filter (where change = 'restored') as back
        from syncdesk.transaction_history group by item_id, transaction_id
    ) told left join syncdesk.transactions t using (item_id, transaction_id)
    where t.id is null or came <> 1 or back <> 0 or went <> (t.removed_at is not null)::int
"""
#: Rows that are not what their history tells when it is read from its beginning.
_UNTOLD = """
    with said as (
        select distinct on (h.item_id, h.transaction_id, e.key) h.item_id, h.transaction_id, e.key, e.value
        from syncdesk.transaction_history h cross join lateral jsonb_each(h.new) e
        order by h.item_id, h.transaction_id, e.key, h.id desc
    ), told as (
        select item_id, transaction_id, jsonb_object_agg(key, value) filter (where value <> 'null') as state
        from said group by item_id, transaction_id
    ), both_ as (
        select syncdesk.bank_json(syncdesk.bank_row_of(t)) as is_, t.removed_at is not null as gone, t.amount,
            told.state,
            jsonb_build_object('extra', '{}'::jsonb, 'name', '', 'pending', false)
                || syncdesk.bank_json(jsonb_populate_record(null::syncdesk.bank_row, told.state)) as folded
        from syncdesk.transactions t left join told using (item_id, transaction_id)
    )
    select count(*) from both_ where state is null or is_ - 'amount' <> folded - 'amount'
        or (state ->> 'amount')::numeric <> amount or coalesce((state ->> 'removed')::boolean, false) <> gone
"""


@dataclass(frozen=True)
class Snapshot:
    """One world's database once the dust settled. Keys of `rows` are item and transaction id, both the bank's."""

    facts: Mapping[tuple[str, str], Facts]
    rows: Mapping[tuple[str, str], str]
    tags: frozenset[tuple[str, ...]]
    cursors: Mapping[str, str]
    twice: int
    untold: int
    unfinished: int


@dataclass(frozen=True)
class Difference:
    """``words``: what is not equal, for the person who reads the progress."""

    equal: bool
    lost: int
    doubled: int
    words: str


def seen(cursor: str | None) -> int:
    """Up to which of its changes the bank's cursor says that it was read."""
    if not cursor:
        return 0
    _, base, last, _ = _CURSOR.unpack(base64.b64decode(cursor)[:-4])
    return int(last) if base == last else int(base)


def cursors(connection: psycopg.Connection[Any]) -> dict[str, str | None]:
    """The stored cursor of each item, by the bank's id."""
    return dict(connection.execute("select plaid_item_id, cursor from syncdesk.items").fetchall())


def behind(connection: psycopg.Connection[Any], tops: Mapping[str, int]) -> int:
    """How many items have not yet read what the bank had at ``tops``."""
    stored = cursors(connection)
    return sum(seen(stored.get(item)) < top for item, top in tops.items())


def unfinished(connection: psycopg.Connection[Any]) -> int:
    """Wishes that wait, and webhooks and notices that were not handled."""
    row = connection.execute(
        "select (select count(*) from syncdesk.items where wanted > done and removed_at is null)"
        " + (select count(*) from syncdesk.inbox where state = 'received')"
        " + (select count(*) from syncdesk.outbox where sent_at is null)"
    ).fetchone()
    return int(row[0]) if row else -1


def snapshot(connection: psycopg.Connection[Any]) -> Snapshot:
    """Read everything that is compared, as of one moment."""
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read")
        return read(connection)


def read(connection: psycopg.Connection[Any]) -> Snapshot:
    """The same within the caller's transaction."""
    facts, rows = {}, {}
    for found in connection.execute(_ROWS):
        facts[found[0], found[1]] = found[2:9]
        rows[found[0], found[1]] = found[9]
    return Snapshot(
        facts=facts,
        rows=rows,
        tags=frozenset(connection.execute(_TAGS).fetchall()),
        cursors={item: cursor or "" for item, cursor in cursors(connection).items()},
        twice=_count(connection, _TWICE),
        untold=_count(connection, _UNTOLD),
        unfinished=unfinished(connection),
    )


def truth(control: BankControl) -> dict[tuple[str, str], Facts]:
    """The bank's live transactions, asked for item by item so that the bank goes on answering others."""
    found: dict[tuple[str, str], Facts] = {}
    for item in control.ask("items")["items"]:
        known = control.ask("truth", item_id=item["item_id"])["items"][item["item_id"]]
        found |= {(item["item_id"], row): facts for row, facts in bank_rows(known).items()}
    return found


def compare(
    now: Snapshot, bank: Mapping[tuple[str, str], Facts], tops: Mapping[str, int], undisturbed: Snapshot | None
) -> Difference:
    """``undisturbed``: the same script without a fault; None where this is that world.

    Lost: rows that the bank has and the database has not, or has otherwise. Doubled: rows that came or went more than
    once by their history, that two bills claim, or that the bank has no more.
    """
    lost = sum(now.facts.get(key) != facts for key, facts in bank.items())
    paid = [tag[:2] for tag in now.tags]
    doubled = now.twice + len(paid) - len(set(paid)) + len(now.facts.keys() - bank.keys())
    wrong = {
        "rows lost": lost,
        "rows doubled": doubled,
        "rows that their history does not tell": now.untold,
        "items behind": sum(seen(now.cursors.get(item)) != top for item, top in tops.items()),
        "wishes, webhooks or notices open": now.unfinished,
    }
    if undisturbed is not None:
        wrong["rows unlike the undisturbed run's"] = _unlike(now.rows, undisturbed.rows)
        wrong["tags unlike the undisturbed run's"] = len(now.tags ^ undisturbed.tags)
        wrong["cursors unlike the undisturbed run's"] = _unlike(now.cursors, undisturbed.cursors)
    words = ", ".join(f"{count} {name}" for name, count in wrong.items() if count)
    return Difference(not words, lost, doubled, words)


def _unlike(one: Mapping[Any, str], other: Mapping[Any, str]) -> int:
    return sum(one.get(key) != other.get(key) for key in one.keys() | other.keys())


def _count(connection: psycopg.Connection[Any], query: str) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else -1
