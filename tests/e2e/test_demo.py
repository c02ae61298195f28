"""The demo as a user runs it: one command, and two of them side by side."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from engine.demo.stage import PREFIX

COMMAND = [sys.executable, "-m", "scheduler.command", "demo", "--json"]
KEYS = {
    "ok", "items", "transactions", "webhook_to_row_ms", "bill_matches", "scheduled_runs", "failed_jobs", "retried_ok",
    "elapsed_s",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_two_demos_at_once_come_true_and_leave_nothing() -> None:
    running = [subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in running:
        out, err = process.communicate(timeout=150)
        told = json.loads(out)
        assert told["ok"], (told["problems"], err)
        assert process.returncode == 0
        assert told.keys() >= KEYS
        assert told["items"] >= 3
        assert told["failed_attempts"] == 4
        assert told["retried_ok"] == 1
        assert told["equal_to_bank"]
        assert "Traceback" not in err
    assert list(Path(tempfile.gettempdir()).glob(f"{PREFIX}*")) == []
