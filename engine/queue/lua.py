"""The queue's Lua: one script per change, so that state, ledger and wake-up can never disagree.

``KEYS[1]`` is the epoch key; every other name is built from its prefix (one hash tag, so one slot of a
cluster). Only commands that Valkey, Redis 6.2 and the stand-in know. Times are the server's, in
milliseconds. Arguments travel as one JSON list of strings (`engine.queue.scripts.run`).

A job's hash: ``state queue actor args kwargs lane user item institution trigger correlation key queued
ready due starts tries lost final worker started finished again*`` and, for each numbered start *n*, its
part of the ledger: ``s<n>`` started, ``w<n>`` worker, ``r<n>`` ready since, ``e<n>`` ended, ``o<n>``
outcome, ``x<n>`` error as JSON.
"""

from __future__ import annotations

from typing import Final

# A job whose starts took their worker down this often is not started again.
POISON_STARTS: Final = 3

# How late a delay or a lease that ran out may be noticed while the queue is busy.
CLOCK_MS: Final = 20

_PRELUDE: Final = """
local ARGV = cjson.decode(ARGV[1]) -- one argument: a dozen cost the client more to send than this costs here
local P = string.sub(KEYS[1], 1, -6)
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local LANES = {'high', 'medium', 'low'}
local RANK = {high = 1, medium = 2, low = 3}

local function int(n) return string.format('%.0f', n) end
local function jobkey(id) return P .. 'job:' .. id end

local function event(id)
  redis.call('PUBLISH', P .. 'events', 'jobs ' .. id .. ' ' .. int(now))
end

-- Wakes the consumers of a queue, but only if one said that it sleeps (take does): under load nobody does.
local function wake(queue)
  if redis.call('DEL', P .. 'idle:' .. queue) == 1 then
    redis.call('PUBLISH', P .. 'wake:' .. queue, '1')
  end
end

-- A user stands in the ring exactly while a list of theirs is not empty.
local function push(queue, lane, user, id, front)
  local list = P .. 'lane:' .. queue .. ':' .. lane .. ':' .. user
  local size
  if front then size = redis.call('LPUSH', list, id) else size = redis.call('RPUSH', list, id) end
  if size == 1 then redis.call('RPUSH', P .. 'ring:' .. queue .. ':' .. lane, user) end
end

local function pull(queue, lane, user, id)
  local list = P .. 'lane:' .. queue .. ':' .. lane .. ':' .. user
  if redis.call('LREM', list, 1, id) == 1 and redis.call('EXISTS', list) == 0 then
    redis.call('LREM', P .. 'ring:' .. queue .. ':' .. lane, 1, user)
  end
end

local function pop(queue, weighted)
  for _, lane in ipairs(LANES) do
    local ring = P .. 'ring:' .. queue .. ':' .. lane
    local user = redis.call('LINDEX', ring, 0)
    if user then
      local list = P .. 'lane:' .. queue .. ':' .. lane .. ':' .. user
      local id = redis.call('LPOP', list)
      local turn = P .. 'turn:' .. queue .. ':' .. lane
      if redis.call('EXISTS', list) == 0 then
        redis.call('LPOP', ring)
        redis.call('DEL', turn)
      else
        local weight = weighted and tonumber(redis.call('HGET', P .. 'weights', user) or '1') or 1
        if weight <= 1 or redis.call('INCR', turn) >= weight then
          redis.call('LMOVE', ring, ring, 'LEFT', 'RIGHT')
          if weight > 1 then redis.call('DEL', turn) end
        end
      end
      return id
    end
  end
  return nil
end

local function waiting(queue, id, lane, user, front)
  redis.call('HSET', jobkey(id), 'state', 'waiting', 'ready', int(now), 'due', '')
  push(queue, lane, user, id, front)
end

local function drop_hint(key, id)
  if key and key ~= '' and redis.call('GET', P .. 'hint:' .. key) == id then
    redis.call('DEL', P .. 'hint:' .. key)
  end
end

-- Takes a start back that did not end. counted: it took its worker down.
local function give_back(queue, id, counted)
  redis.call('ZREM', P .. 'running:' .. queue, id)
  local key = jobkey(id)
  local f = redis.call('HMGET', key, 'lane', 'user', 'starts', 'final')
  if not f[1] then return end
  redis.call('HSET', key, 'worker', '')
  if not f[4] then redis.call('HSET', key, 'o' .. f[3], 'lost', 'e' .. f[3], int(now)) end
  if counted and not f[4] and redis.call('HINCRBY', key, 'lost', 1) >= POISON_STARTS then
    redis.call('HSETNX', key, 'final', 'POISON')
  end
  waiting(queue, id, f[1], f[2], true)
  event(id)
end

local function settle_clock(queue)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'running:' .. queue, '-inf', int(now), 'LIMIT', 0, 20)) do
    give_back(queue, id, true)
  end
  for _, set in ipairs({'delayed', 'retrying'}) do
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. set .. ':' .. queue, '-inf', int(now), 'LIMIT', 0, 50)) do
      redis.call('ZREM', P .. set .. ':' .. queue, id)
      local f = redis.call('HMGET', jobkey(id), 'lane', 'user')
      if f[1] then
        waiting(queue, id, f[1], f[2], false)
        event(id)
      end
    end
  end
end

-- Moves the times of one set after the server's clock was set. by: ms to add; least: no time is earlier than this.
local function shift(set, by, least)
  local all = redis.call('ZRANGE', set, 0, -1, 'WITHSCORES')
  for i = 1, #all, 2 do
    redis.call('ZADD', set, int(math.max(tonumber(all[i + 1]) + by, least)), all[i])
  end
end

-- last: when this queue was last looked at, which is every second while any worker lives. A clock set back would keep
-- delays and leases for as much longer; one set forward, or a machine that slept, would take every lease from workers
-- that are alive: they get the time to renew.
local function mind_clock(queue, last, lease)
  if now < last - lease then
    for _, set in ipairs({'delayed', 'retrying', 'running'}) do shift(P .. set .. ':' .. queue, now - last, 0) end
  elseif now > last + 3 * lease then
    shift(P .. 'running:' .. queue, 0, now + lease)
  end
end

local function next_due(queue)
  local soonest = nil
  for _, set in ipairs({'delayed', 'retrying', 'running'}) do
    local first = redis.call('ZRANGE', P .. set .. ':' .. queue, 0, 0, 'WITHSCORES')
    if first[2] then
      local at = tonumber(first[2])
      if not soonest or at < soonest then soonest = at end
    end
  end
  if not soonest then return -1 end
  return math.max(0, soonest - now)
end

local function start(queue, id, worker, lease)
  local key = jobkey(id)
  local f = redis.call('HMGET', key, 'actor', 'args', 'kwargs', 'lane', 'user', 'item', 'institution',
    'trigger', 'correlation', 'queued', 'starts', 'tries', 'final', 'ready', 'key')
  if not f[1] then return nil end
  redis.call('ZADD', P .. 'running:' .. queue, int(now + lease), id)
  local n = f[11]
  if f[13] then
    redis.call('HSET', key, 'state', 'running', 'worker', worker)
  else -- a final one is only handed out to be recorded: no start of its own
    n = int(tonumber(n) + 1)
    redis.call('HSET', key, 'state', 'running', 'worker', worker, 'starts', n, 'started', int(now),
      's' .. n, int(now), 'w' .. n, worker, 'r' .. n, f[14])
  end
  event(id)
  -- One string: sixteen would cost the client more to read than all of this costs here.
  return cjson.encode({id, f[1], f[2], f[3], f[4], f[5], f[6] or '', f[7] or '', f[8], f[9], f[10], n, f[12],
    f[13] or '', int(now - tonumber(f[14])), f[15] or ''}), n
end

-- How many more may start in this queue now, and how long to wait where the rate says so.
local function allowed(queue, f, room)
  if f[1] == '1' then return 0, -1 end
  if f[2] and f[2] ~= '' then
    room = math.min(room, tonumber(f[2]) - redis.call('ZCARD', P .. 'running:' .. queue))
  end
  local wait = -1
  if f[3] and f[3] ~= '' and room > 0 then
    local rate = P .. 'rate:' .. queue
    redis.call('ZREMRANGEBYSCORE', rate, '-inf', int(now - 60000))
    local left = tonumber(f[3]) - redis.call('ZCARD', rate)
    if left < room then
      room = left
      local first = redis.call('ZRANGE', rate, 0, 0, 'WITHSCORES')
      if first[2] then wait = math.max(1, tonumber(first[2]) + 60000 - now) end
    end
    return room, wait, rate
  end
  return room, wait
end

-- Up to room jobs for this worker. Says in idle:<queue> when it could have taken more. What time brings (leases
-- that ran out, delays that are over) is looked at every CLOCK ms, and always before a consumer sleeps.
local function take(queue, worker, lease, room, look)
  local f = redis.call('HMGET', P .. 'limits', queue .. ':paused', queue .. ':concurrency', queue .. ':per_minute',
    queue .. ':clock', 'weighted')
  local last = tonumber(f[4] or int(now))
  if look or not f[4] or now - last >= CLOCK or now < last then
    mind_clock(queue, last, lease)
    settle_clock(queue)
    redis.call('HSET', P .. 'limits', queue .. ':clock', int(now))
  end
  local jobs = {}
  local may, wait, rate = allowed(queue, f, room)
  local weighted = f[5] == '1'
  while #jobs < may do
    local id = pop(queue, weighted)
    if not id then break end
    local job, n = start(queue, id, worker, lease)
    if job then
      jobs[#jobs + 1] = job
      if rate then
        redis.call('ZADD', rate, int(now), id .. ':' .. n)
        redis.call('PEXPIRE', rate, 60000)
      end
    end
  end
  if #jobs < room then
    redis.call('SET', P .. 'idle:' .. queue, '1', 'PX', 5000)
    local due = next_due(queue)
    if due >= 0 and (wait < 0 or due < wait) then wait = due end
  end
  return jobs, wait
end

local function create(queue, id, lane, user, key, actor, args, kwargs, item, institution, trigger, correlation, delay)
  redis.call('HSET', jobkey(id), 'queue', queue, 'actor', actor, 'args', args, 'kwargs', kwargs, 'lane', lane,
    'user', user, 'key', key, 'item', item, 'institution', institution, 'trigger', trigger,
    'correlation', correlation, 'queued', int(now), 'starts', '0', 'tries', '0', 'lost', '0', 'worker', '')
  if key ~= '' then redis.call('SET', P .. 'hint:' .. key, id) end
  if delay > 0 then
    redis.call('HSET', jobkey(id), 'state', 'delayed', 'due', int(now + delay), 'ready', int(now + delay))
    redis.call('ZADD', P .. 'delayed:' .. queue, int(now + delay), id)
  else
    waiting(queue, id, lane, user, false)
  end
  wake(queue)
  event(id)
end
""".replace("POISON_STARTS", str(POISON_STARTS)).replace("CLOCK", str(CLOCK_MS))

