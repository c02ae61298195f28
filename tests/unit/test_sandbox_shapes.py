"""The bank asks of a request what Plaid's description asks: fields, which are required, and their types."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from engine.sandbox import shapes
from engine.sandbox.refusals import Refusal
from tests.support import plaid_shapes

#: A value of each JSON type, none of which is a word, date or address that a field could want.
SAMPLES: dict[str, Any] = {"string": "\x7f", "boolean": True, "array": [[]], "object": {"\x7f": 1}, "number": 0.5}
#: A custom user's object is taken too, not only its text.
WIDER = {"options.override_password"}


def fields(path: str) -> Iterator[tuple[str, Any, dict[str, Any], bool]]:
    """Every field of an endpoint's request: its name, the bank's check, its schema, whether it is required."""
    request = shapes.REQUESTS[path]
    yield from _fields("", request.shape, plaid_shapes.request_schema(path))


def _fields(
    prefix: str, shape: shapes.Shape, schema: dict[str, Any]
) -> Iterator[tuple[str, Any, dict[str, Any], bool]]:
    known = {**shape.required, **shape.optional}
    for name, inner in schema.get("properties", {}).items():
        if name in ("client_id", "secret") and not prefix:
            continue
        check = known.get(name)
        if check is None and shape.open:
            continue
        yield prefix + name, check, inner, (name in schema.get("required", ())) == (name in shape.required)
        if isinstance(check, shapes.Shape):
            yield from _fields(f"{prefix}{name}.", check, inner)
    for name in set(known) - set(schema.get("properties", {})):
        yield prefix + name, known[name], {"unknown": True}, False


@pytest.mark.parametrize("path", sorted(shapes.REQUESTS))
def test_fields_and_types_are_plaids(path: str) -> None:
    plaid_shapes.needed()
    for name, check, schema, as_required in fields(path):
        if name in WIDER:
            continue
        assert check is not None, f"{name} is not known"
        assert "unknown" not in schema, f"{name} is none of Plaid's"
        assert as_required, f"{name}: required or not"
        if check is shapes.anything:
            continue
        assert takes(check, name, None) == plaid_shapes.may_be_null(schema), name
        for kind in set(SAMPLES) - plaid_shapes.kinds(schema):
            assert not takes(check, name, SAMPLES[kind]), f"{name} takes a {kind}"


def takes(check: Any, name: str, value: Any) -> bool:
    try:
        check(name, value)
    except Refusal as refusal:
        return refusal.plaid_code not in ("INVALID_FIELD", "MISSING_FIELDS", "UNKNOWN_FIELDS")
    return True
