"""``syncdeskctl jobs``: list, retry and discard jobs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from engine.cli import common, remote
from engine.errors import SyncdeskError, UsageError

if TYPE_CHECKING:
    from engine.api.client import Client

STATES = ("waiting", "delayed", "running", "retrying", "failed", "discarded", "done")
MOST = 500


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``jobs`` and its commands."""
    group = commands.add_parser("jobs", help="jobs: list, retry, discard")
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="jobs by state, newest failures first")
    listing.add_argument("--state", choices=STATES)
    listing.add_argument("--queue", choices=("transactions", "webhooks", "notifications"))
    listing.add_argument("--search", metavar="TEXT", help="id, bank or cause")
    listing.add_argument("--limit", type=int, default=50, help=f"how many, {MOST} at most")
    common.add_json(listing)
    listing.set_defaults(run=_list)
    for name, run, words in (
        ("retry", _retry, "run failed or discarded jobs again"),
        ("discard", _discard, "put failed jobs aside (retry brings them back)"),
    ):
        command = actions.add_parser(name, help=words)
        command.add_argument("ids", nargs="*", metavar="JOB")
        if name == "retry":
            command.add_argument("--group", metavar="FINGERPRINT", help="all that one cause hit")
        command.add_argument("--all", action="store_true", help="all that failed")
        common.add_json(command)
        command.set_defaults(run=run)


def _list(args: argparse.Namespace) -> int:
    from engine.api import types

    if not 1 <= args.limit <= MOST:
        raise UsageError(f"--limit is 1 to {MOST}.")
    with remote.client() as engine:
        page = engine.get("jobs", types.JobPage, state=args.state, queue=args.queue, q=args.search, limit=args.limit)
    rows = [
        (job.id, job.state, job.label, job.institution or "", f"{job.attempts}/{job.max_attempts}", job.error_title)
        for job in page.jobs
    ]
    more = "\nThere are more; narrow the list or raise --limit." if page.next else ""
    text = remote.table(("Job", "State", "What", "Bank", "Tries", "Cause"), rows) + more if rows else "No jobs."
    return remote.show(args, page, text)


def _retry(args: argparse.Namespace) -> int:
    from engine.api import types

    if sum((bool(args.ids), args.group is not None, args.all)) != 1:
        raise UsageError("Name jobs, or one --group, or say --all.")
    with remote.client() as engine:
        if args.ids:
            return _each(args, engine, args.ids, "retry")
        groups = engine.get("failures", types.FailureGroups, span="7d").groups
        chosen = [group for group in groups if args.all or group.fingerprint == args.group]
        if args.group is not None and not chosen:
            raise UsageError("There is no such group of failures in the last 7 days.")
        ids: list[str] = []
        for group in chosen:
            if group.open_jobs:
                done = engine.act(f"failures/{group.fingerprint}/retry", types.GroupRetry(group.open_jobs))
                ids += done.ids
    count = len(ids)
    text = f"{count} job{'' if count == 1 else 's'} run again." if count else "Nothing to retry."
    common.show(args, {"ok": True, "ids": ids}, text)
    return 0


def _discard(args: argparse.Namespace) -> int:
    from engine.api import types

    if bool(args.ids) == args.all:
        raise UsageError("Name jobs, or say --all.")
    with remote.client() as engine:
        ids = args.ids or [
            job.id for page in engine.pages("jobs", types.JobPage, state="failed", limit=MOST) for job in page.jobs
        ]
        return _each(args, engine, ids, "discard")


def _each(args: argparse.Namespace, engine: Client, ids: list[str], verb: str) -> int:
    """Act on jobs one after another; 1 where any was refused, with each one's sentence."""
    results = []
    for job_id in ids:
        try:
            done = engine.act(f"jobs/{job_id}/{verb}")
            results.append({"job": job_id, "ok": True, "message": done.message, "ids": done.ids})
        except SyncdeskError as error:
            results.append({"job": job_id, "ok": False, "message": error.message, "ids": []})
    ok = all(result["ok"] for result in results)
    text = "\n".join(f"{result['job']}: {result['message']}" for result in results) or "No jobs."
    common.show(args, {"ok": ok, "results": results}, text)
    return 0 if ok else 1
