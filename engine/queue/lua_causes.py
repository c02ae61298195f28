"""The queue's Lua for causes that many jobs share: the database, Plaid or a bank is away, Plaid refuses for its limits.

Jobs that retry for one of them are known by it. While they wait, one of them is started early now and then, as a
canary; the first job that goes past the cause lets the rest go, a few at a time. An early start that meets the same
cause leaves no trace: the job counts no attempt and comes back when it was due. A job that is let go three times and
still meets it has a trouble of its own, and waits its time.

``causes:<queue>`` (zset by the time of the next canary) has the causes that jobs wait for, ``freed:<queue>`` (zset by
the time of the next few) those that ended, ``cause:<queue>:<cause>`` (zset by lane, then due) the jobs,
``canary:<queue>`` (hash) the last canary of each. All vanish with the last job that waits.

The cause ``limits`` is one only while the client's bucket is shut (`engine.queue.lua_buckets`): jobs that merely wait
for their pace are none of it. Its end opens the bucket.
"""

from __future__ import annotations

from typing import Final

from engine.queue.keys import QUEUES

# How often one job tries whether a cause has ended: what an outage costs at most beyond its own length.
CANARY_MS: Final = 3000
# Jobs that waited for one cause start in steps, each a twentieth of them: a thing that just came back is not run over.
STEP_MS: Final = 100

