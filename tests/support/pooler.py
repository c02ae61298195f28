"""pgbouncer in transaction mode before a test cluster: what a hosted Postgres usually puts there."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg

from engine.host import binaries
from tests.support.wait import until


@contextlib.contextmanager
def pgbouncer(server_url: str) -> Iterator[str]:
    """A running pgbouncer; gives the URL of it with ``{database}`` to be filled in."""
    parts = urlsplit(server_url)
    sockets = parse_qs(parts.query)["host"][0]
    folder = Path(tempfile.mkdtemp(prefix="syncdesk-pooler-"))
    port = _port()
    account = binaries.account_for(folder)
    (folder / "users.txt").write_text(f'"{parts.username}" "{parts.password}"\n')
    (folder / "pgbouncer.ini").write_text(
        "[databases]\n"
        f"* = host='{sockets}' port=5432\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {folder}/users.txt\n"
        "pool_mode = transaction\ndefault_pool_size = 4\nmax_client_conn = 100\nserver_idle_timeout = 5\n"
    )
    apart = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
    if account:
        for path in (folder, *folder.iterdir()):
            os.chown(path, account.uid, account.gid)
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([program, str(folder / "pgbouncer.ini")], stdout=log, stderr=log, **apart)
    url = f"postgresql://{parts.username}:{parts.password}@127.0.0.1:{port}/{{database}}"
    try:
        until(lambda: _answers(url.format(database="postgres")), what=f"pgbouncer, log {folder}/log")
        yield url
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _port() -> int:
    """A port that is free, and that the system gives nobody who asks for any."""
    while True:
        port = random.randrange(20_000, 30_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=10).close()
    except psycopg.OperationalError:
        return False
    return True
