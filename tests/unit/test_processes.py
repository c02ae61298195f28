"""Which process is which, whatever becomes of the clock."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from engine import processes

OURS = os.getpid()
NOBODY = 2**22 + 1
"""Above the highest pid of Linux."""


def test_this_process_is_itself_and_no_other() -> None:
    started = processes.start_time(OURS)
    found = processes.running(OURS, started)
    assert found is not None
    assert found.pid == OURS
    assert processes.running(OURS, started + 0.01) is None, "the next tick may be another process"
    assert processes.running(NOBODY, started) is None
    with pytest.raises(psutil.NoSuchProcess):
        processes.start_time(NOBODY)


@pytest.mark.skipif(sys.platform != "linux", reason="others keep the start itself, not its distance from boot")
def test_a_clock_that_was_set_makes_no_process_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, epoch = processes.start_time(OURS), psutil.Process(OURS).create_time()
    # What the kernel tells after the clock was set an hour ahead: the boot is said to have been an hour later.
    later = re.sub(
        r"^btime (\d+)$", lambda told: f"btime {int(told[1]) + 3600}", Path("/proc/stat").read_text(), flags=re.M
    )
    (tmp_path / "stat").write_text(later)
    (tmp_path / str(OURS)).symlink_to(f"/proc/{OURS}")
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    assert psutil.Process(OURS).create_time() == pytest.approx(epoch + 3600)
    assert processes.start_time(OURS) == pytest.approx(started)
    assert processes.running(OURS, started) is not None


def test_one_that_died_and_is_not_reaped_does_not_run() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    try:
        process, started = psutil.Process(child.pid), processes.start_time(child.pid)
        assert child.stdout is not None
        child.stdout.read()  # its end: the child is dying
        while processes.alive(process):
            pass
        assert processes.running(child.pid, started) is None
    finally:
        child.communicate()
    assert not processes.alive(process)
