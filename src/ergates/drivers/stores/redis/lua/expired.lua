-- needs:
-- Leases of workers that are silent for longer than the lease time, provably dead, or were found so before. The request: a list of
-- {worker, beat} of the provably dead; one that has beaten since it was looked at is not condemned. The answer is a list of
-- {job, uid, task, fence, class, priority, edited, past or false, host, place in a gang}: {rank, hosts} for a member, else false.

local workers, gone = P .. 'workers', P .. 'gone'
local silent = call('ZRANGEBYSCORE', workers, '-inf', '(' .. S.text(at - lease_us))
for _, about in ipairs(request) do
  if call('HGET', P .. 'w:' .. about[1], 'beat') == about[2] then
    silent[#silent + 1] = about[1]
  end
end
for _, worker in ipairs(silent) do
  if S.holds_any(worker) then
    call('HSET', P .. 'w:' .. worker, 'standing', 'condemned')
    call('SADD', gone, worker)
  else
    call('ZADD', P .. 'left', at, worker)
  end
  call('ZREM', workers, worker)
  call('SREM', P .. 'idle', worker)
  call('ZREM', P .. 'seats', worker)
end

local leases = {}
local function note(number, task, lease_fence, lane, known, host, place, twin)
  local job, about = S.load_job(number), S.parse_lane(lane)
  local b = known and S.read_setback(job, task)
  if twin then
    b = b or S.new_setback(0)
    b[ATTEMPTS] = S.number_of_twin(number .. ':' .. task, lease_fence) - 1
  end
  local past = b and { b[ATTEMPTS], b[1], b[2], b[3], b[4], b[5] } or false
  leases[#leases + 1] =
    { number, job.uid, task, lease_fence, about.class, about.priority, job.edits, past, host, place }
end

local condemned = call('SMEMBERS', gone)
table.sort(condemned)
for _, worker in ipairs(condemned) do
  local held = call('HGETALL', P .. 'own:' .. worker)
  local host = call('HGET', P .. 'w:' .. worker, 'host')
  for i = 1, #held, 2 do
    local number, task = S.parse_place(held[i])
    local lease_fence, known, lane, twin = S.parse_lease(held[i + 1])
    note(number, task, lease_fence, lane, known, host, false, twin)
  end
  for _, m in ipairs(S.gangs > 0 and S.members_of_the_dead(worker) or {}) do
    note(m[1], m[2], m[3], m[4], m[5], host, m[6])
  end
  S.forget_empty_handed(worker)
end
return S.finish(pack(leases))
