"""Scripts of the token buckets (`engine.queue.buckets`): what a call may take, and what a refusal teaches.

A bucket is a leaky bucket kept as one time (GCRA): when it will be full again. The published limit counts calls over
any 60 seconds, so what a full bucket holds and what refills in a minute stay below it together, with a twentieth left
for calls that are slow to arrive.
"""

from __future__ import annotations

from typing import Final

RECOVERY_S: Final = 1200.0
"""In so long a limit learned as nothing would grow back to the published one; half of it takes ten minutes."""
ONE_BURST_MS: Final = 10_000
"""Refusals within this time of each other teach once: they come from calls that were under way together."""
REFUSED_MS: Final = 60_000
"""Two items that are refused within this time met the client's limit, not each its own."""

_COMMON: Final = """
local name, published = ARGV[1], tonumber(ARGV[2])
local bucket, learned = P .. 'bucket:' .. name, P .. 'learned:' .. name

-- Calls a minute to keep to now: what the last refusal taught, grown since.
local function limit_now()
  local f = redis.call('HMGET', learned, 'limit', 'at')
  if not f[1] then return published end
  local grown = tonumber(f[1]) + published * math.max(0, now - tonumber(f[2])) / RECOVERY
  return math.max(1, math.min(published, grown))
end
"""

# ARGV: name per_minute cost burst ('' for the usual). Answer: ms to wait; 0: taken.
BUCKET: Final = (
    _COMMON
    + """
local limit = limit_now()
local room = tonumber(ARGV[4]) or math.max(1, limit / 10)
local step = 60000 / math.max(limit / 2, limit * 0.95 - room)
local need, full = step * tonumber(ARGV[3]), tonumber(redis.call('GET', bucket) or '0')
-- A missing bucket is a full one, or was wiped when it had just been emptied: none knows more than since the wipe,
-- and half of the room, with the refill and what may have been taken before, stays below the limit.
local since = redis.call('GET', P .. 'buckets')
-- Times that only a clock which was ahead can have written: the wipe is taken for just now, the bucket for empty.
if not since or tonumber(since) > now then
  since = int(now)
  redis.call('SET', P .. 'buckets', since)
end
if full > now + math.max(60000, step * room + need) then full = now + step * room end
local base = math.max(full, now, tonumber(since) + step * room / 2)
if base + need - now > step * room and base > now then
  return math.ceil(base + need - now - step * room)
end
redis.call('SET', bucket, string.format('%.3f', base + need), 'PX', math.ceil(base + need - now) + 1000)
return 0
"""
).replace("RECOVERY", str(int(RECOVERY_S * 1000)))

# ARGV: name per_minute ms. Plaid refused a call: the bucket is emptied for so long (up to a minute in all), and its
# limit halves. The item's bucket comes before the client's, which learns only where several items were refused.
REFUSED: Final = (
    (
        _COMMON
        + """
local full = tonumber(redis.call('GET', bucket) or '0')
local later = math.min(math.max(full, now) + tonumber(ARGV[3]), now + 60000)
redis.call('SET', bucket, string.format('%.3f', later), 'PX', math.ceil(later - now) + 1000)

local refused = P .. 'refused'
redis.call('ZREMRANGEBYSCORE', refused, '-inf', int(now - TOGETHER))
if string.sub(name, 1, 5) == 'item:' then
  redis.call('ZADD', refused, int(now), name)
  redis.call('PEXPIRE', refused, TOGETHER)
elseif redis.call('ZCARD', refused) < 2 then
  return 0
end
local last = tonumber(redis.call('HGET', learned, 'at') or '0')
if now - last >= BURST then
  local limit = math.max(1, limit_now() / 2)
  redis.call('HSET', learned, 'limit', string.format('%.3f', limit), 'at', int(now))
  redis.call('PEXPIRE', learned, math.ceil((published - limit) / published * RECOVERY) + 1000)
end
return 1
"""
    )
    .replace("RECOVERY", str(int(RECOVERY_S * 1000)))
    .replace("TOGETHER", str(REFUSED_MS))
    .replace("BURST", str(ONE_BURST_MS))
)
