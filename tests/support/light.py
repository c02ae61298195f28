"""The light broker for tests: fakeredis behind a socket, as a bare install on Windows has it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from fakeredis import TcpFakeServer


@contextlib.contextmanager
def server() -> Iterator[str]:
    """A server on a free port; its URL."""
    made = TcpFakeServer(("127.0.0.1", 0), server_type="valkey")
    made.daemon_threads = True
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"redis://127.0.0.1:{made.server_address[1]}/0"
    finally:
        made.shutdown()
        made.server_close()
        thread.join(5)
