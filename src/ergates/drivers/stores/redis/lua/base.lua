-- What every script begins with: who calls, what time it is, is this store of our layout, is this still the same server?
--
-- KEYS[1] is the queue's hash of facts, `{erg:QUEUE}:meta`; every other key begins like it, so all lie in one slot.
-- ARGV[1] is MessagePack: {layout, run id, caller's time, its correction or false for the server's own clock, lease time,
-- the request}. Times are microseconds: Lua counts in doubles, exact to 2^53. Numbers are handed to redis.call as they are
-- (it prints all their digits); joined into text they lose digits beyond the 14th, so `S.text()` is for large ones.

local META = KEYS[1]
local P = string.sub(META, 1, -5)
local call, pack, unpack_msgpack, format = redis.call, cmsgpack.pack, cmsgpack.unpack, string.format
local LAYOUT = 1
local S = {} -- what is seldom needed, made when it is first called (scripts.py)

local head = unpack_msgpack(ARGV[1])
local request = head[6]
local lease_us = head[5]

local meta = call('HMGET', META, 'layout', 'run', 'generation', 'fence', 'rows', 'open', 'now', 'work', 'aging', 'due')
if not meta[1] then
  call('HSET', META, 'layout', LAYOUT)
elseif tonumber(meta[1]) ~= head[1] then
  return redis.error_reply('ERGLAYOUT ' .. meta[1])
end
local rows, open_tasks = tonumber(meta[5] or 0), tonumber(meta[6] or 0)
local generation, fence = tonumber(meta[3] or 0), tonumber(meta[4] or 0)
local meta_changes = {}

function S.text(number)
  return format('%.0f', number)
end

function S.set_meta(field, value)
  meta_changes[#meta_changes + 1] = field
  meta_changes[#meta_changes + 1] = value
end

-- Store time `at`, and what to add to a moment of the caller's clock.
local at, ahead
if head[4] then
  -- The clocks of the callers: the highest time anybody brought; a clock that was set back is carried forward.
  local seen = tonumber(meta[7] or 0)
  ahead = head[4]
  at = seen
  if head[3] > 0 then
    local behind = seen - (head[3] + ahead)
    if behind > 1000000 then
      ahead = ahead + behind
    end
    at = math.max(seen, head[3] + ahead)
  end
  if at ~= seen then
    S.set_meta('now', at)
  end
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
  call('HSET', META, 'run', head[2], 'generation', generation, 'fence', fence)
  for _, worker in ipairs(call('ZRANGE', P .. 'workers', 0, -1)) do
    call('ZADD', P .. 'workers', at, worker)
  end
end

function S.new_fences(count)
  local first = fence + 1
  fence = fence + count
  return generation * 4294967296 + first
end

function S.flush_meta()
  if fence ~= tonumber(meta[4] or 0) then
    S.set_meta('fence', fence)
  end
  if rows ~= tonumber(meta[5] or 0) then
    S.set_meta('rows', rows)
  end
  if open_tasks ~= tonumber(meta[6] or 0) then
    S.set_meta('open', open_tasks)
  end
  if #meta_changes > 0 then
    call('HSET', META, unpack(meta_changes))
  end
end

-- How every script ends: what changed is written, and the caller learns the correction of its clock.
function S.finish(...)
  S.flush_meta()
  return { pack(ahead), ... }
end