# ARGV: id queue lane user key actor args kwargs item institution trigger correlation delay again urgent
# again: a job of this key that runs is followed by one more; urgent: one that waits for its time runs now. So does one
# that is only put off, for a better lane: a webhook does not wait for the schedule's turn. From then on the job is
# the better trigger's.
ENQUEUE: Final = """
local function take_over(job, lane)
  redis.call('HSET', jobkey(job), 'lane', lane, 'trigger', ARGV[11], 'correlation', ARGV[12])
end
local id, queue, lane, user, key = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if key ~= '' then
  local current = redis.call('GET', P .. 'hint:' .. key)
  local f = current and redis.call('HMGET', jobkey(current), 'state', 'lane', 'user', 'final') or {}
  if f[1] == 'running' or (f[1] and f[4]) then
    if ARGV[14] == '1' then
      redis.call('HSET', jobkey(current), 'again', '1', 'again_lane', lane, 'again_trigger', ARGV[11],
        'again_correlation', ARGV[12])
    end
    return {current, 'running'}
  elseif f[1] == 'waiting' then
    if RANK[lane] < RANK[f[2]] then
      pull(queue, f[2], f[3], current)
      push(queue, lane, f[3], current, false)
      take_over(current, lane)
      event(current)
    end
    return {current, 'waiting'}
  elseif f[1] == 'delayed' or f[1] == 'retrying' then
    local better = RANK[lane] < RANK[f[2]]
    if better then take_over(current, lane) else lane = f[2] end
    if ARGV[15] == '1' or (better and f[1] == 'delayed') then
      redis.call('ZREM', P .. f[1] .. ':' .. queue, current)
      waiting(queue, current, lane, f[3], false)
      wake(queue)
      event(current)
    end
    return {current, f[1]}
  end
end
create(queue, id, lane, user, key, ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11], ARGV[12], tonumber(ARGV[13]))
return {id, 'new'}
"""

