-- Ending leases. A commit is {job, task, fence, verdict, outcome, wall, cpu, peak, cost, reason, past, not before, class, avoid};
-- the verdict is the state the task goes to, READY for a task that goes back; outcome false when there is no attempt to keep.
-- `blobs` are the packed attempts, in the same order.

local refused, accepted_rows, row_jobs = {}, {}, {}

local function keep_row(job, name, blob)
  local entry = accepted_rows[job.n]
  if not entry then
    entry = {}
    accepted_rows[job.n] = entry
    row_jobs[#row_jobs + 1] = job
  end
  entry[#entry + 1] = name
  entry[#entry + 1] = blob
end

local function take_back(job, task, c, known, lane, attempts, setback)
  local past, class, avoid = c[11], c[13], c[14]
  local about = parse_lane(lane)
  local due = c[12] > 0 and c[12] + ahead or 0
  if class == 0 then
    class = about.class
  end
  local plain = past[1] + past[2] + past[3] + past[4] + past[5] + attempts == 0
  if plain and not setback and class == about.class and avoid == '' and about.avoid == '' and due <= at and c[10] == '' then
    move(job, LEASED, READY, 1) -- never tried: as if it had not been leased
    make_ready(job, task, lane, FRESH)
    return
  end
  local reason = c[5] and c[10] or ''
  local new = { past[1], past[2], past[3], past[4], past[5], attempts, class, about.priority, avoid, 0, reason, 0, '' }
  if due > at then
    new[DUE] = due
    write_setback(job, task, new)
    set_states(job, task, task, DELAYED)
    move(job, LEASED, DELAYED, 1)
    call('ZADD', job.key .. ':delayed', due, task)
    note_due(job)
  else
    write_setback(job, task, new)
    move(job, LEASED, READY, 1)
    make_ready(job, task, lane_name(job.n, class, about.priority, avoid), READY)
  end
end

-- Runs of tasks that are done one after another are written as one.
local done_run

local function flush_done()
  if done_run then
    set_states(done_run.job, done_run.first, done_run.last, DONE)
    done_run = nil
  end
end

local function note_done(job, task)
  move(job, LEASED, DONE, 1)
  if done_run and done_run.job == job and done_run.last + 1 == task then
    done_run.last = task
  else
    flush_done()
    done_run = { job = job, first = task, last = task }
  end
  task_done(job, task)
end

local function apply(c, value, holder, host, blob, revoked_reason)
  local job, task = load_job(c[1]), c[2]
  local _, known, lane = parse_lease(value)
  local setback = known and read_setback(job, task) or nil
  local attempts = setback and setback[ATTEMPTS] or 0
  if c[5] then
    attempts = attempts + 1
    add_to_sums(job, c[5], c[6], c[7], c[8], c[9])
    keep_row(job, holder and format('%d %s %s', task, holder, host) or task, blob)
  end
  local verdict, reason = c[4], c[10]
  if revoked_reason and verdict == READY then
    verdict, reason = CANCELLED, revoked_reason
  elseif revoked_reason and verdict == CANCELLED and reason == '' then
    reason = revoked_reason
  end
  if verdict == DONE then
    if setback or attempts ~= 1 then
      setback = setback or new_setback(attempts)
      setback[ATTEMPTS], setback[REASON] = attempts, ''
      write_setback(job, task, setback)
    end
    note_done(job, task)
  elseif verdict == READY then
    take_back(job, task, c, known, lane, attempts, setback)
  else
    end_badly(job, task, LEASED, verdict, setback, attempts, reason)
  end
end

-- Of others' leases only those of workers that were found dead may be ended.
local function commit_for_the_dead(field, c, blob)
  local holder, value = reap_holder(field, c[3])
  if not holder then
    return false
  end
  local reason = call('HGET', P .. 'rev:' .. holder, field)
  call('HDEL', P .. 'own:' .. holder, field)
  if reason then
    call('HDEL', P .. 'rev:' .. holder, field)
  end
  if call('EXISTS', P .. 'own:' .. holder) == 0 then
    call('SREM', P .. 'gone', holder)
  end
  apply(c, value, holder, call('HGET', P .. 'w:' .. holder, 'host'), blob, reason or nil)
  return true
end

local function write_rows(worker, host)
  for _, job in ipairs(row_jobs) do
    local entry = accepted_rows[job.n]
    rows = rows + #entry / 2
    call('XADD', job.key .. ':log', rows .. '-1', 'w', worker .. ' ' .. host, unpack(entry))
    call('ZADD', P .. 'logs', 'NX', rows, job.n)
  end
end

-- Returns how many of the worker's own revoked leases ended.
local function commit_all(worker, host, commits, any_revoked, first_blob)
  local own, fields, ended, revoked_ended = P .. 'own:' .. worker, {}, {}, {}
  for i, c in ipairs(commits) do
    fields[i] = c[1] .. ':' .. c[2]
  end
  local held = call('HMGET', own, unpack(fields))
  local reasons = any_revoked and call('HMGET', P .. 'rev:' .. worker, unpack(fields))
  local seen = {}
  for i, c in ipairs(commits) do
    local field, value, blob = fields[i], held[i], ARGV[first_blob + i - 1]
    if value and not seen[field] and parse_lease(value) == c[3] then
      seen[field] = true
      ended[#ended + 1] = field
      local reason = reasons and reasons[i] or nil
      if reason then
        revoked_ended[#revoked_ended + 1] = field
      end
      apply(c, value, nil, nil, blob, reason)
    elseif not commit_for_the_dead(field, c, blob) then
      refused[#refused + 1] = { c[1], c[2], c[3] }
    end
  end
  flush_done()
  flush_ready()
  if #ended > 0 then
    call('HDEL', own, unpack(ended))
  end
  if #revoked_ended > 0 then
    call('HDEL', P .. 'rev:' .. worker, unpack(revoked_ended))
  end
  write_rows(worker, host)
  return #revoked_ended
end
