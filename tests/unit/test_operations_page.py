"""docs/operations.md has an entry for every alarm, notice, error and error line of the code, and for nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "operations.md"


def trees() -> Iterator[ast.AST]:
    for room in ("engine", "scheduler"):
        for path in sorted((ROOT / room).rglob("*.py")):
            if "sandbox" not in path.parts and "demo" not in path.parts:
                yield ast.parse(path.read_text(encoding="utf-8"))


def text(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def error_codes() -> set[str]:
    """``code`` of every class that has one."""
    found = set()
    for tree in trees():
        for node in ast.walk(tree):
            for line in node.body if isinstance(node, ast.ClassDef) else ():
                targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
                if any(isinstance(target, ast.Name) and target.id == "code" for target in targets):
                    code = text(getattr(line, "value", None))
                    if code:
                        found.add(code)
    return found


def calls(name: str) -> Iterator[ast.Call]:
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name:
                yield node


def causes() -> set[str]:
    """What the banner of the first page may say; the install's troubles with Plaid are on a page of their own."""
    return {code for call in calls("Cause") if call.args and (code := text(call.args[0]))}


def notices() -> set[str]:
    """Kinds of the outbox: what Python compares with and asks for, and what SQL writes."""
    found = set()
    tree = ast.parse((ROOT / "engine" / "notify" / "words.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and isinstance(node.left, ast.Name) and node.left.id == "kind":
            found |= {value for side in node.comparators if (value := text(side))}
    for call in calls("call"):
        if call.args and text(call.args[0]) == "outbox_add":
            found |= {value for word in call.keywords if word.arg == "kind" and (value := text(word.value))}
    for path in (ROOT / "engine" / "store" / "migrations").glob("*.sql"):
        sql = path.read_text(encoding="utf-8")
        found |= set(re.findall(r"into syncdesk\.outbox \(kind,[^)]*\)\s*(?:values \(|select )'(\w+)'", sql))
    return found


def outages() -> set[str]:
    """What `engine.logs.Outage` is given to tell: an error where the failure is none of ours."""
    return {
        words
        for tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Outage"
        if (words := text(node.args[1]))
    }


def error_lines() -> set[str]:
    """Fixed words of log lines at level error."""
    return outages() | {
        words
        for name in ("error", "exception")
        for call in calls(name)
        if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name)
        if call.func.value.id == "log" and call.args and (words := text(call.args[0]))
    }


def entries(heading: str) -> dict[str, list[str]]:
    """The rows of the table under a heading: what is in the first cell's code marks, and the other cells."""
    page = PAGE.read_text(encoding="utf-8")
    part = re.split(r"(?m)^## ", page.split(f"\n## {heading}\n", 1)[1])[0]
    rows = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("| `")]
    found = {row[0].strip().strip("`"): [cell.strip() for cell in row[1:]] for row in rows}
    assert len(found) == len(rows), "an entry is there twice"
    return found


@pytest.mark.parametrize(
    ("heading", "wanted"),
    [("Banners", causes), ("Notices", notices), ("Error codes", error_codes), ("Error lines of the logs", error_lines)],
)
def test_everything_that_may_be_told_has_its_entry(heading: str, wanted: object) -> None:
    assert callable(wanted)
    in_code = wanted()
    written = entries(heading)
    assert len(in_code) >= 5
    assert in_code - set(written) == set(), "say in docs/operations.md what it means and what to do"
    assert set(written) - in_code == set(), "nothing tells this any more"
    assert all(len(cells) == 2 and all(len(cell) >= 10 for cell in cells) for cells in written.values()), written


def test_the_lines_of_the_contract_are_there() -> None:
    from engine import logs

    page = PAGE.read_text(encoding="utf-8")
    for words in (logs.QUEUED, logs.PROCESSING, logs.COMPLETED, logs.FAILED, logs.HIGH_FAILURE_RATE):
        assert f"`{words}`" in page
