-- needs:
-- Cancel what waits in a range of ids and revoke what is leased; as much as one call may do. The request: {job, first, last, reason}.
-- The answer: {where to go on, how many, tasks of the job}; where is 0 for a job that does not exist.

local TASKS_AT_ONCE, PIECES_AT_ONCE, SCAN = 1000, 1000, 65536
local job, reason = S.load_job(request[1]), request[4]
if not job then
  return S.finish(pack({ 0, 0, 0 }))
end
local first, last = math.max(1, request[2]), math.min(request[3], job.total, request[2] + SCAN - 1)
local count, pieces, singles = 0, 0, 0
local why_first, why_last

local function note_why(from, to)
  if why_last and why_last + 1 == from then
    why_last = to
  else
    if why_last then
      call('RPUSH', job.key .. ':why', pack({ why_first, why_last, reason }))
    end
    why_first, why_last = from, to
  end
end

local function cancel_fresh(from, to)
  local start = from
  while start <= to and pieces < PIECES_AT_ONCE do
    local lane, stop = S.origin_lane(job, start), to
    if job.lanes > 1 then
      stop = start
      while stop < to and S.origin_lane(job, stop + 1) == lane do
        stop = stop + 1
      end
    end
    S.cut_range(lane, start, stop)
    S.lane_shrinks(job, lane, stop - start + 1)
    pieces = pieces + 1
    start = stop + 1
  end
  return start - 1
end

local function cancel_single(task, state)
  local setback = S.read_setback(job, task)
  if state == READY then
    local lane = S.lane_of(job, task, setback)
    S.cut_range(lane, task, task)
    S.lane_shrinks(job, lane, 1)
  elseif state == DELAYED then
    call('ZREM', job.key .. ':delayed', task)
  end
  if setback then
    setback[DUE], setback[REASON], setback[CAUSE], setback[WORD] = 0, '', 0, ''
    S.write_setback(job, task, setback)
  end
end

local function cancel_run(from, to, state)
  if state == FRESH then
    if job.levels then
      to = math.min(to, from + TASKS_AT_ONCE - 1)
    end
    to = cancel_fresh(from, to)
  else
    to = math.min(to, from + TASKS_AT_ONCE - 1)
    for task = from, to do
      cancel_single(task, state)
    end
  end
  S.set_states(job, from, to, CANCELLED)
  S.move(job, state, CANCELLED, to - from + 1)
  note_why(from, to)
  count = count + to - from + 1
  if job.levels or state ~= FRESH then
    singles = singles + to - from + 1
  end
  for task = from, job.levels and to or 0 do
    S.task_ended_badly(job, task, 'was cancelled')
  end
  return to
end

local function revoke(from, to)
  local counted = {} -- a task may have two leases
  for _, worker in ipairs(call('ZRANGE', P .. 'roster', 0, -1)) do
    local rung = false
    for _, field in ipairs(call('HKEYS', P .. 'own:' .. worker)) do
      local number, task = S.parse_place(field)
      if number == job.n and task >= from and task <= to and call('HSETNX', P .. 'rev:' .. worker, field, reason) == 1 then
        call('HINCRBY', P .. 'w:' .. worker, 'revoked', 1)
        count, rung = count + (counted[task] and 0 or 1), true
        counted[task] = true
        if S.gangs > 0 then
          S.break_gang(number, task)
        end
      end
    end
    if rung then
      S.ring(worker)
    end
  end
end

local states = first <= last and S.read_states(job, first, last) or ''
local place, any_leased = 1, false
while place <= #states and pieces < PIECES_AT_ONCE and singles < TASKS_AT_ONCE do
  local state = string.byte(states, place)
  local class = state == FRESH and '[^%z]' or '[^' .. string.char(state) .. ']'
  local stop = (string.find(states, class, place) or #states + 1) - 1
  if state == FRESH or state == READY or state == DELAYED or state == BLOCKED then
    stop = cancel_run(first + place - 1, first + stop - 1, state) - first + 1
  elseif state == LEASED then
    any_leased = true
  end
  pieces = pieces + 1
  place = stop + 1
end
if why_last then
  call('RPUSH', job.key .. ':why', pack({ why_first, why_last, reason }))
end
if any_leased then
  revoke(first, first + place - 2)
end
S.note_due(job)
S.flush_jobs()
-- The ends of what was cancelled are told only when the whole range was: else what follows would be taken for caused.
for _, step in ipairs(steps) do
  call('RPUSH', P .. 'work', pack(step))
end
steps_in_work = steps_in_work + #steps
return S.finish(pack({ first + place - 1, count, job.total }))
