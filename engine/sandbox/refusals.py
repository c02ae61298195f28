"""The bank's refusals in Plaid's form: every code with its type, HTTP status and message.

Codes, types and statuses follow Plaid's public error reference (2020-09-14).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from engine.errors import SyncdeskError

_LOGIN = (
    "the login details of this item have changed (credentials, MFA, or required user action) and a user login is "
    "required to update this information. use Link's update mode to restore the item to a good state"
)
_BAD_TOKEN = "could not find matching access token"  # noqa: S105 - a message

#: code → (error_type, HTTP status, message)
TABLE: Mapping[str, tuple[str, int, str]] = MappingProxyType(
    {
        "INVALID_FIELD": ("INVALID_REQUEST", 400, "a field has a value that it cannot have"),
        "MISSING_FIELDS": ("INVALID_REQUEST", 400, "required fields are missing"),
        "UNKNOWN_FIELDS": ("INVALID_REQUEST", 400, "fields are not recognized by this endpoint"),
        "INVALID_BODY": ("INVALID_REQUEST", 400, "body could not be parsed as JSON"),
        "INVALID_HEADERS": ("INVALID_REQUEST", 400, "Content-Type must be application/json"),
        "NOT_FOUND": ("INVALID_REQUEST", 404, "the requested endpoint does not exist"),
        "INVALID_API_KEYS": ("INVALID_INPUT", 400, "invalid client_id or secret provided"),
        "UNAUTHORIZED_ENVIRONMENT": ("INVALID_INPUT", 400, "you are not authorized to use this environment"),
        "INVALID_ACCESS_TOKEN": ("INVALID_INPUT", 400, _BAD_TOKEN),
        "INVALID_PUBLIC_TOKEN": ("INVALID_INPUT", 400, "could not find matching public token"),
        "INVALID_LINK_TOKEN": ("INVALID_INPUT", 400, "could not find matching link token"),
        "INVALID_INSTITUTION": ("INVALID_INPUT", 400, "invalid institution_id provided"),
        "INVALID_PRODUCT": ("INVALID_INPUT", 400, "client is not authorized to access the product"),
        "PRODUCT_NOT_ENABLED": ("INVALID_INPUT", 400, "the product is not enabled for this client"),
        "INVALID_ACCOUNT_ID": ("INVALID_INPUT", 400, "the account_id does not belong to the item"),
        "INVALID_WEBHOOK_VERIFICATION_KEY_ID": ("INVALID_INPUT", 400, "no key has this key_id"),
        "CREDITS_EXHAUSTED": ("INVALID_INPUT", 400, "the credits of this client are used up"),
        "TRIAL_CONNECTION_LIMIT": ("INVALID_INPUT", 400, "the trial's number of items is reached"),
        "ITEM_NOT_FOUND": ("ITEM_ERROR", 400, "the item cannot be found; it was removed"),
        "ITEM_LOGIN_REQUIRED": ("ITEM_ERROR", 400, _LOGIN),
        "INVALID_CREDENTIALS": ("ITEM_ERROR", 400, "the provided credentials were not correct"),
        "INVALID_MFA": ("ITEM_ERROR", 400, "the provided MFA responses were not correct"),
        "INVALID_UPDATED_USERNAME": ("ITEM_ERROR", 400, "the username differs from the item's"),
        "MFA_NOT_SUPPORTED": ("ITEM_ERROR", 400, "the account requires a MFA type that is not supported"),
        "USER_SETUP_REQUIRED": ("ITEM_ERROR", 400, "the account has not been fully set up"),
        "ITEM_LOCKED": ("ITEM_ERROR", 400, "the account is locked; it must be unlocked at the institution"),
        "USER_INPUT_TIMEOUT": ("ITEM_ERROR", 400, "user did not answer the MFA prompt in time"),
        "INVALID_SEND_METHOD": ("ITEM_ERROR", 400, "the MFA send method is not valid"),
        "PASSWORD_RESET_REQUIRED": ("ITEM_ERROR", 400, "the user must reset the password"),
        "INSUFFICIENT_CREDENTIALS": ("ITEM_ERROR", 400, "authorization was not completed"),
        "ACCESS_NOT_GRANTED": ("ITEM_ERROR", 400, "access to the product was not granted"),
        "NO_ACCOUNTS": ("ITEM_ERROR", 400, "no valid accounts exist for this item"),
        "NO_AUTH_ACCOUNTS": ("ITEM_ERROR", 400, "no accounts support the product"),
        "ADDITIONAL_CONSENT_REQUIRED": ("INVALID_INPUT", 400, "consent for the product is missing"),
        "PRODUCTS_NOT_SUPPORTED": ("ITEM_ERROR", 400, "the institution does not support the products"),
        "ITEM_NOT_SUPPORTED": ("ITEM_ERROR", 400, "this user account cannot be supported"),
        "ITEM_CONCURRENTLY_DELETED": ("ITEM_ERROR", 400, "the item was deleted while the request ran"),
        "USER_PERMISSION_REVOKED": ("ITEM_ERROR", 400, "the user revoked the permission to access the item"),
        "PRODUCT_NOT_READY": ("ITEM_ERROR", 400, "the requested product is not yet ready"),
        "ITEM_PRODUCT_NOT_READY": ("ITEM_ERROR", 400, "the requested product is not yet ready"),
        "TRANSACTIONS_SYNC_MUTATION_DURING_PAGINATION": (
            "TRANSACTIONS_ERROR",
            400,
            "Underlying transaction data changed since last page was fetched. Restart pagination from last update.",
        ),
        "TRANSACTIONS_LIMIT": ("RATE_LIMIT_EXCEEDED", 429, "rate limit exceeded for transactions requests"),
        "TRANSACTIONS_SYNC_LIMIT": (
            "RATE_LIMIT_EXCEEDED",
            429,
            'rate limit exceeded for attempts to access "transactions/sync". please try again later',
        ),
        "ITEM_GET_LIMIT": ("RATE_LIMIT_EXCEEDED", 429, "rate limit exceeded for attempts to access this item"),
        "ACCOUNTS_LIMIT": ("RATE_LIMIT_EXCEEDED", 429, "rate limit exceeded for accounts requests"),
        "BALANCE_LIMIT": ("RATE_LIMIT_EXCEEDED", 429, "rate limit exceeded for balance requests"),
        "RATE_LIMIT": ("RATE_LIMIT_EXCEEDED", 429, "the institution's rate limit was exceeded"),
        "ADDITION_LIMIT": ("RATE_LIMIT_EXCEEDED", 429, "rate limit exceeded for the addition of items"),
        "INSTITUTION_DOWN": ("INSTITUTION_ERROR", 400, "this institution is not currently responding"),
        "INSTITUTION_NOT_RESPONDING": ("INSTITUTION_ERROR", 400, "this institution is not currently responding"),
        "INSTITUTION_NOT_AVAILABLE": ("INSTITUTION_ERROR", 400, "this institution is not available"),
        "INSTITUTION_NO_LONGER_SUPPORTED": ("INSTITUTION_ERROR", 400, "this institution is no longer supported"),
        "INSTITUTION_REGISTRATION_REQUIRED": ("INSTITUTION_ERROR", 400, "registration with the institution is needed"),
        "INTERNAL_SERVER_ERROR": ("API_ERROR", 500, "an unexpected error occurred"),
        "PLANNED_MAINTENANCE": ("API_ERROR", 503, "the API is down for planned maintenance"),
        "PLAID_ERROR": ("API_ERROR", 500, "an unexpected error occurred"),
        "RECAPTCHA_BAD": ("RECAPTCHA_ERROR", 400, "the recaptcha was not solved"),
        "SANDBOX_WEBHOOK_INVALID": ("SANDBOX_ERROR", 400, "the item has no webhook to fire"),
        "SANDBOX_PRODUCT_NOT_ENABLED": ("SANDBOX_ERROR", 400, "the product is not enabled on the item"),
    }
)


class Refusal(SyncdeskError):
    """The bank says no, as Plaid would: ``body`` is the answer, ``status`` its HTTP status."""

    def __init__(
        self, code: str, message: str | None = None, *, kind: str | None = None, status: int | None = None
    ) -> None:
        known_kind, known_status, text = TABLE.get(code, ("API_ERROR", 400, "an error on demand"))
        super().__init__(message or text)
        self.plaid_code = code
        self.kind = kind or known_kind
        self.status = status or known_status
        self.display: str | None = None

    def error(self) -> dict[str, Any]:
        """The fields that webhooks and /item/get carry as ``error``."""
        return {
            "error_type": self.kind,
            "error_code": self.plaid_code,
            "error_message": self.message,
            "display_message": self.display,
            "documentation_url": f"https://plaid.com/docs/?ref=error#{self.kind.lower().replace('_', '-')}-errors",
            "suggested_action": None,
        }

    def body(self, request_id: str) -> dict[str, Any]:
        """The answer's JSON."""
        return {**self.error(), "request_id": request_id}
