"""Putting one job into another lane, as part of a bulk move."""

from __future__ import annotations

from typing import Final

# ARGV: id lane. Answer: the state that it was in ('' where there is none). A job that waits for its time goes there
# when that comes.
LANE: Final = """
local id, lane, key = ARGV[1], ARGV[2], jobkey(ARGV[1])
local f = redis.call('HMGET', key, 'state', 'queue', 'lane', 'user', 'final')
if not f[1] then return '' end
if f[1] == 'running' or f[1] == 'done' or f[5] then return f[5] and 'failing' or f[1] end
if f[3] ~= lane then
  if f[1] == 'waiting' then
    pull(f[2], f[3], f[4], id)
    push(f[2], lane, f[4], id, false)
  end
  redis.call('HSET', key, 'lane', lane)
  wake(f[2])
  event(id)
end
return f[1]
"""
