-- Jobs: loaded once in a script, written once at its end. Counters follow every change of state, so nobody ever counts tasks.

local JOB_FIELDS = {
  'phase', 'finished', 'total', 'max_failed', 'aging', 'submitted', 'levels', 'open', 'out', 'lanes', 'avoids',
  'counts', 'edits', 'uid', 'backs', 'o:succeeded',
}
local jobs, job_order = {}, {}
local now_text = head[7]

function S.load_job(number)
  local found = jobs[number]
  if found ~= nil then
    return found
  end
  local key = P .. 'j:' .. number
  local f = call('HMGET', key, unpack(JOB_FIELDS))
  if not f[1] then
    jobs[number] = false
    return false
  end
  found = {
    n = number, key = key, phase = f[1], finished = f[2] ~= '' and f[2], total = tonumber(f[3]),
    max_failed = f[4] ~= '' and tonumber(f[4]), aging = f[5] ~= '' and tonumber(f[5]), submitted = tonumber(f[6]),
    levels = f[7] ~= '' and f[7], open = f[8] == '1', out = f[9] == '1', lanes = tonumber(f[10]), avoids = f[11] == '1',
    edits = f[13] == '1', uid = f[14], backs = f[15] == '1', succeeded = f[16], counts = f[12],
    changes = {}, sums = {},
  }
  found[BLOCKED], found[READY], found[DELAYED], found[LEASED], found[DONE], found[FAILED], found[CANCELLED] =
    struct.unpack('<ddddddd', f[12])
  found.ended_before = found[DONE] + found[FAILED] + found[CANCELLED]
  found.total_before = found.total
  jobs[number] = found
  job_order[#job_order + 1] = found
  return found
end

function S.set_job(job, field, value)
  job.changes[#job.changes + 1] = field
  job.changes[#job.changes + 1] = value
end

-- `count` tasks go from one state to another. FRESH counts as ready.
function S.move(job, before, after, count)
  if before == FRESH then before = READY end
  if after == FRESH then after = READY end
  job[before] = job[before] - count
  job[after] = job[after] + count
end

-- Whether its tasks may be leased: active, unfinished, not stopped by too many failures.
function S.leases_out(job)
  return job.phase == 'active' and not job.finished and not (job.max_failed and job[FAILED] >= job.max_failed)
end

function S.add_to_sums(job, outcome, wall, cpu, peak, cost)
  local sum = job.sums[outcome]
  if not sum then
    local kept = outcome == 'succeeded' and job.succeeded or call('HGET', job.key, 'o:' .. outcome)
    sum = kept and { struct.unpack('<dddddddd', kept) } or { 0, 0, 0, 0, 0, 0, 0, 0 }
    job.sums[outcome] = sum
  end
  add_usage(sum, wall, cpu, peak, cost)
end

-- Write what changed of the jobs: counters, whether they are finished, whether they lease.
function S.flush_jobs()
  for _, job in ipairs(job_order) do
    local counts = struct.pack('<ddddddd', job[BLOCKED], job[READY], job[DELAYED], job[LEASED], job[DONE], job[FAILED],
      job[CANCELLED])
    if counts ~= job.counts then
      job.counts = counts
      S.set_job(job, 'counts', counts)
    end
    local ended = job[DONE] + job[FAILED] + job[CANCELLED]
    open_tasks = open_tasks + (job.total - ended) - (job.total_before - job.ended_before)
    local finished = ended == job.total and not job.open
    if finished ~= (job.finished and true) then
      job.finished = finished and now_text
      S.set_job(job, 'finished', job.finished or '')
    end
    local out = S.leases_out(job)
    if out ~= job.out then
      job.out = out
      S.set_job(job, 'out', out and '1' or '0')
      S.show_lanes(job, out)
    end
    for outcome, sum in pairs(job.sums) do
      local packed = struct.pack('<dddddddd', unpack(sum))
      S.set_job(job, 'o:' .. outcome, packed)
      if outcome == 'succeeded' then
        job.succeeded = packed
      end
    end
    if #job.changes > 0 then
      call('HSET', job.key, unpack(job.changes))
    end
    job.changes, job.sums = {}, {}
    job.ended_before, job.total_before = ended, job.total
  end
end
