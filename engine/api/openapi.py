"""The OpenAPI 3.1 document of a listener, made from its table."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec

from engine.api.routing import Route
from engine.api.types import Problem

SCHEMES: dict[str, dict[str, Any]] = {
    "token": {"type": "http", "scheme": "bearer", "description": "A token of kind view, operate or admin."},
    "cron": {"type": "http", "scheme": "bearer", "description": "CRON_SECRET."},
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "Plaid-Verification",
        "description": "Plaid's signed JWT; a relay sends X-Syncdesk-Signature instead.",
    },
}
_PARAMETER = re.compile(r"{(\w+)}")


def build(title: str, version: str, routes: Iterable[Route]) -> dict[str, Any]:
    """The document as plain data."""
    rows = list(routes)
    shapes: list[Any] = [Problem]
    for row in rows:
        shapes += [shape for shape in (*answers(row), row.body, row.query) if shape is not None]
    schemas, components = msgspec.json.schema_components(shapes, ref_template="#/components/schemas/{name}")
    refs = dict(zip([id(shape) for shape in shapes], schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for row in rows:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, refs, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": SCHEMES},
    }


def answers(row: Route) -> tuple[Any, ...]:
    """The shapes of a route's answer; most have one."""
    return row.answer if isinstance(row.answer, tuple) else (row.answer,)


def _answer(row: Route, refs: dict[int, Any]) -> Any:
    found = [refs[id(shape)] for shape in answers(row)]
    return found[0] if len(found) == 1 else {"oneOf": found}


def _operation(row: Route, refs: dict[int, Any], components: dict[str, Any]) -> dict[str, Any]:
    problem = {"description": "Refused or failed.", "content": {"application/json": {"schema": refs[id(Problem)]}}}
    statuses = set(row.errors) | {500}
    if row.query is not None or row.body is not None or "{" in row.path:
        statuses.add(400)
    if row.body is not None:
        statuses |= {408, 413, 415}
    if row.token is not None:
        statuses |= {401, 403}
    if row.per_minute is not None:
        statuses.add(429)
    media = "text/event-stream" if row.media == "text/event-stream" else row.media
    operation: dict[str, Any] = {
        "operationId": row.name,
        "summary": row.summary,
        "responses": {
            "200": {"description": "Done.", "content": {media: {"schema": _answer(row, refs)}}},
            **{str(status): {**problem, "description": HTTPStatus(status).phrase} for status in sorted(statuses)},
        },
    }
    parameters = _parameters(row, refs, components)
    if parameters:
        operation["parameters"] = parameters
    if row.body is not None:
        operation["requestBody"] = {
            "required": row.body_required,
            "content": {"application/json": {"schema": refs[id(row.body)]}},
        }
    if row.token is not None:
        operation["security"] = [{"token": []}]
        operation["x-token"] = row.token
    elif row.secret is not None:
        operation["security"] = [{row.secret: []}]
    return operation


def _parameters(row: Route, refs: dict[int, Any], components: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(row.path)
    ]
    if row.query is not None:
        shape = components[refs[id(row.query)]["$ref"].rpartition("/")[2]]
        for name, schema in shape["properties"].items():
            found.append({"name": name, "in": "query", "required": name in shape.get("required", []), "schema": schema})
    return found
