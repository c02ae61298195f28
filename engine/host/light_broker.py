"""The light broker: fakeredis' server, for a bare ``pip install`` on Windows, where no wheel brings a real one.

It keeps nothing over a restart, has no password and takes some of a core even when idle; Postgres still knows all
that is unfinished. The console and ``doctor`` label it.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType


def serve(port: int) -> None:
    """Serve on a loopback port until asked to end."""
    from fakeredis import TcpFakeServer

    broker = TcpFakeServer(("127.0.0.1", port), server_type="redis", server_version=(7, 2))
    broker.daemon_threads = True  # connections that stay open do not hold up the end

    def stop(_signal: int, _frame: FrameType | None) -> None:
        # Not in the handler itself: it runs in the thread that serves, and would wait for itself.
        threading.Thread(target=broker.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with broker:
        broker.serve_forever(poll_interval=0.05)
