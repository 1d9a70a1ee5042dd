-- Workers: what they hold, who is silent, whose leases go back. `workers` orders the living by their last beat; a silent one that
-- holds leases is condemned and moves to `gone`, from where its next beat brings it back unless somebody reaped it.
--
-- own:<worker> is a hash "job:task" -> "fence known lane"; `known` 1 says the task has a setback. rev:<worker> has the reason for
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
    local _, known, lane = S.parse_lease(held[i + 1])
    local job = S.load_job(number)
    local reason = call('HGET', revoked, held[i])
    if reason then
      local setback = known and S.read_setback(job, task)
      S.end_badly(job, task, LEASED, CANCELLED, setback, setback and setback[ATTEMPTS] or 0, reason)
    else
      S.move(job, LEASED, READY, 1)
      S.make_ready(job, task, lane, known and READY or FRESH)
    end
  end
  S.flush_ready()
  call('DEL', own, revoked)
  call('SREM', P .. 'gone', worker)
end

-- Who holds a task under this fence and was found dead? From now on that worker counts as reaped.
function S.reap_holder(field, lease_fence)
  for _, worker in ipairs(call('SMEMBERS', P .. 'gone')) do
    local value = call('HGET', P .. 'own:' .. worker, field)
    if value and S.parse_lease(value) == lease_fence then
      call('HSET', P .. 'w:' .. worker, 'standing', 'reaped')
      call('ZADD', P .. 'left', at, worker)
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
