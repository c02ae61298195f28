"""The admin listener's doorman: exact Host names only, and nothing that a browser page sent.

A page that a person visits can make their browser call a port on their own machine, under any
name that it lets point there (DNS rebinding). It cannot choose the Host header, and it cannot
leave out Origin on what could do harm, so both are checked before anything else.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from engine.api.problems import problem_response


def hosts(port: int, bind: str, further: str) -> frozenset[str]:
    """The Host values that are answered: this machine's names with the port, and the configured ones."""
    names = {"127.0.0.1", "localhost", "[::1]"}
    if bind not in {"0.0.0.0", "::", ""}:  # noqa: S104 - compared, not bound
        names.add(f"[{bind}]" if ":" in bind else bind)
    allowed = {f"{name}:{port}" for name in names}
    for name in further.split(","):
        if name.strip():
            allowed.add(name.strip().lower())
    return frozenset(allowed)


class Guard:
    """ASGI middleware around the admin application."""

    def __init__(self, app: ASGIApp, allowed: frozenset[str]) -> None:
        self._app, self._allowed = app, allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = [value for name, value in scope["headers"] if name == b"host"]
            if len(given) != 1 or given[0].decode("latin-1").lower() not in self._allowed:
                answer = problem_response(403, "WRONG_HOST", "The admin API does not answer to this Host name.")
                await answer(scope, receive, send)
                return
            if any(name == b"origin" for name, _ in scope["headers"]):
                answer = problem_response(403, "WRONG_ORIGIN", "The admin API does not answer to web pages.")
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)
