"""Labelled worlds: a small one of our own, and the shared ones where they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.cli.bills import load_worlds, read_bills
from engine.errors import UsageError
from engine.matching import evaluate

SHARED = Path(__file__).parents[3] / "shared" / "data"


def transaction(key: str, name: str, amount: float, day: str, **more: Any) -> dict[str, Any]:
    return {
        "transaction_id": key,
        "account_id": "a",
        "date": day,
        "authorized_date": None,
        "amount": amount,
        "iso_currency_code": "USD",
        "name": name.upper(),
        "merchant_name": name,
        "pending": False,
        "pending_transaction_id": None,
        "personal_finance_category": None,
        **more,
    }


def tiny() -> dict[str, Any]:
    rent = {"id": "rent", "name": "Rent", "amount": 1850, "currency": "USD", "cadence": "monthly", "category": None}
    rent |= {"anchor_date": "2024-01-01", "aliases": ["Deshawn Carter"], "account_id": None, "tolerance": 0.1}
    gym = {"id": "gym", "name": "Planet Fitness", "amount": 24.99, "currency": "USD", "cadence": "monthly"}
    gym |= {"anchor_date": "2024-01-17", "category": None, "aliases": []}
    rows = [
        transaction("r1", "Zelle to Deshawn Carter", 1850, "2024-01-02"),
        transaction("r2", "Zelle to Deshawn Carter", 1850, "2024-02-01"),
        transaction("p", "Planet Fitness", 24.99, "2024-01-16", pending=True),
        transaction("g1", "Planet Fitness", 24.99, "2024-01-17", pending_transaction_id="p"),
        transaction("cafe", "Planet Fitness Cafe", 6.5, "2024-01-20"),
        transaction("lost", "Check 1021", 24.0, "2024-02-18"),
    ]
    pairs = (("r1", "rent", "2024-01-01"), ("r2", "rent", "2024-02-01"), ("g1", "gym", "2024-01-17"))
    pairs += (("lost", "gym", "2024-02-17"),)
    truth = [{"transaction_id": key, "bill_id": name, "period": period} for key, name, period in pairs]
    return {
        "slice": "tiny",
        "today": "2024-02-28",
        "locale": "US",
        "bills": [rent, gym],
        "transactions": rows,
        "truth": truth,
    }


@pytest.fixture
def world(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.json"
    file.write_text(json.dumps(tiny()), encoding="utf-8")
    return file


def test_a_world_is_replayed_and_counted(world: Path) -> None:
    found = evaluate.evaluate(load_worlds(world))
    assert found["auto"] == {"precision": 1.0, "recall": 0.75, "f1": 0.8571}
    assert found["rules"] == found["auto"]
    assert found["baseline"]["recall"] == 0.25
    assert found["period_accuracy"] == 1.0
    assert found["worlds"] == 1
    assert set(found["slices"]["tiny"]) >= {"auto", "suggest", "baseline"}


def test_match_needs_no_truth(world: Path) -> None:
    data = tiny()
    del data["truth"]
    world.write_text(json.dumps(data), encoding="utf-8")
    found = evaluate.match(load_worlds(world.parent))["worlds"]["tiny.json"]
    assert found["auto"] == [
        {"transaction_id": "r1", "bill_id": "rent", "period": "2024-01-01"},
        {"transaction_id": "g1", "bill_id": "gym", "period": "2024-01-17"},
        {"transaction_id": "r2", "bill_id": "rent", "period": "2024-02-01"},
    ]
    assert all(set(line) == {"transaction_id", "bill_id", "period", "score"} for line in found["suggest"])


def test_what_is_no_world_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no worlds"):
        list(load_worlds(tmp_path))
    bad = tmp_path / "bad.json"
    for text in ("{", "[]", '{"bills": [{"id": 1}], "transactions": []}', '{"bills": []}'):
        bad.write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=r"bad\.json is not a labelled world"):
            list(load_worlds(bad))
    with pytest.raises(UsageError, match="cannot be read"):
        list(load_worlds(tmp_path / "none.json"))


def test_bills_of_a_csv_file(tmp_path: Path) -> None:
    file = tmp_path / "bills.csv"
    head = "name,amount,cadence,anchor_date,aliases\n"
    file.write_text(head + "Rent,1850,monthly,2024-01-01,Deshawn Carter; D Carter\nGym,,monthly,2024-01-17,\n", "utf-8")
    assert read_bills(file) == [
        {
            "name": "Rent",
            "amount": "1850",
            "cadence": "monthly",
            "anchor_date": "2024-01-01",
            "aliases": ["Deshawn Carter", "D Carter"],
        },
        {"name": "Gym", "cadence": "monthly", "anchor_date": "2024-01-17"},
    ]
    for text, words in (
        ("name,cadence\n", "needs the column 'anchor_date'"),
        ("name,cadence,anchor_date,colour\n", "does not know the column 'colour'"),
        (head + "Rent,1,monthly,,\n", "line 2: a bill needs a anchor_date"),
        (head + "Rent,1,monthly,2024-01-01,x,y\n", "more cells"),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=words):
            read_bills(file)


@pytest.mark.slow
@pytest.mark.timeout(600)  # nothing but counting: on a machine with much else to do it takes minutes
@pytest.mark.parametrize(("folder", "f1", "precision"), [("bills", 0.97, 0.99), ("bills-hard", 0.9, 0.99)])
def test_the_rules_reach_their_bar_on_the_shared_worlds(folder: str, f1: float, precision: float) -> None:
    path = SHARED / folder
    if not path.is_dir():
        pytest.skip("the shared worlds are not beside this clone")
    found = evaluate.evaluate(load_worlds(path))
    assert found["auto"]["f1"] >= f1
    assert found["auto"]["precision"] >= precision
    assert found["auto"]["f1"] > found["baseline"]["f1"]
    assert found["period_accuracy"] >= 0.99
