-- What grows, moves and shows lanes. (Shrinking is in lanes.lua: every lease does it.)

function S.set_bit(job, name)
  if not job[name] then
    job[name] = true
    S.set_job(job, name, '1')
  end
end

-- So many tasks are new for somebody; each of a gang's wants several workers.
function S.note_ready(class, count)
  new_ready[class] = (new_ready[class] or 0) + count * S.nodes_of(class)
end

function S.publish_lane(job, lane, priority)
  if not job.aging then
    call('ZADD', P .. 'offers', -priority, lane)
  end
  if S.nodes_of(S.parse_lane(lane).class) > 1 then
    S.show_gang_lane(lane, priority)
  end
end

function S.lane_grows(job, lane, count)
  local about = S.parse_lane(lane)
  local waiting = call('HINCRBY', P .. 'waiting', lane, count)
  if waiting == count then
    call('ZADD', job.key .. ':row', -about.priority, lane)
    if job.out then
      S.publish_lane(job, lane, about.priority)
    end
  end
  if about.avoid ~= '' then
    call('HSET', P .. 'touched', lane, at)
    S.set_bit(job, 'avoids')
  end
  if job.out then
    S.note_ready(about.class, count)
  end
end

function S.put_range(lane, first, last)
  call('ZADD', P .. 'l:' .. lane, first, last)
end

-- Take the ids first..last out of a lane, all of which are in it.
function S.cut_range(lane, first, last)
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
function S.show_lanes(job, shown)
  local row = call('ZRANGE', job.key .. ':row', 0, -1)
  for _, lane in ipairs(row) do
    local about = S.parse_lane(lane)
    if shown then
      S.publish_lane(job, lane, about.priority)
      S.note_ready(about.class, tonumber(call('HGET', P .. 'waiting', lane)))
    else
      call('ZREM', P .. 'offers', lane)
    end
  end
  if job.aging then
    call(shown and 'SADD' or 'SREM', P .. 'aging', job.n)
    ageing_jobs = call('SCARD', P .. 'aging')
  end
end

-- The lane a task was submitted to.
function S.origin_lane(job, task)
  local index = 0
  if job.lanes > 1 then
    index = struct.unpack('<I4', call('GETRANGE', job.key .. ':lane', 4 * task - 4, 4 * task - 1))
  end
  job.origins = job.origins or {}
  local lane = job.origins[index]
  if not lane then
    local about = call('HGET', job.key .. ':lanes', index)
    local class, priority = string.match(about, '^(%d+):(%-?%d+)$')
    lane = S.lane_name(job.n, tonumber(class), tonumber(priority), '')
    job.origins[index] = lane
  end
  return lane
end
