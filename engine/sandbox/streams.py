"""Recurring streams of an item's transactions, plainly found: same merchant, four times or more, a steady month."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

from engine.sandbox.model import Transaction, identifier

_FREQUENCIES = (
    ("WEEKLY", 6, 8),
    ("BIWEEKLY", 13, 15),
    ("SEMI_MONTHLY", 14, 17),
    ("MONTHLY", 27, 34),
    ("ANNUALLY", 360, 370),
)


def recurring(
    rows: Iterable[Transaction], account_ids: Collection[str] | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(inflow_streams, outflow_streams) in Plaid's shape."""
    groups: dict[tuple[str, str, bool], list[Transaction]] = defaultdict(list)
    for row in rows:
        if not row.pending and (account_ids is None or row.account_id in account_ids):
            groups[row.account_id, row.merchant_name or row.name, row.amount < 0].append(row)
    inflow: list[dict[str, Any]] = []
    outflow: list[dict[str, Any]] = []
    for (_, _, incoming), group in groups.items():
        stream = _stream(sorted(group, key=lambda row: row.date))
        if stream is not None:
            (inflow if incoming else outflow).append(stream)
    return inflow, outflow


def _stream(rows: list[Transaction]) -> dict[str, Any] | None:
    if len(rows) < 3:
        return None
    days = [date.fromisoformat(row.date) for row in rows]
    gaps = sorted((after - before).days for before, after in pairwise(days))
    middle = gaps[len(gaps) // 2]
    frequency = next((name for name, low, high in _FREQUENCIES if low <= middle <= high), None)
    if frequency is None or gaps[0] < middle / 2:
        return None
    last = rows[-1]
    average = (sum((row.amount for row in rows), Decimal()) / len(rows)).quantize(Decimal("0.01"))
    return {
        "account_id": last.account_id,
        "stream_id": identifier("stream", last.account_id, last.merchant_name or last.name),
        "category": None,
        "category_id": None,
        "description": last.name,
        "merchant_name": last.merchant_name,
        "first_date": rows[0].date,
        "last_date": last.date,
        "predicted_next_date": (days[-1] + timedelta(days=middle)).isoformat(),
        "frequency": frequency,
        "transaction_ids": [row.transaction_id for row in rows],
        "average_amount": _amount(average, last),
        "last_amount": _amount(last.amount, last),
        "is_active": True,
        "status": "MATURE",
        "personal_finance_category": last.personal_finance_category,
        "is_user_modified": False,
    }


def _amount(value: Decimal, row: Transaction) -> dict[str, Any]:
    return {
        "amount": value,
        "iso_currency_code": row.iso_currency_code,
        "unofficial_currency_code": row.unofficial_currency_code,
    }
