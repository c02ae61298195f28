"""Bills and matches in SQL: what a plan is made from, what it changes, what a person decides."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg import sql

from engine import clock
from engine.api import types_bills
from engine.cli.main import build_parser, run
from engine.errors import Conflict, NotFound, UsageError
from engine.matching import periods
from engine.matching.types import Bill, MatchInputs
from engine.store import Transport
from engine.sync.rematch import bill_detail, load, rematch
from tests.conftest import Backend
from tests.support.days import ago, today

pytestmark = pytest.mark.usefixtures("one_day")


class Bank:
    """Puts a user's bank link and transactions straight into the tables."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True, prepare_threshold=None)
        self.user = self.value("insert into syncdesk.users (name) values ('ana') returning id")
        self.item = self.value(
            "insert into syncdesk.items (user_id, plaid_item_id, institution_name, environment, access_token,"
            " access_key_id, cursor, update_status)"
            " values (%s, 'plaid-1', 'First Bank', 'simulated', 'x', 'k', 'c', 'HISTORICAL_UPDATE_COMPLETE')"
            " returning id",
            self.user,
        )

    def value(self, query: str, *values: Any) -> Any:
        row = self.connection.execute(query, values).fetchone()
        return None if row is None else (str(row[0]) if row[0] is not None else None)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.connection.execute(query, values).fetchall()

    def pay(self, name: str, amount: str, days_ago: int, *, pending: bool = False) -> str:
        day = today() - dt.timedelta(days=days_ago)
        key = f"t-{name}-{amount}-{days_ago}"
        self.connection.execute(
            "insert into syncdesk.transactions (item_id, user_id, transaction_id, account_id, amount,"
            " iso_currency_code, date, name, merchant_name, pending)"
            " values (%s, %s, %s, 'acc', %s, 'USD', %s, %s, %s, %s)",
            (self.item, self.user, key, amount, day, name.upper(), name, pending),
        )
        return key


@pytest.fixture
def bank(any_database_url: str) -> Iterator[Bank]:
    made = Bank(any_database_url)
    yield made
    made.connection.close()


def bill(name: str, amount: str, days_ago: int, **more: Any) -> dict[str, Any]:
    anchor = ago(days_ago)
    return {"name": name, "amount": amount, "cadence": "monthly", "anchor_date": anchor, **more}


def put(store: Transport, body: dict[str, Any], bill_id: str | None = None) -> dict[str, Any]:
    answer: dict[str, Any] = store.call("bill_put", bill=bill_id, user="ana", body=body)
    return answer


def review(store: Transport, user: str | None = None, state: str | None = None) -> types_bills.MatchPage:
    page = store.call("matches_review", user=user, state=state, after=None, limit=50)
    return msgspec.convert(page, types_bills.MatchPage, strict=False)


def match_again(store: Transport, bank: Bank) -> dict[str, int]:
    return rematch(store, bank.user, correlation="c1")


def test_without_bills_the_inputs_are_empty(any_store: Transport, bank: Bank) -> None:
    bank.pay("Netflix", "15.49", 3)
    answer = any_store.call("match_inputs", user=bank.user)
    assert answer == {"match_version": 0}
    assert MatchInputs.read(answer).payments == ()


def test_a_new_bill_is_matched_tagged_and_explained(any_store: Transport, bank: Bank) -> None:
    key = bank.pay("Netflix", "15.49", 3)
    bank.pay("Netflix gift", "60.00", 2)
    made = put(any_store, bill("Netflix", "15.49", 4))
    assert match_again(any_store, bank) == {"tagged": 1, "untagged": 0, "suggested": 0}
    [found] = review(any_store).matches
    assert (found.transaction_id, found.state, found.bill) == (key, "auto", "Netflix")
    assert (found.amount, found.currency, found.institution) == ("15.49", "USD", "First Bank")
    assert {line.feature: line.fits for line in found.evidence} == {
        "amount": True,
        "name": True,
        "category": False,
        "date": True,
    }
    assert bank.rows("select change, source, new ->> 'bill_id', correlation_id from syncdesk.transaction_history") == [
        ("tagged", "matcher", made["id"], "c1")
    ]
    detail = bill_detail(any_store, made["id"])
    assert (detail.bill.state, detail.bill.paid_amount) == ("paid", "15.49")
    assert detail.bill.days_late == 1
    assert [match.id for match in detail.history] == [found.id]
    assert detail.written is not None
    assert detail.written.anchor_date == ago(4)
    assert match_again(any_store, bank) == {"tagged": 0, "untagged": 0, "suggested": 0}


