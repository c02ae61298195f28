"""Changing the master key, and getting it back: what `syncdeskctl secrets rotate`, ``recovery`` and ``recover`` do.

Syncing goes on meanwhile. A token is put in the place of the very one that it was made from; a process that meets a
key that it does not know looks into the profile again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.errors import KeyAway, SecretError, UsageError
from engine.logs import logger
from engine.secrets import Secrets, recovery
from engine.secrets.sealing import key_id, new_key, parse_key
from engine.sync.deps import Store

_FIRST: Final = "00000000-0000-0000-0000-000000000000"
RECOVERY: Final = "recovery"
"""The setting that holds the sealed copy of the keys and the public half of the code."""

log = logger("secrets")


@dataclass(frozen=True)
class Rotation:
    """``resealed`` links are sealed with ``key_id`` now; ``damaged`` ones did not open although their key is there."""

    key_id: str
    resealed: int
    damaged: tuple[str, ...]
    kept: int
    forgotten: int
    recoverable: bool


def used(store: Store) -> dict[str, int]:
    """How many bank links each master key seals, by key id."""
    return dict(store.call("keys_used")["links"])


def rotate(store: Store, secrets: Secrets, who: str, *, forget: bool = False) -> Rotation:
    """Seal every access token with a fresh master key, or with the first one of the environment's.

    Older keys are kept, since backups of the database are sealed with them; ``forget`` drops those that seal nothing
    in the database any more. Cut off in the middle, both keys are there and open what they sealed; the next call seals
    everything with one key again.

    Raises:
        UsageError: the environment gives one key only, or there is none; nothing was changed.
        KeyAway: links are sealed with a key that is not here; nothing was changed.
    """
    keys = secrets.existing()
    _check(store, secrets, keys)
    if secrets.source is None:
        keys = [parse_key(new_key()), *keys]
        secrets.keep(keys)
    first = key_id(keys[0])
    recoverable = _rewrap(store, keys, who)
    resealed, damaged = _reseal(store, secrets, first)
    forgotten = _forget(store, secrets, keys, who) if forget and secrets.source is None else 0
    detail = {"key_id": first, "resealed": resealed, "damaged": len(damaged), "forgotten": forgotten}
    store.call("audit_add", who=who, action="secrets.rotate", target="master_key", result="ok", detail=detail)
    log.info("Master key changed", **detail)
    return Rotation(first, resealed, tuple(damaged), len(keys) - 1 - forgotten, forgotten, recoverable)


def make_code(store: Store, secrets: Secrets, who: str) -> str:
    """A recovery code, to be shown once; an earlier one no longer works.

    Raises:
        UsageError: there is no master key yet.
        KeyAway: links are sealed with a key that is not here: the copy would be of no use.
    """
    keys = secrets.existing()
    _check_all_here(store, keys)
    if not keys:
        raise UsageError("There is no master key yet: it is made when the engine starts first.")
    code = recovery.new_code()
    public = recovery.public_half(code)
    store.call("setting_put", key=RECOVERY, value={"public": public, "keys": recovery.wrap(public, keys)}, who=who)
    store.call("audit_add", who=who, action="secrets.recovery", target="master_key", result="ok")
    return code


def recover(store: Store, secrets: Secrets, code: str, who: str) -> list[str]:
    """Put the keys of the database's sealed copy into the profile; their ids, the one that seals first.

    Raises:
        UsageError: it is no recovery code, or the environment gives the keys; nothing was changed.
        SecretError: it does not open the copy, or there is no copy; nothing was changed.
    """
    if secrets.source is not None:
        raise UsageError(
            f"The master key comes from {secrets.source}, which goes before what the profile keeps: take it out there "
            "first. Nothing was changed."
        )
    kept = store.call("keys_used")[RECOVERY]
    if not kept:
        raise SecretError("This database holds no copy of a master key: no recovery code was made for it.")
    found = recovery.unwrap(code, kept["keys"])
    keys = list(dict.fromkeys([*found, *secrets.existing()]))
    secrets.keep(keys)
    store.call("audit_add", who=who, action="secrets.recover", target="master_key", result="ok")
    return [key_id(key) for key in found]


def _check(store: Store, secrets: Secrets, keys: Sequence[bytes]) -> None:
    if not keys:
        raise UsageError("There is no master key yet: it is made when the engine starts first. Nothing was changed.")
    if secrets.source is not None and len(keys) < 2 and set(used(store)) <= {key_id(keys[0])}:
        raise UsageError(
            f"The master key comes from {secrets.source}: write a new one there before the old, with a comma between "
            "(`syncdeskctl secrets new-key` makes one), start the engine again, and run this once more. "
            "Nothing was changed."
        )
    _check_all_here(store, keys)


def _check_all_here(store: Store, keys: Sequence[bytes]) -> None:
    links = used(store)
    away = {name: count for name, count in links.items() if name not in {key_id(key) for key in keys}}
    if away:
        count = sum(away.values())
        raise KeyAway(
            f"{count} bank link{'' if count == 1 else 's'} {'is' if count == 1 else 'are'} sealed with a master key "
            f"that is not here ({', '.join(sorted(away))}). Nothing was changed. Give Syncdesk that key, or enter the "
            "recovery code with `syncdeskctl secrets recover`."
        )


def _rewrap(store: Store, keys: Sequence[bytes], who: str) -> bool:
    """Before anything is sealed anew: the code must open whatever a backup of this moment holds."""
    kept = store.call("keys_used")[RECOVERY]
    if not kept:
        return False
    wrapped = recovery.wrap(kept["public"], keys)
    store.call("setting_put", key=RECOVERY, value={"public": kept["public"], "keys": wrapped}, who=who)
    return True


def _reseal(store: Store, secrets: Secrets, first: str) -> tuple[int, list[str]]:
    resealed, damaged, after = 0, [], _FIRST
    while page := store.call("tokens_of_other_keys", key_id=first, after=after):
        for link in page:
            after = link["item_id"]
            try:
                resealed += _reseal_one(store, secrets, link)
            except SecretError:
                damaged.append(after)
                log.warning("An access token does not open and was left as it is", item=after)
    return resealed, damaged


def _reseal_one(store: Store, secrets: Secrets, link: dict[str, Any]) -> bool:
    token = secrets.unseal(link["access_token"], link["access_key_id"], link["item_id"])
    text, key = secrets.seal(token, link["item_id"])
    answer = store.call(
        "token_resealed", item=link["item_id"], was=link["access_token"], access_token=text, access_key_id=key
    )
    return bool(answer["resealed"])


def _forget(store: Store, secrets: Secrets, keys: list[bytes], who: str) -> int:
    links = used(store)
    left = [keys[0], *(key for key in keys[1:] if key_id(key) in links)]
    if len(left) < len(keys):
        _rewrap(store, left, who)
        secrets.keep(left)
    return len(keys) - len(left)
