"""The queues' limits as settings give them: what the scripts find in the hash ``limits`` where no person changed it."""

from __future__ import annotations

from engine.settings import Settings


def from_settings(settings: Settings) -> dict[str, str]:
    """Fields of the hash ``limits``: by queue, jobs at a time and starts a minute in the whole install (empty: any
    number) and the distance (ms) between two starts of one target's jobs where a queue keeps one; and how jobs are
    parted (`engine.queue.lua_shares`)."""
    return {
        "transactions:concurrency": str(settings.sync_concurrency),
        "webhooks:concurrency": str(settings.webhook_concurrency),
        "notifications:concurrency": str(settings.notification_concurrency),
        "transactions:per_minute": str(settings.sync_per_minute or ""),
        "webhooks:per_minute": str(settings.webhook_per_minute or ""),
        "notifications:per_minute": str(settings.notification_per_minute or ""),
        "partition": settings.partition,
        "transactions:distance": str(int(settings.sync_distance_s * 1000)),
    }
