"""A worker process of tests: the engine's own `WorkerProcess`, with an actor that does as a test tells it.

``python -m tests.support.queue_process POOL`` with the settings in the environment. What an item's job does is in
Redis under ``{namespace}:test:mode:<item>``: ``hang`` (until it is told otherwise), ``die`` (kills its process),
``fat`` (takes 150 MB and keeps them), ``thread`` (starts a thread that fails), ``raise`` (fails), else it finishes at
once. What the two that fail say is in ``TEST_CRASH_TEXT``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time

import dramatiq
import psycopg
import redis

from engine import logs
from engine.jobs import worker
from engine.settings import load

KEPT: list[bytearray] = []


def main() -> None:
    """Be the worker."""
    logs.configure("worker", None, terminal=True)
    settings = load(None, os.environ)
    assert settings.database_url is not None
    worker.leave(worker.main(sys.argv[1], settings=settings, ready=_declare))


def _declare(process: worker.WorkerProcess) -> None:
    broker = process.broker
    keys, client = broker.keys, broker.client
    url = os.environ["DATABASE_URL"]

    def sync_item(item_id: str, trigger: str, correlation: str) -> None:
        client.rpush(keys.prefix + "test:starts", f"{os.getpid()} {item_id}")
        mode_key = f"{keys.prefix}test:mode:{item_id}"
        mode = client.get(mode_key)
        if mode == "die":
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        if mode == "fat":
            KEPT.append(bytearray(os.urandom(1024) * 150 * 1024))
        if mode == "thread":
            threading.Thread(target=_fail).start()
        if mode == "raise":
            _fail()
        while mode == "hang":
            time.sleep(0.02)
            with contextlib.suppress(redis.RedisError):  # a job that hangs does so while Redis is away, too
                mode = client.get(mode_key)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "update syncdesk.items set done = wanted, transactions = transactions + 1"
                " where id = %s and wanted > done",
                [item_id],
            )

    if "transactions" in worker.POOLS[sys.argv[1]]:
        broker.actors.pop("sync_item")
        dramatiq.actor(actor_name="sync_item", queue_name="transactions", broker=broker, throws=BaseException)(
            sync_item
        )
    print("ready", flush=True)


def _fail() -> None:
    raise RuntimeError(os.environ.get("TEST_CRASH_TEXT", "nobody catches this"))


if __name__ == "__main__":
    main()
