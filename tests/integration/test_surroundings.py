"""Whatever the caller's environment says of other databases and of proxies, an engine finds its own parts."""

from __future__ import annotations

import json

import pytest

from tests.support.bank import RunningBank
from tests.support.engines import engine

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
