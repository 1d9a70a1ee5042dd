-- Ending leases. A commit is {job, task, fence, verdict, outcome, wall, cpu, peak, cost, reason, past, not before, class, avoid};
-- the verdict is the state the task goes to, READY for a task that goes back, SEAT when only a member of a gang ended (`past` is
-- {its rank} then); outcome false when there is no attempt to keep.
-- `blobs` are the packed attempts, in the same order.

local SEAT = 9
local refused, accepted_rows, row_jobs = {}, {}, {}

function S.keep_row(job, name, blob)
  local entry = accepted_rows[job.n]
  if not entry then
    entry = {}
    accepted_rows[job.n] = entry
    row_jobs[#row_jobs + 1] = job
  end
  entry[#entry + 1] = name
  entry[#entry + 1] = blob
end

-- Runs of tasks that are done one after another are written as one.
local done_run

function S.flush_done()
  if done_run then
    S.set_states(done_run.job, done_run.first, done_run.last, DONE)
    done_run = nil
  end
end

function S.note_done(job, task)
  S.move(job, LEASED, DONE, 1)
  if done_run and done_run.job == job and done_run.last + 1 == task then
    done_run.last = task
  else
    S.flush_done()
    done_run = { job = job, first = task, last = task }
  end
  if job.levels then
    steps[#steps + 1] = { 'done', job.n, task }
  end
end

function S.apply(c, value, holder, host, blob, revoked_reason)
  local job, task = S.load_job(c[1]), c[2]
  local lease_fence, known, lane, twin = S.parse_lease(value)
  if S.gangs > 0 and S.nodes_of(S.parse_lane(lane).class) > 1 then
    S.dissolve(job.n, task)
  end
  local setback = known and S.read_setback(job, task) or nil
  local attempts = setback and setback[ATTEMPTS] or 0
  if c[5] then
    attempts = attempts + 1
    S.add_to_sums(job, c[5], c[6], c[7], c[8], c[9])
    S.keep_row(job, holder and format('%d %s %s', task, holder, host) or task, blob)
  end
  if twin then
    attempts = S.leave_pair(job, task, lease_fence, lane, setback, c[4] == DONE, c[5] and true)
    if not attempts then
      return
    end
  end
  local verdict, reason = c[4], c[10]
  if revoked_reason and verdict == READY then
    verdict, reason = CANCELLED, revoked_reason
  elseif revoked_reason and verdict == CANCELLED and reason == '' then
    reason = revoked_reason
  end
  if verdict == DONE then
    if setback or attempts ~= 1 then
      S.done_otherwise(job, task, setback, attempts)
    end
    S.note_done(job, task)
  elseif verdict == READY then
    S.take_back(job, task, c, known, lane, attempts, setback)
  else
    S.end_badly(job, task, LEASED, verdict, setback, attempts, reason)
  end
end

function S.write_rows(worker, host)
  for _, job in ipairs(row_jobs) do
    local entry = accepted_rows[job.n]
    rows = rows + #entry / 2
    call('XADD', job.key .. ':log', rows .. '-1', 'w', worker .. ' ' .. host, unpack(entry))
    call('ZADD', P .. 'logs', 'NX', rows, job.n)
  end
end

-- Returns how many of those that the worker was told to end have ended.
function S.commit_all(worker, host, commits, any_revoked, first_blob)
  local own, fields, ended, revoked_ended = P .. 'own:' .. worker, {}, {}, {}
  for i, c in ipairs(commits) do
    fields[i] = c[1] .. ':' .. c[2]
  end
  local held, told = call('HMGET', own, unpack(fields)), 0
  local reasons = any_revoked and call('HMGET', P .. 'rev:' .. worker, unpack(fields))
  local seen = {}
  for i, c in ipairs(commits) do
    local field, value, blob = fields[i], held[i], ARGV[first_blob + i - 1]
    if c[4] == SEAT then
      if not S.commit_seat(worker, c, blob) then
        refused[#refused + 1] = { c[1], c[2], c[3] }
      end
    elseif value and not seen[field] and S.parse_lease(value) == c[3] then
      seen[field] = true
      ended[#ended + 1] = field
      local reason = reasons and reasons[i] or nil
      if reason then
        revoked_ended[#revoked_ended + 1] = field
      end
      S.apply(c, value, nil, nil, blob, reason)
    elseif any_revoked and call('HDEL', P .. 'over:' .. worker, S.text(c[3])) == 1 then
      told = told + 1 -- another attempt was faster
      refused[#refused + 1] = { c[1], c[2], c[3] }
    elseif not S.commit_for_the_dead(field, c, blob) then
      refused[#refused + 1] = { c[1], c[2], c[3] }
    end
  end
  S.flush_done()
  if ready_run then
    S.flush_ready()
  end
  if #ended > 0 then
    call('HDEL', own, unpack(ended))
  end
  if #revoked_ended > 0 then
    call('HDEL', P .. 'rev:' .. worker, unpack(revoked_ended))
  end
  S.write_rows(worker, host)
  return #revoked_ended + told
end
