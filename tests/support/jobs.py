"""Jobs of one bank link in a test's database: its rows, its hint, actors with a body of the test's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dramatiq
import psycopg

from engine.errors import NotFound
from engine.plaid.errors import plaid_error
from engine.queue import Hints
from engine.queue.broker import Broker
from engine.store import Transport
from tests.support.queue import Bench

USER = "00000000-0000-0000-0000-00000000000a"


def run(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement, values)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []


def item(url: str, wanted: int = 1) -> str:
    (row,) = run(
        url,
        "insert into syncdesk.items (user_id, plaid_item_id, institution_name, environment, access_token,"
        " access_key_id, wanted, wanted_at, wanted_correlation, wanted_trigger)"
        " values (%s, gen_random_uuid()::text, 'First Bank', 'simulated', 'x', 'k', %s, now(), 'c1', 'webhook')"
        " returning id::text",
        USER,
        wanted,
    )
    return str(row[0])


def actor(broker: Broker, function: Callable[..., None], queue: str = "transactions") -> None:
    names = {"transactions": "sync_item", "webhooks": "process_webhook", "notifications": "deliver_notice"}
    dramatiq.actor(actor_name=names[queue], queue_name=queue, broker=broker, throws=BaseException)(function)


def hint(world: Bench, item_id: str, lane: str = "high", trigger: str = "webhook") -> str:
    return Hints(world.client, world.keys).sync(item_id, USER, "First Bank", lane, trigger, "c1")


def login_required() -> Exception:
    return plaid_error("ITEM_LOGIN_REQUIRED", "ITEM_ERROR", request_id="r1", http_status=400)


def failed(store: Transport, job_id: str) -> Any:
    try:
        return store.call("job_failed_get", job_id=job_id)
    except NotFound:
        return None
