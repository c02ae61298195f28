"""Builds the one-folder bundle into ``dist/syncdesk`` and tries it with no Python on PATH and an empty environment.

    python packaging/build.py [--no-try | --only-try]

Tried are the demo, the console's first window, an engine that the console starts, and that nothing is left behind.
Prints one JSON object with the size in MB, the seconds and what the demo said; exit code 1 if something is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "dist" / "syncdesk"
SUFFIX = ".exe" if os.name == "nt" else ""
_LIMIT_S = 120
_SCREEN = {"QT_QPA_PLATFORM": "offscreen", "LANG": "C.UTF-8"}


def build() -> None:
    """Run PyInstaller on the spec beside this file."""
    if sys.platform.startswith("linux") and not shutil.which("objcopy"):
        sys.exit("PyInstaller needs objcopy; on Debian or Ubuntu: apt-get install binutils")
    line = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "ERROR", "packaging/syncdesk.spec"]
    subprocess.run(line, cwd=ROOT, check=True)
    if sys.platform.startswith("linux"):
        _strip()


def _strip() -> None:
    """Take debugging symbols out of Python's own libraries: a Python built from source has tens of megabytes.

    The libraries of wheels stay as they are: some were laid out anew after linking, and strip would break them.
    """
    inside = BUNDLE / "_internal"
    files = [*inside.glob("libpython*.so*"), *inside.glob("python3*/lib-dynload/*.so")]
    if shutil.which("strip") and files:
        subprocess.run(["strip", "--strip-debug", *files], check=True)


def megabytes() -> float:
    """Size of the bundle, links not followed."""
    return sum(path.lstat().st_size for path in BUNDLE.rglob("*") if not path.is_dir()) / 1e6


@contextmanager
def nothing_left(grace_s: float = 0) -> Iterator[dict[str, str]]:
    """An environment with only an empty PATH and a folder for temporary files; fails if processes or files stay.

    ``grace_s``: how long they may take to go, for a program that was ended by force.
    """
    with tempfile.TemporaryDirectory(prefix="syncdesk-frozen-") as place:
        folder = Path(place)
        folder.chmod(0o755)  # as /tmp is: root's database runs as another account
        (folder / "empty").mkdir()
        (folder / "tmp").mkdir()
        environ = {"PATH": str(folder / "empty"), "TMPDIR": str(folder / "tmp")}
        if os.name == "nt":
            kept = {name: os.environ[name] for name in ("SYSTEMROOT", "LOCALAPPDATA") if name in os.environ}
            environ = {**kept, "PATH": environ["PATH"], "TEMP": environ["TMPDIR"], "TMP": environ["TMPDIR"]}
        yield environ
        left = _left(place)
        end = time.monotonic() + grace_s
        while left and time.monotonic() < end:
            time.sleep(0.1)
            left = _left(place)
        if left:
            sys.exit(f"Left behind: {', '.join(left)}")


def _left(place: str) -> list[str]:
    return [*sorted(_running(place)), *sorted(str(path) for path in Path(place, "tmp").iterdir())]


def _running(place: str) -> Iterator[str]:
    """Processes that work in ``place``: every part of an engine has it on its command line or in its environment."""
    for process in psutil.process_iter():
        try:
            if place in " ".join(process.cmdline()) or place in process.environ().get("TMPDIR", ""):
                yield f"{process.name()} ({process.pid})"
        except psutil.Error:
            continue  # ended meanwhile, or another user's


def command(program: str, *arguments: str) -> list[str]:
    """The command line of a frozen program."""
    return [str(BUNDLE / f"{program}{SUFFIX}"), *arguments]


def run(line: list[str], environ: dict[str, str]) -> str:
    """Run a frozen program to its end; what it printed."""
    done = subprocess.run(
        line, env=environ, cwd=environ["PATH"], capture_output=True, text=True, timeout=_LIMIT_S, check=False
    )
    sys.stderr.write(done.stderr)
    if done.returncode:
        sys.exit(f"{' '.join(line)} failed with exit code {done.returncode}: {done.stdout}")
    return done.stdout


def try_demo() -> dict[str, Any]:
    """The whole story of the demo; what it said."""
    with nothing_left() as environ:
        said: dict[str, Any] = json.loads(run(command("syncdeskctl", "demo", "--json"), environ))
        if not said["ok"]:
            sys.exit(f"The frozen demo failed: {said}")
        return said


def try_window() -> int:
    """The console's first window; milliseconds from the start of the process."""
    with nothing_left() as environ:
        measured = {"SYNCDESK_MEASURE_WINDOW": "1", "SYNCDESK_STARTED": str(time.time())}
        return int(run(command("syncdesk", "--demo"), environ | _SCREEN | measured))


def try_console() -> None:
    """The console starts an engine by itself, and nothing of that engine outlives a console that is killed."""
    with nothing_left(grace_s=30) as environ:
        said = Path(environ["PATH"]).with_name("said")
        with open(said, "w", encoding="utf-8") as output:
            line = command("syncdesk", "--demo")
            console = subprocess.Popen(line, env=environ | _SCREEN, cwd=environ["PATH"], stderr=output)
        try:
            end = time.monotonic() + _LIMIT_S
            while not list(Path(environ["TMPDIR"]).glob("*/engine.json")):
                if console.poll() is not None or time.monotonic() > end:
                    sys.exit(f"The frozen console started no engine: {said.read_text(encoding='utf-8')}")
                time.sleep(0.1)
        finally:
            console.kill()
            console.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--no-try", action="store_true", help="build only")
    which.add_argument("--only-try", action="store_true", help="try the bundle that is there")
    args = parser.parse_args()
    report: dict[str, Any] = {}
    if not args.only_try:
        begun = time.monotonic()
        build()
        report["build_s"] = round(time.monotonic() - begun, 1)
    report["mb"] = round(megabytes(), 1)
    if not args.no_try:
        report["window_ms"] = try_window()
        try_console()
        report["demo"] = try_demo()
    print(json.dumps(report))


if __name__ == "__main__":
    main()
