"""Checks of the running engine: does it answer, do its parts stay up, do its workers take jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from engine import __version__, launch
from engine.errors import NotRunningError
from engine.host.doctor.check import Check, Subject
from engine.profile import Profile

RESTARTS_WARN: Final = 3
_ENGINE: Final = Subject("engine", "Engine")
_PARTS: Final = Subject("parts", "Parts of the engine")
_WORK: Final = Subject("work", "Work")


@dataclass(frozen=True)
class Running:
    """The engine of the profile: ``found`` where one runs, ``status`` and ``health`` where it answers."""

    found: launch.Discovery | None
    status: dict[str, Any] | None = None
    overview: dict[str, Any] | None = None
    error: str = ""


def look(profile: Profile) -> Running:
    """Ask the profile's engine, if one runs."""
    found = launch.read(profile)
    if found is None or found.admin is None:
        return Running(None)
    try:
        status = launch.call(found, "GET", "/api/status")
        return Running(found, status, launch.call(found, "GET", "/api/overview", 15.0))
    except NotRunningError as error:
        return Running(found, error=error.message)


def engine(profile: Profile, running: Running) -> Check:
    """Whether one runs and answers. That none runs is no failure; that its start failed is."""
    if running.found is None:
        return _not_running(profile)
    if running.status is None:
        return _ENGINE.fail(running.error, "syncdeskctl down, then up; its log is host.log.")
    state = running.status["engine"]
    if state["version"] != __version__:
        return _ENGINE.warn(
            f"Version {state['version']} runs, and this program is {__version__}.", "syncdeskctl down, then up."
        )
    return _ENGINE.ok(f"Version {state['version']} is {state['state']}, process {state['pid']}.")


def _not_running(profile: Profile) -> Check:
    begun = launch.progress(profile)
    if begun is not None and begun.state == "failed":
        return _ENGINE.fail(f"The last start failed. {begun.error or ''}".strip(), "Cure that, then syncdeskctl up.")
    if begun is not None and begun.state == "starting":
        return _ENGINE.warn(f"It is still starting ({begun.step}).", "Wait a moment and look again.")
    return _ENGINE.ok("None runs on this profile; syncdeskctl up starts it.")


def parts(running: Running) -> Check:
    """Whether a part was given up as a crash loop, or comes back again and again."""
    if running.status is None:
        return _PARTS.skipped("There is no engine that could be asked.")
    rows = running.status["processes"]
    for state, words in (("given_up", "stays stopped"), ("crashed", "is down")):
        down = [row for row in rows if row["state"] == state]
        if down:
            row = down[0]
            note = row.get("note") or f"The part {row['role']} {words}."
            return _PARTS.fail(note, f"Read logs/{row['role']}.log and .out.log, then start it on the page Workers.")
    often = [row for row in rows if row.get("restarts", 0) >= RESTARTS_WARN]
    if often:
        names = ", ".join(f"{row['role']} ({row['restarts']} times)" for row in often)
        return _PARTS.warn(f"Started again since the engine runs: {names}.", "Read their logs for why they ended.")
    return _PARTS.ok(f"{len(rows)} processes, none of them in trouble.")


def work(running: Running) -> Check:
    """What the first page says is wrong: the one list of causes that the console shows as well."""
    if running.overview is None:
        return _WORK.skipped("There is no engine that could be asked.")
    causes = [cause for cause in running.overview["causes"] if cause["tone"] != "info"]
    if not causes:
        return _WORK.ok("Queues, banks and schedule are well.")
    first = causes[0]
    more = f" ({len(causes) - 1} more on the first page)" if len(causes) > 1 else ""
    cure = f"docs/operations.md has {first['code']}."
    sentence = f"{first['title'].rstrip('.')}: {first['sentence']}{more}"
    return _WORK.fail(sentence, cure) if first["tone"] == "error" else _WORK.warn(sentence, cure)
