"""The queue's Lua for shares of a queue's concurrency, so that no kind of job takes all of it while others wait.

Retries take at most half of it while anything waits in the lanes; beyond that they stay in ``retrying:<queue>``, due.
``again:<queue>`` (set) has the retries that came from there and have not ended.

With partitions (``SYNCDESK_PARTITION``) no user, or no bank, holds more than three fifths of it, at least one job,
while another one waits. The ring then has a seat for each user, or for each user and bank. What runs is counted
anew at each look: it is never more than the concurrency, and nothing can drift.
"""

from __future__ import annotations

from typing import Final

# Of a queue's concurrency, for one partition while others wait.
SHARE: Final = 0.6

_TEXT: Final = """
-- How many due retries may go to the lanes now: half of the concurrency while anything waits, else what can start.
local function retries_allowed(queue)
  local most = tonumber(redis.call('HGET', P .. 'limits', queue .. ':concurrency') or '')
  if not most then return 1000 end
  local ring = P .. 'ring:' .. queue .. ':'
  if redis.call('EXISTS', ring .. 'high', ring .. 'medium', ring .. 'low') == 0 then
    return most - redis.call('ZCARD', P .. 'running:' .. queue)
  end
  local half, again = math.max(1, math.floor(most / 2)), P .. 'again:' .. queue
  if redis.call('SCARD', again) >= half then
    for _, id in ipairs(redis.call('SMEMBERS', again)) do
      local state = redis.call('HGET', jobkey(id), 'state')
      if state ~= 'waiting' and state ~= 'running' then redis.call('SREM', again, id) end
    end
  end
  return half - redis.call('SCARD', again)
end

local function part_of(mode, user, bank)
  if mode == 'user' then return user end
  return bank
end

-- Counts what runs by partition. Answer: nil without partitions, else whether a seat's partition has its share, and a
-- function that counts one more start.
local function shares(queue, mode, most)
  if (mode ~= 'user' and mode ~= 'institution') or not most then return nil end
  local held, cap = {}, math.max(1, math.floor(most * SHARE))
  for _, id in ipairs(redis.call('ZRANGE', P .. 'running:' .. queue, 0, 199)) do
    local f = redis.call('HMGET', jobkey(id), 'user', 'institution')
    local part = part_of(mode, f[1] or '', f[2] or '')
    held[part] = (held[part] or 0) + 1
  end
  local function of(seat) return part_of(mode, seat_user(seat), seat_bank(seat)) end
  return function(seat) return of(seat) ~= '' and (held[of(seat)] or 0) >= cap end,
    function(seat) held[of(seat)] = (held[of(seat)] or 0) + 1 end
end

-- The seat whose turn it is: the first of the best lane, or the first whose partition has not got its share; where all
-- have, the first all the same. Answer: lane, seat, and whether it is the ring's first.
local function whose_turn(queue, full)
  local lane_of_first, first
  for _, lane in ipairs(LANES) do
    local ring = P .. 'ring:' .. queue .. ':' .. lane
    if not full then
      local seat = redis.call('LINDEX', ring, 0)
      if seat then return lane, seat, true end
    else
      for i, seat in ipairs(redis.call('LRANGE', ring, 0, 199)) do
        if not full(seat) then return lane, seat, i == 1 end
        if not first then lane_of_first, first = lane, seat end
      end
    end
  end
  return lane_of_first, first, true
end
"""
SHARES: Final = _TEXT.replace("SHARE", str(SHARE))
