"""The bootstrap: what it says where it cannot set up, and that it leaves nothing half made that it would believe."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name in ("run.py", "requirements.lock", "requirements-dev.lock"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def start(clone: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return subprocess.run(
        [sys.executable, "run.py", *words], cwd=clone, env={**kept, **environment}, capture_output=True, text=True,
        timeout=100,
    )  # fmt: skip


def test_it_tells_what_it_can_do(clone: Path) -> None:
    done = start(clone)
    assert done.returncode == 0
    assert "run.py demo" in done.stdout
    assert not (clone / ".venv").exists()


def test_without_network_it_says_so_and_believes_nothing(clone: Path) -> None:
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}
    for _ in range(2):
        done = start(clone, "demo", **nowhere)
        assert done.returncode == 1
        assert "could not be fetched" in done.stderr
        assert "Traceback" not in done.stderr
    assert not (clone / ".venv" / "syncdesk-ready").exists()


def test_a_folder_that_is_no_folder_of_its_own_is_refused(clone: Path) -> None:
    (clone / ".venv.lock").mkdir()
    done = start(clone, "demo")
    assert done.returncode == 1
    assert "cannot write" in done.stderr
