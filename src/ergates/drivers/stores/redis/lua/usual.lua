-- The usual exchange, in one straight line: a live worker commits tasks of one job that are done at their first attempt, and takes new
-- ones from the front of one lane of it; nobody waits for a moment, for other tasks or for other workers.
--
-- It reads everything before it writes anything, and leaves to exchange.lua, whose request and answer it shares, whatever is not
-- usual. That would write the same into every key (tests/contract/test_usual_exchange.py) in twice the time: half of it goes into
-- making the functions for all that might have been.

while not (gangs > 0 or steps_in_work > 0 or ageing_jobs > 0 or first_due > 0 or request[10]) do -- left by `break`
  local worker, number, commits, want = request[1], request[3], request[4], request[5][1]
  local asked, unfit, about = request[6], request[7], want or request[4][1]
  if not about or request[5][2] or asked[2] or (asked[1] and asked[1] ~= about[1]) then
    break
  end

  local W = P .. 'w:' .. worker
  local w = call('HMGET', W, 'standing', 'host', 'beat', 'asker', 'number', 'revoked', 'idle', 'rung', 'version')
  local silent_us = at - tonumber(w[3] or 0)
  if w[1] ~= 'live' or silent_us > lease_us or w[7] == '1' or w[8] == '1' or tonumber(w[6] or 0) > 0
    or tonumber(w[9] or 0) > request[9] or (w[4] == request[2] and tonumber(w[5]) >= number) then
    break
  end

  local job_number = about[1]
  local J = P .. 'j:' .. job_number
  local f = call('HMGET', J, 'counts', 'out', 'levels', 'avoids', 'total', 'uid', 'edits', 'backs', 'o:succeeded')
  if f[2] ~= '1' or f[3] ~= '' or f[4] == '1' then
    break
  end
  local blocked, ready, delayed, leased, done, failed, cancelled = struct.unpack('<ddddddd', f[1])
  local open = tonumber(f[5]) - done - failed - cancelled - #commits

  -- What ended.
  local own, ended, entry, seen_tasks, sum = P .. 'own:' .. worker, {}, {}, {}, nil
  local usual = open > 0
  if usual and commits[1] then
    sum = f[9] and { struct.unpack('<dddddddd', f[9]) } or { 0, 0, 0, 0, 0, 0, 0, 0 }
    for i = 1, #commits do
      local c = commits[i]
      local task = c[2]
      if c[4] ~= DONE or c[5] ~= 'succeeded' or c[1] ~= job_number or seen_tasks[task] then
        usual = false
        break
      end
      seen_tasks[task] = true
      ended[i] = job_number .. ':' .. task
      entry[2 * i - 1], entry[2 * i] = task, ARGV[i + 1]
      add_usage(sum, c[6], c[7], c[8], c[9])
    end
    local held = usual and call('HMGET', own, unpack(ended)) or {}
    for i = 1, #held do
      local lease_fence, known = string.match(held[i] or '', '^(%d+) (%d) ')
      if tonumber(lease_fence) ~= commits[i][3] or known ~= '0' then
        usual = false
        break
      end
    end
  end
  if not usual then
    break
  end

  -- What is taken: less than the first range of the lane.
  local lane, lane_key, front, first, count
  if want then
    count = want[4]
    lane = format('%010d:%06d:%d:', job_number, want[2], want[3])
    lane_key = P .. 'l:' .. lane
    front = call('ZRANGE', lane_key, 0, 0, 'WITHSCORES')
    first = tonumber(front[2] or 0)
    if count < 1 or count > 1000 or not front[1] or tonumber(front[1]) < first + count then
      break
    end
    if f[8] == '1' and string.find(call('GETRANGE', J .. ':state', first - 1, first + count - 2), '[^%z]') then
      break -- one of them came back before
    end
  end

  -- What is on offer then.
  local page = call('ZRANGE', asked[1] and J .. ':row' or P .. 'offers', 0, 63)
  local offers, waiting_left = {}, nil
  if page[1] and not (page[64] and unfit[1]) then
    local waiting = call('HMGET', P .. 'waiting', unpack(page))
    for i = 1, #page do
      local job, class, priority, avoid = string.match(page[i], '^(%d+):(%d+):(%-?%d+):(.*)$')
      local tasks = tonumber(waiting[i])
      class = tonumber(class)
      if avoid ~= '' then
        usual = false
      elseif page[i] == lane then
        tasks = tasks - count
        waiting_left = tasks
      end
      for k = 1, #unfit do
        if unfit[k] == class then
          class = nil
        end
      end
      if class then
        offers[#offers + 1] = { tonumber(job), class, tonumber(priority), tasks }
      end
    end
  end
  if not usual or not (offers[1] or want) or (want and not waiting_left) then
    break
  end

  -- Nothing is unusual: write.
  if silent_us >= 500000 then
    call('ZADD', P .. 'workers', at, worker)
    call('HSET', W, 'beat', at)
  end
  if request[8] then
    call('HSET', W, 'load', request[8])
  end
  local leases = {}
  if commits[1] then
    local start = commits[1][2]
    for i = 1, #commits do
      local task = commits[i][2]
      if not commits[i + 1] or commits[i + 1][2] ~= task + 1 then
        call('SETRANGE', J .. ':state', start - 1, string.rep(string.char(DONE), task - start + 1))
        start = commits[i + 1] and commits[i + 1][2]
      end
    end
    call('HDEL', own, unpack(ended))
    rows = rows + #commits
    if call('EXISTS', J .. ':log') == 0 then
      call('ZADD', P .. 'logs', rows, job_number)
    end
    call('XADD', J .. ':log', rows .. '-1', 'w', worker .. ' ' .. w[2], unpack(entry))
    leased, done, open_tasks = leased - #commits, done + #commits, open_tasks - #commits
  end
  if want then
    call('ZADD', lane_key, first + count, front[1])
    call('SETRANGE', J .. ':state', first - 1, string.rep(string.char(LEASED), count))
    call('HSET', P .. 'waiting', lane, waiting_left)
    local first_fence, held = generation * 4294967296 + fence + 1, {}
    for i = 0, count - 1 do
      held[2 * i + 1] = job_number .. ':' .. (first + i)
      held[2 * i + 2] = format('%.0f 0 %s', first_fence + i, lane)
    end
    call('HSET', own, unpack(held))
    fence, ready, leased = fence + count, ready - count, leased + count
    leases[1] = { job_number, f[6], first, count, first_fence, want[2], want[3], f[7] == '1', {} }
  end
  local counts = struct.pack('<ddddddd', blocked, ready, delayed, leased, done, failed, cancelled)
  if sum then
    call('HSET', J, 'counts', counts, 'o:succeeded', struct.pack('<dddddddd', unpack(sum)))
  else
    call('HSET', J, 'counts', counts)
  end
  local core = pack({ leases, {} })
  call('HSET', W, 'asker', request[2], 'number', number, 'answer', core)
  call('HSET', META, 'counters',
    struct.pack('<dddddddd', generation, fence, rows, open_tasks, seen, steps_in_work, ageing_jobs, first_due))
  return { pack(ahead), core, pack({ false, offers, {}, false, asked[1] and open or open_tasks, '' }) }
end
