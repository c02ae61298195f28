"""Every refusal and failure of the listeners as a `Problem` with the right status: one seam."""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from engine.api.types import Problem
from engine.errors import (
    BrokerUnavailable,
    Conflict,
    Forbidden,
    NotFound,
    SchemaError,
    SecretError,
    SettingsError,
    StoreRefused,
    StoreUnavailable,
    SyncdeskError,
    UsageError,
)
from engine.logs import logger


class Unauthorised(SyncdeskError):
    """No token or secret was sent, or one that nobody gave out."""

    code = "UNAUTHORISED"


class TooLarge(UsageError):
    """The body exceeds the route's limit."""

    code = "TOO_LARGE"


class TooSlow(UsageError):
    """The body did not arrive in time."""

    code = "TOO_SLOW"


class WrongType(UsageError):
    """The body is not of the media type that the route takes."""

    code = "WRONG_TYPE"


class TooOften(SyncdeskError):
    """More calls than the route takes; ``retry_after_s`` says when it takes the next."""

    code = "TOO_OFTEN"


class NotConfigured(SyncdeskError):
    """The route needs a setting that is not there."""

    code = "NOT_CONFIGURED"


class BankRefused(SyncdeskError):
    """Plaid refused what the caller asked for; the message says why."""

    code = "PLAID_REFUSED"


STATUS: tuple[tuple[type[SyncdeskError], int], ...] = (
    (Unauthorised, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (TooSlow, 408),
    (Conflict, 409),
    (TooLarge, 413),
    (WrongType, 415),
    (TooOften, 429),
    (UsageError, 400),
    (BankRefused, 422),
    (NotConfigured, 503),
    (StoreUnavailable, 503),
    (SchemaError, 503),
    (SecretError, 503),
    (SettingsError, 503),
    (BrokerUnavailable, 503),
)
"""First fitting row wins, so kinds stand before their parents."""


def status_of(error: BaseException) -> int:
    """The HTTP status of an error; one that we did not foresee is 500."""
    for kind, status in STATUS:
        if isinstance(error, kind):
            return status
    if isinstance(error, StoreRefused):
        # Class 22 is a value that cannot be read (PostgreSQL, appendix A): the caller's.
        return 400 if str(error.detail.get("sqlstate", "")).startswith("22") else 500
    if isinstance(error, SyncdeskError):
        return 503 if error.retryable else 422
    return 500


def problem_response(status: int, code: str, message: str, detail: dict[str, object] | None = None) -> Response:
    """A `Problem` with its status. 401 says how to authenticate, and no problem is ever cached."""
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}:
        headers["Connection"] = "close"  # the rest of the body is not wanted
    if status == HTTPStatus.TOO_MANY_REQUESTS and detail:
        headers["Retry-After"] = str(detail["retry_after_s"])
    problem = Problem(code=code, message=message, detail=detail or {})
    return Response(msgspec.json.encode(problem), status, headers, "application/json")


def response(error: BaseException, where: str) -> Response:
    """The answer to a request that failed with ``error``."""
    status = status_of(error)
    if isinstance(error, SyncdeskError):
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            logger("api").warning("A request was not served", route=where, code=error.code)
        detail = {key: value for key, value in error.detail.items() if value is not None}
        return problem_response(status, error.code, error.message, detail)
    # The text of an unforeseen error may hold anything: its kind and place are enough to find it.
    place = _place(error)
    logger("api").error("A request failed", route=where, kind=type(error).__name__, place=place)
    return problem_response(
        500, "INTERNAL", f"Syncdesk failed on this request ({type(error).__name__}); the log has where."
    )


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    if trace is None:
        return "?"
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


async def no_such_path(request: Request, error: Exception) -> Response:
    """404 for a path that no route has."""
    return problem_response(404, "NOT_FOUND", "There is nothing at this address.")


async def wrong_method(request: Request, error: Exception) -> Response:
    """405 for a path that does not take this method."""
    answer = problem_response(405, "WRONG_METHOD", "This address does not take this method.")
    answer.headers.update(getattr(error, "headers", None) or {})
    return answer


async def unexpected(request: Request, error: Exception) -> Response:
    """Whatever escaped an endpoint."""
    return response(error, request.url.path[:100])
