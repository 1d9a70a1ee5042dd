-- needs:
-- Failed and cancelled tasks of a range are ready again, in a job where nothing waits for anything. The request: {job, first, last}.
-- The answer: {where to go on, how many, tasks of the job}; where is 0 for an unknown job, -1 for a job with dependencies (see revive.lua).

local TASKS_AT_ONCE = 1000
local job = S.load_job(request[1])
if not job or job.levels then
  return S.finish(pack({ job and -1 or 0, 0, 0 }))
end
local first, last = math.max(1, request[2]), math.min(request[3], job.total, request[2] + TASKS_AT_ONCE - 1)
local ended = {}
local states = first <= last and S.read_states(job, first, last) or ''
for i = 1, #states do
  local state = string.byte(states, i)
  if state == FAILED or state == CANCELLED then
    ended[#ended + 1] = first + i - 1
  end
end
if #ended > 0 then
  local setbacks = call('HMGET', job.key .. ':back', unpack(ended))
  for i, task in ipairs(ended) do
    local b = setbacks[i] and unpack_msgpack(setbacks[i]) or nil
    S.move(job, string.byte(states, task - first + 1), READY, 1)
    S.make_ready(job, task, S.lane_of(job, task, b), S.clear_setback(job, task, b) and READY or FRESH)
  end
  S.flush_ready()
  if job.phase == 'cancelled' then
    job.phase = 'active'
    S.set_job(job, 'phase', 'active')
  end
end
S.flush_jobs()
S.ring_for_new_tasks()
return S.finish(pack({ math.max(first, last + 1), #ended, job.total }))
