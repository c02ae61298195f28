"""Statistics in Lua: a job's end and the line that counts it are one change, and each line is handed out as one
numbered batch until somebody says that the database has it."""

from __future__ import annotations

from typing import Final

# Lines kept at most while nobody writes them to the database; the oldest go first.
MOST_LINES: Final = 50_000
# A batch that was handed out and not said to be written is handed out again after this.
AGAIN_MS: Final = 10_000

# Part of the settle script. A line is JSON: queue outcome class item institution user wait_ms run_ms lag_ms; lag is the
# time since the job was queued. class: kind of the last error (`engine.jobs.failures`), empty where it went through.
TALLY: Final = """
local function tally(queue, key, n, outcome, told)
  local f = redis.call('HMGET', key, 's' .. n, 'r' .. n, 'e' .. n, 'queued', 'item', 'institution', 'user', 'x' .. n,
    'final')
  local class = ''
  if outcome ~= 'done' or told ~= '' then
    local error = told ~= '' and told or f[8] or ''
    class = f[9] == 'POISON' and 'poison' or string.match(error, '^{"kind": "(%a+)"') or 'engine'
  end
  local began, ended = tonumber(f[1] or now), tonumber(outcome ~= 'done' and f[3] or now)
  local size = redis.call('RPUSH', P .. 'stats', cjson.encode({queue, outcome, class, f[5] or '', f[6] or '',
    f[7] or '', int(math.max(0, began - tonumber(f[2] or began))), int(math.max(0, ended - began)),
    int(math.max(0, now - tonumber(f[4] or now)))}))
  if size > MOST_LINES then redis.call('LPOP', P .. 'stats') end
end
""".replace("MOST_LINES", str(MOST_LINES))

# ARGV: source. Answer: {source, number, lines...}, or nothing where there is none or somebody has it in hand. source: a
# name for this Redis' batches where it has none yet; numbers only grow, so the database knows what it has.
STATS_TAKE: Final = """
local batch, claim = P .. 'stats:batch', P .. 'stats:claim'
local at = tonumber(redis.call('HGET', claim, 'at') or '-1')
if at >= 0 and now >= at and now < at + AGAIN then return {} end
if redis.call('EXISTS', batch) == 0 then
  if redis.call('EXISTS', P .. 'stats') == 0 then return {} end
  redis.call('RENAME', P .. 'stats', batch)
  redis.call('HINCRBY', claim, 'number', 1)
  redis.call('HSETNX', claim, 'source', ARGV[1])
end
redis.call('HSET', claim, 'at', int(now))
local lines = redis.call('LRANGE', batch, 0, -1)
table.insert(lines, 1, redis.call('HGET', claim, 'number') or '0')
table.insert(lines, 1, redis.call('HGET', claim, 'source') or ARGV[1])
return lines
""".replace("AGAIN", str(AGAIN_MS))

# ARGV: source number written. The batch is in the database (or refused for good), or may be handed out again at once.
STATS_DONE: Final = """
local claim = P .. 'stats:claim'
local f = redis.call('HMGET', claim, 'source', 'number')
if f[1] ~= ARGV[1] or f[2] ~= ARGV[2] then return 0 end
if ARGV[3] == '1' then redis.call('DEL', P .. 'stats:batch') end
redis.call('HDEL', claim, 'at')
return 1
"""
