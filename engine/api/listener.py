"""One listener: its socket, and uvicorn with limits on slow, greedy and endless callers.

uvicorn times an idle connection, but not one that sends its headers byte by byte, nor one
that never ends them; `guarded` adds both limits and one on the number of connections.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

from engine.errors import StartError

if TYPE_CHECKING:
    import uvicorn
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADERS_S = 5.0
"""Longest time from the first byte of a request (or from connecting) to the end of its headers."""
HEADERS_BYTES = 65_536
CONNECTIONS = 512
"""Connections a listener holds at a time; further ones are closed at once."""


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


def guarded() -> type[HttpToolsProtocol]:
    """uvicorn's httptools protocol with limits on time and size of headers, and on connections."""
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class Guarded(HttpToolsProtocol):
        """Closes a connection that does not get on with its headers."""

        _deadline: asyncio.TimerHandle | None = None
        _header_bytes = 0
        _in_headers = True

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > CONNECTIONS:
                transport.abort()
                return
            self._await_headers()

        def connection_lost(self, exc: Exception | None) -> None:
            self._headers_are_in()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._in_headers:
                if self._deadline is None:
                    self._await_headers()
                self._header_bytes += len(data)
            super().data_received(data)
            if self._in_headers and self._header_bytes > HEADERS_BYTES:
                self.transport.abort()

        def on_headers_complete(self) -> None:
            self._in_headers = False
            self._headers_are_in()
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            super().on_message_complete()
            # The next request on this connection; between two of them uvicorn's keep-alive limit holds.
            self._in_headers, self._header_bytes = True, 0

        def _await_headers(self) -> None:
            self._deadline = self.loop.call_later(HEADERS_S, self._too_slow)

        def _headers_are_in(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _too_slow(self) -> None:
            self._deadline = None
            if not self.transport.is_closing():
                self.transport.abort()

    return Guarded


def server(app: Any, cert: str | None = None, key: str | None = None) -> uvicorn.Server:
    """A uvicorn server of ``app`` that neither logs nor installs signal handlers of its own; with TLS by PEM files.

    Raises:
        StartError: certificate or key cannot be used.
    """
    import uvicorn

    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=guarded(),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
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
