"""What a worker process is called in Redis and in lease rows, so that whoever sees it end can free what it held."""

from __future__ import annotations

import os
import secrets
import socket


def worker_prefix(pid: int) -> str:
    """How the id of every worker that ran as ``pid`` on this machine begins."""
    return f"{socket.gethostname()}:{pid}:"


def worker_id() -> str:
    """A new id of this process: machine, pid and something that no earlier process of this pid had."""
    return worker_prefix(os.getpid()) + secrets.token_hex(3)
