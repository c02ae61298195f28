"""``syncdeskctl db``: the schema of the database, its SQL in print, and its address."""

from __future__ import annotations

import argparse
import sys

from engine.cli import common
from engine.errors import NotRunningError, UsageError


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``db`` and its commands."""
    group = commands.add_parser("db", help="schema and address of the database")
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, run, words in (
        ("migrate", _migrate, "bring the schema to this version"),
        ("sql", _sql, "print the whole schema, for a project whose connection string is not at hand"),
        ("url", _url, "print the database's URL, with its password"),
    ):
        command = actions.add_parser(name, help=words)
        common.add_json(command)
        command.set_defaults(run=run)


def database_url() -> str:
    """The URL of the profile's database: ``DATABASE_URL``, else the embedded one's while it runs.

    Raises:
        UsageError: the database is a Supabase project, which is known by its REST API alone.
        NotRunningError: the embedded database does not run.
    """
    profile = common.profile()
    settings = common.settings(profile)
    if settings.database_url:
        return settings.database_url
    if settings.supabase_url:
        raise UsageError(
            "A Supabase project's schema cannot be changed through its REST API. Set DATABASE_URL to its connection "
            "string for this once, or run what `syncdeskctl db sql` prints in the project's SQL editor."
        )
    from engine.host import postgres

    url = postgres.running_url(profile)
    if url is None:
        raise NotRunningError(
            f"The database of profile {profile.name} does not run; `syncdeskctl up` starts it and brings its schema "
            "to this version."
        )
    return url


def _migrate(args: argparse.Namespace) -> int:
    url = database_url()
    from engine.store.migrate import migrate

    report = migrate(url)
    lines = [f"Applied {name}." for name in report.applied]
    total = report.before + len(report.applied)
    lines.append(f"The schema is current: {total} migrations, {len(report.applied)} of them new.")
    document = {"ok": True, "applied": report.applied, "before": report.before, "migrations": total}
    common.show(args, document, "\n".join(lines))
    return 0


def _sql(args: argparse.Namespace) -> int:
    from engine.store.migrate import printed

    text = printed()
    if args.json:
        common.show(args, {"sql": text}, "")
    else:
        sys.stdout.write(text)
    return 0


def _url(args: argparse.Namespace) -> int:
    url = database_url()
    common.show(args, {"url": url}, url)
    return 0
