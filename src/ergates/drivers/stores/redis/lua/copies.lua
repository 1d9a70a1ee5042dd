-- Copies: a second lease of a task that another worker runs, under a fence of its own (docs/workers.md). The first to commit success
-- wins. `twins` has, for each task with a copy, "job:task" -> {number, worker, fence, worker of the copy, fence of the copy}; `number` is
-- the original attempt's, the copy's is the next. Both leases say that they have a twin (states.lua). What the loser held is no
-- lease any more: over:<worker> is a hash fence -> "job:task", named as revoked to that worker until it says that it ended it.

local TWINS = P .. 'twins'

local function holder_of(field, lease_fence)
  for _, worker in ipairs(call('ZRANGE', P .. 'roster', 0, -1)) do
    local value = call('HGET', P .. 'own:' .. worker, field)
    if value and S.parse_lease(value) == lease_fence then
      return worker, value
    end
  end
end

-- Returns a row of leases, as lease_wanted makes them: its last place is the host of the original. Nil: no copy of that now.
function S.lease_copy(worker, want)
  local job, task, original = S.load_job(want[1]), want[5], want[6]
  if not job or not S.leases_out(job) or S.read_state(job, task) ~= LEASED then
    return nil
  end
  local field = job.n .. ':' .. task
  if not cjson.decode(call('HGET', job.key, 'spec')).copies or call('HEXISTS', TWINS, field) == 1 then
    return nil
  end
  local holder, value = holder_of(field, original)
  if not holder or holder == worker or call('HEXISTS', P .. 'rev:' .. holder, field) == 1 then
    return nil
  end
  local _, known, lane = S.parse_lease(value)
  local about = S.parse_lane(lane)
  if S.nodes_of(about.class) > 1 then
    return nil
  end
  local b = known and S.read_setback(job, task) or S.new_setback(0)
  local number, lease_fence, flag = b[ATTEMPTS] + 1, S.new_fences(1), known and ' 3 ' or ' 2 '
  call('HSET', P .. 'own:' .. holder, field, S.text(original) .. flag .. lane)
  call('HSET', P .. 'own:' .. worker, field, S.text(lease_fence) .. flag .. lane)
  call('HSET', TWINS, field, pack({ number, holder, original, worker, lease_fence }))
  return { job.n, job.uid, task, 1, lease_fence, about.class, about.priority, job.edits,
    { { task, number, b[1], b[2], b[3], b[4], b[5] } }, false, call('HGET', P .. 'w:' .. holder, 'host') or '' }
end

-- The number of one of the two attempts.
function S.number_of_twin(field, lease_fence)
  local t = unpack_msgpack(call('HGET', TWINS, field))
  return t[5] == lease_fence and t[1] + 1 or t[1]
end

local function overtake(worker, field, lease_fence)
  call('HDEL', P .. 'own:' .. worker, field)
  if call('HDEL', P .. 'rev:' .. worker, field) == 0 then
    call('HINCRBY', P .. 'w:' .. worker, 'revoked', 1)
  end
  call('HSET', P .. 'over:' .. worker, S.text(lease_fence), field)
  S.ring(worker)
end

-- One of two leases of a task is over. If it has `won`, so is the other. Returns how many attempts the task has had then, nil
-- when the other one goes on: then nothing becomes of the task now. `recorded`: whether this one is put into the log.
function S.leave_pair(job, task, lease_fence, lane, setback, won, recorded)
  local field = job.n .. ':' .. task
  local t = unpack_msgpack(call('HGET', TWINS, field))
  local is_copy, used = t[5] == lease_fence, setback and setback[ATTEMPTS] or 0
  local number = is_copy and t[1] + 1 or t[1]
  local other, other_fence = is_copy and t[2] or t[4], is_copy and t[3] or t[5]
  call('HDEL', TWINS, field)
  if won then
    overtake(other, field, other_fence)
    return math.max(used, number)
  end
  -- No number is used twice, whichever of them ends when.
  local now_used = math.max(used, recorded and number or 0, is_copy and 0 or t[1])
  if now_used > used then
    setback = setback or S.new_setback(0)
    setback[ATTEMPTS] = now_used
    S.write_setback(job, task, setback)
  end
  call('HSET', P .. 'own:' .. other, field, S.text(other_fence) .. (setback and ' 1 ' or ' 0 ') .. lane)
  return nil
end

-- What others were faster with joins `revoked`.
function S.tell_overtaken(worker, revoked)
  local over = call('HGETALL', P .. 'over:' .. worker)
  for i = 1, #over, 2 do
    local job, task = S.parse_place(over[i + 1])
    revoked[#revoked + 1] = { job, task, tonumber(over[i]) }
  end
end
