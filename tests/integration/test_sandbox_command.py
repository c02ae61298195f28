"""``syncdeskctl sandbox`` as a process: killed and started again it knows its customers; a taken port is said."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from engine.sandbox.bank import Options
from tests.support.bank import RunningBank

COMMAND = [sys.executable, "-m", "scheduler.command", "sandbox"]


@contextlib.contextmanager
def started(state: Path) -> Iterator[RunningBank]:
    """A bank in a process of its own, killed at the end."""
    arguments = [*COMMAND, "--port", "0", "--still", "--state", str(state)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        client = RunningBank(line.split()[-1], Options())
        yield client
        client.close()
    finally:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


def test_a_killed_bank_comes_back_as_it_was(tmp_path: Path) -> None:
    state = tmp_path / "bank.jsonl"
    with started(state) as bank:
        made = bank.link("ins_900002")
        bank.do("transactions", item_id=made["item_id"], count=3)
        page = bank.plaid("/transactions/sync", access_token=made["access_token"], count=500)[1]
        truth = bank.truth(made["item_id"])
    with started(state) as bank:
        assert bank.truth(made["item_id"]) == truth
        body = {"access_token": made["access_token"], "cursor": page["next_cursor"]}
        status, news = bank.plaid("/transactions/sync", **body)
        assert (status, news["added"], news["removed"]) == (200, [], [])


def test_a_taken_port_is_said_in_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = subprocess.run(
            [*COMMAND, "--port", str(taken.getsockname()[1])], capture_output=True, text=True, timeout=60
        )
    assert ended.returncode == 1
    assert "cannot listen on 127.0.0.1" in ended.stderr
    assert "Traceback" not in ended.stderr
