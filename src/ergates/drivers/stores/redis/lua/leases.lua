-- Which tasks a worker gets, and what is on offer to it. Strict priority, then the older job; a job that ages gains one step for
-- each interval since its submission. A lane that avoids the worker's host is hidden from it while another live host could
-- take its tasks, but not for longer than AVOID_FOR_LEASES lease times.

local OFFERS_MAX, PAGE, LEASES_MAX, AVOID_FOR_LEASES = 64, 64, 1000, 2
local sight = { host = '', others = nil }

local function others_live()
  if sight.others == nil then
    sight.others = false
    local living = call('ZREVRANGEBYSCORE', P .. 'workers', '+inf', '(' .. text(at - lease_us))
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

local function sees(lane, avoid)
  if avoid == '' or avoid ~= sight.host then
    return true
  end
  local touched = tonumber(call('HGET', P .. 'touched', lane) or 0)
  return at - touched > AVOID_FOR_LEASES * lease_us or not others_live()
end

-- The lanes of one row of offers that this worker sees.
local function lanes_of_want(job, class, priority)
  local lanes = { lane_name(job.n, class, priority, '') }
  if job.avoids then
    local prefix = lanes[1]
    for _, lane in ipairs(call('ZRANGEBYSCORE', job.key .. ':row', -priority, -priority)) do
      if lane ~= prefix and string.sub(lane, 1, #prefix) == prefix and sees(lane, parse_lane(lane).avoid) then
        lanes[#lanes + 1] = lane
      end
    end
  end
  return lanes
end

-- Up to `count` ids from the front of these lanes, smallest first: a list of {first, last, lane}.
local function take_front(lanes, count)
  local ranges = {}
  for _, lane in ipairs(lanes) do
    local front = call('ZRANGE', P .. 'l:' .. lane, 0, count - 1, 'WITHSCORES')
    for i = 1, #front, 2 do
      ranges[#ranges + 1] = { tonumber(front[i + 1]), tonumber(front[i]), lane }
    end
  end
  if #lanes > 1 then
    table.sort(ranges, function(a, b) return a[1] < b[1] end)
  end
  local taken, whole = {}, {}
  for _, range in ipairs(ranges) do
    if count == 0 then
      break
    end
    local size = range[2] - range[1] + 1
    if size <= count then
      whole[range[3]] = whole[range[3]] or {}
      table.insert(whole[range[3]], range[2])
      taken[#taken + 1] = range
      count = count - size
    else
      call('ZADD', P .. 'l:' .. range[3], range[1] + count, range[2])
      taken[#taken + 1] = { range[1], range[1] + count - 1, range[3] }
      count = 0
    end
  end
  for lane, members in pairs(whole) do
    call('ZREM', P .. 'l:' .. lane, unpack(members))
  end
  return taken
end

-- The setbacks of the tasks of a range that came back before, as the answer gives them.
local function pasts_of(job, first, last, states)
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

local function lease_wanted(worker, wants)
  local own_args, leases, left = {}, {}, LEASES_MAX
  for _, want in ipairs(wants) do
    local job, count = load_job(want[1]), math.min(want[4], left)
    if job and count > 0 and leases_out(job) then
      for _, range in ipairs(take_front(lanes_of_want(job, want[2], want[3]), count)) do
        local first, last, lane = range[1], range[2], range[3]
        local size = last - first + 1
        left = left - size
        local states = read_states(job, first, last)
        local pasts = pasts_of(job, first, last, states)
        local first_fence = new_fences(size)
        for i = 0, size - 1 do
          local known = string.byte(states, i + 1) == READY and ' 1 ' or ' 0 '
          own_args[#own_args + 1] = want[1] .. ':' .. (first + i)
          own_args[#own_args + 1] = text(first_fence + i) .. known .. lane
        end
        set_states(job, first, last, LEASED)
        move(job, READY, LEASED, size)
        lane_shrinks(job, lane, size)
        leases[#leases + 1] = { job.n, job.uid, first, size, first_fence, want[2], want[3], job.edits, pasts }
      end
    end
  end
  for i = 1, #own_args, 1000 do
    call('HSET', P .. 'own:' .. worker, unpack(own_args, i, math.min(#own_args, i + 999)))
  end
  return leases
end

-- Add what a sorted set of lanes offers to `rows`, until there are OFFERS_MAX. `hidden` notes what is unfit for this worker.
local function scan_lanes(key, gained, unfit, rows, hidden)
  local start, row = 0, nil
  local count = 0
  while true do
    local page = call('ZRANGE', key, start, start + PAGE - 1)
    if #page == 0 then
      return
    end
    local waiting = call('HMGET', P .. 'waiting', unpack(page))
    for i, lane in ipairs(page) do
      local about = parse_lane(lane)
      if unfit and unfit[about.class] then
        hidden.class = about.class
      elseif sees(lane, about.avoid) then
        if row and row[1] == about.job and row[2] == about.class and row[3] == about.priority then
          row[4] = row[4] + tonumber(waiting[i])
        elseif count == OFFERS_MAX then
          return
        else
          row = { about.job, about.class, about.priority, tonumber(waiting[i]), about.priority + gained }
          rows[#rows + 1] = row
          count = count + 1
        end
      end
    end
    if #page < PAGE then
      return
    end
    start = start + PAGE
  end
end

local function steps_gained(job)
  return math.floor(math.max(0, at - ahead - job.submitted) / job.aging)
end

local function more_urgent(a, b)
  if a[5] ~= b[5] then return a[5] > b[5] end
  if a[1] ~= b[1] then return a[1] < b[1] end
  return a[2] < b[2]
end

local function offers_now(asked, unfit)
  local rows, hidden, sources = {}, {}, 0
  local by_job = asked
  if #asked == 0 then
    scan_lanes(P .. 'offers', 0, unfit, rows, hidden)
    sources = 1
    by_job = call('SMEMBERS', P .. 'aging')
  end
  for _, number in ipairs(by_job) do
    local job = load_job(tonumber(number))
    if job and job.out then
      scan_lanes(job.key .. ':row', job.aging and steps_gained(job) or 0, unfit, rows, hidden)
      sources = sources + 1
    end
  end
  if sources > 1 then
    table.sort(rows, more_urgent)
  end
  local shown = {}
  for i = 1, math.min(#rows, OFFERS_MAX) do
    local row = rows[i]
    shown[i] = { row[1], row[2], row[3], row[4] }
  end
  return shown, hidden.class
end

-- The earliest delayed task of jobs that lease at all. `due` is the front of the queue's own list.
local function next_ready(asked, due)
  local earliest
  if #asked > 0 then
    for _, number in ipairs(asked) do
      local job = load_job(number)
      local score = job and job.out and call('ZSCORE', P .. 'due', number)
      if score and (not earliest or tonumber(score) < earliest) then
        earliest = tonumber(score)
      end
    end
    return earliest
  end
  local place = 0
  while due[1] do
    if load_job(tonumber(due[1])).out then
      return tonumber(due[2])
    end
    place = place + 1
    due = call('ZRANGE', P .. 'due', place, place, 'WITHSCORES')
  end
end

local function count_open(asked)
  if #asked == 0 then
    return open_tasks
  end
  local total = 0
  for _, number in ipairs(asked) do
    local job = load_job(number)
    if job then
      total = total + job.total - job[DONE] - job[FAILED] - job[CANCELLED]
    end
  end
  return total
end
