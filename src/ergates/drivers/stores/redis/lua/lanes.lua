-- Ready tasks lie in lanes: one for each (job, class, priority, host to avoid). A lane is a sorted set of ranges of ids, member
-- the last id, score the first: taking from the front moves a score. Lanes of jobs that lease stand in one sorted set by
-- priority, so what is on offer is read from its top, however many jobs there are; those of ageing jobs are merged in.

local function lane_name(job, class, priority, avoid)
  return format('%010d:%06d:%d:%s', job, class, priority, avoid or '')
end

-- The class, priority and host to avoid of a lane's name.
local parsed_lanes = {}
local function parse_lane(lane)
  local found = parsed_lanes[lane]
  if not found then
    local number, class, priority, avoid = string.match(lane, '^(%d+):(%d+):(%-?%d+):(.*)$')
    found = { job = tonumber(number), class = tonumber(class), priority = tonumber(priority), avoid = avoid }
    parsed_lanes[lane] = found
  end
  return found
end

local new_ready = {} -- class -> how many tasks became ready for somebody in this script; see ring.lua

local function publish_lane(job, lane, priority)
  if not job.aging then
    call('ZADD', P .. 'offers', -priority, lane)
  end
end

local function lane_grows(job, lane, count)
  local about = parse_lane(lane)
  local waiting = call('HINCRBY', P .. 'waiting', lane, count)
  if waiting == count then
    call('ZADD', job.key .. ':row', -about.priority, lane)
    if job.out then
      publish_lane(job, lane, about.priority)
    end
  end
  if about.avoid ~= '' then
    call('HSET', P .. 'touched', lane, at)
    set_bit(job, 'avoids')
  end
  if job.out then
    new_ready[about.class] = (new_ready[about.class] or 0) + count
  end
end

local function lane_shrinks(job, lane, count)
  if call('HINCRBY', P .. 'waiting', lane, -count) == 0 then
    call('HDEL', P .. 'waiting', lane)
    call('ZREM', job.key .. ':row', lane)
    call('ZREM', P .. 'offers', lane)
    if parse_lane(lane).avoid ~= '' then
      call('HDEL', P .. 'touched', lane)
    end
  end
end

local function put_range(lane, first, last)
  call('ZADD', P .. 'l:' .. lane, first, last)
end

-- Take the ids first..last out of a lane, all of which are in it.
local function cut_range(lane, first, last)
  local key = P .. 'l:' .. lane
  local around = call('ZREVRANGEBYSCORE', key, first, '-inf', 'WITHSCORES', 'LIMIT', 0, 1)
  local ranges = call('ZRANGEBYSCORE', key, '(' .. first, last, 'WITHSCORES')
  if around[1] and tonumber(around[1]) >= first then
    ranges[#ranges + 1], ranges[#ranges + 2] = around[1], around[2]
  end
  for i = 1, #ranges, 2 do
    local range_last, range_first = tonumber(ranges[i]), tonumber(ranges[i + 1])
    if range_last > last then
      call('ZADD', key, last + 1, range_last)
    else
      call('ZREM', key, range_last)
    end
    if range_first < first then
      call('ZADD', key, range_first, first - 1)
    end
  end
end

-- A job begins or stops to lease: its lanes appear among the offers, or vanish.
local function show_lanes(job, shown)
  local row = call('ZRANGE', job.key .. ':row', 0, -1)
  for _, lane in ipairs(row) do
    local about = parse_lane(lane)
    if shown then
      publish_lane(job, lane, about.priority)
      new_ready[about.class] = (new_ready[about.class] or 0) + tonumber(call('HGET', P .. 'waiting', lane))
    else
      call('ZREM', P .. 'offers', lane)
    end
  end
  if job.aging then
    call(shown and 'SADD' or 'SREM', P .. 'aging', job.n)
  end
end

-- The lane a task was submitted to.
local function origin_lane(job, task)
  local index = 0
  if job.lanes > 1 then
    index = struct.unpack('<I4', call('GETRANGE', job.key .. ':lane', 4 * task - 4, 4 * task - 1))
  end
  job.origins = job.origins or {}
  local lane = job.origins[index]
  if not lane then
    local about = call('HGET', job.key .. ':lanes', index)
    local class, priority = string.match(about, '^(%d+):(%-?%d+)$')
    lane = lane_name(job.n, tonumber(class), tonumber(priority), '')
    job.origins[index] = lane
  end
  return lane
end

-- Write what changed of the jobs: counters, whether they are finished, whether they lease.
local function flush_jobs()
  for _, job in ipairs(job_order) do
    for state in pairs(job.touched) do
      set_job(job, 'c' .. state, job[state])
    end
    local ended = job[DONE] + job[FAILED] + job[CANCELLED]
    open_tasks = open_tasks + (job.total - ended) - (job.total_before - job.ended_before)
    local finished = ended == job.total and not job.open
    if finished ~= (job.finished and true) then
      job.finished = finished and now_text
      set_job(job, 'finished', job.finished or '')
    end
    local out = leases_out(job)
    if out ~= job.out then
      job.out = out
      set_job(job, 'out', out and '1' or '0')
      show_lanes(job, out)
    end
    for outcome, sum in pairs(job.sums) do
      set_job(job, 'o:' .. outcome, struct.pack('<dddddddd', unpack(sum)))
    end
    if #job.changes > 0 then
      call('HSET', job.key, unpack(job.changes))
    end
    job.changes, job.touched, job.sums = {}, {}, {}
    job.ended_before, job.total_before = ended, job.total
  end
end
