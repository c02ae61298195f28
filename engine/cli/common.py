"""What several commands need: the profile, its settings, the running engine, and printing for people or programs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from engine.errors import NotRunningError, UsageError
from engine.profile import Profile, choose

if TYPE_CHECKING:
    from engine.launch import Discovery
    from engine.settings import Settings
    from engine.store import Transport


def profile() -> Profile:
    """The profile of ``--profile`` or ``SYNCDESK_PROFILE``.

    Raises:
        ProfileError: no such name can be.
    """
    return choose(None, os.environ)


def settings(of: Profile) -> Settings:
    """The settings in force: environment over file over what the profile keeps secretly over defaults.

    Raises:
        SettingsError, SecretError: a value cannot be, or the keyring does not answer.
    """
    from engine.secrets import kept
    from engine.settings import declared, load

    wanted = {name: spec for name, spec in declared().items() if spec.metadata["secret"]}
    return load(of.settings_file, os.environ, kept(of, wanted))


def engine(of: Profile) -> Discovery:
    """The running engine of the profile.

    Raises:
        NotRunningError: there is none.
    """
    from engine.launch import progress, read

    found = read(of)
    if found is None:
        starting = progress(of)
        if starting is not None and starting.state == "starting":
            raise NotRunningError(f"The engine of profile {of.name} is still starting ({starting.step}).")
        raise NotRunningError(f"No engine runs on profile {of.name}; start one with `syncdeskctl up`.")
    return found


@contextmanager
def store() -> Iterator[Transport]:
    """The configured database, else that of the engine that runs on this profile.

    Raises:
        NotRunningError: it is the embedded one, and no engine runs.
    """
    import dataclasses

    from engine.host.postgres import running_url
    from engine.store import open_store

    of = profile()
    chosen = settings(of)
    if not chosen.database_url and not chosen.supabase_url:
        url = running_url(of)
        if url is None:
            raise NotRunningError(f"No engine runs on profile {of.name}; start one with `syncdeskctl up`.")
        chosen = dataclasses.replace(chosen, database_url=url)
    opened = open_store(chosen)
    try:
        yield opened
    finally:
        opened.close()


def add_json(parser: argparse.ArgumentParser) -> None:
    """The switch that every command with an answer has."""
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout and nothing else")


def port(text: str) -> int:
    """A parser's type: a TCP port.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError("must be a port, 0 to 65535")
    return int(text)


def seconds(text: str) -> float:
    """A parser's type: a length of time.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError("must be a number of seconds")
    return value


def segment(text: str) -> str:
    """What a person typed as one part of an address, whatever signs it has.

    Raises:
        UsageError: it is empty, or would name another address.
    """
    from urllib.parse import quote

    if text in {"", ".", ".."}:
        raise UsageError("An id is needed.")
    return quote(text, safe="")


def show(args: argparse.Namespace, document: Any, text: str) -> None:
    """Print the document for programs or the text for people."""
    print(json.dumps(document, ensure_ascii=False) if args.json else text)


def note(text: str) -> None:
    """Say something to the person beside the answer, at once."""
    print(text, file=sys.stderr, flush=True)