_TEXT: Final = """
local function waiters(queue, cause) return P .. 'cause:' .. queue .. ':' .. cause end

-- The client's bucket is shut. Answer: since when, nil while it is open.
local function limits_shut()
  local f = redis.call('HMGET', P .. 'learned:client', 'until', 'since')
  local till = tonumber(f[1] or '0')
  return till > now and till <= now + 60000 and tonumber(f[2]) or nil
end

-- Whether the end of this job's start shows that a cause is over: not limits that shut while it ran.
local function shows(id, cause)
  if cause ~= 'limits' then return true end
  local since = limits_shut()
  return not since or tonumber(redis.call('HGET', jobkey(id), 'started') or '0') >= since
end

local function forget_cause(queue, cause)
  redis.call('ZREM', P .. 'causes:' .. queue, cause)
  redis.call('ZREM', P .. 'freed:' .. queue, cause)
  redis.call('HDEL', P .. 'canary:' .. queue, cause)
end

local function join(queue, id, cause, due)
  redis.call('HSET', jobkey(id), 'cause', cause)
  -- News before what the schedule wants: so they try it, so they go.
  local rank = RANK[redis.call('HGET', jobkey(id), 'lane')] or RANK.low
  redis.call('ZADD', waiters(queue, cause), int(rank * 1e14 + due), id)
  redis.call('ZREM', P .. 'freed:' .. queue, cause)
  redis.call('ZADD', P .. 'causes:' .. queue, 'NX', int(now + CANARY_MS), cause)
end

-- The job waits for its cause no more, whatever the reason.
local function leave(queue, id)
  local cause = redis.call('HGET', jobkey(id), 'cause')
  if not cause then return end
  redis.call('HDEL', jobkey(id), 'cause')
  redis.call('ZREM', waiters(queue, cause), id)
  if redis.call('EXISTS', waiters(queue, cause)) == 0 then forget_cause(queue, cause) end
end

-- Takes the first job out of those that wait for a cause. Answer: its id, lane, user.
local function next_waiter(queue, cause)
  local id, f
  repeat
    id = redis.call('ZPOPMIN', waiters(queue, cause))[1]
    if not id then return nil end
    f = redis.call('HMGET', jobkey(id), 'due', 'lane', 'user', 'state')
  until f[4] == 'retrying'
  redis.call('HDEL', jobkey(id), 'cause')
  redis.call('HSET', jobkey(id), 'early', cause, 'early_due', f[1])
  return id, f[2], f[3]
end

-- The last canary is still out. One that hangs in the cause, or began by a clock that was ahead, is not waited for.
local function out(queue, cause)
  local last = redis.call('HGET', P .. 'canary:' .. queue, cause)
  local f = last and redis.call('HMGET', jobkey(last), 'state', 'early', 'started') or {}
  local ran = f[1] == 'running' and now - tonumber(f[3]) or -1
  return f[2] == cause and (f[1] == 'waiting' or (ran >= 0 and ran < 2 * CANARY_MS))
end

local function probe(queue)
  for _, cause in ipairs(redis.call('ZRANGEBYSCORE', P .. 'causes:' .. queue, '-inf', int(now), 'LIMIT', 0, 5)) do
    if redis.call('EXISTS', waiters(queue, cause)) == 0 then
      forget_cause(queue, cause)
    else
      redis.call('ZADD', P .. 'causes:' .. queue, int(now + CANARY_MS), cause)
      if not out(queue, cause) then
        local id, lane, user = next_waiter(queue, cause)
        if not id then return end
        redis.call('HSET', P .. 'canary:' .. queue, cause, id)
        redis.call('ZREM', P .. 'retrying:' .. queue, id)
        waiting(queue, id, lane, user, true)
        event(id)
      end
    end
  end
end

local function let_go(queue)
  for _, cause in ipairs(redis.call('ZRANGEBYSCORE', P .. 'freed:' .. queue, '-inf', int(now), 'LIMIT', 0, 5)) do
    local left = redis.call('ZCARD', waiters(queue, cause))
    for _ = 1, math.min(50, 2 + math.floor(left / 20)) do
      local id = next_waiter(queue, cause)
      if not id then break end
      redis.call('HINCRBY', jobkey(id), 'freed', 1)
      if cause == 'limits' then
        redis.call('HDEL', P .. 'learned:item:' .. (redis.call('HGET', jobkey(id), 'item') or ''), 'until')
      end
      redis.call('HSET', jobkey(id), 'due', int(now), 'ready', int(now))
      redis.call('ZADD', P .. 'retrying:' .. queue, int(now), id)
    end
    if redis.call('EXISTS', waiters(queue, cause)) == 0 then
      forget_cause(queue, cause)
    else
      redis.call('ZADD', P .. 'freed:' .. queue, int(now + STEP_MS), cause)
    end
  end
end

-- A job went past these causes (a line each): who waits for one of them, in any queue, may go.
local function ended(causes, id)
  if causes == '' or redis.call('EXISTS', WAITED_FOR) == 0 then return end
  for _, queue in ipairs({QUEUE_NAMES}) do
    local found = 0
    for cause in string.gmatch(causes, '[^\\n]+') do
      if shows(id, cause) and redis.call('ZREM', P .. 'causes:' .. queue, cause) == 1 then
        if cause == 'limits' then redis.call('HDEL', P .. 'learned:client', 'until') end
        redis.call('ZADD', P .. 'freed:' .. queue, int(now), cause)
        found = 1
      end
    end
    if found == 1 then wake(queue) end
  end
end

-- A start ended in a retry at `due`, by `cause` where others share it. Answer: when the job is due.
local function retry_of(queue, id, due, cause)
  local key = jobkey(id)
  if cause == 'limits' and not limits_shut() then cause = '' end
  local f = redis.call('HMGET', key, 'early', 'early_due', 'freed', 'final', 'started')
  local early = f[1] and f[1] == cause
  if early then
    -- Since a clock was ahead that is put right, its old time says nothing.
    local before = tonumber(f[5] or '0') <= now and tonumber(f[2]) or now
    due = math.max(cause == 'limits' and due or now, before) -- one that met no probe's turn waits at least
  elseif f[3] then
    redis.call('HDEL', key, 'freed')
  end
  if f[1] then redis.call('HDEL', key, 'early', 'early_due') end
  if cause ~= '' and not f[4] and not (early and tonumber(f[3] or '0') >= 3) then join(queue, id, cause, int(due)) end
  return int(due)
end
"""
CAUSES: Final = (
    _TEXT.replace("CANARY_MS", str(CANARY_MS))
    .replace("STEP_MS", str(STEP_MS))
    .replace("WAITED_FOR", ", ".join(f"P .. 'causes:{queue}'" for queue in QUEUES))
    .replace("QUEUE_NAMES", ", ".join(f"'{queue}'" for queue in QUEUES))
)
