"""The key that says that work waits for the database (`engine.jobs.gate`), read by workers and by the API."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import redis

from engine.queue.connection import translated
from engine.queue.keys import Keys


@dataclass(frozen=True)
class Shut:
    """``code`` of the error that the database answers with, and since when (ISO 8601)."""

    code: str
    since: str


def read(client: redis.Redis, keys: Keys) -> Shut | None:
    """Why and since when no work is taken; None while it is.

    Raises:
        BrokerUnavailable: Redis does not answer.
    """
    with translated():
        text = client.get(keys.gate)
    return Shut(**json.loads(text)) if text else None


def write(client: redis.Redis, keys: Keys, shut: Shut, lifetime_s: float, *, new: bool = False) -> bool:
    """Shut it, or keep it shut, for ``lifetime_s``. False: ``new``, and somebody else did already.

    Raises:
        BrokerUnavailable: Redis does not answer.
    """
    with translated():
        return bool(client.set(keys.gate, json.dumps(asdict(shut)), px=int(lifetime_s * 1000), nx=new))
