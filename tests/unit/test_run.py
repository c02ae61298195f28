"""The bootstrap: what it says where it cannot set up, and that it leaves nothing half made that it would believe."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import run

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(400)  # venvs are made, which a loaded machine takes its time for


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name in ("run.py", "requirements.lock", "requirements-dev.lock"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def start(clone: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return subprocess.run(
        [sys.executable, "run.py", *words], cwd=clone, env={**kept, **environment}, capture_output=True, text=True,
        timeout=180,
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


def test_neither_letters_nor_the_callers_python_spoil_it(tmp_path: Path) -> None:
    """A folder that the locale has no letters for, and variables that are meant for another Python."""
    clone = tmp_path / "Kopie für 北 und 南"
    clone.mkdir()
    shutil.copy(ROOT / "run.py", clone)
    (clone / "requirements.lock").write_text("")
    (clone / "requirements-dev.lock").write_text("# another\n")
    command = clone / "scheduler" / "command.py"
    command.parent.mkdir()
    command.write_text("import json, sys; print(json.dumps([sys.path, sys.flags.optimize, sys.argv[1:]]))")
    foreign = {"PYTHONPATH": str(tmp_path), "PYTHONOPTIMIZE": "2", "PYTHONWARNINGS": "error"}
    narrow = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    for again in (False, True):
        done = start(clone, "status", **foreign, **narrow, PIP_CONFIG_FILE=os.devnull)
        assert done.returncode == 0, done.stderr
        assert ("Setting up" in done.stderr) is not again
        path, optimize, words = json.loads(done.stdout)
        assert (optimize, words) == (0, ["status"])
        assert str(tmp_path) not in path
    linked = next((clone / ".venv").rglob("syncdesk.pth"))
    assert (linked.parent / linked.read_text().strip()).resolve() == clone.resolve()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no programs that are scripts")
def test_a_python_that_does_not_start_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, code in (("python3.98", 127), ("python3.97", 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(run, "OLDEST", (3, 97))
    monkeypatch.setattr(run, "NEWEST", (3, 98))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert run.find_python() == str(tmp_path / "python3.97")


def test_a_folder_that_was_moved_is_set_up_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "here" / "python"
    program.parent.mkdir()
    program.touch()
    monkeypatch.setattr(run, "VENV", str(program.parent))
    monkeypatch.setattr(run, "PYTHON", str(program))
    home = Path(os.path.realpath(sys._base_executable)).parent  # type: ignore[attr-defined]
    told = f"home = {home}\nversion = {sys.version_info[0]}.{sys.version_info[1]}.0\n"
    for command, fits in (("", True), (f"{home}/python -m venv {program.parent}", True), ("python -m venv /x", False)):
        (program.parent / "pyvenv.cfg").write_text(told + (f"command = {command}\n" if command else ""))
        assert run.fits_this_python() is fits