def test_an_overdue_bill_says_why_the_nearest_payments_did_not_match(any_store: Transport, bank: Bank) -> None:
    bank.pay("Old thing", "1.00", 100)
    bank.pay("Water works", "99.00", 9)
    made = put(any_store, bill("Water works", "45.00", 10))
    match_again(any_store, bank)
    detail = bill_detail(any_store, made["id"])
    assert detail.bill.state == "overdue"
    assert detail.bill.days_late == 10
    assert [candidate.amount for candidate in detail.nearest] == ["99.00"]
    verdicts = {line.feature: line.fits for line in detail.nearest[0].evidence}
    assert verdicts["amount"] is False
    assert verdicts["date"] is True


def test_days_are_those_of_utc_in_a_database_of_any_zone(
    request: pytest.FixtureRequest, any_backend: Backend, any_database_url: str
) -> None:
    elsewhere = "Etc/GMT-14" if clock.now().hour >= 12 else "Etc/GMT+12"  # where it is another day now
    with psycopg.connect(any_database_url, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("alter database {} set timezone to {}").format(name, sql.Literal(elsewhere)))
    bank = Bank(any_database_url)
    assert bank.value("select current_date::text") != ago(0)
    bank.pay("Old thing", "1.00", 100)
    store: Transport = request.getfixturevalue("any_store")
    made = put(store, bill("Water works", "45.00", 10))
    assert bill_detail(store, made["id"]).bill.days_late == 10
    bank.connection.close()


def test_a_rejected_pair_is_never_proposed_again_and_undo_brings_it_back(any_store: Transport, bank: Bank) -> None:
    bank.pay("Netflix", "15.49", 3)
    put(any_store, bill("Netflix", "15.49", 4))
    match_again(any_store, bank)
    [found] = review(any_store).matches
    with pytest.raises(Conflict):
        any_store.call("match_decide", match=found.id, decision="reject", version="1.5", correlation="c2")
    any_store.call("match_decide", match=found.id, decision="reject", version=found.version, correlation="c2")
    assert match_again(any_store, bank) == {"tagged": 0, "untagged": 0, "suggested": 0}
    assert review(any_store).matches == []
    assert review(any_store, state="rejected").matches[0].id == found.id
    with pytest.raises(Conflict, match="decided already"):
        any_store.call("match_decide", match=found.id, decision="confirm", version=None, correlation="c2")
    any_store.call("match_undo", match=found.id, version=None, correlation="c3")
    [back] = review(any_store).matches
    assert (back.id, back.state) == (found.id, "auto")
    changes = bank.rows("select change, source from syncdesk.transaction_history order by id")
    assert changes == [("tagged", "matcher"), ("untagged", "person"), ("tagged", "person")]
    labels = bank.rows("select label, before ->> 'state' from syncdesk.match_labels order by id")
    assert labels == [("reject", "auto"), ("undo", "rejected")]


def test_a_confirmed_match_stands_against_every_plan(any_store: Transport, bank: Bank) -> None:
    key = bank.pay("Netflix", "15.49", 3)
    made = put(any_store, bill("Netflix", "15.49", 4))
    match_again(any_store, bank)
    [found] = review(any_store).matches
    any_store.call("match_decide", match=found.id, decision="confirm", version=found.version, correlation="c2")
    put(any_store, bill("Something else", "900.00", 20), made["id"])
    match_again(any_store, bank)
    withdrawal = {"bill_id": made["id"], "item_id": bank.item, "transaction_id": key, "state": "none"}
    version = load(any_store, bank.user).match_version
    answer = any_store.call("matches_apply", user=bank.user, version=version, matches=[withdrawal], correlation="c3")
    assert answer["untagged"] == 0
    assert review(any_store, state="confirmed").matches[0].id == found.id
    any_store.call("match_undo", match=found.id, version=None, correlation="c4")
    assert match_again(any_store, bank)["untagged"] == 1


def test_assign_by_hand_and_undo(any_store: Transport, bank: Bank) -> None:
    key = bank.pay("Check 1021", "140.00", 5)
    made = put(any_store, bill("Parking spot", "150.00", 4))
    match_again(any_store, bank)
    period = ago(4)
    with pytest.raises(UsageError, match="not due on that day"):
        any_store.call("match_assign", bill=made["id"], transaction=key, period=ago(0), correlation="c")
    with pytest.raises(NotFound):
        any_store.call("match_assign", bill=made["id"], transaction="nothing", period=period, correlation="c")
    answer = any_store.call("match_assign", bill=made["id"], transaction=key, period=period, correlation="c")
    found = msgspec.convert(answer["match"], types_bills.Match, strict=False)
    assert (found.state, found.period) == ("assigned", period)
    assert bill_detail(any_store, made["id"]).bill.state == "paid"
    with pytest.raises(Conflict, match="decided already"):
        any_store.call("match_assign", bill=made["id"], transaction=key, period=period, correlation="c")
    answer = any_store.call("match_undo", match=found.id, version=found.version, correlation="c")
    assert answer["match"] is None
    changes = bank.rows("select change from syncdesk.transaction_history order by id")
    assert changes == [("tagged",), ("untagged",)]


