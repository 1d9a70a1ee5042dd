-- One task at a time: its byte of state, and its *setback*, which only those have that came back, failed or were cancelled alone.
-- A setback is an array: failures, memory, losses, timeouts, last peak, attempts, class, priority, host to avoid, not before,
-- reason, the task whose end cancelled it, and how that one ended. Class 0: as submitted.

function S.new_setback(attempts)
  return { 0, 0, 0, 0, 0, attempts, 0, 0, '', 0, '', 0, '' }
end

function S.read_setback(job, task)
  local raw = call('HGET', job.key .. ':back', task)
  return raw and unpack_msgpack(raw)
end

function S.write_setback(job, task, setback)
  call('HSET', job.key .. ':back', task, pack(setback))
  S.set_bit(job, 'backs')
end

function S.read_state(job, task)
  return string.byte(call('GETRANGE', job.key .. ':state', task - 1, task - 1)) or FRESH
end

-- It is done although it came back before, or although no attempt was kept.
function S.done_otherwise(job, task, setback, attempts)
  setback = setback or S.new_setback(attempts)
  setback[ATTEMPTS], setback[REASON] = attempts, ''
  S.write_setback(job, task, setback)
end

function S.lane_of(job, task, setback)
  if setback and setback[CLASS] > 0 then
    return S.lane_name(job.n, setback[CLASS], setback[PRIORITY], setback[AVOID])
  end
  return S.origin_lane(job, task)
end

-- What went wrong is forgotten; returns whether anything is left to remember (attempts, another class).
function S.clear_setback(job, task, setback)
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
  S.write_setback(job, task, setback)
  return true
end

-- Tasks that become ready one after another are put into their lane as ranges.
function S.flush_ready()
  if ready_run then
    local run = ready_run
    ready_run = nil
    S.put_range(run.lane, run.first, run.last)
    S.lane_grows(run.job, run.lane, run.last - run.first + 1)
    S.set_states(run.job, run.first, run.last, run.state)
  end
end

function S.make_ready(job, task, lane, state)
  local run = ready_run
  if run and run.job == job and run.lane == lane and run.state == state and run.last + 1 == task then
    run.last = task
  else
    S.flush_ready()
    ready_run = { job = job, lane = lane, state = state, first = task, last = task }
  end
end

function S.note_due(job)
  local first = call('ZRANGE', job.key .. ':delayed', 0, 0, 'WITHSCORES')
  if first[1] then
    call('ZADD', P .. 'due', first[2], job.n)
  else
    call('ZREM', P .. 'due', job.n)
  end
  local earliest = call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES')
  first_due = tonumber(earliest[2] or 0)
end

-- Delayed tasks whose time has come are ready; at most `budget` in one call, the next call goes on.
function S.wake_delayed(budget)
  local due = call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES')
  while due[1] and tonumber(due[2]) <= at and budget > 0 do
    local job = S.load_job(tonumber(due[1]))
    local tasks = call('ZRANGEBYSCORE', job.key .. ':delayed', '-inf', at, 'LIMIT', 0, budget)
    budget = budget - #tasks
    for _, member in ipairs(tasks) do
      local task = tonumber(member)
      local setback = S.read_setback(job, task)
      setback[DUE] = 0
      S.write_setback(job, task, setback)
      S.move(job, DELAYED, READY, 1)
      S.make_ready(job, task, S.lane_of(job, task, setback), READY)
    end
    S.flush_ready()
    if #tasks > 0 then
      call('ZREM', job.key .. ':delayed', unpack(tasks))
    end
    S.note_due(job)
    due = call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES')
  end
  return due
end
