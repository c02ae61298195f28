"""Calls over HTTP that are not Plaid's: one factory, so that every one has time limits, a name and no surprises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

AGENT = "syncdesk"


def client(
    base_url: str = "",
    *,
    timeout_s: float = 5.0,
    connect_s: float = 2.0,
    headers: Mapping[str, str] | None = None,
    local: bool = False,
    verify: bool = True,
) -> httpx.Client:
    """A client for ``base_url``; close it, or use it in a ``with``. It follows no redirect by itself.

    Args:
        timeout_s: longest silence while sending, reading or waiting for a free connection, seconds.
        connect_s: longest wait for a connection, seconds.
        local: to this machine: a proxy named by the environment is not asked.
        verify: check certificates; only for tests against a certificate of their own it is off.
    """
    import httpx

    return httpx.Client(
        base_url=base_url,
        timeout=httpx.Timeout(timeout_s, connect=connect_s),
        headers={"User-Agent": AGENT, **(headers or {})},
        follow_redirects=False,
        trust_env=not local,
        verify=verify,
        limits=httpx.Limits(max_connections=20, max_keepalive_connections=10, keepalive_expiry=5.0),
    )
