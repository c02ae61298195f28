"""The demo as a user runs it: one command, and two of them side by side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import filelock
import pytest

from engine import clock
from engine.demo.stage import PREFIX, sweep

COMMAND = [sys.executable, "-m", "scheduler.command", "demo", "--json"]
KEYS = {
    "ok", "items", "transactions", "webhook_to_row_ms", "bill_matches", "scheduled_runs", "failed_jobs", "retried_ok",
    "elapsed_s",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_demos_at_once_come_true_and_leave_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "TEMP": str(tmp_path), "TMP": str(tmp_path)}
    running = [
        subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    for out, err, code in [(*process.communicate(timeout=240), process.returncode) for process in running]:
        told = json.loads(out)
        assert told["ok"], (told["problems"], err)
        assert code == 0
        assert told.keys() >= KEYS
        assert told["items"] >= 3
        assert told["failed_attempts"] == 4
        assert told["retried_ok"] == 1
        assert told["equal_to_bank"]
        assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_demo_left_is_removed_by_a_later_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed, young, starting, running = (Path(tempfile.mkdtemp(prefix=PREFIX)) for _ in range(4))
    (starting / "engine.lock").touch()  # what a demo has between making its lock's file and locking it
    long_ago = clock.now().timestamp() - 3600
    with filelock.FileLock(running / "engine.lock"):
        for folder in (killed, running):
            os.utime(folder, (long_ago, long_ago))
        sweep()
    assert not killed.exists()
    assert young.exists()
    assert starting.exists()
    assert running.exists()
