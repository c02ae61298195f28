"""What all of the queue's scripts share: names, time, lanes, leases, taking. See `engine.queue.lua`."""

from __future__ import annotations

from typing import Final

from engine.queue.lua_causes import CAUSES
from engine.queue.lua_shares import SHARES

# A job whose starts took their worker down this often is not started again.
POISON_STARTS: Final = 3

# How late a delay or a lease that ran out may be noticed while the queue is busy.
CLOCK_MS: Final = 20
# Half a lease, and at least so long, nobody looked at a queue: the broker was away. Idle consumers look every second,
# and holders renew every quarter of a lease.
SILENCE_MS: Final = 3000

PRELUDE: Final = (
    (
        """
local ARGV = cjson.decode(ARGV[1]) -- one argument: a dozen cost the client more to send than this costs here
local P = string.sub(KEYS[1], 1, -6)
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local LANES = {'high', 'medium', 'low'}
local TIMED = {'delayed', 'retrying', 'running', 'causes', 'freed'}
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

-- A seat of the ring is a user; with partitions by bank, a user and a bank.
local function seat_user(seat) return string.match(seat, '^[^|]*') end
local function seat_bank(seat) return string.match(seat, '|(.*)$') or '' end
local function list_of(queue, lane, seat) return P .. 'lane:' .. queue .. ':' .. lane .. ':' .. seat end

-- A seat stands in the ring exactly while its list is not empty.
local function push(queue, lane, user, id, front)
  local seat = user
  local f = redis.call('HMGET', P .. 'limits', 'partition', 'weighted')
  if f[1] == 'institution' then
    seat = user .. '|' .. (redis.call('HGET', jobkey(id), 'institution') or '')
    redis.call('HSET', jobkey(id), 'seat', seat)
  end
  local size
  if front then
    size = redis.call('LPUSH', list_of(queue, lane, seat), id)
  else
    size = redis.call('RPUSH', list_of(queue, lane, seat), id)
  end
  if size == 1 then
    local ring = P .. 'ring:' .. queue .. ':' .. lane
    if redis.call('RPUSH', ring, seat) > 1 and f[2] == '1' then
      -- Whoever comes waits for one job of the user whose turn it is, not for a whole turn.
      local weight = tonumber(redis.call('HGET', P .. 'weights', seat_user(redis.call('LINDEX', ring, 0))) or '1')
      if weight > 1 then redis.call('SET', P .. 'turn:' .. queue .. ':' .. lane, weight - 1) end
    end
  end
end

local function pull(queue, lane, user, id)
  local kept = redis.call('HGET', jobkey(id), 'seat')
  for _, seat in ipairs(kept and {kept, user} or {user}) do -- the setting may have changed meanwhile
    local list = list_of(queue, lane, seat)
    if redis.call('LREM', list, 1, id) == 1 then
      if redis.call('EXISTS', list) == 0 then redis.call('LREM', P .. 'ring:' .. queue .. ':' .. lane, 1, seat) end
      return
    end
  end
end

"""
        + SHARES
        + """
local function pop(queue, weighted, full)
  local lane, seat, first = whose_turn(queue, full)
  if not seat then return nil end
  local ring, list = P .. 'ring:' .. queue .. ':' .. lane, list_of(queue, lane, seat)
  local turn = P .. 'turn:' .. queue .. ':' .. lane
  local id = redis.call('LPOP', list)
  if redis.call('EXISTS', list) == 0 then
    redis.call('LREM', ring, 1, seat)
    if first then redis.call('DEL', turn) end
  elseif first then
    local weight = weighted and tonumber(redis.call('HGET', P .. 'weights', seat_user(seat)) or '1') or 1
    if weight <= 1 or redis.call('INCR', turn) >= weight then
      redis.call('LMOVE', ring, ring, 'LEFT', 'RIGHT')
      if weight > 1 then redis.call('DEL', turn) end
    end
  else
    redis.call('LREM', ring, 1, seat)
    redis.call('RPUSH', ring, seat)
  end
  return id, seat
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

"""
        + CAUSES
        + """
-- Takes a start back that did not end. why: 'ended' or 'silent' (it may have taken its worker down: counted), 'back',
-- 'unheard' (its worker does not know of it).
local function give_back(queue, id, why)
  redis.call('ZREM', P .. 'running:' .. queue, id)
  local key = jobkey(id)
  local f = redis.call('HMGET', key, 'lane', 'user', 'starts', 'final')
  if not f[1] then return end
  redis.call('HSET', key, 'worker', '')
  redis.call('HDEL', key, 'unheard')
  if not f[4] then redis.call('HSET', key, 'o' .. f[3], 'lost', 'e' .. f[3], int(now), 'y' .. f[3], why) end
  if (why == 'ended' or why == 'silent') and not f[4] and redis.call('HINCRBY', key, 'lost', 1) >= POISON_STARTS then
    redis.call('HSETNX', key, 'final', 'POISON')
  end
  waiting(queue, id, f[1], f[2], true)
  event(id)
end

local function settle_clock(queue)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'running:' .. queue, '-inf', int(now), 'LIMIT', 0, 20)) do
    give_back(queue, id, 'silent')
    redis.call('HINCRBY', P .. 'totals', 'lease_expiries|' .. queue, 1)
  end
  probe(queue)
  let_go(queue)
  for _, set in ipairs({'delayed', 'retrying'}) do
    local allowed, moved = nil, 0
    -- Far enough that who only waited for Plaid's limits does not stand behind a storm of retries.
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. set .. ':' .. queue, '-inf', int(now), 'LIMIT', 0, 500)) do
      if moved == 50 then break end
      local f = redis.call('HMGET', jobkey(id), 'lane', 'user', 'starts')
      -- One that only waited for Plaid's limits is no retry: none of its starts is told.
      local again = set == 'retrying' and f[1] and f[3] ~= '0'
      if again and not allowed then allowed = retries_allowed(queue) end
      if not again or allowed > 0 then
        redis.call('ZREM', P .. set .. ':' .. queue, id)
        moved = moved + 1
        if again then
          redis.call('SADD', P .. 'again:' .. queue, id)
          allowed = allowed - 1
        end
        if f[1] then
          leave(queue, id)
          waiting(queue, id, f[1], f[2], false)
          event(id)
        end
      end
    end
  end
end

-- Moves the times of one set after the server's clock was set. by: ms to add; least: no time is earlier than this;
-- due: its members are jobs that know when they are due.
local function shift(set, by, least, due)
  local all = redis.call('ZRANGE', set, 0, -1, 'WITHSCORES')
  for i = 1, #all, 2 do
    local at = int(math.max(tonumber(all[i + 1]) + by, least))
    redis.call('ZADD', set, at, all[i])
    if due and redis.call('EXISTS', jobkey(all[i])) == 1 then
      redis.call('HSET', jobkey(all[i]), 'due', at, 'ready', at)
    end
  end
end

-- Before anything is done by the clock. last: when this queue was last looked at, by a take or by a renewal of leases.
-- A clock set back would keep delays and leases for as much longer. One set forward, a machine that slept or a broker
-- that was away would take leases from workers that are alive: they begin anew, and who is dead does not renew.
local function mind_clock(queue, last, lease)
  if now < last - lease then
    for _, set in ipairs(TIMED) do
      shift(P .. set .. ':' .. queue, now - last, 0, set == 'delayed' or set == 'retrying')
    end
    shift(P .. 'rate:' .. queue, now - last, 0)
  elseif now > last + math.max(lease / 2, SILENCE) then
    shift(P .. 'running:' .. queue, 0, now + lease)
  end
  redis.call('HSET', P .. 'limits', queue .. ':clock', int(now))
end

-- open: nothing waits and more may start. Else retries that are due wait for the next end of a job.
local function next_due(queue, open)
  local soonest = nil
  for _, set in ipairs(TIMED) do
    local least = set == 'retrying' and not open and '(' .. int(now) or '-inf'
    local first = redis.call('ZRANGEBYSCORE', P .. set .. ':' .. queue, least, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    if first[2] then
      local at = tonumber(first[2])
      if not soonest or at < soonest then soonest = at end
    end
  end
  if not soonest then return -1 end
  return math.max(0, soonest - now)
end

-- Starts of one target's jobs keep a distance: after some quiet two may follow each other at once, further ones are
-- apart. Kept as one time, a distance after the next allowed start. Answer: ms until one may start, never more than one
-- distance, whatever the clock does.
local function spaced(queue, key)
  local apart = key and key ~= '' and tonumber(redis.call('HGET', P .. 'limits', queue .. ':distance') or '0') or 0
  if apart <= 0 then return 0 end
  local ahead = tonumber(redis.call('GET', P .. 'pace:' .. key) or '0')
  return math.max(0, math.min(ahead - apart - now, apart))
end

local function pace(key, apart)
  local ahead = tonumber(redis.call('GET', P .. 'pace:' .. key) or '0')
  ahead = now + (ahead > now and 2 or 1) * apart
  redis.call('SET', P .. 'pace:' .. key, int(ahead), 'PX', int(ahead - now))
end

local function start(queue, id, worker, lease, apart)
  local key = jobkey(id)
  local f = redis.call('HMGET', key, 'actor', 'args', 'kwargs', 'lane', 'user', 'item', 'institution',
    'trigger', 'correlation', 'queued', 'starts', 'tries', 'final', 'ready', 'key', 'early', 'state')
  if f[17] ~= 'waiting' then return nil end
  redis.call('ZADD', P .. 'running:' .. queue, int(now + lease), id)
  local n = f[11]
  if f[13] then
    redis.call('HSET', key, 'state', 'running', 'worker', worker)
  else -- a final one is only handed out to be recorded: no start of its own
    n = int(tonumber(n) + 1)
    redis.call('HSET', key, 'state', 'running', 'worker', worker, 'starts', n, 'started', int(now),
      's' .. n, int(now), 'w' .. n, worker, 'r' .. n, f[14])
    if apart > 0 and f[15] and f[15] ~= '' then pace(f[15], apart) end
  end
  event(id)
  -- One string: sixteen would cost the client more to read than all of this costs here.
  return cjson.encode({id, f[1], f[2], f[3], f[4], f[5], f[6] or '', f[7] or '', f[8], f[9], f[10], n, f[12],
    f[13] or '', int(now - tonumber(f[14])), f[15] or '', f[16] or ''}), n
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
    queue .. ':clock', 'weighted', queue .. ':distance', 'partition')
  local last = tonumber(f[4] or int(now))
  if look or not f[4] or now - last >= CLOCK or now < last then
    mind_clock(queue, last, lease)
    settle_clock(queue)
  end
  local jobs = {}
  local may, wait, rate = allowed(queue, f, room)
  local weighted, apart = f[5] == '1', tonumber(f[6] or '0') or 0
  local full, count
  if may > 0 then full, count = shares(queue, f[7], tonumber(f[2] or '')) end
  while #jobs < may do
    local id, seat = pop(queue, weighted, full)
    if not id then break end
    local job, n = start(queue, id, worker, lease, apart)
    if job then
      jobs[#jobs + 1] = job
      if count then count(seat) end
      if rate then
        redis.call('ZADD', rate, int(now), id .. ':' .. n)
        redis.call('PEXPIRE', rate, 60000)
      end
    end
  end
  if #jobs < room then
    redis.call('SET', P .. 'idle:' .. queue, '1', 'PX', 5000)
    local due = next_due(queue, #jobs < may)
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
"""
    )
    .replace("POISON_STARTS", str(POISON_STARTS))
    .replace("CLOCK", str(CLOCK_MS))
    .replace("SILENCE", str(SILENCE_MS))
)
