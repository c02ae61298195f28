"""Test users of every kind that Plaid's description of them allows, and what must come of each."""

from __future__ import annotations

from decimal import Decimal
from typing import Any


def row(amount: Any, **more: Any) -> dict[str, Any]:
    return {"date_transacted": "2026-08-01", "date_posted": "2026-08-02", "amount": amount, "description": "x", **more}


ODD: dict[str, dict[str, Any]] = {
    "many accounts": {
        "override_accounts": [
            {"type": "depository", "subtype": "savings", "transactions": [row(n), row(-n)]} for n in range(1, 41)
        ]
    },
    "no transactions": {"override_accounts": [{"type": "loan", "subtype": "student"}, {"type": "credit"}]},
    "nothing but an empty account": {"override_accounts": [{}]},
    "fields nobody knows": {
        "version": 2,
        "seed": "s",
        "streams": [{"name": "salary", "amount": 12}],
        "override_accounts": [
            {
                "type": "depository",
                "subtype": "checking",
                "inflow_model": {"type": "monthly-income", "income_amount": 5000, "payment_day_of_month": 1},
                "streams": [{"description": "Gym", "frequency": "MONTHLY"}],
                "holdings": [{"quantity": 1}],
                "transactions": [row(1.5, surprise=[1, {"a": None}], pending=True)],
            }
        ],
    },
    "currencies": {
        "override_accounts": [
            {"currency": "EUR", "transactions": [row(1), row(2, currency="GBP"), row(3, currency="jpy")]},
            {"currency": "BTC", "starting_balance": 0.00000001, "transactions": [row(0.00000001), row(4, currency="")]},
        ]
    },
    "fields that lack": {
        "override_accounts": [
            {
                "meta": None,
                "numbers": None,
                "identity": None,
                "transactions": [
                    {"date_posted": "2026-08-02", "amount": 1},
                    {"date_transacted": "2026-08-01", "amount": 2, "description": None},
                    {"date_transacted": None, "date_posted": None, "amount": None},
                    {"amount": 3},
                ],
            },
            {"transactions": None},
        ]
    },
    "texts and numbers": {
        "override_accounts": [
            {
                "meta": {"name": "日本 🏦 \u202e", "official_name": "x" * 4000, "limit": 12345678901.23},
                "numbers": {"account": 9876543210},
                "starting_balance": -123.456,
                "transactions": [
                    row(0), row(-0.01, description="é\n\t'\"\\"), row(99999999999.99, description="y" * 5000)
                ],
            }
        ]
    },
    "days": {
        "override_accounts": [
            {"transactions": [row(1, date_posted=day) for day in ("1999-12-31", "2099-01-01", "2028-02-29")]}
        ]
    },
    "types": {
        "override_accounts": [
            {"type": kind}
            for kind in ("investment", "credit", "depository", "loan", "payroll", "brokerage", "other", None)
        ]
    },
    "a payroll, loans and an investment": {
        "version": 2,
        "seed": "s1",
        "mfa": {"type": "questions", "question_rounds": 1, "questions_per_round": 2},
        "recaptcha": "good",
        "force_error": None,
        "override_accounts": [
            {
                "type": "payroll",
                "subtype": "payroll",
                "income": {"paystubs": [{"pay_period_details": {"end_date": "2025-04-12", "pay_day": "2025-04-15"}}]},
            },
            {
                "type": "loan",
                "subtype": "student",
                "liability": {
                    "type": "student",
                    "principal": 45123,
                    "origination_date": "2022-01-01",
                    "loan_status": {"type": "repayment", "end_date": "2032-01-01"},
                    "repayment_model": {"type": "standard", "repayment_months": 120},
                },
                "transactions": [row(-300, description="PAYMENT")],
            },
            {"type": "loan", "subtype": "mortgage", "inflow_model": {"type": "monthly-interest-only-payment"}},
            {"type": "credit", "subtype": "credit card", "meta": {"limit": 2000, "apy": 4.25, "mask": "4417"}},
            {
                "type": "investment",
                "subtype": "403b",
                "holdings": {"securities": [{"ticker_symbol": "ABC"}]},
                "investment_transactions": [{"date": "2025-01-29", "quantity": 1, "type": "buy", "fees": 2}],
                "transactions": [row(5)],
            },
            {"type": "depository", "subtype": "Checking", "has_null_available_balance": True, "name": "passed over"},
            {"type": "depository", "numbers": {"international_iban": "IE29AIBK93115212345678"}, "meta": {"mask": ""}},
        ],
    },
    "the same account twice": {
        "override_accounts": [{"numbers": {"account": "1111222233335555"}, "transactions": [row(9), row(9)]}] * 2
    },
    "rolled to today": {
        "roll_dates_forward": True,
        "override_accounts": [
            {
                "transactions": [
                    row(1, date_transacted="2019-02-27", date_posted="2019-02-28"),
                    row(2, date_transacted="2019-03-01", date_posted="2019-03-03"),
                ],
                "holdings": [{"institution_price_as_of": "2018-01-01"}],
            }
        ],
    },
    "thousands of transactions": {
        "override_accounts": [{"transactions": [row(n) for n in range(2_000)]}, {"transactions": [row(0.1)] * 500}]
    },
}  # fmt: skip


def amounts(user: dict[str, Any]) -> list[Decimal]:
    """The amounts of all transactions of a test user, sorted."""
    return sorted(
        Decimal(str(each["amount"]))
        for account in user["override_accounts"]
        for each in account.get("transactions") or []
        if each["amount"] is not None and (each.get("date_posted") or each.get("date_transacted"))
    )
