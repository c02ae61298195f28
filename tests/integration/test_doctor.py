"""`syncdeskctl doctor`: what it finds, that it names a cure, and that it works with and without an engine."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import uuid
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest

from engine.cli.main import build_parser, run
from engine.host.doctor import bundle
from engine.host.doctor.blanks import Blanks, without_password
from engine.host.doctor.examine import examine
from engine.profile import Profile
from engine.secrets import Secrets
from engine.secrets.sealing import new_key
from engine.settings import Settings
from engine.store import Transport
from tests.support import failing
from tests.support.engines import ROOT, Engine, clean_environment, engine
from tests.support.scripted_plaid import ScriptedPlaid, error
from tests.support.syncing import World, deps
from tests.support.wait import until

KEY = new_key()


def look(folder: Path, **environ: str) -> dict[str, dict[str, Any]]:
    """The checks by name, on a profile in ``folder``."""
    report = examine(Profile("p", folder), clean_environment(**environ)).document()
    json.dumps(report)
    return {check["name"]: check for check in report["checks"]}


def states(checks: dict[str, dict[str, Any]], state: str) -> set[str]:
    return {name for name, check in checks.items() if check["state"] == state}


@pytest.fixture
def services(database_url: str, redis_url: str, namespace: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "SYNCDESK_REDIS_NAMESPACE": namespace}


def test_without_an_engine_nothing_is_wrong_with_a_fresh_profile(tmp_path: Path) -> None:
    checks = look(tmp_path / "fresh")
    assert states(checks, "fail") | states(checks, "warn") == set(), checks
    assert states(checks, "skipped") == {"broker", "database", "clocks", "parts", "work"}
    assert not (tmp_path / "fresh").exists()


def test_services_of_the_persons_own_are_looked_at(tmp_path: Path, services: dict[str, str]) -> None:
    checks = look(tmp_path, **services)
    assert not states(checks, "fail"), checks
    assert states(checks, "skipped") == {"parts", "work"}
    assert "Postgres" in checks["database"]["sentence"]
    assert checks["clocks"]["sentence"] == "This machine, Redis and Postgres agree."


def test_what_is_away_fails_with_a_cure_and_without_its_password(tmp_path: Path) -> None:
    gone = {
        "DATABASE_URL": "postgresql://me:canary-p4ss@127.0.0.1:9/d",
        "REDIS_URL": "redis://:canary-p4ss@127.0.0.1:9",
    }
    checks = look(tmp_path, **gone)
    assert states(checks, "fail") == {"broker", "database"}
    assert checks["master_key"]["state"] == checks["clocks"]["state"] == "skipped"
    assert all(checks[name]["cure"] for name in states(checks, "fail"))
    assert "canary-p4ss" not in json.dumps(checks)


def test_a_schema_that_is_not_ours_and_a_database_that_takes_no_writes(
    tmp_path: Path, services: dict[str, str], database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as link:
        name = link.info.dbname
        link.execute(f'alter database "{name}" set default_transaction_read_only = on')
        found = look(tmp_path, **services)["database"]
        assert found["state"] == "fail"
        assert "takes no writes" in found["sentence"]
        link.execute(f'alter database "{name}" reset default_transaction_read_only')
        link.execute("set default_transaction_read_only = off")
        link.execute("delete from syncdesk.migrations where name = (select max(name) from syncdesk.migrations)")
    found = look(tmp_path, **services)["database"]
    assert found["state"] == "fail"
    assert "db migrate" in found["cure"]


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    found = look(tmp_path, SYNCDESK_SYNC_CONCURRENY="3")["settings"]
    assert (found["state"], found["cure"]) == ("warn", "Did you mean SYNCDESK_SYNC_CONCURRENCY?")
    checks = look(tmp_path, API_PORT="many")
    assert checks["settings"]["state"] == "fail"
    assert {"broker", "database", "plaid", "ports"} <= states(checks, "skipped")
    (tmp_path / "settings.toml").write_text('plaid_secret = "canary-in-file"\n')
    found = look(tmp_path)["settings"]
    assert found["state"] == "fail"
    assert "canary-in-file" not in json.dumps(found)


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps rights otherwise")
def test_files_that_others_could_read(tmp_path: Path) -> None:
    profile = Profile("p", tmp_path / "p")
    Secrets(profile, Settings(), {"SYNCDESK_SECRETS": "file"}).ensure()
    assert look(profile.root)["profile"]["state"] == "ok"
    profile.secrets_file.chmod(0o644)
    found = look(profile.root)["profile"]
    assert found["state"] == "warn"
    assert str(profile.secrets_file) in found["cure"]


def test_links_sealed_with_a_key_that_is_not_here(
    tmp_path: Path, services: dict[str, str], store: Transport, database_url: str
) -> None:
    world = World(deps(store, "http://127.0.0.1:9"), database_url)
    secrets = Secrets(Profile("p", tmp_path), Settings(master_key=KEY))
    world.deps.secrets.seal = secrets.seal  # type: ignore[method-assign]
    world.link("access-sandbox-canary")
    found = look(tmp_path, **services, SYNCDESK_MASTER_KEY=KEY)["master_key"]
    assert (found["state"], found["cure"]) == ("warn", "syncdeskctl secrets recovery")
    found = look(tmp_path, **services, SYNCDESK_MASTER_KEY=new_key())["master_key"]
    assert found["state"] == "fail"
    assert found["sentence"].startswith("1 bank link is sealed with a master key that is not here")
    store.call("setting_put", key="recovery", value={"public": "x", "keys": []}, who="test")
    found = look(tmp_path, **services, SYNCDESK_MASTER_KEY=KEY)["master_key"]
    assert found["state"] == "ok"
    assert KEY not in json.dumps(found)


def test_plaid_is_asked_whether_it_takes_the_keys(tmp_path: Path) -> None:
    bank = ScriptedPlaid()
    environ = {"PLAID_ENV": "sandbox", "SYNCDESK_PLAID_URL": bank.url}
    try:
        found = look(tmp_path, **environ)["plaid"]
        assert found["state"] == "fail"
        assert "PLAID_CLIENT_ID and PLAID_SECRET" in found["sentence"]
        keys = {"PLAID_CLIENT_ID": "client-canary", "PLAID_SECRET": "secret-canary"}
        bank.handlers["/institutions/get_by_id"] = lambda body: error("INVALID_API_KEYS", "INVALID_INPUT")
        found = look(tmp_path, **environ, **keys)["plaid"]
        assert found["state"] == "fail"
        assert "INVALID_API_KEYS" in found["sentence"]
        bank.handlers["/institutions/get_by_id"] = lambda body: error("INVALID_INSTITUTION", "INVALID_INPUT")
        assert look(tmp_path, **environ, **keys)["plaid"]["state"] == "ok"
    finally:
        bank.close()
    assert look(tmp_path, **environ, **keys)["plaid"]["state"] == "fail"


def test_where_webhooks_find_us(tmp_path: Path) -> None:
    def found(**environ: str) -> dict[str, Any]:
        return look(tmp_path, PLAID_ENV="production", **environ)["webhooks"]

    assert found()["state"] == "warn"
    assert found(SYNCDESK_WEBHOOK_URL="http://desk.example.org/api/webhooks/plaid")["state"] == "fail"
    assert found(SYNCDESK_WEBHOOK_URL="https://192.168.1.4/api/webhooks/plaid")["state"] == "fail"
    good = found(SYNCDESK_WEBHOOK_URL="https://desk.example.org/api/webhooks/plaid?key=canary-query")
    assert good["state"] == "ok"
    assert "canary-query" not in good["sentence"]


@pytest.mark.timeout(300)
def test_a_running_engine_and_a_part_that_stays_down() -> None:
    with engine() as desk:
        desk.up()
        done = desk.run("doctor", "--json")
        document = json.loads(done.stdout)
        checks = {check["name"]: check for check in document["checks"]}
        assert not states(checks, "skipped"), checks
        assert (done.returncode, states(checks, "fail")) == (0, set()), checks
        until(lambda: _given_up(desk), 120, "a part in a crash loop")
        done = desk.run("doctor")
        assert done.returncode == 1, done.stdout
        assert "FAIL  Parts of the engine: The scheduler ended five times" in done.stdout
        desk.end()
        assert desk.run("doctor").returncode == 0


def _given_up(desk: Engine) -> bool:
    row = desk.row("scheduler")
    if row["state"] != "given_up" and row["pid"]:
        with contextlib.suppress(psutil.Error):
            psutil.Process(row["pid"]).kill()
    return bool(row["state"] == "given_up")


def test_a_port_that_somebody_else_has(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        found = look(tmp_path, API_PORT=port)["ports"]
    assert found["state"] == "fail"
    assert port in found["sentence"]


def test_exit_code_and_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in list(os.environ):
        if name not in clean_environment():
            monkeypatch.delenv(name)
    monkeypatch.setenv("SYNCDESK_SECRETS", "file")
    monkeypatch.setenv("SYNCDESK_PROFILE", str(tmp_path / "p"))
    parser, _ = build_parser()
    assert run(parser, ["doctor"]) == 0
    assert "nothing is wrong" in capsys.readouterr().out
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9")
    assert run(parser, ["doctor"]) == 1
    said = capsys.readouterr().out
    assert "FAIL  Broker: Redis cannot be reached." in said
    assert "→ Start it, or correct REDIS_URL." in said


def test_blanks_know_values_and_forms() -> None:
    blanks = Blanks(["redis://u:p%40ss-canary@h/0", "host=h password='dsn canary' user=u", f"{KEY},second-canary"])
    for secret in ("p@ss-canary", "p%40ss-canary", "dsn canary", KEY, "second-canary"):
        assert secret not in blanks.text(f"before {secret} after")
    token = f"access-production-{uuid.uuid4()}"
    for secret in (token, "Bearer abc.def", "someone@example.org", new_key(), "v1." + "a" * 60):
        assert secret not in blanks.text(f"x {secret} y")
    assert blanks.text("postgresql://me:other@h:5/d") == "postgresql://h:5/d"
    plain = "Redis cannot be reached; item 6f9c0f0a-0000-4000-8000-000000000000 took 12.5 ms at http://127.0.0.1:3000"
    assert blanks.text(plain) == plain
    assert blanks.document({"a": [1, KEY, {"b": KEY}]}) == {"a": [1, "[hidden]", {"b": "[hidden]"}]}
    assert without_password("https://u:p@h.example:8/x?key=1") == "https://h.example:8/x"


def test_a_bundle_is_shown_asked_for_and_holds_what_helps(
    tmp_path: Path, services: dict[str, str], store: Transport, database_url: str
) -> None:
    failing.World(store, database_url).failed(2, group="cause-of-the-test")
    profile = Profile("p", tmp_path / "p")
    profile.logs.mkdir(parents=True)
    line = f"took it {KEY} plaid-canary from postgresql://me:pw-of-a-log@h/d for someone@example.org"
    (profile.logs / "host.log").write_text("".join(f"line {n}\n" for n in range(2000)) + line + "\n")
    report = examine(profile, clean_environment(**services, SYNCDESK_MASTER_KEY=KEY, PLAID_SECRET="plaid-canary"))
    entries = bundle.collect(report)
    file = tmp_path / "help.zip"
    bundle.save(entries, file)
    with zipfile.ZipFile(file) as made:
        texts = {name: made.read(name).decode() for name in made.namelist()}
    assert set(texts) == {"manifest.txt", *(entry.name for entry in entries)}
    assert all(entry.name in texts["manifest.txt"] for entry in entries)
    everything = "\n".join(texts.values())
    for secret in (KEY, "plaid-canary", "pw-of-a-log", "someone@example.org", *map(_password, services.values())):
        assert not secret or secret not in everything, secret
    log = texts["logs/host.log"].splitlines()
    assert (len(log), log[-2]) == (500, "line 1999")
    settings = json.loads(texts["settings.json"])
    assert settings["plaid_secret"] == {"value": "set", "from": "environment"}
    assert settings["sync_concurrency"] == {"value": 5, "from": "default"}
    [group] = json.loads(texts["failures.json"])
    assert (group["count"], group["samples"][0]["error"]["code"]) == (2, "BROKEN")
    assert {row["name"] for row in json.loads(texts["queues.json"])} == {"transactions", "webhooks", "notifications"}
    assert "transactions" in {row["name"] for row in json.loads(texts["tables.json"])["tables"]}
    if os.name != "nt":
        assert file.stat().st_mode & 0o077 == 0


def _password(url: str) -> str:
    return urlsplit(url).password or ""


@pytest.mark.skipif(os.name == "nt", reason="there are no pseudo terminals")
@pytest.mark.parametrize(("answer", "saved"), [("n\n", False), ("y\n", True)])
def test_on_a_terminal_nothing_is_saved_before_a_yes(tmp_path: Path, answer: str, saved: bool) -> None:
    ours, theirs = os.openpty()
    file = tmp_path / "help.zip"
    environ = clean_environment(SYNCDESK_PROFILE=str(tmp_path / "p"))
    command = [sys.executable, "-m", "scheduler.command", "doctor", "--bundle", str(file)]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdin=theirs, stdout=subprocess.PIPE, text=True) as doctor:
        os.write(ours, answer.encode())
        said, _ = doctor.communicate(timeout=100)
    os.close(ours)
    os.close(theirs)
    assert "settings.json" in said.split("Save these as")[0]
    assert file.exists() == saved
    assert doctor.returncode == (0 if saved else 1)


def test_a_bundle_without_an_engine_says_what_could_not_be_had(tmp_path: Path) -> None:
    texts = {entry.name: entry.text for entry in bundle.collect(examine(Profile("p", tmp_path), clean_environment()))}
    assert json.loads(texts["queues.json"]) == {"error": "no broker runs"}
    assert json.loads(texts["failures.json"]) == {"error": "no database runs"}
