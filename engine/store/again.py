"""Calls that met another one: repeated at once, since the database rolled them back whole."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, Final

from engine.errors import StoreUnavailable

#: A deadlock's victim, or a transaction that could not be serialized. Nothing of it happened, so it may be repeated,
#: unlike one whose connection was lost: that may have been committed, and only its caller knows what is safe.
_ROLLED_BACK: Final = frozenset({"40001", "40P01"})
_REPEATS: Final = 3
_PAUSE_S: Final = 0.05


def repeated(call: Callable[[], Any]) -> Any:
    """The answer of ``call``, which is one transaction.

    Raises:
        SyncdeskError: as ``call`` does; `StoreUnavailable` of a collision only after three repeats.
    """
    for number in range(_REPEATS):
        try:
            return call()
        except StoreUnavailable as error:
            if error.detail.get("sqlstate") not in _ROLLED_BACK:
                raise
        time.sleep(_PAUSE_S * (number + random.random()))  # noqa: S311 - parts those who met
    return call()