# ARGV: queue worker lease room. Answer: {wiped, wait ms or -1, jobs...}
TAKE: Final = """
local wiped = redis.call('EXISTS', KEYS[1]) == 0 and 1 or 0
local jobs, wait = take(ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), true)
return {wiped, wait, jobs}
"""

# ARGV: id queue worker n outcome error delay counts keep_done more successor room lease
# outcome: done, retry, failed, back (handed back), final (to be recorded, stays leased). counts: 1 an attempt, 0 none,
# -1 not even a start.
SETTLE: Final = """
local id, queue, worker, n, outcome = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local key = jobkey(id)
local f = redis.call('HMGET', key, 'state', 'worker', 'starts', 'key', 'again')
local mine = f[1] == 'running' and f[2] == worker and f[3] == n
local follows = mine and (outcome == 'done' or outcome == 'failed') and (f[5] == '1' or ARGV[10] == '1')
local g = follows and redis.call('HMGET', key, 'lane', 'user', 'key', 'actor', 'args', 'kwargs', 'item', 'institution',
  'trigger', 'correlation', 'again_lane', 'again_trigger', 'again_correlation')
if mine and outcome == 'final' then
  redis.call('HSET', key, 'final', 'FAILED', 'e' .. n, int(now), 'o' .. n, 'failed', 'x' .. n, ARGV[6])
  return {1, -1, {}, 0}
end
if mine then
  redis.call('ZREM', P .. 'running:' .. queue, id)
  if outcome == 'done' then
    redis.call('HSET', key, 'state', 'done', 'finished', int(now), 'e' .. n, int(now), 'o' .. n, 'done')
    drop_hint(f[4], id)
    local list, keep = P .. 'done:' .. queue, tonumber(ARGV[9])
    local size = redis.call('LPUSH', list, id)
    while size > keep do
      redis.call('DEL', jobkey(redis.call('RPOP', list)))
      size = size - 1
    end
  elseif outcome == 'retry' then
    local due = int(now + tonumber(ARGV[7]))
    if ARGV[8] == '-1' then -- nothing happened that the ledger should tell
      redis.call('HDEL', key, 's' .. n, 'w' .. n, 'r' .. n, 'again', 'again_lane', 'again_trigger', 'again_correlation')
      redis.call('HINCRBY', key, 'starts', -1)
    elseif redis.call('HGET', key, 'final') == false then
      redis.call('HSET', key, 'e' .. n, int(now), 'o' .. n, 'failed', 'x' .. n, ARGV[6])
      redis.call('HDEL', key, 'again', 'again_lane', 'again_trigger', 'again_correlation')
    end
    redis.call('HSET', key, 'state', 'retrying', 'due', due, 'ready', due, 'worker', '')
    if ARGV[8] == '1' then redis.call('HINCRBY', key, 'tries', 1) end
    redis.call('ZADD', P .. 'retrying:' .. queue, due, id)
  elseif outcome == 'failed' then
    drop_hint(f[4], id)
    redis.call('DEL', key)
  elseif outcome == 'back' then
    give_back(queue, id, false)
  end
  if follows then
    create(queue, ARGV[11], g[11] or g[1], g[2], g[3] or '', g[4], g[5], g[6], g[7] or '', g[8] or '',
      g[12] or g[9], g[13] or g[10], 0)
  end
  event(id)
end
local jobs, wait = {}, -1
if tonumber(ARGV[12]) > 0 then
  jobs, wait = take(queue, worker, tonumber(ARGV[13]), tonumber(ARGV[12]))
else
  wake(queue)
end
return {mine and 1 or 0, wait, jobs, redis.call('EXISTS', KEYS[1]) == 0 and 1 or 0}
"""