def test_a_plan_against_an_older_version_is_refused(any_store: Transport, bank: Bank) -> None:
    bank.pay("Netflix", "15.49", 3)
    put(any_store, bill("Netflix", "15.49", 4))
    version = load(any_store, bank.user).match_version
    put(any_store, bill("Spotify", "11.99", 4))
    answer = any_store.call("matches_apply", user=bank.user, version=version, matches=[], correlation="c")
    assert answer == {"status": "rematch"}


def test_a_plan_for_a_row_that_is_not_there_changes_nothing(any_store: Transport, bank: Bank) -> None:
    made = put(any_store, bill("Netflix", "15.49", 4))
    version = load(any_store, bank.user).match_version
    ghost = {
        "bill_id": made["id"],
        "item_id": bank.item,
        "transaction_id": "refused-row",
        "period": ago(0),
        "state": "auto",
    }
    answer = any_store.call("matches_apply", user=bank.user, version=version, matches=[ghost], correlation="c")
    assert answer == {"status": "ok", "tagged": 0, "untagged": 0, "suggested": 0}
    assert load(any_store, bank.user).match_version == version


def test_a_payment_moves_between_bills_with_one_line_each(any_store: Transport, bank: Bank) -> None:
    key = bank.pay("Apple", "2.99", 3)
    one = put(any_store, bill("Apple", "2.99", 4))["id"]
    match_again(any_store, bank)
    two = put(any_store, bill("iCloud", "2.99", 3))["id"]
    version = load(any_store, bank.user).match_version
    planned = {"bill_id": two, "item_id": bank.item, "transaction_id": key, "state": "auto", "score": 0.9}
    planned["period"] = ago(3)
    answer = any_store.call("matches_apply", user=bank.user, version=version, matches=[planned], correlation="c9")
    assert (answer["tagged"], answer["untagged"]) == (1, 1)
    lines = bank.rows("select change, coalesce(old, new) ->> 'bill_id' from syncdesk.transaction_history order by id")
    assert lines == [("tagged", one), ("untagged", one), ("tagged", two)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": " "}, "needs a name"),
        ({"cadence": "daily"}, "cadence must be"),
        ({"amount": "0"}, "greater than zero"),
        ({"amount": "ten"}, "cannot be read"),
        ({"anchor_date": "2026-13-40"}, "cannot be read"),
        ({"amount_min": "20", "amount_max": "10"}, "least amount"),
        ({"tolerance": "1.5"}, "tolerance"),
        ({"start_date": "2026-02-01", "end_date": "2026-01-01"}, "end before it starts"),
    ],
)
def test_a_bill_that_cannot_be_is_refused_in_words(store: Transport, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        put(store, {**bill("Netflix", "15.49", 4), **change})
    assert store.call("bills_list", user=None, q=None, state=None, after=None, limit=10)["bills"] == []


def test_pages_filters_archive_and_counts(any_store: Transport, bank: Bank) -> None:
    bank.pay("Long ago", "1.00", 200)
    ids = {name: put(any_store, bill(name, "10.00", 3 + n))["id"] for n, name in enumerate(("b", "A", "c", "D"))}
    seen: list[str] = []
    after = None
    while True:
        answer = any_store.call("bills_list", user=bank.user, q=None, state=None, after=after, limit=3)
        page = msgspec.convert(answer, types_bills.BillPage, strict=False)
        seen += [found.name for found in page.bills]
        after = page.next
        if after is None:
            break
    assert seen == ["A", "b", "c", "D"]
    any_store.call("bill_archive", bill=ids["c"], archived=True)
    page = any_store.call("bills_list", user=bank.user, q="C", state=None, after=None, limit=10)
    assert page["bills"] == []
    assert page["counts"] == {"archived": 1}
    page = any_store.call("bills_list", user=bank.user, q=None, state="archived", after=None, limit=10)
    assert [found["name"] for found in page["bills"]] == ["c"]
    with pytest.raises(NotFound):
        any_store.call("bill_archive", bill=bank.user, archived=True)


def test_an_import_is_all_or_nothing_and_can_be_repeated(any_store: Transport, bank: Bank) -> None:
    rows = [bill("Netflix", "15.49", 4), bill("Rent", "1850", 2)]
    first = any_store.call("bills_import", user="ana", bills=rows)
    assert (first["created"], first["updated"]) == (2, 0)
    again = any_store.call("bills_import", user="ana", bills=rows)
    assert (again["created"], again["updated"], again["ids"]) == (0, 2, first["ids"])
    with pytest.raises(UsageError):
        any_store.call("bills_import", user="ana", bills=[bill("New", "1", 1), bill("", "1", 1)])
    assert len(load(any_store, bank.user).bills) == 2


def test_review_pages_show_suggestions_first(any_store: Transport, bank: Bank) -> None:
    made = put(any_store, bill("Thing", "10.00", 3))["id"]
    keys = [bank.pay("Thing", "10.00", 3 + n) for n in range(7)]
    version = load(any_store, bank.user).match_version
    planned = [
        {
            "bill_id": made,
            "item_id": bank.item,
            "transaction_id": key,
            "period": ago(0),
            "state": "suggested" if n % 3 == 0 else "auto",
        }
        for n, key in enumerate(keys)
    ]
    any_store.call("matches_apply", user=bank.user, version=version, matches=planned, correlation="c")
    seen: list[dict[str, Any]] = []
    after = None
    while True:
        page = any_store.call("matches_review", user=bank.user, state=None, after=after, limit=2)
        assert page["counts"] == {"suggested": 3, "auto": 4}
        seen += page["matches"]
        after = page["next"]
        if after is None:
            break
    assert [found["state"] for found in seen] == ["suggested"] * 3 + ["auto"] * 4
    assert {found["transaction_id"] for found in seen} == set(keys)


def test_due_dates_in_sql_are_those_of_the_matcher(store: Transport, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        first, last = dt.date(2023, 11, 1), dt.date(2025, 4, 30)
        for cadence in ("weekly", "biweekly", "semimonthly", "monthly", "bimonthly", "quarterly", "yearly"):
            for anchor in ("2024-01-31", "2024-02-29", "2024-04-30", "2026-12-15", "2020-07-06", "2031-03-16"):
                day = dt.date.fromisoformat(anchor)
                mine = list(periods.dues(Bill(id="b", name="b", cadence=cadence, anchor_date=day), first, last))
                found = connection.execute(
                    "select syncdesk.dues(%s, %s, %s, %s)", (cadence, day, first, last)
                ).fetchall()
                assert [row[0] for row in found] == mine, (cadence, anchor)
        for n in range(14):
            day = dt.date(2026, 1, 1) + dt.timedelta(days=n)
            for shift in ("none", "next", "previous"):
                row = connection.execute("select syncdesk.shifted(%s, %s)", (day, shift)).fetchone()
                assert row is not None
                assert row[0] == periods.shifted(day, shift)


def test_the_window_of_a_sync_is_bounded_and_whole_while_history_arrives(store: Transport, database_url: str) -> None:
    bank = Bank(database_url)
    bank.pay("Netflix", "15.49", 3)
    bank.pay("Netflix", "15.49", 400)
    put(store, bill("Netflix", "15.49", 4))

    def window() -> MatchInputs:
        found = bank.value("select syncdesk.match_inputs(%s, %s)::text", bank.user, bank.item)
        return MatchInputs.read(json.loads(found))

    assert len(window().payments) == 1
    assert window().since == today() - dt.timedelta(days=100)
    bank.connection.execute("update syncdesk.items set update_status = 'INITIAL_UPDATE_COMPLETE'")
    assert len(window().payments) == 2
    assert window().since is None
    bank.connection.close()


def test_the_command_imports_and_matches(
    store: Transport,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bank = Bank(database_url)
    bank.pay("Netflix", "15.49", 3)
    bank.connection.close()
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("SYNCDESK_PROFILE", str(tmp_path / "profile"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    file = tmp_path / "bills.csv"
    due = ago(4)
    file.write_text(f"name,amount,cadence,anchor_date\nNetflix,15.49,monthly,{due}\n", encoding="utf-8")
    parser, _ = build_parser()
    assert run(parser, ["bills", "import", str(file), "--user", "ana", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["created"], answer["updated"], answer["tagged"]) == (1, 0, 1)
    assert len(answer["ids"]) == 1
    file.write_text("name,amount,cadence,anchor_date\nNetflix,-1,monthly,2026-01-01\n", encoding="utf-8")
    assert run(parser, ["bills", "import", str(file), "--user", "ana"]) == 2
    assert "greater than zero" in capsys.readouterr().err
