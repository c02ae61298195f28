"""Holds answers and webhooks to Plaid's public API description, where that is at hand."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "plaid"
DESCRIPTION = SHARED / "openapi-subset.json"
CUSTOM_USERS = SHARED / "custom-users"

#: The webhook's schema by (type, code).
WEBHOOKS = {
    ("TRANSACTIONS", "SYNC_UPDATES_AVAILABLE"): "SyncUpdatesAvailableWebhook",
    ("TRANSACTIONS", "INITIAL_UPDATE"): "InitialUpdateWebhook",
    ("TRANSACTIONS", "HISTORICAL_UPDATE"): "HistoricalUpdateWebhook",
    ("TRANSACTIONS", "DEFAULT_UPDATE"): "DefaultUpdateWebhook",
    ("TRANSACTIONS", "TRANSACTIONS_REMOVED"): "TransactionsRemovedWebhook",
    ("TRANSACTIONS", "RECURRING_TRANSACTIONS_UPDATE"): "RecurringTransactionsUpdateWebhook",
    ("ITEM", "ERROR"): "ItemErrorWebhook",
    ("ITEM", "LOGIN_REPAIRED"): "ItemLoginRepairedWebhook",
    ("ITEM", "PENDING_EXPIRATION"): "PendingExpirationWebhook",
    ("ITEM", "PENDING_DISCONNECT"): "PendingDisconnectWebhook",
    ("ITEM", "USER_PERMISSION_REVOKED"): "UserPermissionRevokedWebhook",
    ("ITEM", "USER_ACCOUNT_REVOKED"): "UserAccountRevokedWebhook",
    ("ITEM", "NEW_ACCOUNTS_AVAILABLE"): "NewAccountsAvailableWebhook",
    ("ITEM", "WEBHOOK_UPDATE_ACKNOWLEDGED"): "WebhookUpdateAcknowledgedWebhook",
    ("ITEM", "PRODUCT_READY"): "ItemProductReadyWebhook",
    ("LINK", "ITEM_ADD_RESULT"): "ItemAddResultWebhook",
    ("LINK", "SESSION_FINISHED"): "LinkSessionFinishedWebhook",
}
#: Codes that Plaid's description lets be fired, without a shape in the part of it that is at hand.
WITHOUT_SHAPE = {"SMS_MICRODEPOSITS_VERIFICATION", "AUTHORIZATION_GRANTED"}


def needed() -> None:
    """Skip the test where the description is not there."""
    if not DESCRIPTION.exists():
        pytest.skip("Plaid's API description is not here (../shared/data/plaid/openapi-subset.json)")


def custom_users() -> list[Path]:
    """The published test users, where they are at hand."""
    return sorted(CUSTOM_USERS.glob("*.json"))


def error_types() -> list[str]:
    """Every ``error_type`` that Plaid's description has."""
    found: list[str] = _description()["components"]["schemas"]["PlaidErrorType"]["enum"]
    return found


def values_of(name: str) -> list[str]:
    """The values that a schema of names allows."""
    schema = _description()["components"]["schemas"][name]
    found: list[str] = schema["enum"] if "enum" in schema else schema["anyOf"][1]["enum"]
    return found


def request_schema(path: str) -> dict[str, Any]:
    """What the body of an endpoint's request must be, every reference followed."""
    operation = json.loads(DESCRIPTION.read_text(encoding="utf-8"))["paths"][path]["post"]
    found: dict[str, Any] = _resolved(operation["requestBody"]["content"]["application/json"]["schema"])
    return found


def _resolved(node: Any) -> Any:
    if isinstance(node, list):
        return [_resolved(each) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = _schemas()[node["$ref"].rsplit("/", 1)[1]]
        return _resolved({**target, **{key: value for key, value in node.items() if key != "$ref"}})
    made = {key: _resolved(value) for key, value in node.items() if key != "allOf"}
    for part in _resolved(node.get("allOf", [])):
        made = {**part, **made, "nullable": bool(part.get("nullable") or made.get("nullable"))}
    return made


@cache
def _schemas() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DESCRIPTION.read_text(encoding="utf-8"))["components"]["schemas"]
    return found


def may_be_null(schema: dict[str, Any]) -> bool:
    return schema.get("nullable") is True


def kinds(schema: dict[str, Any]) -> set[str]:
    """JSON types that a schema allows; a sample of an enum's type is none of its words, so an enum allows none."""
    if "enum" in schema:
        return set()
    kind = schema.get("type", "object" if "properties" in schema else "any")
    return {"integer": set()}.get(kind, {kind}) if kind != "any" else {"string", "boolean", "array", "object", "number"}


@cache
def _description() -> dict[str, Any]:
    found: dict[str, Any] = _json_schema(json.loads(DESCRIPTION.read_text(encoding="utf-8")))
    return found


def _json_schema(node: Any) -> Any:
    """OpenAPI's ``nullable`` in JSON Schema's words."""
    if isinstance(node, list):
        return [_json_schema(each) for each in node]
    if not isinstance(node, dict):
        return node
    made = {key: _json_schema(value) for key, value in node.items() if key not in ("nullable", "exclusiveMinimum")}
    if node.get("nullable") is True:
        return {"anyOf": [{"type": "null"}, made]}
    return made


@cache
def _validator(name: str) -> Any:
    from jsonschema import Draft202012Validator, FormatChecker

    schema = {"$ref": f"#/components/schemas/{name}", "components": _description()["components"]}
    return Draft202012Validator(schema, format_checker=FormatChecker(["date"]))


def check(name: str, value: Any) -> None:
    """Hold a value to a named schema.

    Raises:
        AssertionError: it differs; says where.
    """
    errors = [f"{'/'.join(map(str, e.absolute_path))}: {e.message[:300]}" for e in _validator(name).iter_errors(value)]
    assert not errors, f"{name}: {errors[:5]}"


def check_answer(path: str, status: int, content: bytes) -> None:
    """Hold an answer to what the description says of the endpoint; refusals to PlaidError."""
    value = json.loads(content)
    if status != 200:
        check("PlaidError", value)
        assert isinstance(value.get("request_id"), str)
        return
    operation = _description()["paths"][path]["post"]
    reference = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
    check(reference.rsplit("/", 1)[1], value)


def check_webhook(body: str) -> None:
    """Hold a webhook to the shape of its type and code."""
    value = json.loads(body)
    if value["webhook_code"] in WITHOUT_SHAPE:
        return
    check(WEBHOOKS[value["webhook_type"], value["webhook_code"]], value)
