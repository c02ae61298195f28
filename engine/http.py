"""Calls over HTTP that are not Plaid's: one factory, so that every one has time limits, a name and no surprises.

Which proxy a call takes is decided here for Plaid's and Supabase's clients too.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from urllib.request import Request

    import httpx

AGENT = "syncdesk"


def proxy_for(url: str) -> str | None:
    """The HTTP proxy for calls of ``url``, by the usual variables (``HTTPS_PROXY``, ``NO_PROXY`` …) or the system.

    What is on this machine is asked directly, whatever they say. A SOCKS proxy is nothing that we speak.
    """
    from urllib.parse import urlsplit
    from urllib.request import getproxies, proxy_bypass  # loads much

    parts = urlsplit(url)
    host = parts.hostname or ""
    if _here(host) or proxy_bypass(f"{host}:{parts.port}" if parts.port else host):
        return None
    named = getproxies()
    proxy = named.get(parts.scheme) or named.get("all") or ""
    proxy = proxy if "://" in proxy or not proxy else f"http://{proxy}"
    return proxy if urlsplit(proxy).scheme in ("http", "https") else None


def _here(host: str) -> bool:
    """Whether it is a name or an address of this machine's own."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def open_here(request: Request | str, timeout_s: float) -> Any:
    """The answer of a listener on this machine, for a ``with``; never by a proxy. It loads less than a `client`.

    Raises:
        OSError: none came within ``timeout_s`` of silence, or (``urllib.error.HTTPError``) its status is an error's.
        http.client.HTTPException: it is no answer.
    """
    from urllib.request import ProxyHandler, build_opener

    return build_opener(ProxyHandler({})).open(request, timeout=timeout_s)


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
