-- needs: jobs lanes tasks dependencies ring
-- Retry in a job with dependencies. The request: {job, tasks}, a task is {id, the ranges it comes after}; prerequisites stand before
-- what waits for them. One whose prerequisite stays failed or cancelled is left as it is. The answer: those that were taken back.

local job = load_job(request[1])
local back = {}

local function is_held_back(ranges)
  for _, range in ipairs(ranges) do
    if tonumber(call('HGET', job.key .. ':pre', '!' .. range) or 0) > 0 then
      return true
    end
  end
  return false
end

for _, about in ipairs(request[2]) do
  local task = about[1]
  local state = read_state(job, task)
  if (state == FAILED or state == CANCELLED) and not is_held_back(about[2]) then
    local b = read_setback(job, task)
    local lane, kept = lane_of(job, task, b), clear_setback(job, task, b)
    count_bad(job, task, -1)
    if read_need(job, task) > 0 then
      set_states(job, task, task, BLOCKED)
      move(job, state, BLOCKED, 1)
    else
      move(job, state, READY, 1)
      make_ready(job, task, lane, kept and READY or FRESH)
    end
    back[#back + 1] = task
  end
end
flush_ready()
if #back > 0 and job.phase == 'cancelled' then
  job.phase = 'active'
  set_job(job, 'phase', 'active')
end
flush_jobs()
ring_for_new_tasks()
return finish(pack(back))
