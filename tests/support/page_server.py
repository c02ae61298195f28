"""A bank that is never the bottleneck: pages of /transactions/sync made beforehand, served from memory.

``python -m tests.support.page_server ROWS [SEED]`` prints its URL and serves until its standard
input ends. Everything but /transactions/sync is answered for one item.
"""

from __future__ import annotations

import json
import random
import socket
import sys
import threading
from datetime import date, timedelta
from typing import Any

PAGE = 500
_SHOPS = (
    ("SQ *CORNER BAKERY 0412", "Corner Bakery", "FOOD_AND_DRINK", "FOOD_AND_DRINK_RESTAURANT"),
    ("LAKESIDE GROCERY #18 SPRINGFIELD", "Lakeside Grocery", "FOOD_AND_DRINK", "FOOD_AND_DRINK_GROCERIES"),
    ("Transit top-up", None, "TRANSPORTATION", "TRANSPORTATION_PUBLIC_TRANSIT"),
    (
        "NORTHWIND ELECTRIC AUTOPAY",
        "Northwind Electric",
        "RENT_AND_UTILITIES",
        "RENT_AND_UTILITIES_GAS_AND_ELECTRICITY",
    ),
    ("カフェ 青葉 渋谷", None, "FOOD_AND_DRINK", "FOOD_AND_DRINK_COFFEE"),
)


def transaction(chance: random.Random, number: int, today: date) -> dict[str, Any]:
    """One plausible row with every field that Plaid sends."""
    name, merchant, primary, detailed = chance.choice(_SHOPS)
    day = today - timedelta(days=number % 730)
    return {
        "account_id": f"acc{chance.randrange(3)}BxBXxLj1m4HMXBm9WZZmCWVbPjX16EHwv99vp",
        "account_owner": None,
        "amount": round(chance.uniform(1, 300), 2),
        "authorized_date": str(day - timedelta(days=1)),
        "authorized_datetime": None,
        "category": None,
        "category_id": None,
        "check_number": None,
        "counterparties": [
            {
                "name": merchant or name,
                "type": "merchant",
                "logo_url": None,
                "website": None,
                "entity_id": "e7Q9n3",
                "confidence_level": "HIGH",
            }
        ],
        "date": str(day),
        "datetime": None,
        "iso_currency_code": "USD",
        "location": {
            "address": None,
            "city": "Springfield",
            "region": "IL",
            "postal_code": None,
            "country": None,
            "lat": None,
            "lon": None,
            "store_number": "18",
        },
        "logo_url": None,
        "merchant_entity_id": None,
        "merchant_name": merchant,
        "name": name,
        "payment_channel": "in store",
        "payment_meta": {
            "by_order_of": None,
            "payee": None,
            "payer": None,
            "payment_method": None,
            "payment_processor": None,
            "ppd_id": None,
            "reason": None,
            "reference_number": None,
        },
        "pending": False,
        "pending_transaction_id": None,
        "personal_finance_category": {"primary": primary, "detailed": detailed, "confidence_level": "VERY_HIGH"},
        "personal_finance_category_icon_url": "https://plaid-category-icons.plaid.com/PFC_OTHER.png",
        "transaction_code": None,
        "transaction_id": f"{number:08d}" + "".join(chance.choices("ABCDEFGHJKLMNPQRSTabcdefghij", k=29)),
        "transaction_type": "place",
        "unofficial_currency_code": None,
        "website": None,
    }


def pages(rows: int, seed: int) -> list[bytes]:
    """The raw answers of a first sync, in order; the cursor of page n is ``c<n>``."""
    chance = random.Random(seed)
    today = date(2026, 11, 20)
    account = {
        "account_id": "acc0BxBXxLj1m4HMXBm9WZZmCWVbPjX16EHwv99vp",
        "balances": {
            "available": 100,
            "current": 110.5,
            "limit": None,
            "iso_currency_code": "USD",
            "unofficial_currency_code": None,
        },
        "mask": "0000",
        "name": "Checking",
        "official_name": None,
        "type": "depository",
        "subtype": "checking",
    }
    made = []
    for start in range(0, rows, PAGE):
        made.append(
            json.dumps(
                {
                    "accounts": [account],
                    "added": [transaction(chance, n, today) for n in range(start, min(start + PAGE, rows))],
                    "modified": [],
                    "removed": [],
                    "next_cursor": f"c{start // PAGE + 1}",
                    "has_more": start + PAGE < rows,
                    "transactions_update_status": "HISTORICAL_UPDATE_COMPLETE",
                    "request_id": "page",
                },
                ensure_ascii=False,
            ).encode()
        )
    return made


def serve(listener: socket.socket, answers: list[bytes]) -> None:
    """Answer HTTP/1.1 POSTs on kept connections, as little as that takes."""
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_talk, args=(connection, answers), daemon=True).start()


def _talk(connection: socket.socket, answers: list[bytes]) -> None:
    stream = connection.makefile("rb")
    while stream.readline():
        length = 0
        while line := stream.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        body = json.loads(stream.read(length) or b"{}")
        cursor = body.get("cursor") or "c0"
        answer = answers[int(cursor[1:])] if int(cursor[1:]) < len(answers) else _empty(cursor)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n"
        connection.sendall(head.encode() + answer)


def _empty(cursor: str) -> bytes:
    return json.dumps(
        {
            "accounts": [],
            "added": [],
            "modified": [],
            "removed": [],
            "next_cursor": cursor,
            "has_more": False,
            "transactions_update_status": "HISTORICAL_UPDATE_COMPLETE",
            "request_id": "page",
        }
    ).encode()


def main() -> None:
    rows, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    answers = pages(rows, seed)
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    threading.Thread(target=serve, args=(listener, answers), daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
