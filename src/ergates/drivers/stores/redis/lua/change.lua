-- needs:
-- Change tasks that nobody runs, and let ended ones run again. The request: {job, edits seen, which ended ones run again, tasks}; a task
-- is {id, change it, class or 0, priority or false, place of its new spec among the arguments or 0, the ranges it comes after}.
-- Again: NONE, BAD (failed and cancelled) or ENDED (done, too); prerequisites stand before what waits for them, and one whose
-- prerequisite stays failed or cancelled is left alone. The answer: {edits now, tasks changed, tasks that run again}; edits now
-- are others than those seen when somebody else edited meanwhile: nothing was done, look again; -1 when the job is not there.

local NONE, BAD = 0, 1
local job, again = S.load_job(request[1]), request[3]
if not job then
  return S.finish(pack({ -1, {}, {} }))
end
local edits = tonumber(call('HGET', job.key, 'edits_made') or 0)
if request[2] and request[2] ~= edits then
  return S.finish(pack({ edits, {}, {} }))
end
local changed, back = {}, {}

local function is_held_back(ranges)
  for _, range in ipairs(ranges) do
    if tonumber(call('HGET', job.key .. ':pre', '!' .. range) or 0) > 0 then
      return true
    end
  end
  return false
end

local function runs_again(state)
  return again ~= NONE and (state == FAILED or state == CANCELLED or (state == DONE and again ~= BAD))
end

-- Another class or priority; returns the setback that says so.
local function put_into_class(task, about, setback, before)
  local lane = S.parse_lane(S.lane_of(job, task, setback))
  local class = about[3] > 0 and about[3] or lane.class
  local priority = about[4] or lane.priority
  if class ~= lane.class or priority ~= lane.priority then
    setback = setback or S.new_setback(before == DONE and 1 or 0)
    setback[CLASS], setback[PRIORITY], setback[AVOID] = class, priority, lane.avoid
    S.write_setback(job, task, setback)
  end
  return setback
end

local function change(task, about, state)
  local setback = S.read_setback(job, task)
  local lane = S.lane_of(job, task, setback)
  setback = put_into_class(task, about, setback, state)
  local new_lane = S.lane_of(job, task, setback)
  if (state == FRESH or state == READY) and new_lane ~= lane then
    S.cut_range(lane, task, task)
    S.lane_shrinks(job, lane, 1)
    S.make_ready(job, task, new_lane, READY)
  end
  if about[5] > 0 then
    call('HSET', job.key .. ':edits', task, ARGV[about[5] + 1])
    S.set_bit(job, 'edits')
  end
  changed[#changed + 1] = task
end

local function run_again(task, state)
  local setback = S.read_setback(job, task)
  if state == DONE then
    setback = setback or S.new_setback(1)
  end
  local lane = S.lane_of(job, task, setback)
  local kept = S.clear_setback(job, task, setback)
  if job.levels then
    if state == DONE then
      S.task_undone(job, task)
      S.follow_up()
    else
      S.count_bad(job, task, -1)
    end
  end
  if job.levels and S.read_need(job, task) > 0 then
    S.set_states(job, task, task, BLOCKED)
    S.move(job, state, BLOCKED, 1)
  else
    S.move(job, state, READY, 1)
    S.make_ready(job, task, lane, kept and READY or FRESH)
  end
  back[#back + 1] = task
end

for _, about in ipairs(request[4]) do
  local task = about[1]
  if task >= 1 and task <= job.total then
    local state = S.read_state(job, task)
    local ended = state == DONE or state == FAILED or state == CANCELLED
    if runs_again(state) then
      if not is_held_back(about[6]) then
        if about[2] then
          change(task, about, state)
        end
        run_again(task, state)
        S.flush_ready()
      end
    elseif about[2] and state ~= LEASED and not (ended and (again ~= NONE or state == DONE)) then
      change(task, about, state)
    end
  end
end
S.flush_ready()
if #back > 0 and job.phase == 'cancelled' then
  job.phase = 'active'
  S.set_job(job, 'phase', 'active')
end
if #changed > 0 then
  edits = edits + 1
  S.set_job(job, 'edits_made', edits)
end
S.flush_jobs()
S.ring_for_new_tasks()
return S.finish(pack({ edits, changed, back }))
