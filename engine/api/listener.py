"""One listener: its socket, and uvicorn without what we do not want of it (`engine.api.connections` adds limits)."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

from engine.errors import StartError

if TYPE_CHECKING:
    import uvicorn


def bind(label: str, address: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        StartError: the port is taken, not allowed, or the address is not of this machine.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # The protocol is named since asyncio switches Nagle's delay off only where it is TCP by name: left out, every
    # answer in two pieces waits 40 ms for the caller's delayed acknowledgement.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if sys.platform == "win32":
            # There SO_REUSEADDR would let a second program take the port of a running one.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(256)
    except OSError as error:
        sock.close()
        raise StartError(f"The {label} listener cannot use {address}:{port}: {_why(error)}.", port=port) from error
    sock.setblocking(False)
    return sock


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE or getattr(error, "winerror", 0) in {10048, 10013}:
        return "another program uses this port"
    if error.errno == errno.EACCES:
        return "this user may not open this port"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return "this machine has no such address"
    return (error.strerror or os.strerror(error.errno or 0)).lower()


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach a listener on that address."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def url(sock: socket.socket, *, tls: bool = False) -> str:
    """The listener's address as a URL; a wildcard address is shown as this machine's own."""
    host, port = sock.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def server(app: Any, cert: str | None = None, key: str | None = None) -> uvicorn.Server:
    """A uvicorn server of ``app`` that neither logs nor installs signal handlers of its own; with TLS by PEM files.

    Raises:
        StartError: certificate or key cannot be used.
    """
    import uvicorn

    from engine.api.connections import guarded

    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=guarded(),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",  # anybody can send what is no HTTP, and would wash other lines out of the log
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=2,
        ssl_certfile=cert,
        ssl_keyfile=key,
    )
    try:
        config.load()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise StartError(f"The certificate {cert} and its key cannot be used: {error}.") from error
    made = uvicorn.Server(config)
    made.lifespan = config.lifespan_class(config)
    return made
