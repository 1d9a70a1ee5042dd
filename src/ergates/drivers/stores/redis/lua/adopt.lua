-- needs: commits
-- A server that was restarted may have lost its last second. A worker says what it holds, and commits again what it committed lately:
-- leases of tasks that went back are its own again under the same fence, commits whose lease stands are accepted now.
--
-- The request: {worker, host, info or '', registered, who asks, number, held, commits, jobs}. Jobs are {number, uid}: a job that was
-- forgotten may have left its number to another. Held is a list of {job, task, fence, attempt,
-- pending}: `attempt` above 0 for one that was committed as that attempt; `pending` true for one whose commit is in the request
-- `number`, which may have been carried out. The answer: {job, task, fence} of what is another's now, or at an end. A sixth place of `held`
-- that is true names a member of a gang: where the server forgot that gang, nobody has it, and its members end.

local worker = request[1]
local W, own = P .. 'w:' .. worker, P .. 'own:' .. worker
local w = call('HMGET', W, 'standing', 'host', 'asker', 'number', 'registered')
local taken = {}
if request[3] ~= '' and w[5] ~= request[4] then -- that it registered, or did so anew, was lost
  if w[1] then -- what an older life of it held would be held for ever by a worker that lives and does not know of it
    S.give_back_all(worker)
    S.flush_jobs()
    S.follow_up()
    call('SREM', P .. 'h:' .. w[2], worker)
    call('HDEL', W, 'answer', 'revoked')
  end
  call('HSET', W, 'host', request[2], 'info', request[3], 'registered', request[4], 'standing', 'live', 'beat', at,
    'asker', '', 'number', 0)
  call('HSETNX', W, 'version', 0)
  call('HSETNX', W, 'orders', '')
  call('ZADD', P .. 'workers', at, worker)
  call('ZADD', P .. 'roster', at, worker)
  call('SADD', P .. 'h:' .. request[2], worker)
  call('ZREM', P .. 'left', worker)
  w = { 'live', request[2], '', '0' }
end
if w[1] ~= 'live' and w[1] ~= 'condemned' then
  return S.finish(pack(taken))
end
local carried_out = w[3] == request[5] and tonumber(w[4]) >= request[6]

local uids = {}
for _, known in ipairs(request[9]) do
  uids[known[1]] = known[2]
end

local function adopt(job, task, lease_fence, attempt)
  local state = S.read_state(job, task)
  if state == LEASED or state == DONE or state == FAILED or state == CANCELLED then
    return false
  end
  local setback = S.read_setback(job, task)
  if attempt > 0 and setback and setback[ATTEMPTS] >= attempt then
    return false -- that commit was not lost: it is what made the task wait again
  end
  local lane = S.lane_of(job, task, setback)
  if state == FRESH or state == READY then
    S.cut_range(lane, task, task)
    S.lane_shrinks(job, lane, 1)
  elseif state == DELAYED then
    call('ZREM', job.key .. ':delayed', task)
    S.note_due(job)
  end
  S.set_states(job, task, task, LEASED)
  S.move(job, state, LEASED, 1)
  call('HSET', own, job.n .. ':' .. task, S.text(lease_fence) .. (setback and ' 1 ' or ' 0 ') .. lane)
  return true
end

for _, about in ipairs(request[7]) do
  local job, task, lease_fence = S.load_job(about[1]), about[2], about[3]
  if not (about[5] and carried_out) then
    local value = call('HGET', own, about[1] .. ':' .. task)
    local stands = value and S.parse_lease(value) == lease_fence
    if about[6] then
      local mem, member = P .. 'mem:' .. worker, about[1] .. ':' .. task .. ':' .. S.text(lease_fence)
      local seat = call('HGET', mem, member)
      if seat then
        call('HSET', mem, member, string.match(seat, '^%d+') .. ' 1') -- it runs: that it was told may have been forgotten
        stands = true
      end
    elseif not stands and job and job.uid == uids[about[1]] and not value and task <= job.total then
      stands = adopt(job, task, lease_fence, about[4])
    end
    if not stands then
      taken[#taken + 1] = { about[1], task, lease_fence }
    end
  end
end

local again, blobs = {}, {}
for i, c in ipairs(request[8]) do
  local value = call('HGET', own, c[1] .. ':' .. c[2])
  if c[4] == SEAT or (value and S.parse_lease(value) == c[3]) then
    again[#again + 1] = c
    blobs[#again] = ARGV[i + 1]
  elseif call('HDEL', P .. 'over:' .. worker, S.text(c[3])) == 1 then
    call('HINCRBY', W, 'revoked', -1) -- it has ended what another attempt was faster with
  end
end
if #again > 0 then
  for i, blob in ipairs(blobs) do
    ARGV[i + 1] = blob
  end
  local ended = S.commit_all(worker, w[2], again, true, 2)
  if ended > 0 then
    call('HINCRBY', W, 'revoked', -ended)
  end
  S.follow_up()
end
S.flush_jobs()
S.ring_for_new_tasks()
return S.finish(pack(taken))
