"""docs/plaid.md: every rule of Plaid's names the tests that prove it, and these exist."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from engine.plaid.table import CODES, Reaction, react
from engine.sync.inbox import _REACTIONS, NEWS
from tests.support import plaid_shapes

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "plaid.md"
#: The rules themselves in others' words, where they are at hand: what it names must be answered here too.
CHECKLIST = plaid_shapes.SHARED.parents[1] / "plaid.md"
_ROW = re.compile(r"^\| ([A-Z])(\d+) \| (.+) \| (.+) \|$", re.MULTILINE)
_TEST = re.compile(r"`(test_\w+)::(test_\w+)`")
_CODE = re.compile(r"\b[A-Z][A-Z]+_[A-Z_]+\b")


def rows() -> list[tuple[str, int, str, str]]:
    return [(kind, int(number), rule, proof) for kind, number, rule, proof in _ROW.findall(PAGE.read_text("utf-8"))]


@cache
def functions_of(name: str) -> frozenset[str]:
    trees = [ast.parse(path.read_text("utf-8")) for path in (ROOT / "tests").rglob(f"{name}.py")]
    return frozenset(node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_every_rule_names_tests_that_exist() -> None:
    found = rows()
    assert len(found) > 60
    for kind, number, _, proof in found:
        named = _TEST.findall(proof)
        assert named, f"{kind}{number} names no test"
        for module, test in named:
            assert test in functions_of(module), f"{kind}{number}: {module}::{test} is not there"


def test_rules_are_numbered_without_gaps() -> None:
    last = Counter(kind for kind, *_ in rows())
    seen: Counter[str] = Counter()
    for kind, number, *_ in rows():
        seen[kind] += 1
        assert number == seen[kind] <= last[kind]


def test_every_webhook_that_is_handled_is_a_rule() -> None:
    told = "\n".join(rule for kind, _, rule, _ in rows() if kind == "W")
    for _, code in {*NEWS, *_REACTIONS}:
        assert f"`{code}`" in told, code


def test_what_plaid_names_is_answered() -> None:
    if not CHECKLIST.exists():
        pytest.skip("the list of Plaid's rules is not here")
    ours = set(_CODE.findall(PAGE.read_text("utf-8"))) | set(CODES)
    named = set(_CODE.findall(CHECKLIST.read_text("utf-8")))
    assert named
    # Some are named by their ends alone.
    assert [code for code in named if not any(known.endswith(code) for known in ours)] == []


#: What the list of rules says of a row's codes → what the engine's table must say of each.
_SAID = {
    "stop syncing the item; needs re-authentication": Reaction.NEEDS_YOU,
    "needs the person": Reaction.NEEDS_YOU,
    "wait for the webhook": Reaction.NOT_READY,
    "item in error, permanent": Reaction.ITEM_ERROR,
    "item is gone": Reaction.REMOVED,
    "configuration error of the install": Reaction.INSTALL,
    "as above: the install's plan": Reaction.INSTALL,
    "our bug": Reaction.OUR_BUG,
    "restart the loop": Reaction.RESTART,
    "back off with jitter": Reaction.RATE_LIMIT,
    "bank-side trouble": Reaction.BANK_TROUBLE,
    "retry with backoff": Reaction.TRANSIENT,
}
_ERROR_ROW = re.compile(r"^\| ([A-Z][A-Za-z_, ()]+) \| ([A-Za-z_ /]+) \| (.+) \|$", re.MULTILINE)


def test_each_code_is_in_the_class_that_the_rules_say() -> None:
    """Read from the rules, not from the engine's own table: a code put into another class is found."""
    if not CHECKLIST.exists():
        pytest.skip("the list of Plaid's rules is not here")
    text = CHECKLIST.read_text(encoding="utf-8")
    section = text[text.index("## Errors") : text.index("## Webhooks")]
    seen: set[Reaction] = set()
    for codes, kind, said in _ERROR_ROW.findall(section):
        wanted = [reaction for words, reaction in _SAID.items() if said.startswith(words) or f") {words}" in said]
        assert len(wanted) == 1, said
        seen.update(wanted)
        for code in re.findall(r"\b[A-Z]+_[A-Z_]+\b|\bNOT_FOUND\b", codes):
            permanent = code == "INSTITUTION_NO_LONGER_SUPPORTED"
            assert react(code, kind.split(" / ")[0]) is (Reaction.ITEM_ERROR if permanent else wanted[0]), code
    assert seen == set(_SAID.values())
