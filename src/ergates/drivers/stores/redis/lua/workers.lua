-- Workers: what they hold, who is silent, whose leases go back. `workers` orders the living by their last beat; a silent one that
-- holds leases is condemned and moves to `gone`, from where its next beat brings it back unless somebody reaped it.
--
-- own:<worker> is a hash "job:task" -> "fence known lane"; `known` 1 says the task has a setback, 2 more that there is another lease
-- of it (copies.lua). rev:<worker> has the reason for
-- each of its leases that the user cancelled.

function S.parse_place(field)
  local number, task = string.match(field, '^(%d+):(%d+)$')
  return tonumber(number), tonumber(task)
end

-- What a worker holds goes back unharmed; what the user had cancelled meanwhile becomes cancelled.
function S.give_back_all(worker)
  local own, revoked = P .. 'own:' .. worker, P .. 'rev:' .. worker
  local held = call('HGETALL', own)
  for i = 1, #held, 2 do
    local number, task = S.parse_place(held[i])
    local lease_fence, known, lane, twin = S.parse_lease(held[i + 1])
    local job = S.load_job(number)
    local reason = call('HGET', revoked, held[i])
    if S.nodes_of(S.parse_lane(lane).class) > 1 then
      S.dissolve(number, task)
    end
    if twin then
      S.leave_pair(job, task, lease_fence, lane, known and S.read_setback(job, task) or nil, false, false)
    elseif reason then
      local setback = known and S.read_setback(job, task)
      S.end_badly(job, task, LEASED, CANCELLED, setback, setback and setback[ATTEMPTS] or 0, reason)
    else
      S.move(job, LEASED, READY, 1)
      S.make_ready(job, task, lane, known and READY or FRESH)
    end
  end
  if S.gangs > 0 then
    S.give_back_members(worker)
  end
  S.flush_ready()
  call('DEL', own, revoked, P .. 'over:' .. worker)
  call('SREM', P .. 'gone', worker)
end

-- Leases, or seats of gangs that run (gangs.lua).
function S.holds_any(worker)
  return call('EXISTS', P .. 'own:' .. worker, P .. 'mem:' .. worker) > 0
end

-- How many; the leader of a gang has a lease and a seat.
function S.leases_of(worker)
  local count = call('HLEN', P .. 'own:' .. worker)
  for _, seat in ipairs(S.gangs > 0 and call('HVALS', P .. 'mem:' .. worker) or {}) do
    if string.sub(seat, 1, 2) ~= '0 ' then
      count = count + 1
    end
  end
  return count
end

-- Somebody ended a lease of a worker that was found dead.
function S.count_as_reaped(worker)
  call('HSET', P .. 'w:' .. worker, 'standing', 'reaped')
  call('ZADD', P .. 'left', at, worker)
end

-- That may have been its last one.
function S.forget_empty_handed(worker)
  if not S.holds_any(worker) then
    call('SREM', P .. 'gone', worker)
  end
end

-- Who holds a task under this fence and was found dead? From now on that worker counts as reaped.
function S.reap_holder(field, lease_fence)
  for _, worker in ipairs(call('SMEMBERS', P .. 'gone')) do
    local value = call('HGET', P .. 'own:' .. worker, field)
    if value and S.parse_lease(value) == lease_fence then
      S.count_as_reaped(worker)
      return worker, value
    end
  end
end

-- A worker that is long gone is forgotten altogether.
function S.forget(worker)
  local host = call('HGET', P .. 'w:' .. worker, 'host')
  if host then
    call('SREM', P .. 'h:' .. host, worker)
  end
  call('ZREM', P .. 'left', worker)
  call('ZREM', P .. 'roster', worker)
  call('DEL', P .. 'w:' .. worker)
end
