"""``syncdeskctl jobs``: list, retry, discard, cancel, run and move jobs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from engine.cli import common, jobs_bulk, remote
from engine.errors import SyncdeskError, UsageError

if TYPE_CHECKING:
    from engine.api.client import Client

STATES = ("waiting", "delayed", "running", "retrying", "failed", "discarded", "done")
MOST = 500


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``jobs`` and its commands."""
    group = commands.add_parser("jobs", help="jobs: list, retry, discard, cancel, run, move")
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="jobs by state, newest failures first")
    listing.add_argument("--state", choices=STATES)
    listing.add_argument("--queue", choices=("transactions", "webhooks", "notifications"))
    listing.add_argument("--search", metavar="TEXT", help="id, bank or cause")
    listing.add_argument("--limit", type=int, default=50, help=f"how many, {MOST} at most")
    common.add_json(listing)
    listing.set_defaults(run=_list)
    for name, words in (
        ("retry", "run failed or discarded jobs again"),
        ("discard", "put failed jobs aside (retry brings them back)"),
    ):
        command = actions.add_parser(name, help=words)
        command.add_argument("ids", nargs="*", metavar="JOB")
        command.add_argument("--group", metavar="FINGERPRINT", help="all that one cause hit")
        jobs_bulk.add_filter(command)
        common.add_json(command)
        command.set_defaults(run=_act, verb=name)
    for name, words in (("cancel", "drop jobs that have not started"), ("run", "put waiting or retrying jobs first")):
        command = actions.add_parser(name, help=words)
        command.add_argument("ids", nargs="+", metavar="JOB")
        common.add_json(command)
        command.set_defaults(run=_act_on_live, verb=name)
    jobs_bulk.register(actions)


def _list(args: argparse.Namespace) -> int:
    from engine.api import types_jobs

    if not 1 <= args.limit <= MOST:
        raise UsageError(f"--limit is 1 to {MOST}.")
    with remote.client() as engine:
        page = engine.get(
            "jobs", types_jobs.JobPage, state=args.state, queue=args.queue, q=args.search, limit=args.limit
        )
    rows = [
        (job.id, job.state, job.label, job.institution or "", f"{job.attempts}/{job.max_attempts}", job.error_title)
        for job in page.jobs
    ]
    more = "\nThere are more; narrow the list or raise --limit." if page.next else ""
    text = remote.table(("Job", "State", "What", "Bank", "Tries", "Cause"), rows) + more if rows else "No jobs."
    return remote.show(args, page, text)


def _act(args: argparse.Namespace) -> int:
    """Single jobs at once, each with its answer; many as one bulk action."""
    if jobs_bulk.chosen(args):
        return jobs_bulk.run(args)
    if not args.ids:
        raise UsageError("Name jobs, or a --filter, or say --all.")
    with remote.client() as engine:
        return _each(args, engine, args.ids, args.verb)


def _act_on_live(args: argparse.Namespace) -> int:
    with remote.client() as engine:
        return _each(args, engine, args.ids, args.verb)


def _each(args: argparse.Namespace, engine: Client, ids: list[str], verb: str) -> int:
    """Act on jobs one after another; 1 where any was refused, with each one's sentence."""
    results = []
    for job_id in ids:
        try:
            done = engine.act(f"jobs/{common.segment(job_id)}/{verb}")
            results.append({"job": job_id, "ok": True, "message": done.message, "ids": done.ids})
        except SyncdeskError as error:
            results.append({"job": job_id, "ok": False, "message": error.message, "ids": []})
    ok = all(result["ok"] for result in results)
    text = "\n".join(f"{result['job']}: {result['message']}" for result in results) or "No jobs."
    common.show(args, {"ok": ok, "results": results}, text)
    return 0 if ok else 1
