"""Writes ``docs/errors.md`` from the table of errors: ``python -m engine.plaid.reference > docs/errors.md``."""

from __future__ import annotations

import sys

from engine.plaid.table import CODES, MASTER_KEY, MISSING_KEYS, POLICIES, UNREACHABLE, Policy, Reaction
from engine.plaid.words import words

_HEAD = """# Plaid's errors and what Syncdesk does about each

Made by `python -m engine.plaid.reference > docs/errors.md` from `engine/plaid/table.py` and `engine/plaid/words.py`;
a test holds this page to them. Syncdesk reacts to Plaid's `error_code`, never to the HTTP status or a text.

## Reactions

| reaction | whose matter | bank link | job | wish | next sync |
|---|---|---|---|---|---|
"""

_CODES = """
`INTERNAL_SERVER_ERROR` of the type `INSTITUTION_ERROR` is the bank's (`bank_trouble`); codes of the type
`RATE_LIMIT_EXCEEDED` that are not listed are `rate_limit`; every other code that is not listed is `unknown`.
A state of trouble never keeps the sync away that would end it: webhooks and clicks always sync, what needs you is
looked at once a day, and any success makes the link healthy again.

## Codes

| code | reaction | what the person reads | what to do |
|---|---|---|---|
"""

_OWN = {
    MASTER_KEY: "Syncdesk's own: the access tokens do not open",
    MISSING_KEYS: "Syncdesk's own: it has no keys",
    UNREACHABLE: "Syncdesk's own: no answer of Plaid's",
}
_JOBS = {
    "ends": "ends, nothing failed",
    "fails": "fails at once, kept with its details",
    "retries": "is tried again with backoff, fails after its last attempt",
}


def page() -> str:
    """The whole page."""
    order = list(Reaction)
    reactions = "".join(_reaction(reaction, POLICIES[reaction]) for reaction in order)
    codes = sorted(CODES, key=lambda code: (order.index(CODES[code]), code))
    return _HEAD + reactions + _CODES + "".join(_code(code) for code in codes)


def _reaction(reaction: Reaction, policy: Policy) -> str:
    item = f"becomes `{policy.item}`" if policy.item else "stays as it is"
    wish = "settled" if policy.settles else "stays open"
    return f"| `{reaction}` | {policy.whose} | {item} | {_JOBS[policy.job]} | {wish} | {policy.next_try} |\n"


def _code(code: str) -> str:
    said = words(code, None)
    note = f" ({_OWN[code]})" if code in _OWN else ""
    return f"| `{code}`{note} | `{CODES[code]}` | {said.title}. {said.sentence} | {said.action or 'nothing'} |\n"


if __name__ == "__main__":
    sys.stdout.write(page())