# ARGV: queue worker lease ids... Answer: the ids that are this worker's no longer.
RENEW: Final = """
local lost = {}
for i = 4, #ARGV do
  local f = redis.call('HMGET', jobkey(ARGV[i]), 'state', 'worker')
  if f[1] == 'running' and f[2] == ARGV[2] then
    redis.call('ZADD', P .. 'running:' .. ARGV[1], int(now + tonumber(ARGV[3])), ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
"""

# ARGV: worker-prefix counted queues... Gives back all that the worker holds. Answer: how many.
FREE: Final = """
local count = 0
for i = 3, #ARGV do
  for _, id in ipairs(redis.call('ZRANGE', P .. 'running:' .. ARGV[i], 0, -1)) do
    local owner = redis.call('HGET', jobkey(id), 'worker')
    if owner and string.sub(owner, 1, #ARGV[1]) == ARGV[1] then
      give_back(ARGV[i], id, ARGV[2] == '1')
      count = count + 1
    end
  end
  wake(ARGV[i])
end
return count
"""

# ARGV: queue. Answer: waiting delayed retrying running oldest-ready-ms(or -1) paused concurrency per_minute
COUNTS: Final = """
local queue, total, oldest = ARGV[1], 0, nil
for _, lane in ipairs(LANES) do
  for _, user in ipairs(redis.call('LRANGE', P .. 'ring:' .. queue .. ':' .. lane, 0, -1)) do
    local list = P .. 'lane:' .. queue .. ':' .. lane .. ':' .. user
    total = total + redis.call('LLEN', list)
    local head = redis.call('LINDEX', list, 0)
    local ready = head and redis.call('HGET', jobkey(head), 'ready')
    if ready and (not oldest or tonumber(ready) < oldest) then oldest = tonumber(ready) end
  end
end
local f = redis.call('HMGET', P .. 'limits', queue .. ':paused', queue .. ':concurrency', queue .. ':per_minute')
return {total, redis.call('ZCARD', P .. 'delayed:' .. queue), redis.call('ZCARD', P .. 'retrying:' .. queue),
  redis.call('ZCARD', P .. 'running:' .. queue), oldest and (now - oldest) or -1, f[1] or '', f[2] or '', f[3] or ''}
"""

