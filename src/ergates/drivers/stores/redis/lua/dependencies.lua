-- Tasks that come after others. A prerequisite is a range "first-last", stored once: how many of its tasks are not done (field
-- `first-last` of `pre`), how many ended badly (field `!first-last`), and who waits for it, in blocks of up to 1,000 ids.
-- Ranges are found by the power of two of their length (`lv:<level>`), so only ranges near a task are looked at.
-- `need` holds for each task how many of its ranges are not complete.
--
-- One end may free or cancel a million tasks. What follows from it is a list of small steps; a call does at most STEPS of them
-- and leaves the rest in `work`, where whoever calls next goes on.

local STEPS = 1000
local steps_left = STEPS

function S.ranges_around(job, task)
  local found = {}
  for level in string.gmatch(job.levels, '%d+') do
    local lower = '(' .. (task - 2 ^ tonumber(level))
    for _, range in ipairs(call('ZRANGEBYSCORE', job.key .. ':lv:' .. level, lower, task)) do
      if tonumber(string.match(range, '%-(%d+)$')) >= task then
        found[#found + 1] = range
      end
    end
  end
  return found
end

function S.read_need(job, task)
  return struct.unpack('<I4', call('GETRANGE', job.key .. ':need', 4 * task - 4, 4 * task - 1))
end

function S.write_need(job, task, need)
  call('SETRANGE', job.key .. ':need', 4 * task - 4, struct.pack('<I4', need))
end

function S.waiters_in_block(job, range, block)
  local packed = call('HGET', job.key .. ':waiters', range .. '/' .. block)
  local tasks = {}
  for i = 1, packed and #packed or 0, 4 do
    tasks[#tasks + 1] = struct.unpack('<I4', packed, i)
  end
  return tasks
end

function S.next_block(job, kind, range, block, cause, word)
  if call('HEXISTS', job.key .. ':waiters', range .. '/' .. block + 1) == 1 then
    steps[#steps + 1] = { kind, job.n, range, block + 1, cause, word }
  end
end

function S.step_task_done(job, task)
  for _, range in ipairs(S.ranges_around(job, task)) do
    if call('HINCRBY', job.key .. ':pre', range, -1) == 0 then
      steps[#steps + 1] = { 'release', job.n, range, 0 }
    end
  end
end

function S.step_release(job, range, block)
  local tasks = S.waiters_in_block(job, range, block)
  for _, task in ipairs(tasks) do
    local need = S.read_need(job, task) - 1
    S.write_need(job, task, need)
    if need == 0 and S.read_state(job, task) == BLOCKED then
      local setback = S.read_setback(job, task)
      S.move(job, BLOCKED, READY, 1)
      S.make_ready(job, task, S.lane_of(job, task, setback), setback and READY or FRESH)
    end
  end
  S.flush_ready()
  S.next_block(job, 'release', range, block)
  return #tasks
end

-- `count` is 1 for a task that ended badly, -1 for one that is taken back.
function S.count_bad(job, task, count)
  local ranges = S.ranges_around(job, task)
  for _, range in ipairs(ranges) do
    call('HINCRBY', job.key .. ':pre', '!' .. range, count)
  end
  return ranges
end

function S.step_task_bad(job, task, word)
  for _, range in ipairs(S.count_bad(job, task, 1)) do
    steps[#steps + 1] = { 'cancel', job.n, range, 0, task, word }
  end
end

function S.step_cancel(job, range, block, cause, word)
  local tasks = S.waiters_in_block(job, range, block)
  for _, task in ipairs(tasks) do
    if S.read_state(job, task) == BLOCKED then
      local setback = S.read_setback(job, task) or S.new_setback(0)
      setback[REASON], setback[CAUSE], setback[WORD], setback[DUE] = '', cause, word, 0
      S.write_setback(job, task, setback)
      S.set_states(job, task, task, CANCELLED)
      S.move(job, BLOCKED, CANCELLED, 1)
      steps[#steps + 1] = { 'bad', job.n, task, 'was cancelled' }
    end
  end
  S.next_block(job, 'cancel', range, block, cause, word)
  return #tasks
end

-- A done task is to run again: its ranges are not complete any more, and what waited for them is blocked again.
function S.task_undone(job, task)
  for _, range in ipairs(S.ranges_around(job, task)) do
    if call('HINCRBY', job.key .. ':pre', range, 1) == 1 then
      steps[#steps + 1] = { 'block', job.n, range, 0 }
    end
  end
end

function S.step_block(job, range, block)
  local tasks = S.waiters_in_block(job, range, block)
  for _, task in ipairs(tasks) do
    S.write_need(job, task, S.read_need(job, task) + 1)
    local state = S.read_state(job, task)
    if state == FRESH or state == READY or state == DELAYED then
      local setback = S.read_setback(job, task)
      if state == DELAYED then
        call('ZREM', job.key .. ':delayed', task)
        setback[DUE] = 0
        S.write_setback(job, task, setback)
        S.note_due(job)
      else
        local lane = S.lane_of(job, task, setback)
        S.cut_range(lane, task, task)
        S.lane_shrinks(job, lane, 1)
      end
      S.set_states(job, task, task, BLOCKED)
      S.move(job, state, BLOCKED, 1)
    end
  end
  S.next_block(job, 'block', range, block)
  return #tasks
end

function S.do_step(step)
  local kind, job = step[1], S.load_job(step[2])
  if not job then
    return 1 -- it was finished, and is forgotten
  elseif kind == 'done' then
    S.step_task_done(job, step[3])
  elseif kind == 'bad' then
    S.step_task_bad(job, step[3], step[4])
  elseif kind == 'release' then
    return S.step_release(job, step[3], step[4])
  elseif kind == 'block' then
    return S.step_block(job, step[3], step[4])
  else
    return S.step_cancel(job, step[3], step[4], step[5], step[6])
  end
  return 1
end

-- Do what follows, in the order in which it came up: what others left first. Returns how many steps are left.
function S.follow_up()
  local left, next_step = steps_in_work, 1
  local function leave_rest()
    for i = next_step, #steps do
      left = call('RPUSH', P .. 'work', pack(steps[i]))
    end
    steps, next_step = {}, 1
  end
  if left > 0 then
    leave_rest()
  end
  while left > 0 and steps_left > 0 do
    local packed = call('LPOP', P .. 'work')
    left = left - 1
    steps_left = steps_left - S.do_step(unpack_msgpack(packed))
    leave_rest()
  end
  while next_step <= #steps and steps_left > 0 do
    next_step = next_step + 1
    steps_left = steps_left - S.do_step(steps[next_step - 1])
  end
  leave_rest()
  steps_in_work = left
  return left
end

function S.task_ended_badly(job, task, word)
  if job.levels then
    steps[#steps + 1] = { 'bad', job.n, task, word }
  end
end

-- A task ends as failed or cancelled, from any state that is not terminal.
function S.end_badly(job, task, before, after, setback, attempts, reason)
  setback = setback or S.new_setback(attempts)
  setback[ATTEMPTS], setback[DUE], setback[REASON], setback[CAUSE], setback[WORD] = attempts, 0, reason, 0, ''
  S.write_setback(job, task, setback)
  S.set_states(job, task, task, after)
  S.move(job, before, after, 1)
  S.task_ended_badly(job, task, after == FAILED and 'failed' or 'was cancelled')
end
