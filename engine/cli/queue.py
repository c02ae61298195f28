"""``syncdeskctl queue``: state of the queues, a test job through all of it, pause and resume, limits, the broker's
address."""

from __future__ import annotations

import argparse
from typing import Any

from engine.cli import common, remote

QUEUES = ("transactions", "webhooks", "notifications")
TEST_S = 15.0


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``queue`` and its commands."""
    group = commands.add_parser("queue", help="queues: state, test, pause, resume, limits, address")
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, run, words in (
        ("status", _status, "what waits, runs and failed"),
        ("test", _test, "send one marked job through broker, worker and database"),
        ("pause", _pause, "start nothing more of a queue, or of all"),
        ("resume", _resume, "end the pause of a queue, or of all"),
        ("url", _url, "print the broker's URL, with its password"),
    ):
        command = actions.add_parser(name, help=words)
        common.add_json(command)
        if name in {"pause", "resume"}:
            command.add_argument("name", nargs="?", choices=QUEUES, help="one queue; none: the whole engine")
        if name == "pause":
            command.add_argument("--minutes", type=int, help="resume by itself after so many minutes")
        command.set_defaults(run=run)
    command = actions.add_parser("limit", help="change how many jobs of a queue run, without a restart")
    common.add_json(command)
    command.add_argument("name", choices=QUEUES)
    command.add_argument("--concurrency", type=int, metavar="N", help="at a time, in the whole install")
    command.add_argument("--per-minute", type=int, metavar="N", help="started a minute; 0: no limit")
    command.set_defaults(run=_limit)


def _status(args: argparse.Namespace) -> int:
    from engine.api import types_jobs

    with remote.client() as engine:
        found = engine.get("queues", types_jobs.Queues)
    rows = [
        (
            queue.label + (" (paused)" if queue.paused else ""),
            queue.waiting,
            queue.delayed,
            queue.running,
            queue.retrying,
            queue.failed,
            queue.done_24h,
            queue.consumers,
            queue.concurrency,
            queue.per_minute,
        )
        for queue in found.queues
    ]
    head = (
        "Queue", "Waiting", "Delayed", "Running", "Retrying", "Failed", "Done 24 h", "Workers", "At a time", "A minute",
    )  # fmt: skip
    return remote.show(args, found, remote.table(head, rows))


def _test(args: argparse.Namespace) -> int:
    from engine.api import types

    with remote.client() as engine:
        begun: types.Done = engine.act("queues/notifications/test")
        found = engine.wait_job(begun.ids[0], TEST_S)
    ok = found is not None and found.job.state == "done"
    document: dict[str, Any] = {
        "ok": ok,
        "job": begun.ids[0],
        "state": found.job.state if found else "unfinished",
        "thread": remote.document(found.thread) if found else [],
    }
    if found is None:
        text = f"The test job did not end within {TEST_S:g} s: no worker runs on the queue, or it is paused."
    else:
        lines = [f"{event.ms or 0:>8.1f} ms  {event.text}" for event in found.thread]
        text = "\n".join([*lines, "The test job went through." if ok else f"The test job {found.job.state}."])
    common.show(args, document, text)
    return 0 if ok else 1


def _pause(args: argparse.Namespace) -> int:
    from engine.api import types_operation
    from engine.errors import UsageError

    with remote.client() as engine:
        if args.name is None:
            return remote.done(args, engine.act("engine/pause", types_operation.EnginePause(args.minutes)))
        if args.minutes is not None:
            raise UsageError("--minutes is for the whole engine; a queue is paused until it is resumed.")
        return remote.done(args, engine.act(f"queues/{args.name}/pause"))


def _resume(args: argparse.Namespace) -> int:
    with remote.client() as engine:
        return remote.done(args, engine.act(f"queues/{args.name}/resume" if args.name else "engine/resume"))


def _limit(args: argparse.Namespace) -> int:
    from engine.api import types_jobs
    from engine.errors import UsageError

    if args.concurrency is None and args.per_minute is None:
        raise UsageError("Say what to change: --concurrency, --per-minute, or both.")
    change = types_jobs.QueueChange(concurrency=args.concurrency, per_minute=args.per_minute)
    with remote.client() as engine:
        return remote.done(args, engine.act(f"queues/{args.name}", change, method="PATCH"))


def _url(args: argparse.Namespace) -> int:
    url = broker_url()
    common.show(args, {"url": url}, url)
    return 0


def broker_url() -> str:
    """The broker's URL: ``REDIS_URL``, else the embedded one's while it runs.

    Raises:
        NotRunningError: the embedded broker does not run.
    """
    from engine.errors import NotRunningError

    profile = common.profile()
    settings = common.settings(profile)
    if settings.redis_url:
        return settings.redis_url
    from engine.host import valkey

    url = valkey.running_url(profile)
    if url is None:
        raise NotRunningError(f"The broker of profile {profile.name} does not run; `syncdeskctl up` starts it.")
    return url
