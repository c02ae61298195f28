"""What Plaid's codes mean for the person: title, sentence, and the one thing to do.

Sentence case; the sentence says what happened, whose matter it is, and what to do or that
nothing needs doing. Free of imports, so that every part may use it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """``action`` is the label of a button, or null where nothing needs doing."""

    title: str
    sentence: str
    action: str | None


_SIGN_IN = "Sign in"
_AGAIN = "Link again"

# {bank} is the institution's name, {Bank} the same at the start of a sentence, {code} Plaid's code.
_WORDS: dict[str, tuple[str, str, str | None]] = {
    "ITEM_LOGIN_REQUIRED": (
        "The bank signed you out",
        "{Bank} asks for your password again. You sign in on Plaid's page in your browser; syncing goes on by itself.",
        _SIGN_IN,
    ),
    "INVALID_CREDENTIALS": (
        "The bank did not accept the login",
        "User name or password at {bank} changed or were mistyped. Sign in again on Plaid's page.",
        _SIGN_IN,
    ),
    "INVALID_MFA": (
        "The bank did not accept the code",
        "{Bank} refused the extra code. Sign in again and enter a fresh one.",
        _SIGN_IN,
    ),
    "INVALID_SEND_METHOD": (
        "The bank could not send the code",
        "{Bank} offers another way to receive the extra code. Sign in again and choose it.",
        _SIGN_IN,
    ),
    "INVALID_UPDATED_USERNAME": (
        "The user name changed",
        "{Bank} does not know the new user name. Sign in again with the one that works on the bank's own site.",
        _SIGN_IN,
    ),
    "MFA_NOT_SUPPORTED": (
        "The bank asks in a way Plaid cannot answer",
        "Your login at {bank} uses a kind of extra check that Plaid does not support. Choose another one at the bank, "
        "then sign in again.",
        _SIGN_IN,
    ),
    "USER_SETUP_REQUIRED": (
        "The bank has questions for you first",
        "Sign in on {bank}'s own site, answer what it asks, then sign in here.",
        _SIGN_IN,
    ),
    "ITEM_LOCKED": (
        "The bank locked your login",
        "Unlock it at {bank} first (their site or phone), then sign in here.",
        _SIGN_IN,
    ),
    "USER_INPUT_TIMEOUT": (
        "The sign-in took too long",
        "{Bank} stopped waiting for the extra code. Sign in again with your phone at hand.",
        _SIGN_IN,
    ),
    "PASSWORD_RESET_REQUIRED": (
        "The bank wants a new password",
        "Set a new password on {bank}'s own site first, then sign in here with it.",
        _SIGN_IN,
    ),
    "INSUFFICIENT_CREDENTIALS": (
        "The sign-in was not completed",
        "{Bank} did not get all it asked for. Sign in again on Plaid's page.",
        _SIGN_IN,
    ),
    "ACCESS_NOT_GRANTED": (
        "No account was shared",
        "You did not tick any account at {bank}. Choose at least one.",
        "Choose accounts",
    ),
    "NO_ACCOUNTS": (
        "No account was shared",
        "{Bank} shows no open account that can be synced. Choose at least one, or check at the bank that one is open.",
        "Choose accounts",
    ),
    "NO_AUTH_ACCOUNTS": (
        "No fitting account was shared",
        "None of the shared accounts at {bank} gives transactions. Choose others.",
        "Choose accounts",
    ),
    "ADDITIONAL_CONSENT_REQUIRED": (
        "The bank needs one more permission",
        "{Bank} asks you to allow transactions. It takes a minute on Plaid's page.",
        "Allow",
    ),
    "PRODUCTS_NOT_SUPPORTED": (
        "This login gives no transactions",
        "Plaid cannot read transactions from this login at {bank}. Link another login there, if you have one.",
        _AGAIN,
    ),
    "ITEM_NOT_SUPPORTED": (
        "Plaid does not support this login",
        "{Bank} does not let Plaid read this kind of login. Link another one, if you have it.",
        _AGAIN,
    ),
    "USER_PERMISSION_REVOKED": (
        "You took the permission away",
        "Syncing of {bank} stopped because access was revoked at the bank or at Plaid. Sign in to allow it again, or "
        "link anew; your data stays.",
        _SIGN_IN,
    ),
    "USER_ACCOUNT_REVOKED": (
        "An account is no longer shared",
        "Access to one account at {bank} was revoked. Its data is kept until you remove it.",
        "Review accounts",
    ),
    "ITEM_CONCURRENTLY_DELETED": (
        "This link was being removed",
        "Plaid removed this link to {bank} while it was synced. Your data stays.",
        _AGAIN,
    ),
    "INVALID_PUBLIC_TOKEN": (
        "This sign-in can no longer be used",
        "Plaid does not know the token of this sign-in: it was used already, or half an hour is over. Begin again.",
        _SIGN_IN,
    ),
    "NEW_ACCOUNTS_AVAILABLE": (
        "There are new accounts",
        "{Bank} has accounts that are not shared yet. Choose whether to add them.",
        "Choose accounts",
    ),
    "PRODUCT_NOT_READY": (
        "Waiting for first data",
        "{Bank} is still preparing your history, usually minutes. Nothing to do.",
        None,
    ),
    "INVALID_ACCESS_TOKEN": (
        "This link no longer works",
        "It belongs to another Plaid environment or was replaced. Your data stays.",
        _AGAIN,
    ),
    "ITEM_NOT_FOUND": (
        "Plaid no longer knows this link",
        "It was removed at Plaid or by the bank. All transactions are kept.",
        _AGAIN,
    ),
    "INSTITUTION_NO_LONGER_SUPPORTED": (
        "Plaid no longer supports this bank",
        "No new data will come from {bank}. What you have is kept.",
        "Remove",
    ),
    "API_KEYS_MISSING": (
        "Plaid's keys are missing",
        "All syncs are paused. Copy client id and secret from Plaid's dashboard into the settings.",
        "Open settings",
    ),
    "MASTER_KEY": (
        "The master key is another one",
        "All syncs are paused: the access tokens in the database were sealed with a master key that is not here. Put "
        "the right one into SYNCDESK_MASTER_KEY, or enter the recovery code with `syncdeskctl secrets recover`.",
        "Open settings",
    ),
    "INVALID_API_KEYS": (
        "Plaid refuses your keys",
        "All syncs are paused. Each environment has its own secret; check that yours is the one for this environment.",
        "Open settings",
    ),
    "UNAUTHORIZED_ENVIRONMENT": (
        "Your keys are not allowed in this environment",
        "All syncs are paused. Plaid's dashboard shows which environments your account may use.",
        "Open settings",
    ),
    "INVALID_PRODUCT": (
        "Your Plaid account may not read transactions",
        "All syncs are paused. Ask for the product Transactions in Plaid's dashboard.",
        "Open settings",
    ),
    "CREDITS_EXHAUSTED": (
        "Your Plaid plan is used up",
        "All syncs are paused. Add credit or change the plan in Plaid's dashboard; syncing then goes on by itself.",
        "Open Plaid's dashboard",
    ),
    "TRIAL_CONNECTION_LIMIT": (
        "Your Plaid trial is full",
        "The trial allows only so many bank links. Ask for production access in Plaid's dashboard.",
        "Open Plaid's dashboard",
    ),
    "INVALID_FIELD": (
        "Syncdesk asked Plaid wrongly",
        "This is a fault of Syncdesk, not of your bank. Nothing was lost; the details help whoever mends it.",
        "Copy details",
    ),
    "TRANSACTIONS_SYNC_MUTATION_DURING_PAGINATION": (
        "The data changed while it was read",
        "{Bank} booked something during the sync. It starts again by itself.",
        None,
    ),
    "TRANSACTIONS_SYNC_LIMIT": (
        "Plaid asked us to slow down",
        "Too many calls in a minute. Waiting jobs go on by themselves.",
        None,
    ),
    "INSTITUTION_DOWN": (
        "{Bank} did not answer",
        "Trouble at the bank, not at your side. The next backup run tries again.",
        None,
    ),
    "INSTITUTION_REGISTRATION_REQUIRED": (
        "Plaid is not registered with this bank yet",
        "{Bank} asks for a registration in Plaid's dashboard before it gives data. The next backup run tries again.",
        "Open Plaid's dashboard",
    ),
    "PLANNED_MAINTENANCE": (
        "Plaid is down for maintenance",
        "Nothing is wrong at your side. Syncing goes on by itself.",
        None,
    ),
    "INTERNAL_SERVER_ERROR": (
        "Plaid had an error of its own",
        "Nothing is wrong at your side. Syncdesk tries again by itself.",
        None,
    ),
    "UNREACHABLE": (
        "Plaid did not answer",
        "The network or Plaid is down, or something on the way answers in its place. Syncdesk tries again by itself.",
        None,
    ),
    "PENDING_DISCONNECT": (
        "Access ends soon",
        "{Bank} asks you to renew it; a minute on Plaid's page.",
        "Renew",
    ),
}

_SAME = {
    "INSTITUTION_NOT_RESPONDING": "INSTITUTION_DOWN",
    "INSTITUTION_NOT_AVAILABLE": "INSTITUTION_DOWN",
    "ITEM_PRODUCT_NOT_READY": "PRODUCT_NOT_READY",
    "PENDING_EXPIRATION": "PENDING_DISCONNECT",
    "PRODUCT_NOT_ENABLED": "INVALID_PRODUCT",
    "UNAUTHORIZED_ROUTE_ACCESS": "INVALID_PRODUCT",
    "PRODUCTION_ACCESS_REQUIRED": "UNAUTHORIZED_ENVIRONMENT",
    "PRODUCTION_ACCESS_PENDING": "UNAUTHORIZED_ENVIRONMENT",
    "PRODUCTION_ACCESS_DENIED": "UNAUTHORIZED_ENVIRONMENT",
    **dict.fromkeys(
        ("MISSING_FIELDS", "UNKNOWN_FIELDS", "INVALID_BODY", "INVALID_HEADERS", "NOT_FOUND"), "INVALID_FIELD"
    ),
    **dict.fromkeys(
        ("TRANSACTIONS_LIMIT", "ITEM_GET_LIMIT", "ACCOUNTS_LIMIT", "BALANCE_LIMIT", "RATE_LIMIT", "ADDITION_LIMIT"),
        "TRANSACTIONS_SYNC_LIMIT",
    ),
}

_STATES: dict[str, tuple[str, str, str | None]] = {
    "healthy": ("Up to date", "New transactions of {bank} arrive by themselves. Nothing to do.", None),
    "syncing": ("Syncing now", "Syncdesk is reading new transactions of {bank}.", None),
    "first_data": _WORDS["PRODUCT_NOT_READY"],
    "bank_trouble": _WORDS["INSTITUTION_DOWN"],
    "needs_you": _WORDS["ITEM_LOGIN_REQUIRED"],
    "expiring": _WORDS["PENDING_DISCONNECT"],
    "paused": ("Paused", "Syncing of {bank} is paused until you resume it.", "Resume"),
    "error": _WORDS["INVALID_ACCESS_TOKEN"],
    "removed": ("Removed", "This link to {bank} was removed. Its transactions are kept.", _AGAIN),
}


def _fill(entry: tuple[str, str, str | None], bank: str | None, code: str) -> Words:
    name = bank or "the bank"
    facts = {"bank": name, "Bank": name[:1].upper() + name[1:], "code": code}
    title, sentence, action = entry
    return Words(title.format_map(facts), sentence.format_map(facts), action)


def words(code: str, institution: str | None) -> Words:
    """What Plaid's ``error_code`` or webhook code means, naming the bank where it is known."""
    entry = _WORDS.get(_SAME.get(code, code))
    if entry is None:
        return Words(
            "Plaid answered something new",
            f"Syncdesk does not know the code {code} yet and treats it as passing trouble. "
            "The request id in the details helps Plaid's support.",
            "Copy details",
        )
    return _fill(entry, institution, code)


def words_for_state(state: str, code: str | None, institution: str | None) -> Words:
    """What an item's state means: by its code where it has one, else by the state itself."""
    if code and state in ("bank_trouble", "needs_you", "expiring", "error", "removed"):
        return words(code, institution)
    return _fill(_STATES.get(state, _STATES["healthy"]), institution, code or state)


def removal(accounts: int, transactions: int) -> str:
    """What removing an item takes away and what it leaves, for the question before it."""
    return (
        f"Syncing of {accounts} account{'' if accounts == 1 else 's'} stops and Plaid's billing for it ends. "
        f"{transactions:,} transaction{'' if transactions == 1 else 's'} and their history are kept."
    )
