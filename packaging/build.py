"""Builds the one-folder bundle into ``dist/syncdesk`` and tries it: the frozen demo with no Python on PATH.

    python packaging/build.py [--no-try]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "dist" / "syncdesk" / ("syncdeskctl.exe" if os.name == "nt" else "syncdeskctl")


def build() -> None:
    """Run PyInstaller on the spec beside this file."""
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "WARN", "packaging/syncdesk.spec"]
    subprocess.run(command, cwd=ROOT, check=True)


def try_demo() -> None:
    """Run the frozen demo in an empty environment and check that it says ok."""
    with tempfile.TemporaryDirectory() as home:
        environ = {"PATH": home, "HOME": home}
        if os.name == "nt":
            environ |= {name: os.environ[name] for name in ("SYSTEMROOT", "TEMP", "LOCALAPPDATA") if name in os.environ}
        done = subprocess.run([PROGRAM, "demo", "--json"], env=environ, capture_output=True, text=True, timeout=120)
    sys.stderr.write(done.stderr)
    print(done.stdout)
    if done.returncode or not json.loads(done.stdout)["ok"]:
        sys.exit("The frozen demo failed.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-try", action="store_true", help="build only")
    args = parser.parse_args()
    build()
    if not args.no_try:
        try_demo()


if __name__ == "__main__":
    main()
