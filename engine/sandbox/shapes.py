"""What a request to each endpoint must look like, and how Plaid refuses what does not.

A compact table instead of Plaid's OpenAPI description: required and optional fields with their
kinds. Unknown fields are refused too, but only at the top level and in the options known here;
objects of no use to the bank are `Anything`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import urlsplit

from engine.sandbox.refusals import Refusal


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PRODUCTS = _words(
    "assets auth balance balance_plus beacon identity identity_match investments investments_auth liabilities "
    "payment_initiation identity_verification transactions credit_details income income_verification "
    "standing_orders transfer employment recurring_transactions transactions_refresh signal statements "
    "processor_payments processor_identity profile cra_base_report cra_income_insights cra_partner_insights "
    "cra_network_insights cra_cashflow_insights cra_monitoring cra_lend_score cra_plaid_credit_score layer "
    "pay_by_bank protect_linked_bank protect_transactions"
)
COUNTRIES = _words("US GB ES NL FR IE CA DE IT PL DK NO SE EE LT LV PT BE AT FI")
FIREABLE = _words(
    "DEFAULT_UPDATE NEW_ACCOUNTS_AVAILABLE SMS_MICRODEPOSITS_VERIFICATION AUTHORIZATION_GRANTED "
    "USER_PERMISSION_REVOKED USER_ACCOUNT_REVOKED PENDING_DISCONNECT RECURRING_TRANSACTIONS_UPDATE LOGIN_REPAIRED "
    "SYNC_UPDATES_AVAILABLE PRODUCT_READY ERROR"
)
REMOVAL_REASONS = _words(
    "FRAUD_FIRST_PARTY FRAUD_FALSE_IDENTITY FRAUD_ABUSE FRAUD_OTHER CONNECTION_IS_NON_FUNCTIONAL OTHER"
)
WEBHOOK_TYPES = _words("AUTH HOLDINGS INVESTMENTS_TRANSACTIONS ITEM LIABILITIES TRANSACTIONS ASSETS")

#: Checks a value under its full name; raises `Refusal`.
Check = Callable[[str, Any], None]


def _wrong(name: str, must: str) -> Refusal:
    return Refusal("INVALID_FIELD", f"{name} {must}")


def text(name: str, value: Any) -> None:
    """A string that is not empty."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise _wrong(name, "must be a non-empty string")


def any_text(name: str, value: Any) -> None:
    if not isinstance(value, str) or "\0" in value:
        raise _wrong(name, "must be a string")


def boolean(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise _wrong(name, "must be a boolean")


def number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | float):
        raise _wrong(name, "must be a number")


def day(name: str, value: Any) -> None:
    """A date as YYYY-MM-DD."""
    any_text(name, value)
    try:
        if len(value) != 10:
            raise ValueError(value)
        date.fromisoformat(value)
    except ValueError:
        raise _wrong(name, "must be a date in YYYY-MM-DD format") from None


def url(name: str, value: Any) -> None:
    """An http(s) address; the sandbox takes plain http, so that webhooks reach this machine."""
    any_text(name, value)
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        good = False
    if not good:
        raise _wrong(name, "must be a valid URL")


def anything(name: str, value: Any) -> None:
    """Not looked at."""


def test_user(name: str, value: Any) -> None:
    """A string as Plaid has it; a custom user's object is taken as well."""
    if not isinstance(value, str | dict | None):
        raise _wrong(name, "must be a string")


