"""Every command of ``syncdeskctl`` with wrong input: one clear sentence and an exit code, never a traceback."""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.cli.main import build_parser
from engine.host import discovery
from scheduler.command import main
from tests.support import api as support
from tests.support.api import Api
from tests.support.engines import clean_environment
from tests.support.scripted_plaid import ScriptedPlaid, error

Capture = pytest.CaptureFixture[str]
ID = "00000000-0000-4000-8000-000000000001"
RUNNING = {"up", "worker", "demo", "sandbox", "api", "keeper", "light-broker"}
"""What goes on until it is ended."""


def leaves(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """Every command: its words, the least that must follow them, and its switches."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for group in groups:
        for name, child in group.choices.items():
            yield from leaves(child, (*path, name))
    if groups:
        return
    least: list[str] = []
    switches: set[str] = set()
    for action in parser._actions:
        value = str(next(iter(action.choices))) if action.choices else "1" if action.type else "nothing"
        if action.option_strings:
            switches |= set(action.option_strings)
            least += [action.option_strings[0], value] if action.required else []
        elif action.nargs not in {"*", "?"}:
            least.append(value)
    yield (*path, *least), switches


COMMANDS = sorted((path, "--json" in switches) for path, switches in leaves(build_parser()[0]))


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile without an engine, and nobody at the keyboard."""
    monkeypatch.setenv("SYNCDESK_PROFILE", str(tmp_path / "none"))
    monkeypatch.setattr("sys.stdin", io.StringIO())


def refused(code: int, said: str) -> None:
    assert code in {1, 2}
    lines = said.strip().splitlines()
    assert len(lines) == 1, said
    assert re.fullmatch(r"syncdeskctl: \S.*\.", lines[0]), said


@pytest.mark.parametrize("command", [path for path, _ in COMMANDS], ids=" ".join)
def test_help_and_unknown_options(command: tuple[str, ...], capsys: Capture) -> None:
    for wrong, code in (("--help", 0), ("--no-such-option", 2)):
        with pytest.raises(SystemExit) as ended:
            main([*command, wrong])
        assert ended.value.code == code
        said = capsys.readouterr()
        assert "usage: syncdeskctl" in said.out + said.err


@pytest.mark.parametrize(
    ("command", "has_json"),
    [entry for entry in COMMANDS if entry[0][0] not in RUNNING | {"doctor", "scheduler"}],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_without_an_engine(command: tuple[str, ...], has_json: bool, nowhere: None, capsys: Capture) -> None:
    code = main(list(command))
    said = capsys.readouterr()
    if code:
        refused(code, said.err)
    if has_json:
        assert main([*command, "--json"]) == code
        document = json.loads(capsys.readouterr().out)
        assert not code or {"ok", "code", "message"} <= set(document)


@pytest.mark.parametrize("command", ["worker", "api", "scheduler"])
def test_a_part_alone_says_what_it_needs(command: str, tmp_path: Path) -> None:
    started = [sys.executable, "-m", "scheduler.command", "--profile", str(tmp_path), command]
    ran = subprocess.run(started, env=clean_environment(), capture_output=True, text=True, timeout=120, check=False)
    refused(ran.returncode, ran.stderr)
    assert "start the engine" in ran.stderr


@pytest.mark.parametrize(
    "line",
    [
        "sandbox --port 65536",
        "sandbox --port -1",
        "light-broker --port 99999999",
        "sync --item x --wait nan",
        "items link --wait -1",
        "items relink x --wait inf",
        "analytics --days many",
    ],
)
def test_numbers_that_cannot_be(line: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 2
    assert "error: argument" in capsys.readouterr().err


@pytest.fixture
def engine(
    database_url: str,
    redis_url: str,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scripted_bank: ScriptedPlaid,
) -> Iterator[Api]:
    monkeypatch.setenv("SYNCDESK_PROFILE", str(tmp_path))
    monkeypatch.setenv("SYNCDESK_MASTER_KEY", "A" * 43)
    scripted_bank.answer("/item/public_token/exchange", error("INVALID_PUBLIC_TOKEN", "INVALID_INPUT"))
    with support.running(
        tmp_path, redis_url=redis_url, redis_namespace=namespace, database_url=database_url, plaid_url=scripted_bank.url
    ) as made:
        discovery.write(made.profile, made.endpoints, made.tokens.admin, "0.0.0")
        yield made


def test_a_running_engine_refuses_in_a_sentence(engine: Api, capsys: Capture) -> None:
    for line in (
        *(f"items {verb} {item}" for verb in ("sync", "pause", "resume", "remove") for item in ("nothing", ID)),
        *(f"items {verb} ../../status" for verb in ("sync", "pause", "resume", "remove", "set-aside")),
        f"items set-aside {ID}",
        f"items set-aside {ID} --retry 1",
        f"items relink {ID}",
        "items link --public-token made-up",
        "items link --public-token=",
        "sync --item nothing",
        "sync --item=",
        "sync",
        f"sync --all --item {ID}",
        "jobs list --limit 0",
        "jobs retry --filter nonsense",
        "jobs retry --filter queue=nothing",
        "jobs retry --filter code=X --expect -1 --yes",
        *(f"jobs bulk {verb} {identifier}" for verb in ("show", "stop", "resume", "undo") for identifier in ("x", "?")),
        "queue pause --minutes 0",
        "queue pause transactions --minutes 5",
        "queue resume",
        "queue limit transactions",
        "queue limit transactions --concurrency 0",
        "analytics --days 0",
        f"analytics --days {10**14}",
        "analytics --item nothing",
    ):
        code = main(line.split())
        said = capsys.readouterr()
        assert code in {1, 2}, (line, said)
        refused(code, said.err)
    for line in ("jobs retry nothing", "jobs discard ../x", "jobs cancel ?", "jobs run nothing else"):
        assert main(line.split()) == 1, line
        said = capsys.readouterr()
        assert not said.err
        assert all(re.fullmatch(r"\S+: \S.*\.", each) for each in said.out.strip().splitlines()), said.out
