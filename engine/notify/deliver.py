"""From the outbox to the console's notices, in a person's words. Delivered once however often the job starts."""

from __future__ import annotations

from typing import Any

from engine.errors import NotFound
from engine.notify.words import notice
from engine.queue.ports import Store


def deliver(store: Store, outbox_id: int) -> int | None:
    """Deliver one row of the outbox; the id of the new notice, None where it was delivered before or is gone.

    Raises:
        StoreUnavailable: Postgres is away; try again.
    """
    try:
        row: dict[str, Any] = store.call("outbox_get", id=outbox_id)
    except NotFound:
        return None  # trimmed or removed with its item: nothing to tell
    if row["sent_at"] is not None:
        return None
    said = notice(row)
    answer = store.call(
        "notice_deliver",
        outbox=outbox_id,
        tone=said.tone,
        title=said.title,
        sentence=said.sentence,
        target=said.target,
    )
    found: int | None = answer["notice"]
    return found
