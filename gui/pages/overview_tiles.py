"""The three verdicts of the first page, in words."""

from __future__ import annotations

from engine.api import types_overview
from gui import theme as themes
from gui import words
from gui.client.connection import Connection
from gui.kit.boxes import Tile

TILES = [("engine", "Engine"), ("banks", "Bank data"), ("needs", "Needs you")]


def tell_tiles(tiles: dict[str, Tile], known: types_overview.Overview | None, link: Connection) -> None:
    """The three verdicts from the last overview and the state of the link."""
    if link.state in {"unreachable", "stopped"}:
        _tell_old(tiles, known, link)
    elif known is None or link.state == "starting":
        step = f"{link.step}." if link.step else "Looking for the engine."
        tiles["engine"].tell("state-starting", "active", "Starting", step)
        tiles["banks"].tell("state-waiting", "idle", "Not known yet", "Known once the engine runs.")
        tiles["needs"].tell("state-waiting", "idle", "Not known yet", "Known once the engine runs.")
    else:
        _tell_engine(tiles["engine"], known)
        _tell_banks(tiles["banks"], known.bank_data)
        _tell_needs(tiles["needs"], known)


def _tell_old(tiles: dict[str, Tile], known: types_overview.Overview | None, link: Connection) -> None:
    if known is None:
        for tile in tiles.values():
            tile.tell("", "idle", "Not known", "No engine has answered yet.", old=True)
        return
    at = words.time(link.lost_at)
    data = known.bank_data
    was = "Was stopped by you" if link.state == "stopped" else "Was running"
    tiles["engine"].tell("", "idle", was, f"Last answer at {at}, {words.ago(link.lost_at)}", old=True)
    banks = "Was up to date" if data.state == "up_to_date" else "Was behind" if data.items else "No bank was linked"
    tiles["banks"].tell("", "idle", banks, f"{data.fresh} of {words.plural(data.items, 'bank')} at {at}", old=True)
    number = len(known.needs)
    needs = f"{words.plural(number, 'thing')} open" if number else "Nothing was open"
    tiles["needs"].tell("", "idle", needs, f"At {at}; now only the engine itself", old=True)


def _tell_engine(tile: Tile, known: types_overview.Overview) -> None:
    engine, figures = known.engine, known.figures
    state = engine.state if engine.state in {"running", "starting", "paused", "degraded", "stopped"} else "stopped"
    spec = themes.current().state("engine", state)
    icon, tone = str(spec["icon"]), str(spec["tone"])
    if engine.state == "degraded":
        cause = known.causes[0] if known.causes else None
        title = engine.cause or "trouble"
        title = title[:1].lower() + title[1:]
        tile.tell(icon, tone, f"Running, {title}", cause.sentence if cause else "See what needs you.")
    elif engine.state == "paused":
        when = words.time(engine.paused_until)
        tile.tell(icon, tone, "Paused", f"Nothing syncs until {when or 'you resume'}.")
    elif engine.state == "running":
        jobs = f"{words.plural(figures.running, 'job')} running, {words.count(figures.waiting)} waiting."
        tile.tell(icon, tone, "Running", f"{jobs} Started {_lower(words.day_and_time(engine.started_at))}.")
    else:
        tile.tell(icon, tone, str(spec["label"]), engine.step or "")


def _lower(said: str) -> str:
    return said[:1].lower() + said[1:] if said.startswith(("Today", "Yesterday")) else said


def _tell_banks(tile: Tile, data: types_overview.BankData) -> None:
    nxt = f" Next run {words.until(data.next_run_at)}." if data.next_run_at else ""
    oldest = words.span(data.oldest_s)
    if data.state == "none":
        tile.tell("nav-banks", "idle", "No bank yet", "Link one on the page Banks.")
    elif data.state == "trouble":
        tile.tell("state-bank-trouble", "warn", "No bank answers", f"The oldest data is {oldest} old.{nxt}")
    elif data.state == "behind":
        behind = max(1, data.items - data.fresh)
        said = f"The oldest by {oldest}." if oldest else ""
        tile.tell("state-delayed", "warn", f"{words.plural(behind, 'bank')} behind", f"{said}{nxt}".strip())
    else:
        said = f"{data.fresh} of {words.plural(data.items, 'bank')}" + (f", oldest {oldest}" if oldest else "")
        tile.tell("state-done", "ok", "Up to date", f"{said}.{nxt}")


def _tell_needs(tile: Tile, known: types_overview.Overview) -> None:
    number = len(known.needs) + sum(1 for cause in known.causes if cause.tone == "error")
    if number:
        first = known.needs[0] if known.needs else None
        said = f"{first.title}." if first else f"{known.causes[0].title}."
        tile.tell("state-needs-you", "warn", words.plural(number, "thing"), said, filled=True)
    elif known.suggestions:
        said = (
            f"{words.plural(known.suggestions, 'suggested bill match', 'suggested bill matches')}, when you have time."
        )
        tile.tell("state-done", "ok", "Nothing", said)
    else:
        tile.tell("state-done", "ok", "Nothing", "Nothing to review either.")
