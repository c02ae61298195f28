"""``syncdeskctl demo``: the main job end to end on throw-away parts, or the same world kept alive for the console."""

from __future__ import annotations

import argparse

from engine.cli import common
from engine.errors import SyncdeskError
from engine.launch import Discovery
from engine.profile import Profile


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    demo = commands.add_parser("demo", help="the main job end to end on throw-away parts, with simulated banks")
    common.add_json(demo)
    demo.add_argument("--live", action="store_true", help="keep the world alive until standard input ends")
    demo.set_defaults(run=_demo)


def _demo(args: argparse.Namespace) -> int:
    from engine import clock
    from engine.demo import story
    from engine.demo.stage import throw_away
    from engine.logs import describe

    if args.live:
        return _live()
    began = clock.monotonic()
    result = story.Result()
    tell = (lambda _: None) if args.json else common.note

    def work(profile: Profile, engine: Discovery) -> None:
        nonlocal result
        told = story.Story(profile, engine, tell)
        result = told.result
        told.run()

    try:
        throw_away(work, tell, story.SETTINGS)
    except SyncdeskError as error:
        result.problems.append(error.message)
    except Exception as error:  # noqa: BLE001 - the document says it, whatever it was
        result.problems.append(f"The demo failed inside Syncdesk: {describe(error)}.")
    result.elapsed_s = round(clock.monotonic() - began, 1)
    common.show(args, result.document(), _words(result))
    return 1 if result.problems else 0


def _words(result: object) -> str:
    from engine.demo.story import Result

    assert isinstance(result, Result)  # noqa: S101 - for the type checker
    if result.problems:
        return "The demo did not come true: " + " ".join(result.problems)
    return (
        f"All of it came true in {result.elapsed_s} s, and everything is cleaned up. "
        "`python3 run.py console --demo` shows the same world."
    )


def _live() -> int:
    from engine.demo.live import run

    return run(common.note)
