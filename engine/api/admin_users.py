"""Admin routes of users: who there is, and how often it is whose turn."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from engine.api import types
from engine.api.actions import audited
from engine.api.routing import Call, Route
from engine.api.tables import act, get, page_size
from engine.api.types_users import UserChange, UserPage
from engine.api.views import identifier
from engine.errors import BrokerUnavailable, UsageError
from engine.logs import logger

MOST: Final = 100
"""The highest weight; the table has the same bound."""

log = logger("api")


class UsersQuery(Struct):
    after: str | None = None
    limit: int = 100


def users(call: Call) -> UserPage:
    ask = call.query
    found = call.context.store.call("users_list", after=ask.after or None, limit=page_size(ask.limit))
    return msgspec.convert(found, UserPage)


def change(call: Call) -> types.Done:
    user, weight = identifier(call.path["id"]), call.body.weight
    if weight not in range(1, MOST + 1):
        raise UsageError(f"A weight is 1 to {MOST}.")

    def work() -> types.Done:
        answer = call.context.store.call("user_weigh", user=user, weight=weight)
        try:
            call.context.control.weigh(answer["weights"])
        except BrokerUnavailable as error:
            log.warning("Weights are left to the reconciler", code=error.code)
        jobs = "one job" if weight == 1 else f"{weight} jobs"
        return types.Done(message=f"{answer['name']}: {jobs} a turn.", ids=[user])

    return audited(call, "user.weigh", f"user:{user}", work, topic="queues")


def routes() -> list[Route]:
    """Rows of users."""
    return [
        get("users", "Users by name, with the weight of their jobs.", users, UserPage, query=UsersQuery),
        act("users/{id}", "Change how many jobs of a user run in one turn.", change, body=UserChange, method="PATCH"),
    ]
