-- What leasing seldom asks: hosts to avoid, tasks that came back, jobs that age, the next delayed task.

local AVOID_FOR_LEASES = 2

function S.others_live()
  if sight.others == nil then
    sight.others = false
    local living = call('ZREVRANGEBYSCORE', P .. 'workers', '+inf', '(' .. S.text(at - lease_us))
    for _, worker in ipairs(living) do
      local about = call('HMGET', P .. 'w:' .. worker, 'host', 'standing')
      if about[1] ~= sight.host and about[2] == 'live' then
        sight.others = true
        break
      end
    end
  end
  return sight.others
end

function S.sees(lane, avoid)
  if avoid == '' or avoid ~= sight.host then
    return true
  end
  local touched = tonumber(call('HGET', P .. 'touched', lane) or 0)
  return at - touched > AVOID_FOR_LEASES * lease_us or not S.others_live()
end

-- The lanes of one row of offers that this worker sees.
function S.lanes_seen(job, class, priority)
  local lanes = { S.lane_name(job.n, class, priority, '') }
  if job.avoids then
    local prefix = lanes[1]
    for _, lane in ipairs(call('ZRANGEBYSCORE', job.key .. ':row', -priority, -priority)) do
      if lane ~= prefix and string.sub(lane, 1, #prefix) == prefix and S.sees(lane, S.parse_lane(lane).avoid) then
        lanes[#lanes + 1] = lane
      end
    end
  end
  return lanes
end

-- The setbacks of the tasks of a range that came back before, as the answer gives them.
function S.pasts_of(job, first, last, states)
  local known = {}
  for i = 1, #states do
    if string.byte(states, i) == READY then
      known[#known + 1] = first + i - 1
    end
  end
  local pasts = {}
  if #known > 0 then
    local found = call('HMGET', job.key .. ':back', unpack(known))
    for i, task in ipairs(known) do
      local b = unpack_msgpack(found[i])
      pasts[i] = { task, b[ATTEMPTS], b[1], b[2], b[3], b[4], b[5] }
    end
  end
  return pasts
end

function S.steps_gained(job)
  return math.floor(math.max(0, at - ahead - job.submitted) / job.aging)
end

function S.more_urgent(a, b)
  if a[5] ~= b[5] then return a[5] > b[5] end
  if a[1] ~= b[1] then return a[1] < b[1] end
  return a[2] < b[2]
end

-- The earliest delayed task of jobs that lease at all. `due` is the front of the queue's own list.
function S.next_ready(asked, due)
  local earliest
  if #asked > 0 then
    for _, number in ipairs(asked) do
      local job = S.load_job(number)
      local score = job and job.out and call('ZSCORE', P .. 'due', number)
      if score and (not earliest or tonumber(score) < earliest) then
        earliest = tonumber(score)
      end
    end
    return earliest
  end
  local place = 0
  while due[1] do
    if S.load_job(tonumber(due[1])).out then
      return tonumber(due[2])
    end
    place = place + 1
    due = call('ZRANGE', P .. 'due', place, place, 'WITHSCORES')
  end
end
