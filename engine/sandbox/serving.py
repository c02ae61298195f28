"""The bank's server: uvicorn on one address, its transport within reach of the faults that break connections."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, cast

from engine.errors import StartError
from engine.sandbox.bank import Bank, Options
from engine.sandbox.deliveries import Pace
from engine.sandbox.server import TRANSPORT, App

if TYPE_CHECKING:
    import uvicorn


def bind(host: str, port: int) -> socket.socket:
    """A listening address; port 0 takes a free one.

    Raises:
        StartError: it is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol by name: asyncio sets TCP_NODELAY only then, and answers of two parts wait 40 ms without it.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(512)  # so that whoever reads the address can connect at once
    except OSError as error:
        made.close()
        raise StartError(f"The bank cannot listen on {host}:{port}: {error.strerror}.") from error
    return made


def server(bank: Bank, pace: Pace | None = None) -> uvicorn.Server:
    """A server of this bank; run it with the socket of `bind`."""
    import uvicorn
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class Protocol(HttpToolsProtocol):
        """Hands the connection to the application, for faults that cut it off."""

        def on_message_begin(self) -> None:
            super().on_message_begin()
            cast("dict[str, object]", self.scope)[TRANSPORT] = self.transport

    config = uvicorn.Config(
        App(bank, pace),
        http=Protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        timeout_keep_alive=60,
        lifespan="on",
    )
    return uvicorn.Server(config)


def serve(host: str, port: int, options: Options, pace: Pace) -> None:
    """Run a bank until the process is told to end.

    Raises:
        StartError: the address is taken, or its journal cannot be used.
    """
    listening = bind(host, port)
    address = listening.getsockname()
    shown = f"[{host}]" if ":" in host else host
    options.hosted_base = f"http://{shown}:{address[1]}"
    bank = Bank(options)
    print(f"The sandbox bank answers at {options.hosted_base}", flush=True)
    server(bank, pace).run(sockets=[listening])
