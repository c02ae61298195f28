"""The queue's Lua: one script per change, so that state, ledger and wake-up can never disagree.

``KEYS[1]`` is the epoch key; every other name is built from its prefix (one hash tag, so one slot of a
cluster). Only commands that Valkey, Redis 6.2 and the stand-in know. Times are the server's, in
milliseconds. Arguments travel as one JSON list of strings (`engine.queue.scripts.run`).

A job's hash: ``state queue actor args kwargs lane user item institution trigger correlation key queued
ready due starts tries lost final worker started finished again* cause early early_due freed seat
unheard`` and, for
each numbered start *n*, its part of the ledger: ``s<n>`` started, ``w<n>`` worker, ``r<n>`` ready since,
``e<n>`` ended, ``o<n>`` outcome, ``x<n>`` error as JSON, ``y<n>`` why it was lost.
"""

from __future__ import annotations

from typing import Final

from engine.queue.lua_buckets import BUCKET, REFUSED
from engine.queue.lua_common import PRELUDE
from engine.queue.lua_lane import LANE
from engine.queue.lua_stats import STATS_DONE, STATS_TAKE, TALLY

# ARGV: id queue lane user key actor args kwargs item institution trigger correlation delay again urgent
# again: a job of this key that runs is followed by one more; urgent: one that waits for its time runs now. So does one
# that is only put off, for a better lane: a webhook does not wait for the schedule's turn. From then on the job is
# the better trigger's.
ENQUEUE: Final = """
local function take_over(job, lane)
  redis.call('HSET', jobkey(job), 'lane', lane, 'trigger', ARGV[11], 'correlation', ARGV[12])
end
local id, queue, lane, user, key = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if redis.call('EXISTS', jobkey(id)) == 1 then return {id, 'new'} end -- said again, since the first answer got lost
if key ~= '' then
  local current = redis.call('GET', P .. 'hint:' .. key)
  local f = current and redis.call('HMGET', jobkey(current), 'state', 'lane', 'user', 'final') or {}
  if f[1] == 'running' or (f[1] and f[4]) then
    if ARGV[14] == '1' then
      redis.call('HSET', jobkey(current), 'again', '1', 'again_lane', lane, 'again_trigger', ARGV[11],
        'again_correlation', ARGV[12])
      if ARGV[15] == '1' then redis.call('HSET', jobkey(current), 'again_urgent', '1') end
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
      local rest = ARGV[15] == '1' and 0 or spaced(queue, key)
      if rest > 0 then
        rest = math.min(now + rest, tonumber(redis.call('HGET', jobkey(current), 'due')))
        redis.call('HSET', jobkey(current), 'due', int(rest), 'ready', int(rest))
        redis.call('ZADD', P .. 'delayed:' .. queue, int(rest), current)
      else
        redis.call('ZREM', P .. f[1] .. ':' .. queue, current)
        leave(queue, current)
        waiting(queue, current, lane, f[3], false)
      end
      wake(queue)
      event(current)
    end
    return {current, f[1]}
  end
end
local delay = tonumber(ARGV[13])
if ARGV[15] ~= '1' then delay = math.max(delay, spaced(queue, key)) end
create(queue, id, lane, user, key, ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11], ARGV[12], delay)
return {id, 'new'}
"""

# ARGV: queue worker lease room. Answer: {wiped, wait ms or -1, jobs...}
TAKE: Final = """
local wiped = redis.call('EXISTS', KEYS[1]) == 0 and 1 or 0
local jobs, wait = take(ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), true)
return {wiped, wait, jobs}
"""