def mapping(name: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise _wrong(name, "must be an object")


def integer(low: int, high: int) -> Check:
    def check(name: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong(name, "must be an integer")
        if value < low:
            raise _wrong(name, f"must be greater than or equal to {low}")
        if value > high:
            raise _wrong(name, f"must be less than or equal to {high}")

    return check


def choice(options: frozenset[str]) -> Check:
    def check(name: str, value: Any) -> None:
        any_text(name, value)
        if value not in options:
            raise _wrong(name, f"must be one of {', '.join(sorted(options))}")

    return check


def nullable(inner: Check) -> Check:
    def check(name: str, value: Any) -> None:
        if value is not None:
            inner(name, value)

    return check


def array(inner: Check, at_least: int = 0, at_most: int | None = None) -> Check:
    def check(name: str, value: Any) -> None:
        if not isinstance(value, list):
            raise _wrong(name, "must be an array")
        if len(value) < at_least:
            raise _wrong(name, f"must have at least {at_least} element")
        for index, element in enumerate(value):
            inner(f"{name}[{index}]", element)
        if at_most is not None and len(value) > at_most:
            raise _wrong(name, f"must have at most {at_most} elements")

    return check


@dataclass(frozen=True)
class Shape:
    """An object's fields. As a `Check` it refuses missing, unknown and wrong ones, in this order."""

    required: Mapping[str, Check] = field(default_factory=dict)
    optional: Mapping[str, Check] = field(default_factory=dict)
    open: bool = False

    def __call__(self, name: str, value: Any) -> None:
        mapping(name or "body", value)
        prefix = f"{name}." if name else ""
        missing = [prefix + key for key in self.required if key not in value]
        if missing:
            raise Refusal("MISSING_FIELDS", f"the following required fields are missing: {', '.join(missing)}")
        if not self.open:
            unknown = [prefix + key for key in value if key not in self.required and key not in self.optional]
            if unknown:
                raise Refusal(
                    "UNKNOWN_FIELDS",
                    f"the following fields are not recognized by this endpoint: {', '.join(unknown)}",
                )
        for key, content in value.items():
            check = self.required.get(key) or self.optional.get(key)
            if check is not None:
                check(prefix + key, content)


Auth = Literal["keys", "open"]


@dataclass(frozen=True)
class Request:
    """One endpoint's request: its body, and whether client id and secret are asked for."""

    shape: Shape
    auth: Auth = "keys"


def _token(**optional: Check) -> Request:
    return Request(Shape({"access_token": text}, optional))


_PRODUCT = choice(PRODUCTS)
_COUNTRY = choice(COUNTRIES)
_CATEGORY_VERSION = choice(frozenset({"v1", "v2"}))
_DAYS = integer(1, 730)
_HISTORY = Shape({}, {"start_date": day, "end_date": day, "days_requested": _DAYS})

_USER = Shape({"client_user_id": text}, {}, open=True)
_HOSTED = Shape(
    {},
    {
        "delivery_method": choice(frozenset({"sms", "email"})),
        "completion_redirect_uri": any_text,
        "url_lifetime_seconds": integer(1, 21 * 86400),
        "is_mobile_app": boolean,
    },
)
_NOT_LOOKED_AT = _words(
    "institution_data card_switch account_filters eu_config payment_configuration payment_initiation "
    "employment income_verification base_report credit_partner_insights cra_options "
    "consumer_report_permissible_purpose auth transfer identity_verification statements investments "
    "investments_auth cashflow_report identity"
)
_LINK_OPTIONAL: Mapping[str, Check] = {
    "user": _USER,
    "user_id": any_text,
    "products": nullable(array(_PRODUCT)),
    "required_if_supported_products": nullable(array(_PRODUCT)),
    "optional_products": nullable(array(_PRODUCT)),
    "additional_consented_products": nullable(array(_PRODUCT)),
    "webhook": url,
    "access_token": nullable(text),
    "access_tokens": array(text),
    "link_customization_name": any_text,
    "appearance_mode": nullable(choice(_words("LIGHT DARK SYSTEM"))),
    "redirect_uri": any_text,
    "institution_id": any_text,
    "update": Shape(
        {},
        {
            "account_selection_enabled": boolean,
            "reauthorization_enabled": boolean,
            "user": boolean,
            "item_ids": nullable(array(any_text)),
        },
    ),
    "hosted_link": _HOSTED,
    "transactions": Shape({}, {"days_requested": _DAYS}),
    "cra_enabled": boolean,
    "financekit_supported": boolean,
    "enable_multi_item_link": boolean,
    "user_token": any_text,
    "third_party_user_token": any_text,
    "android_package_name": any_text,
    **dict.fromkeys(_NOT_LOOKED_AT, anything),
}

REQUESTS: Mapping[str, Request] = {
    "/transactions/sync": _token(
        cursor=any_text,
        count=integer(1, 500),
        options=Shape(
            {},
            {
                "include_original_description": nullable(boolean),
                "include_personal_finance_category": boolean,
                "include_logo_and_counterparty_beta": boolean,
                "personal_finance_category_version": _CATEGORY_VERSION,
                "days_requested": _DAYS,
                "account_id": text,
            },
        ),
    ),
    "/transactions/refresh": _token(),
    "/transactions/recurring/get": _token(
        account_ids=array(any_text),
        options=Shape(
            {},
            {
                "include_personal_finance_category": boolean,
                "personal_finance_category_version": _CATEGORY_VERSION,
            },
        ),
    ),
    "/item/get": _token(),
    "/item/remove": _token(reason_code=nullable(choice(REMOVAL_REASONS)), reason_note=nullable(any_text)),
    "/item/webhook/update": _token(webhook=nullable(url)),
    "/item/access_token/invalidate": _token(),
    "/item/public_token/exchange": Request(Shape({"public_token": text})),
    "/accounts/get": _token(options=Shape({}, {"account_ids": array(any_text)})),
    "/institutions/get_by_id": Request(
        Shape(
            {"institution_id": text, "country_codes": array(_COUNTRY, 1)},
            {
                "options": Shape(
                    {},
                    {
                        "include_optional_metadata": boolean,
                        "include_status": boolean,
                        "include_auth_metadata": boolean,
                        "include_payment_initiation_metadata": boolean,
                    },
                )
            },
        )
    ),
    "/link/token/create": Request(
        Shape({"client_name": text, "language": text, "country_codes": array(_COUNTRY, 1)}, _LINK_OPTIONAL)
    ),
    "/link/token/get": Request(Shape({"link_token": text})),
    "/webhook_verification_key/get": Request(Shape({"key_id": text})),
    "/sandbox/public_token/create": Request(
        Shape(
            {"institution_id": text, "initial_products": array(_PRODUCT, 1)},
            {
                "options": Shape(
                    {},
                    {
                        "webhook": url,
                        "override_username": nullable(any_text),
                        "override_password": test_user,
                        "transactions": nullable(_HISTORY),
                        "statements": anything,
                        "income_verification": anything,
                    },
                ),
                "user_token": any_text,
                "user_id": any_text,
            },
        )
    ),
    "/sandbox/item/fire_webhook": Request(
        Shape({"access_token": text, "webhook_code": choice(FIREABLE)}, {"webhook_type": choice(WEBHOOK_TYPES)})
    ),
    "/sandbox/item/reset_login": _token(),
    "/sandbox/transactions/create": Request(
        Shape(
            {
                "access_token": text,
                "transactions": array(
                    Shape(
                        {"date_transacted": day, "date_posted": day, "amount": number, "description": text},
                        {"iso_currency_code": text, "account_id": text},
                    ),
                    1,
                ),
            }
        )
    ),
    "/categories/get": Request(Shape(open=True), auth="open"),
}


def credentials(body: dict[str, Any], headers: Mapping[str, str]) -> tuple[str, str]:
    """Take client id and secret out of the body or the headers.

    Raises:
        Refusal: one is missing or malformed.
    """
    found: dict[str, Any] = {}
    for name, header in (("client_id", "plaid-client-id"), ("secret", "plaid-secret")):
        found[name] = body.pop(name, None)
        if found[name] is None:
            found[name] = headers.get(header)
    missing = [name for name, value in found.items() if value is None]
    if missing:
        raise Refusal("MISSING_FIELDS", f"the following required fields are missing: {', '.join(missing)}")
    for name, value in found.items():
        if not isinstance(value, str) or not value.strip():
            raise _wrong(name, "must be a properly formatted, non-empty string")
    return found["client_id"], found["secret"]
