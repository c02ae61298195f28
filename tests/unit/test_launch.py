"""An engine that does not answer as one does: its commands say so, and its end comes by a signal."""

from __future__ import annotations

import json
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import launch
from engine.errors import NotRunningError
from engine.processes import start_time
from engine.profile import Profile

ANSWERS = {
    "cut off": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
    "no HTTP": b"hello\r\n\r\n",
    "no JSON": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
}


@pytest.fixture(params=list(ANSWERS))
def admin(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of something that gives one answer to everything."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(ANSWERS[request.param])

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
def test_an_engine_that_gives_half_an_answer_is_ended_by_a_signal(tmp_path: Path, admin: str) -> None:
    profile = Profile("test", tmp_path)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as engine:
        try:
            found = {
                "pid": engine.pid, "started": start_time(engine.pid), "version": "0", "profile": "test", "token": "t",
                "endpoints": {"public": None, "admin": admin, "health": None},
            }  # fmt: skip
            profile.discovery_file.write_text(json.dumps(found))
            known = launch.read(profile)
            assert known is not None
            with pytest.raises(NotRunningError, match=r"does not answer"):
                launch.call(known, "GET", "/api/status")
            assert launch.stop(profile)
        finally:
            engine.kill()
    assert engine.returncode == -signal.SIGTERM