# ARGV: id queue worker n outcome error delay counts keep_done more successor room lease cause past
# outcome: done, retry, failed, back (handed back), final (to be recorded, stays leased). counts: 1 an attempt, 0 none,
# -1 not even a start. cause: what others share that made it fail; past: such causes that it went past, a line each.
SETTLE: Final = (
    TALLY
    + """
local function forget_again(key)
  redis.call('HDEL', key, 'again', 'again_lane', 'again_trigger', 'again_correlation', 'again_urgent')
end
local id, queue, worker, n, outcome = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local key = jobkey(id)
local f = redis.call('HMGET', key, 'state', 'worker', 'starts', 'key', 'again')
local mine = f[1] == 'running' and f[2] == worker and f[3] == n
local follows = mine and (outcome == 'done' or outcome == 'failed') and (f[5] == '1' or ARGV[10] == '1')
local g = follows and redis.call('HMGET', key, 'lane', 'user', 'key', 'actor', 'args', 'kwargs', 'item', 'institution',
  'trigger', 'correlation', 'again_lane', 'again_trigger', 'again_correlation', 'again_urgent')
if mine and outcome == 'final' then
  redis.call('HSET', key, 'final', 'FAILED', 'e' .. n, int(now), 'o' .. n, 'failed', 'x' .. n, ARGV[6])
  return {1, -1, {}, 0}
end
if mine then
  if outcome == 'done' or outcome == 'failed' or (outcome == 'retry' and ARGV[8] == '1') then
    tally(queue, key, n, outcome, ARGV[6])
  end
  redis.call('ZREM', P .. 'running:' .. queue, id)
  if outcome ~= 'back' then redis.call('SREM', P .. 'again:' .. queue, id) end
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
    local due = retry_of(queue, id, now + tonumber(ARGV[7]), ARGV[14] or '')
    if ARGV[8] == '-1' then -- nothing happened that the ledger should tell
      redis.call('HDEL', key, 's' .. n, 'w' .. n, 'r' .. n)
      redis.call('HINCRBY', key, 'starts', -1)
      forget_again(key)
    elseif redis.call('HGET', key, 'final') == false then
      redis.call('HSET', key, 'e' .. n, int(now), 'o' .. n, 'failed', 'x' .. n, ARGV[6])
      forget_again(key)
    end
    redis.call('HSET', key, 'state', 'retrying', 'due', due, 'ready', due, 'worker', '')
    if ARGV[8] == '1' then redis.call('HINCRBY', key, 'tries', 1) end
    redis.call('ZADD', P .. 'retrying:' .. queue, due, id)
  elseif outcome == 'failed' then
    drop_hint(f[4], id)
    redis.call('DEL', key)
  elseif outcome == 'back' then
    give_back(queue, id, 'back')
  end
  ended(ARGV[15] or '', id)
  if follows then
    create(queue, ARGV[11], g[11] or g[1], g[2], g[3] or '', g[4], g[5], g[6], g[7] or '', g[8] or '',
      g[12] or g[9], g[13] or g[10], g[14] and 0 or spaced(queue, f[4]))
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
)

# ARGV: queue worker lease ids... Answer: the ids that are this worker's no longer.
# What it does not name has been handed to it by an answer that got lost on the way, if it is missing twice: an answer
# that is still on its way is there by the next time. It goes back uncounted.
RENEW: Final = """
local queue, worker, lease, lost, held = ARGV[1], ARGV[2], tonumber(ARGV[3]), {}, {}
local running = P .. 'running:' .. queue
mind_clock(queue, tonumber(redis.call('HGET', P .. 'limits', queue .. ':clock') or now), lease)
for i = 4, #ARGV do
  local f = redis.call('HMGET', jobkey(ARGV[i]), 'state', 'worker')
  held[ARGV[i]] = true
  if f[1] == 'running' and f[2] == worker then
    redis.call('ZADD', running, int(now + lease), ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
for _, id in ipairs(redis.call('ZRANGE', running, 0, -1)) do
  local f = held[id] and {} or redis.call('HMGET', jobkey(id), 'worker', 'starts', 'unheard')
  if f[1] == worker then
    if f[3] == f[2] then
      give_back(queue, id, 'unheard')
      wake(queue)
    else
      redis.call('HSET', jobkey(id), 'unheard', f[2])
    end
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
      give_back(ARGV[i], id, ARGV[2] == '1' and 'ended' or 'back')
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
leave(f[2], id)
redis.call('SREM', P .. 'again:' .. f[2], id)
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

SOURCES: Final[dict[str, str]] = {
    "enqueue": ENQUEUE,
    "take": TAKE,
    "settle": SETTLE,
    "renew": RENEW,
    "free": FREE,
    "counts": COUNTS,
    "waiting": WAITING,
    "move": MOVE,
    "lane": LANE,
    "bucket": BUCKET,
    "refused": REFUSED,
    "stats_take": STATS_TAKE,
    "stats_done": STATS_DONE,
}

# A full server refuses the first write of a script, unless that one needs no room. So these go on, and what is there
# is taken, ends and is thrown away, which makes room again; only new jobs are refused.
_MAKES_ROOM: Final = "redis.call('DEL', P .. 'room')\n"
_ROOM: Final = frozenset({"take", "settle", "renew", "free"})


def source(name: str) -> str:
    """The whole text of one script."""
    return PRELUDE + (_MAKES_ROOM if name in _ROOM else "") + SOURCES[name]
