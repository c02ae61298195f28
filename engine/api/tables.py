"""Short forms for rows of the admin table."""

from __future__ import annotations

from typing import Any

from engine import clock
from engine.api import types
from engine.api.routing import Handler, Route
from engine.errors import NotFound, UsageError

READ = (503,)
ACT = (404, 409, 503)
PAGE_MOST = 500


def get(path: str, summary: str, handler: Handler, answer: Any, *, query: Any = None, found: bool = False) -> Route:
    """A read: any token; ``found``: it may answer 404."""
    return Route(
        method="GET",
        path=f"/api/{path}",
        summary=summary,
        handler=handler,
        answer=answer,
        query=query,
        errors=(404, *READ) if found else READ,
    )


def act(
    path: str,
    summary: str,
    handler: Handler,
    *,
    body: Any = None,
    method: Any = "POST",
    token: types.TokenKind = "operate",  # noqa: S107 - the kind of a token, no token
    answer: Any = types.Done,
    optional: bool = False,
    errors: tuple[int, ...] = (),
) -> Route:
    """An action: a token that may operate; ``optional``: an empty body will do."""
    return Route(
        method=method,
        path=f"/api/{path}",
        summary=summary,
        handler=handler,
        answer=answer,
        token=token,
        body=body,
        body_required=not optional,
        errors=(*ACT, *errors),
    )


def page_size(limit: int) -> int:
    """The limit of a list, checked.

    Raises:
        UsageError: not between 1 and 500.
    """
    if not 1 <= limit <= PAGE_MOST:
        raise UsageError(f"A page has 1 to {PAGE_MOST} entries.")
    return limit


def moment(text: str | None) -> str | None:
    """A time of a query, in the database's form.

    Raises:
        UsageError: it is no ISO 8601 time.
    """
    if text is None:
        return None
    try:
        return clock.iso(clock.parse(text))
    except ValueError:
        raise UsageError("A moment is given as 2026-01-31T12:00:00Z.") from None


def numeric_id(text: str, missing: str) -> int:
    """An id that is a number, from a path.

    Raises:
        NotFound: it is none, so nothing has it; ``missing`` is the sentence.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise NotFound(missing)
    return int(text)
