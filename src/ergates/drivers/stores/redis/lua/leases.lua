-- Which tasks a worker gets, and what is on offer to it. Strict priority, then the older job; a job that ages gains one step for
-- each interval since its submission. A lane that avoids the worker's host is hidden from it while another live host could
-- take its tasks, but not for longer than AVOID_FOR_LEASES lease times.

local OFFERS_MAX, PAGE, LEASES_MAX = 64, 64, 1000

function S.lanes_of_want(job, class, priority)
  if job.avoids then
    return S.lanes_seen(job, class, priority)
  end
  return { S.lane_name(job.n, class, priority, '') }
end

-- Up to `count` ids from the front of these lanes, smallest first: a list of {first, last, lane}.
function S.take_front(lanes, count)
  if #lanes == 1 then -- the usual case: the first range is enough
    local key = P .. 'l:' .. lanes[1]
    local front = call('ZRANGE', key, 0, 0, 'WITHSCORES')
    local first, last = tonumber(front[2] or 0), tonumber(front[1] or -1)
    if last - first + 1 > count then
      call('ZADD', key, first + count, front[1])
      return { { first, first + count - 1, lanes[1] } }
    end
  end
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

function S.lease_wanted(worker, wants)
  local own_args, leases, left = {}, {}, LEASES_MAX
  for _, want in ipairs(wants) do
    local job, count = S.load_job(want[1]), math.min(want[4], left)
    if want[5] then
      leases[#leases + 1] = S.lease_copy(worker, want)
    elseif job and count > 0 and S.gangs > 0 and S.nodes_of(want[2]) > 1 then
      S.take_seat(worker, want[1], want[2], want[3])
    elseif job and count > 0 and S.leases_out(job) then
      for _, range in ipairs(S.take_front(S.lanes_of_want(job, want[2], want[3]), count)) do
        local first, last, lane = range[1], range[2], range[3]
        local size = last - first + 1
        left = left - size
        local states, pasts = '', {}
        if job.backs then
          states = S.read_states(job, first, last)
          pasts = S.pasts_of(job, first, last, states)
        end
        local first_fence = S.new_fences(size)
        for i = 0, size - 1 do
          local known = string.byte(states, i + 1) == READY and ' 1 ' or ' 0 '
          own_args[#own_args + 1] = want[1] .. ':' .. (first + i)
          own_args[#own_args + 1] = S.text(first_fence + i) .. known .. lane
        end
        S.set_states(job, first, last, LEASED)
        S.move(job, READY, LEASED, size)
        S.lane_shrinks(job, lane, size)
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
function S.scan_lanes(key, gained, unfit, rows, hidden)
  local start, row = 0, nil
  local count = 0
  while true do
    local page = call('ZRANGE', key, start, start + PAGE - 1)
    if #page == 0 then
      return
    end
    local waiting = call('HMGET', P .. 'waiting', unpack(page))
    for i, lane in ipairs(page) do
      local about = S.parse_lane(lane)
      if unfit and unfit[about.class] then
        hidden.class = about.class
      elseif (about.avoid == '' or S.sees(lane, about.avoid)) and (S.gangs == 0 or S.may_have_seat(lane, about)) then
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

function S.offers_now(asked, unfit)
  local rows, hidden, sources = {}, {}, 0
  local by_job = asked
  if #asked == 0 then
    S.scan_lanes(P .. 'offers', 0, unfit, rows, hidden)
    sources = 1
    by_job = ageing_jobs > 0 and call('SMEMBERS', P .. 'aging') or {}
  end
  for _, number in ipairs(by_job) do
    local job = S.load_job(tonumber(number))
    if job and job.out then
      S.scan_lanes(job.key .. ':row', job.aging and S.steps_gained(job) or 0, unfit, rows, hidden)
      sources = sources + 1
    end
  end
  if sources > 1 then
    table.sort(rows, S.more_urgent)
  end
  local shown = {}
  for i = 1, math.min(#rows, OFFERS_MAX) do
    local row = rows[i]
    shown[i] = { row[1], row[2], row[3], row[4] }
  end
  return shown, hidden.class
end

function S.count_open(asked)
  if #asked == 0 then
    return open_tasks
  end
  local total = 0
  for _, number in ipairs(asked) do
    local job = S.load_job(number)
    if job then
      total = total + job.total - job[DONE] - job[FAILED] - job[CANCELLED]
    end
  end
  return total
end
