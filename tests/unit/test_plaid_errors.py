"""Every code of Plaid has a decided reaction and words; pages keep money exact."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.plaid import pages, reference
from engine.plaid.errors import (
    POLICIES,
    PlaidError,
    PlaidUnreachable,
    Reaction,
    plaid_error,
    react,
    words,
    words_for_state,
)
from engine.plaid.table import CODES, STUCK
from tests.support import plaid_shapes
from tests.support.scripted_plaid import page, transaction


@pytest.mark.parametrize("code", sorted(CODES))
def test_each_code_has_words_and_a_class_of_its_own(code: str) -> None:
    said = words(code, "First Lakeside Bank")
    assert said.title
    assert said.sentence.endswith(".")
    assert "{" not in said.title + said.sentence
    assert said.title != "Plaid answered something new", code
    error = plaid_error(code, request_id="r1")
    assert error.reaction is CODES[code]
    assert isinstance(error, PlaidError)
    assert error.detail["request_id"] == "r1"


def test_only_what_can_pass_is_tried_again() -> None:
    again = {reaction for code, reaction in CODES.items() if plaid_error(code).retryable}
    assert again == {
        Reaction.NOT_READY,
        Reaction.RESTART,
        Reaction.RATE_LIMIT,
        Reaction.BANK_TROUBLE,
        Reaction.TRANSIENT,
    }
    assert plaid_error("BRAND_NEW").retryable


def test_the_page_of_errors_is_what_the_table_says() -> None:
    written = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
    assert written == reference.page(), "run: python -m engine.plaid.reference > docs/errors.md"
    assert all(f"| `{code}`" in written for code in CODES)


def test_each_reaction_has_a_policy_and_states_that_exist() -> None:
    assert set(POLICIES) == set(Reaction)
    states = {policy.item for policy in POLICIES.values()} - {None}
    assert states == {"needs_you", "error", "removed", "bank_trouble"}
    # What only its person can end is not asked for by the schedule; trouble at the bank is.
    assert set(STUCK) == {"needs_you", "error", "removed"}
    # Trouble of the bank, of the install's keys, and data that is not there yet are no failures of a job.
    ends = {reaction for reaction, policy in POLICIES.items() if policy.job == "ends"}
    assert ends == {Reaction.BANK_TROUBLE, Reaction.INSTALL, Reaction.NOT_READY}
    assert all(POLICIES[reaction].settles for reaction in ends)


def test_every_code_that_plaid_describes_is_decided() -> None:
    plaid_shapes.needed()
    text = plaid_shapes.DESCRIPTION.read_text(encoding="utf-8")
    text += (plaid_shapes.SHARED / "examples.json").read_text(encoding="utf-8")
    codes = set(re.findall(r'"error_code\\?"\s*:\s*\\?"([A-Z_]+)', text))
    assert codes
    for code in codes:
        assert react(code, "ITEM_ERROR") is not Reaction.UNKNOWN, code
        assert words(code, "Bank").title
    # Every type that Plaid has, with a code that nobody knows: tried again, shown as it is.
    for kind in plaid_shapes.error_types():
        failure = plaid_error("NEVER_SEEN_BEFORE", kind)
        limited = kind == "RATE_LIMIT_EXCEEDED"
        assert failure.reaction is (Reaction.RATE_LIMIT if limited else Reaction.UNKNOWN)
        assert failure.retryable
        assert POLICIES[failure.reaction].item is None


def test_one_code_with_two_meanings() -> None:
    assert react("INTERNAL_SERVER_ERROR", "API_ERROR") is Reaction.TRANSIENT
    assert react("INTERNAL_SERVER_ERROR", "INSTITUTION_ERROR") is Reaction.BANK_TROUBLE
    assert react("SOME_NEW_LIMIT", "RATE_LIMIT_EXCEEDED") is Reaction.RATE_LIMIT


def test_unknown_codes_show_the_raw_code() -> None:
    assert "BRAND_NEW_CODE" in words("BRAND_NEW_CODE", None).sentence


@pytest.mark.parametrize("state", ["healthy", "syncing", "first_data", "paused", "removed", "error", "needs_you"])
def test_each_state_has_words(state: str) -> None:
    assert "{" not in words_for_state(state, None, "Bank").sentence


@given(st.decimals(min_value=-(10**12), max_value=10**12, places=4))
def test_amounts_survive_digit_by_digit(amount: Decimal) -> None:
    raw = json.dumps(page([transaction("t1", "X")])).replace('"X"', format(amount, "f")).encode()
    row = pages.read(raw).body.added[0]
    assert row.amount == amount
    assert Decimal(json.loads(pages.read(raw).text())["added"][0]["amount"]) == amount


@given(st.text(max_size=40))
def test_any_text_is_stored_or_set_aside(name: str) -> None:
    raw = json.dumps(page([transaction("t1", name=name), transaction("t2")])).encode()
    found = pages.read(raw)
    ids = [row.transaction_id for row in found.body.added]
    assert "t2" in ids
    if "\0" in name:
        assert [row["transaction_id"] for row in found.skipped] == ["t1"]
    else:
        assert ids == ["t1", "t2"]
        assert found.body.added[0].name == name
    msgspec.json.encode(found.skipped)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5))
def test_a_field_of_another_type_only_costs_its_row(value: Any) -> None:
    raw = json.dumps(page([transaction("t1", value), transaction("t2")])).encode()
    found = pages.read(raw)
    assert "t2" in [row.transaction_id for row in found.body.added]


@pytest.mark.parametrize("raw", [b"", b"<html>", b"[]", b"{}", b'{"has_more": tru', b'"text"', b"\xff\xfe"])
def test_what_is_no_page(raw: bytes) -> None:
    with pytest.raises(PlaidUnreachable):
        pages.read(raw)


def test_each_id_once_a_page_and_removed_is_the_last_word() -> None:
    raw = json.dumps(
        page(
            [transaction("a", 1), transaction("a", 2), transaction("b")],
            [transaction("a", 3)],
            removed=["b"],
        )
    ).encode()
    body = pages.read(raw).body
    assert [(row.transaction_id, row.amount) for row in [*body.added, *body.modified]] == [("a", Decimal(3))]
    assert [row.transaction_id for row in body.removed] == ["b"]
