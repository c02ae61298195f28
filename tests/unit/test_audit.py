"""Every action of the admin API leaves a line in the audit trail: each handler's way to `audited` is looked for."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.api import actions, admin
from engine.api.events import Fan
from engine.api.routing import Route

#: These change nothing of the engine: one asks what an action would do, one marks what a person has seen.
READS = {"/api/bulks/preview", "/api/notices/read"}


class NoFan(Fan):
    """Events are not asked for here; the table only needs the method."""

    def __init__(self) -> None:
        pass


def acts() -> list[Route]:
    return [route for route in admin.routes(NoFan()) if route.method != "GET" and route.path not in READS]


def called(function: Callable[..., Any]) -> Iterator[Any]:
    """Functions that a function's code names: its globals, and attributes of modules among them."""
    code = [function.__code__]
    while code:
        one = code.pop()
        code += [constant for constant in one.co_consts if isinstance(constant, types.CodeType)]
        known = [function.__globals__[name] for name in one.co_names if name in function.__globals__]
        yield from known
        for module in known:
            if inspect.ismodule(module):
                yield from (getattr(module, name) for name in one.co_names if hasattr(module, name))


def reaches(function: Any, wanted: Any, depth: int = 5) -> bool:
    if function is wanted:
        return True
    if depth == 0 or not inspect.isfunction(function) or not function.__module__.startswith("engine.api"):
        return False
    return any(reaches(further, wanted, depth - 1) for further in set(filter(inspect.isfunction, called(function))))


@pytest.mark.parametrize("route", acts(), ids=lambda route: f"{route.method} {route.path}")
def test_an_action_is_audited(route: Route) -> None:
    assert reaches(route.handler, actions.audited)


def test_a_read_is_not_taken_for_an_action() -> None:
    reads = [route for route in admin.routes(NoFan()) if route.method == "GET" and route.handler is not None]
    assert len(reads) > 20
    assert not [route.path for route in reads if reaches(route.handler, actions.audited)]
