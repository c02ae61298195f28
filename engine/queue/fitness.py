"""Whether a broker of the person's own can serve Syncdesk at all: asked once, when a part starts.

What passes by itself (a broker that is away, full or loading) is waited for as at any other time; what only a person
can change is told at once, since an engine that starts all the same would look alive and do nothing.
"""

from __future__ import annotations

import json
from typing import Any, Final

import redis

from engine.errors import BrokerUnavailable, BrokerUnfit
from engine.logs import logger
from engine.queue import refusals
from engine.queue.connection import connect, subscription
from engine.queue.keys import Keys
from engine.settings import Settings

OLDEST: Final = (6, 2)  # LMOVE, and channels in ACL rules

# Every command of the queue's scripts once, and some that belong with them. All on one key: of a wrong type for most,
# which an ACL does not mind.
COMMANDS: Final = (
    "DEL k", "EXISTS k", "GET k", "HDEL k f", "HGET k f", "HINCRBY k f 1", "HMGET k f", "HSET k f 1", "HSETNX k f 1",
    "INCR k", "LINDEX k 0", "LLEN k", "LMOVE k k LEFT RIGHT", "LPOP k", "LPUSH k 1", "LRANGE k 0 0", "LREM k 1 1",
    "PEXPIRE k 1", "PUBLISH c 1", "RENAME k k", "RPOP k", "RPUSH k 1", "SET k 1", "TIME", "ZADD k 1 1", "ZCARD k",
    "ZPOPMIN k", "ZRANGE k 0 0", "ZRANGEBYSCORE k 0 1", "ZREM k 1", "ZREMRANGEBYSCORE k 0 1",
    "EXPIRE k 1", "HGETALL k", "HLEN k", "INCRBY k 1", "LTRIM k 0 0", "PTTL k", "SADD k 1", "SCARD k", "SISMEMBER k 1",
    "SMEMBERS k", "SREM k 1", "ZCOUNT k 0 1", "ZINCRBY k 1 1", "ZRANK k 1", "ZSCORE k 1", "DEL k",
)  # fmt: skip
_PROBE: Final = """
for _, words in ipairs(cjson.decode(ARGV[1])) do
  local answer = redis.pcall(unpack(words))
  if type(answer) == 'table' and answer.err and string.find(tostring(answer.err), "executing the script can't") then
    return words[1]
  end
end
return ''
"""


def check(settings: Settings) -> None:
    """Look at the broker of the settings.

    Raises:
        BrokerUnfit: it can serve only after somebody changed something; the message says what.
        BrokerUnavailable: it does not answer.
        SettingsError: its address or the file of its authority is none.
    """
    client = connect(settings.redis_url or "", "api", settings.redis_ca_file)
    try:
        _look(client, Keys(settings.redis_namespace))
    finally:
        client.close()


def _look(client: redis.Redis, keys: Keys) -> None:
    try:
        client.ping()
        _facts(_info(client))
        _rights(client, keys)
    except (redis.RedisError, OSError) as error:
        told = refusals.final(error)
        if told is not None:
            raise BrokerUnfit(told, cause=type(error).__name__) from error
        if isinstance(error, redis.exceptions.MovedError):
            raise BrokerUnfit(refusals.sentence(error)) from error
        if isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError):
            raise BrokerUnavailable(refusals.sentence(error), cause=type(error).__name__) from error
        logger("queue").warning("Redis takes no writes now", reason=refusals.sentence(error))


def _info(client: redis.Redis) -> dict[str, Any]:
    """What the server says of itself; nothing where it cannot (the light broker)."""
    try:
        found: Any = client.info()
    except redis.exceptions.NoPermissionError:
        raise
    except redis.ResponseError:
        return {}
    return dict(found)


def _facts(info: dict[str, Any]) -> None:
    version = str(info.get("redis_version", ""))
    if version and tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise BrokerUnfit(f"Redis {version} is too old: Syncdesk needs {wanted} or later, or Valkey.")
    if info.get("role") == "slave":
        raise BrokerUnfit("This Redis is a read-only replica; REDIS_URL must name the primary.")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and info.get("maxmemory"):
        raise BrokerUnfit(
            f"Redis throws keys away when it is full (maxmemory-policy {policy}), so jobs could vanish: "
            "set maxmemory-policy to noeviction."
        )


def _rights(client: redis.Redis, keys: Keys) -> None:
    """Do once what the engine does all the time.

    A right that is missing would show in the middle of a script, half of which is then done.
    """
    names = {"k": keys.prefix + "probe", "c": keys.events}
    calls = [[names.get(word, word) for word in call.split()] for call in COMMANDS]
    sha: Any = client.script_load(_PROBE)
    refused: Any = client.evalsha(sha, 1, keys.epoch, json.dumps(calls))
    if refused:
        raise BrokerUnfit(
            f"The Redis user of REDIS_URL may not run {refused} on the keys {keys.prefix}* "
            "(docs/broker.md has the list of rights)."
        )
    pipe = client.pipeline(transaction=True)
    pipe.time()
    pipe.execute()
    listening = subscription(client)
    try:
        listening.subscribe(keys.events, keys.commands)
        listening.get_message(timeout=1)
    finally:
        listening.close()
