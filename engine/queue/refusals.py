"""What a Redis server says when it refuses, in our words: what it is, and whether only a person can end it."""

from __future__ import annotations

from typing import Final

import redis
from redis import exceptions

# By class first, the more special ones before those that they derive from. What redis-py has no class for is told by
# the first word of the server's answer; inside a script Redis 6.2 hides that word behind its own, hence "in".
_CLASSES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (exceptions.TimeoutError, "Redis does not answer in time."),
    (exceptions.BusyLoadingError, "Redis is still loading its data."),
    (exceptions.ReadOnlyError, "This Redis is a read-only replica; REDIS_URL must name the primary."),
    (exceptions.MovedError, "This Redis is one node of a cluster and not the one that holds Syncdesk's keys."),
    (exceptions.MasterDownError, "This Redis is a replica without its primary."),
    (exceptions.ClusterDownError, "The Redis cluster is down."),
    (exceptions.OutOfMemoryError, "Redis is out of memory and takes no new jobs."),
)
_TEXTS: Final = (
    ("MISCONF", "Redis cannot save its data and takes no writes (its disk may be full; see its log)."),
    ("OOM command", "Redis is out of memory and takes no new jobs."),
    ("READONLY", "This Redis is a read-only replica; REDIS_URL must name the primary."),
    ("NOREPLICAS", "Redis takes no writes: too few of its replicas are there."),
    ("CLUSTERDOWN", "The Redis cluster is down."),
    ("BUSY ", "Redis is busy with a script of somebody else's."),
    ("max number of clients", "Redis has as many clients as it allows."),
)
# Inside a script and at the end of a transaction the server words it so.
_RIGHTS: Final = ("NOPERM", "executing the script can't")
# What no waiting ends: somebody must change a setting here or there.
_FINAL: Final = (
    ("Authentication required", "Redis wants a password, and REDIS_URL has none."),
    ("certificate verify failed: Hostname mismatch", "The certificate of Redis is for another name than REDIS_URL's."),
    (
        "certificate verify failed: IP address mismatch",
        "The certificate of Redis is for another name than REDIS_URL's.",
    ),
    (
        "certificate verify failed",
        "The certificate of Redis is by an authority that this system does not know, or is out of date: "
        "SYNCDESK_REDIS_CA_FILE names the authority's file.",
    ),
)


def final(error: Exception) -> str | None:
    """The sentence of a refusal that only a person can end; None: waiting may end it."""
    text = str(error)
    for found, sentence in _FINAL:
        if found in text:
            return sentence
    if isinstance(error, exceptions.AuthenticationError):
        return "Redis refuses the user or the password of REDIS_URL."
    if isinstance(error, exceptions.NoPermissionError) or any(word in text for word in _RIGHTS):
        return "The Redis user of REDIS_URL lacks a right that Syncdesk needs (docs/broker.md has the list)."
    return None


def sentence(error: Exception) -> str:
    """One sentence for people about any error of redis-py or the socket."""
    told = final(error)
    if told is not None:
        return told
    for kind, words in _CLASSES:
        if isinstance(error, kind):
            return words
    text = str(error)
    for found, words in _TEXTS:
        if found in text:
            return words
    if isinstance(error, redis.ConnectionError | OSError):
        return "Redis cannot be reached."
    return "Redis refuses a command."
