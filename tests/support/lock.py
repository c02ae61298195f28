"""Checks that both lock files name every direct dependency of pyproject.toml, with hashes and no host."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def names(requirements: list[str]) -> set[str]:
    """Normalised project names of requirement lines (PEP 503)."""
    found = (re.match(r"[A-Za-z0-9._-]+", line) for line in requirements)
    return {re.sub(r"[-_.]+", "-", match.group()).lower() for match in found if match}


def problems() -> list[str]:
    """What is wrong with the locks, a sentence each."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    runtime = names(project["project"]["dependencies"])
    development = runtime | names(project["dependency-groups"]["dev"])
    found = []
    for file, wanted in (("requirements.lock", runtime), ("requirements-dev.lock", development)):
        text = (ROOT / file).read_text(encoding="utf-8")
        locked = re.findall(r"^[a-z][^\n]*==[^\n]*", text, re.MULTILINE)
        found += [f"{file} lacks {name}" for name in sorted(wanted - names(locked))]
        if len(locked) > text.count("--hash=") or "://" in text:
            found.append(f"{file} has an entry without a hash, or names a host")
    return found


if __name__ == "__main__":
    for problem in problems():
        print(problem)
    sys.exit(1 if problems() else 0)
