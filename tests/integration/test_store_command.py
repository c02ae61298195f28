"""``syncdeskctl db`` and ``secrets`` as a person runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from engine.store import migrate
from tests.support import servers


@pytest.fixture
def empty_url(cluster: servers.Cluster) -> Iterator[str]:
    with cluster.fresh("template1") as url:
        yield url


def syncdeskctl(
    home: Path, *arguments: str, text: str | None = None, **environ: str
) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "HOME") if name in os.environ}
    environment = kept | {"SYNCDESK_HOME": str(home), "SYNCDESK_SECRETS": "file"} | environ
    command = [sys.executable, "-m", "scheduler.command", *arguments]
    return subprocess.run(command, capture_output=True, text=True, input=text, env=environment, timeout=60)


def test_migrate_prints_what_it_did(tmp_path: Path, empty_url: str) -> None:
    first = syncdeskctl(tmp_path, "db", "migrate", DATABASE_URL=empty_url)
    assert first.returncode == 0, first.stderr
    assert "Applied 0001_schema." in first.stdout
    again = syncdeskctl(tmp_path, "db", "migrate", "--json", DATABASE_URL=empty_url)
    document = json.loads(again.stdout)
    assert document["applied"] == []
    assert document["migrations"] == len(migrate.migrations())


def test_the_printed_sql_runs(tmp_path: Path, empty_url: str) -> None:
    printed = syncdeskctl(tmp_path, "db", "sql")
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute(printed.stdout.encode())
    assert migrate.migrate(empty_url).applied == []


def test_the_url_is_that_of_the_settings(tmp_path: Path, empty_url: str) -> None:
    done = syncdeskctl(tmp_path, "db", "url", DATABASE_URL=empty_url)
    assert done.stdout.strip() == empty_url


def test_a_database_that_does_not_run(tmp_path: Path) -> None:
    done = syncdeskctl(tmp_path, "db", "url", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] == "NOT_RUNNING"


def test_a_supabase_project_is_told_how(tmp_path: Path) -> None:
    done = syncdeskctl(tmp_path, "db", "migrate", SUPABASE_URL="https://x.example", SUPABASE_SERVICE_ROLE_KEY="k")
    assert done.returncode == 2
    assert "db sql" in done.stderr


def test_secrets_go_in_and_are_listed_by_name_only(tmp_path: Path) -> None:
    assert syncdeskctl(tmp_path, "secrets", "set", "PLAID_SECRET", text="hush-hush\n").returncode == 0
    listed = syncdeskctl(tmp_path, "secrets", "list", "--json")
    assert json.loads(listed.stdout) == {"kept": "file", "names": ["plaid_secret"]}
    assert "hush" not in listed.stdout + syncdeskctl(tmp_path, "secrets", "list").stdout
    assert syncdeskctl(tmp_path, "secrets", "remove", "plaid_secret").returncode == 0
    wrong = syncdeskctl(tmp_path, "secrets", "set", "plaid_secrt", text="x\n")
    assert wrong.returncode == 2
    assert "plaid_secret" in wrong.stderr
