"""What the caller's surroundings may be: variables for other databases and proxies, streams that are closed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine import launch
from engine.cli import streams
from tests.support.bank import RunningBank
from tests.support.engines import clean_environment, engine

FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
#: For libpq, as a person's shell may have them for another database. Nothing of it is there.
OTHER_DATABASE = {
    "PGHOSTADDR": "127.0.0.9",
    "PGSERVICE": "elsewhere",
    "PGSSLMODE": "verify-full",
    "PGOPTIONS": "-c search_path=elsewhere",
    "PGTARGETSESSIONATTRS": "standby",
    "PGTZ": "Mars",
    "PGCONNECT_TIMEOUT": "soon",
}
#: Nobody listens there: whoever asks it for something on this machine gets nothing.
PROXIES = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"), "http://127.0.0.1:9")


@pytest.mark.timeout(300)  # a whole engine, on a machine with much to do
def test_an_engine_heeds_neither_other_databases_nor_proxies(bank: RunningBank) -> None:
    aside = {**OTHER_DATABASE, **PROXIES, "NO_PROXY": "", "no_proxy": ""}
    with engine(**aside, SYNCDESK_PLAID_URL=bank.url) as made:
        made.up()
        linked = made.run("items", "link", "--public-token", bank.public_token(), "--json")
        assert linked.returncode == 0, linked.stderr
        (item,) = json.loads(linked.stdout)["ids"]
        synced = made.run("sync", "--item", item, "--wait", "60", "--json")
        assert synced.returncode == 0, synced.stderr
        kept = made.run("db", "migrate", "--json")
        assert kept.returncode == 0, kept.stderr
        checks = {row["name"]: row["state"] for row in json.loads(made.run("doctor", "--json").stdout)["checks"]}
        assert {state for state in checks.values() if state == "fail"} == set(), checks


@pytest.mark.skipif(sys.platform == "win32", reason="closes streams by a POSIX shell")
@pytest.mark.parametrize(
    ("command", "closed", "code", "said"),
    [
        ("db sql", ">&-", 0, ""),
        ("status --json", "<&- >&- 2>&-", 0, ""),
        ("secrets set CRON_SECRET", "<&-", 2, "The value is empty"),
        pytest.param("doctor", ">/dev/full", 1, "The answer cannot be written", marks=FULL),
    ],
)
def test_streams_that_are_closed(command: str, closed: str, code: int, said: str, tmp_path: Path) -> None:
    line = ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *launch.self_command(command.split())]
    done = subprocess.run(line, env=_environment(tmp_path), stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "nobody caught" not in done.stderr


def test_a_reader_that_has_enough(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "wb") as pipe:
        line = launch.self_command(["db", "sql"])
        done = subprocess.run(line, env=_environment(tmp_path), stdout=pipe, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (streams.CUT, "")


def _environment(folder: Path) -> dict[str, str]:
    given = clean_environment(SYNCDESK_PROFILE=str(folder), PYTHONUNBUFFERED="")
    return launch.self_environment(given)
