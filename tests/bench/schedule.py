"""Whether a round of the backup sync ends inside its window without one call that Plaid refuses.

The bank keeps the limits that Plaid publishes for its sandbox (50 calls a minute for an item, 1,000 for the client),
counted over any 60 seconds. Fifty items go in real time; five thousand ten times faster: the same limits in any 6
seconds, and a tenth of the window. The round is the scheduler's own, the workers are processes of their own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from scheduler import work
from tests.support.replicas import Install, install

ITEM_LIMIT, CLIENT_LIMIT = 50, 1000
WINDOW_S = 900.0
WORKERS = 2


def run(sizes: Mapping[int, int] | None = None) -> dict[str, Any]:
    """See the module; ``sizes``: items, and how many times faster. Aims: refused_50, refused_5000, window_ratio."""
    rounds = {items: _round(items, faster) for items, faster in (sizes or {50: 1, 5000: 10}).items()}
    ratio = max(found["window_ratio"] for found in rounds.values())
    refused = {f"refused_{items}": found["refused"] for items, found in rounds.items()}
    unsynced = sum(found["unsynced"] for found in rounds.values())
    return {
        "bench": "schedule",
        "figures": {str(items): found for items, found in rounds.items()},
        "reference": {"what": "the window", "s": WINDOW_S},
        "ratio": ratio,
        "aims": {
            **{name: {"value": count, "aim": "= 0", "ok": count == 0} for name, count in refused.items()},
            "unsynced": {"value": unsynced, "aim": "= 0", "ok": unsynced == 0},
            "window_ratio": {"value": ratio, "aim": "<= 1", "ok": ratio <= 1},
        },
    }


def _round(items: int, faster: int) -> dict[str, Any]:
    with install(item_limit=ITEM_LIMIT, client_limit=CLIENT_LIMIT, faster=faster) as made:
        made.client.set(made.keys.epoch, "1")
        made.link(items)
        made.start(WORKERS)
        began = time.monotonic()
        said = work.backup_sync(_tools(made), "bench")
        asked_s = time.monotonic() - began
        window_s = WINDOW_S / faster
        made.wait(lambda: made.open() == 0 or time.monotonic() - began > window_s, "the end of the round", every_s=0.2)
        took_s = time.monotonic() - began
        counts = made.counts()
        synced = made.one("select count(*) from syncdesk.items where last_success_at is not null")
        busiest = made.one(_BUSIEST)
    return {
        "said": said, "faster": faster, "asked_s": round(asked_s, 2), "took_s": round(took_s, 1),
        "window_s": window_s, "window_ratio": round(took_s / window_s, 3), "refused": counts["refused"],
        "calls": counts["calls"], "unsynced": items - synced, "busiest_s": busiest,
    }  # fmt: skip


#: Runs that ended in the busiest second.
_BUSIEST = """
    select coalesce(max(n), 0) from (select count(*) as n from syncdesk.sync_runs where state = 'done'
        group by date_trunc('second', finished_at)) seconds_
"""


def _tools(made: Install) -> work.Tools:
    def none() -> Any:
        raise AssertionError("a backup round needs no bank")

    return work.Tools(
        settings=made.settings, store=made.store, hints=made.hints, deps=none, publish=lambda topic, found: None
    )
