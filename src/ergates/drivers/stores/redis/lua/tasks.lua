-- One task at a time: its byte of state, and its *setback*, which only those have that came back, failed or were cancelled alone.
-- A setback is an array: failures, memory, losses, timeouts, last peak, attempts, class, priority, host to avoid, not before,
-- reason, the task whose end cancelled it, and how that one ended. Class 0: as submitted.

local ATTEMPTS, CLASS, PRIORITY, AVOID, DUE, REASON, CAUSE, WORD = 6, 7, 8, 9, 10, 11, 12, 13

local function new_setback(attempts)
  return { 0, 0, 0, 0, 0, attempts, 0, 0, '', 0, '', 0, '' }
end

local function read_setback(job, task)
  local raw = call('HGET', job.key .. ':back', task)
  return raw and unpack_msgpack(raw)
end

local function write_setback(job, task, setback)
  call('HSET', job.key .. ':back', task, pack(setback))
end

local function set_states(job, first, last, state)
  call('SETRANGE', job.key .. ':state', first - 1, string.rep(string.char(state), last - first + 1))
end

-- States of tasks first..last as a string; what was never written is FRESH.
local function read_states(job, first, last)
  local states = call('GETRANGE', job.key .. ':state', first - 1, last - 1)
  return states .. string.rep('\0', last - first + 1 - #states)
end

local function read_state(job, task)
  return string.byte(call('GETRANGE', job.key .. ':state', task - 1, task - 1)) or FRESH
end

local function lane_of(job, task, setback)
  if setback and setback[CLASS] > 0 then
    return lane_name(job.n, setback[CLASS], setback[PRIORITY], setback[AVOID])
  end
  return origin_lane(job, task)
end

-- What went wrong is forgotten; returns whether anything is left to remember (attempts, another class).
local function clear_setback(job, task, setback)
  if not setback then
    return false
  end
  if setback[ATTEMPTS] == 0 and setback[CLASS] == 0 then
    call('HDEL', job.key .. ':back', task)
    return false
  end
  for i = 1, 5 do
    setback[i] = 0
  end
  setback[DUE], setback[REASON], setback[CAUSE], setback[WORD] = 0, '', 0, ''
  write_setback(job, task, setback)
  return true
end

-- Tasks that become ready one after another are put into their lane as ranges.
local ready_run

local function flush_ready()
  if ready_run then
    local run = ready_run
    ready_run = nil
    put_range(run.lane, run.first, run.last)
    lane_grows(run.job, run.lane, run.last - run.first + 1)
    set_states(run.job, run.first, run.last, run.state)
  end
end

local function make_ready(job, task, lane, state)
  local run = ready_run
  if run and run.job == job and run.lane == lane and run.state == state and run.last + 1 == task then
    run.last = task
  else
    flush_ready()
    ready_run = { job = job, lane = lane, state = state, first = task, last = task }
  end
end

local function note_due(job)
  local first = call('ZRANGE', job.key .. ':delayed', 0, 0, 'WITHSCORES')
  if first[1] then
    call('ZADD', P .. 'due', first[2], job.n)
  else
    call('ZREM', P .. 'due', job.n)
  end
end

-- Delayed tasks whose time has come are ready; at most `budget` in one call, the next call goes on.
local function wake_delayed(budget)
  local due = call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES')
  while due[1] and tonumber(due[2]) <= at and budget > 0 do
    local job = load_job(tonumber(due[1]))
    local tasks = call('ZRANGEBYSCORE', job.key .. ':delayed', '-inf', at, 'LIMIT', 0, budget)
    budget = budget - #tasks
    for _, member in ipairs(tasks) do
      local task = tonumber(member)
      local setback = read_setback(job, task)
      setback[DUE] = 0
      write_setback(job, task, setback)
      move(job, DELAYED, READY, 1)
      make_ready(job, task, lane_of(job, task, setback), READY)
    end
    flush_ready()
    if #tasks > 0 then
      call('ZREM', job.key .. ':delayed', unpack(tasks))
    end
    note_due(job)
    due = call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES')
  end
  return due
end
