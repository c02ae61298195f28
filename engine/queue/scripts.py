"""Calling the queue's scripts: always EVALSHA, loaded again where the server does not know one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import redis

from engine.queue import lua
from engine.queue.connection import Line
from engine.queue.keys import Keys


@lru_cache(maxsize=64)
def _sha(name: str) -> str:
    return hashlib.sha1(lua.source(name).encode(), usedforsecurity=False).hexdigest()


def run(client: redis.Redis | Line, keys: Keys, name: str, *args: str | int | float) -> Any:
    """Run one script; redis-py's errors go through (callers translate or wait)."""
    sha = _sha(name)
    text = json.dumps([str(arg) for arg in args])
    execute: Callable[..., Any] = client.execute_command
    try:
        return execute("EVALSHA", sha, 1, keys.epoch, text)
    except redis.exceptions.NoScriptError:
        try:
            execute("SCRIPT LOAD", lua.source(name))
        except redis.ConnectionError:  # the light broker hangs up after each error that it told
            execute("SCRIPT LOAD", lua.source(name))
        return execute("EVALSHA", sha, 1, keys.epoch, text)