# ARGV: queue most. Answer: ids that wait, in the order of lanes, users and age.
WAITING: Final = """
local ids, most = {}, tonumber(ARGV[2])
for _, lane in ipairs(LANES) do
  for _, user in ipairs(redis.call('LRANGE', P .. 'ring:' .. ARGV[1] .. ':' .. lane, 0, -1)) do
    local list = P .. 'lane:' .. ARGV[1] .. ':' .. lane .. ':' .. user
    for _, id in ipairs(redis.call('LRANGE', list, 0, most - #ids - 1)) do ids[#ids + 1] = id end
    if #ids >= most then return ids end
  end
end
return ids
"""

# ARGV: id what ('cancel' or 'now'). Answer: the state that it was in ('' where there is none).
MOVE: Final = """
local id, key = ARGV[1], jobkey(ARGV[1])
local f = redis.call('HMGET', key, 'state', 'queue', 'lane', 'user', 'key', 'final')
if not f[1] then return '' end
if f[1] == 'running' or f[1] == 'done' or f[6] then return f[6] and 'failing' or f[1] end
if f[1] == 'waiting' then pull(f[2], f[3], f[4], id) else redis.call('ZREM', P .. f[1] .. ':' .. f[2], id) end
if ARGV[2] == 'cancel' then
  drop_hint(f[5], id)
  redis.call('DEL', key)
else
  redis.call('HSET', key, 'lane', 'high')
  waiting(f[2], id, 'high', f[4], true)
  wake(f[2])
end
event(id)
return f[1]
"""

# ARGV: name per_minute cost burst. A leaky bucket kept as one time (GCRA). Answer: ms to wait; 0: taken.
BUCKET: Final = """
local key = P .. 'bucket:' .. ARGV[1]
local step = 60000 / tonumber(ARGV[2])
local need = step * tonumber(ARGV[3])
local full = tonumber(redis.call('GET', key) or '0')
local base = math.max(full, now)
if base + need - now > step * tonumber(ARGV[4]) and full > now then
  return math.ceil(base + need - now - step * tonumber(ARGV[4]))
end
redis.call('SET', key, string.format('%.3f', base + need), 'PX', math.ceil(base + need - now) + 1000)
return 0
"""

SOURCES: Final[dict[str, str]] = {
    "enqueue": ENQUEUE,
    "take": TAKE,
    "settle": SETTLE,
    "renew": RENEW,
    "free": FREE,
    "counts": COUNTS,
    "waiting": WAITING,
    "move": MOVE,
    "bucket": BUCKET,
}


def source(name: str) -> str:
    """The whole text of one script."""
    return _PRELUDE + SOURCES[name]
