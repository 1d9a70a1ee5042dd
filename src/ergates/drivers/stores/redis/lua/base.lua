-- What every script begins with: who calls, what time it is, is this store of our layout, is this still the same server?
-- One straight line without functions, for the usual exchange needs none (usual.lua).
--
-- KEYS[1] is the queue's hash of facts, `{erg:QUEUE}:meta`; every other key begins like it, so all lie in one slot.
-- ARGV[1] is MessagePack: {layout, run id, caller's time, its correction or false for the server's own clock, lease time,
-- the request}. Times are microseconds: Lua counts in doubles, exact to 2^53. Numbers are handed to redis.call as they are
-- (it prints all their digits); joined into text they lose digits beyond the 14th, so `S.text()` is for large ones.

local META = KEYS[1]
local P = string.sub(META, 1, -5)
local call, pack, unpack_msgpack, format = redis.call, cmsgpack.pack, cmsgpack.unpack, string.format
local LAYOUT = 1

local head = unpack_msgpack(ARGV[1])
local request = head[6]
local lease_us = head[5]

local meta = call('HMGET', META, 'layout', 'run', 'counters', 'gangs')
if not meta[1] then
  call('HSET', META, 'layout', LAYOUT, 'about', 'A queue of Ergates. Its keys belong together: do not change or delete single ones.')
elseif tonumber(meta[1]) ~= head[1] then
  return redis.error_reply('ERGLAYOUT ' .. meta[1])
end
-- Generation and counter of fences; rows of all logs; tasks that are not at an end; the highest time brought by callers; steps left
-- in `work`; jobs that age; the earliest delayed task (0: none).
local generation, fence, rows, open_tasks, seen, steps_in_work, ageing_jobs, first_due = 0, 0, 0, 0, 0, 0, 0, 0
if meta[3] then
  generation, fence, rows, open_tasks, seen, steps_in_work, ageing_jobs, first_due = struct.unpack('<dddddddd', meta[3])
end
local gangs = tonumber(meta[4] or 0) -- classes of tasks that need several workers; nearly always none

-- Store time `at`, and what to add to a moment of the caller's clock.
local at, ahead
if head[4] then
  -- The clocks of the callers: the highest time anybody brought; a clock that was set back is carried forward.
  ahead = head[4]
  at = seen
  if head[3] > 0 then
    local behind = seen - (head[3] + ahead)
    if behind > 1000000 then
      ahead = ahead + behind
    end
    at = math.max(seen, head[3] + ahead)
  end
  seen = at
else
  local time = call('TIME')
  at = time[1] * 1000000 + time[2]
  ahead = at - head[3]
end

if meta[2] ~= head[2] then
  -- Another server process (or the first one): nobody is condemned for the time it was away, and no fence is given twice,
  -- not even when the last second was lost, for the counter begins where the random run id says.
  generation = generation + 1
  fence = tonumber(string.sub(head[2], 1, 7), 16) or 0
  call('HSET', META, 'run', head[2])
  for _, worker in ipairs(call('ZRANGE', P .. 'workers', 0, -1)) do
    call('ZADD', P .. 'workers', at, worker)
  end
end
