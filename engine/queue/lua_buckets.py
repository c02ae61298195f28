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
PROBE_MS: Final = 2000
"""So often one call goes through a bucket that a refusal shut. Shorter than between two canaries, which ask for it."""
LONGEST_MS: Final = 60_000
"""A bucket that is shut for longer was shut by a clock that was ahead."""

_COMMON: Final = """
local name, published = ARGV[1], tonumber(ARGV[2])
local bucket, learned = P .. 'bucket:' .. name, P .. 'learned:' .. name

-- What the last refusal taught: {limit, at, until it is shut, last probe}. Times that only a clock which was ahead can
-- have written are put right.
local function taught()
  local f = redis.call('HMGET', learned, 'limit', 'at', 'until', 'probed')
  if f[2] and tonumber(f[2]) > now then
    f[2] = int(now)
    redis.call('HSET', learned, 'at', f[2])
  end
  local shut = tonumber(f[3] or '0')
  if shut > now + LONGEST then shut = 0 end
  return {tonumber(f[1]), tonumber(f[2]), shut, tonumber(f[4] or '0')}
end

-- Calls a minute to keep to now: what the last refusal taught, grown since.
local function limit_now(f)
  if not f[1] then return published end
  local grown = f[1] + published * (now - f[2]) / RECOVERY
  return math.max(1, math.min(published, grown))
end
"""

# ARGV: name per_minute cost burst ('' for the usual). Answer: ms to wait; 0: taken. A call goes through a shut one now
# and then: the first that is not refused opens it (`engine.queue.lua_causes`).
BUCKET: Final = (
    (
        _COMMON
        + """
local f = taught()
if f[3] > now then
  if now - f[4] < PROBE and now >= f[4] then return math.ceil(f[3] - now) end
  redis.call('HSET', learned, 'probed', int(now))
  return 0
end
local limit = limit_now(f)
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
if full > now + math.max(60000, step * room + need) then
  full = now + step * room
  -- Kept, or it would be taken for empty anew at every question.
  redis.call('SET', bucket, string.format('%.3f', full), 'PX', math.ceil(step * room) + 1000)
end
local base = math.max(full, now, tonumber(since) + step * room / 2)
if base + need - now > step * room and base > now then
  return math.ceil(base + need - now - step * room)
end
redis.call('SET', bucket, string.format('%.3f', base + need), 'PX', math.ceil(base + need - now) + 1000)
return 0
"""
    )
    .replace("RECOVERY", str(int(RECOVERY_S * 1000)))
    .replace("LONGEST", str(LONGEST_MS))
    .replace("PROBE", str(PROBE_MS))
)

# ARGV: name per_minute ms. Plaid refused a call: the bucket is shut for so long, and its limit halves; not again by a
# call that went through while it is shut. The item's bucket comes before the client's, which is shut and learns only
# where several items were refused: one item's trouble is not everyone's.
REFUSED: Final = (
    (
        _COMMON
        + """
local refused = P .. 'refused'
redis.call('ZREMRANGEBYSCORE', refused, '-inf', int(now - TOGETHER))
redis.call('ZREMRANGEBYSCORE', refused, '(' .. int(now), '+inf') -- by a clock that was ahead
if string.sub(name, 1, 5) == 'item:' then
  redis.call('ZADD', refused, int(now), name)
  redis.call('PEXPIRE', refused, TOGETHER)
elseif redis.call('ZCARD', refused) < 2 then
  return 0
end
local f, lasts = taught(), tonumber(ARGV[3])
local shut = f[3] > now
if not shut then redis.call('HSET', learned, 'since', int(now), 'probed', int(now)) end
redis.call('HSET', learned, 'until', int(now + math.min(lasts, LONGEST)))
if not shut and (not f[1] or now - f[2] >= BURST) then
  local limit = math.max(1, limit_now(f) / 2)
  redis.call('HSET', learned, 'limit', string.format('%.3f', limit), 'at', int(now))
  redis.call('PEXPIRE', learned, math.max(LONGEST, math.ceil((published - limit) / published * RECOVERY)) + 1000)
end
return 1
"""
    )
    .replace("RECOVERY", str(int(RECOVERY_S * 1000)))
    .replace("LONGEST", str(LONGEST_MS))
    .replace("TOGETHER", str(REFUSED_MS))
    .replace("BURST", str(ONE_BURST_MS))
)
