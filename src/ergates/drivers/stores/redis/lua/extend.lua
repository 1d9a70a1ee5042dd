-- needs:
-- Add tasks to an open job whose chunks lie under temporary keys, all at once. The request: {uid, job, tasks it had, tasks it has then,
-- blocked, levels, lanes, uploaded keys}. A lane is {class, priority, waiting, where}, as in publish.lua; those that the job had come
-- first. The answer: 'done'; 'closed'; or 'grew' when somebody else was faster: its numbers are taken, count again.

local tmp = P .. 'new:' .. request[1] .. ':'
local job, before, total, lanes = S.load_job(request[2]), request[3], request[4], request[7]
local uploaded = {}
for _, name in ipairs(request[8]) do
  uploaded[name] = tmp .. name
  if call('EXISTS', tmp .. name) == 0 then
    return redis.error_reply('ERGUPLOAD what was sent ahead of these tasks has expired: add them again')
  end
end
if call('GET', P .. 'uid:' .. request[1]) then
  return S.finish('done')
elseif not job or not job.open then
  return S.finish('closed')
elseif job.total ~= before or job.lanes > #lanes then
  return S.finish('grew')
end

local function copy_hash(name)
  local all = call('HGETALL', uploaded[name])
  for i = 1, #all, 1000 do
    call('HSET', job.key .. ':' .. name, unpack(all, i, math.min(#all, i + 999)))
  end
end

local function add_lane(index, about)
  local lane = S.lane_name(job.n, about[1], about[2], '')
  call('HSETNX', job.key .. ':lanes', index - 1, about[1] .. ':' .. about[2])
  if about[3] == 0 then
    return
  end
  if type(about[4]) == 'table' then
    S.put_range(lane, about[4][1], about[4][2])
  else
    call('ZUNIONSTORE', P .. 'l:' .. lane, 2, P .. 'l:' .. lane, uploaded[about[4]])
  end
  S.lane_grows(job, lane, about[3])
end

-- What is known of a range now: how many of its tasks are not done, and the first that ended badly.
local function look_at_range(first, last)
  local open, bad, cause, word = 0, 0, nil, nil
  if first <= before then
    local states = S.read_states(job, first, math.min(last, before))
    local _, done = string.gsub(states, string.char(DONE), '')
    local _, failed = string.gsub(states, '[' .. string.char(FAILED) .. string.char(CANCELLED) .. ']', '')
    open, bad = #states - done, failed
    local place = string.find(states, '[' .. string.char(FAILED) .. string.char(CANCELLED) .. ']')
    if place then
      cause = first + place - 1
      word = string.byte(states, place) == FAILED and 'failed' or 'was cancelled'
    end
  end
  return open + math.max(0, last - math.max(first - 1, before)), bad, cause, word
end

-- New waiters stand in blocks of their own behind those a range has already.
local function add_waiters()
  local pre, waiters = job.key .. ':pre', job.key .. ':waiters'
  local first_block = {}
  local all = call('HGETALL', uploaded['waiters'])
  for i = 1, #all, 2 do
    local range, block = string.match(all[i], '^(.*)/(%d+)$')
    if not first_block[range] then
      local free = 0
      while call('HEXISTS', waiters, range .. '/' .. free) == 1 do
        free = free + 1
      end
      first_block[range] = free
    end
    call('HSET', waiters, range .. '/' .. (first_block[range] + tonumber(block)), all[i + 1])
  end
  for range, block in pairs(first_block) do
    local first, last = string.match(range, '^(%d+)-(%d+)$')
    local open, bad, cause, word = look_at_range(tonumber(first), tonumber(last))
    call('HSET', pre, range, open, '!' .. range, bad)
    if open == 0 then
      steps[#steps + 1] = { 'release', job.n, range, block }
    elseif bad > 0 then
      steps[#steps + 1] = { 'cancel', job.n, range, block, cause, word }
    end
  end
end

copy_hash('spec')
if uploaded['lane'] then
  call('SETRANGE', job.key .. ':lane', 4 * before, call('GET', uploaded['lane']))
end
if uploaded['state'] then
  call('SETRANGE', job.key .. ':state', before, call('GET', uploaded['state']))
end
job.total = total
job.lanes = #lanes
S.set_job(job, 'total', total)
S.set_job(job, 'lanes', #lanes)
job[READY] = job[READY] + (total - before - request[5])
job[BLOCKED] = job[BLOCKED] + request[5]
for index, about in ipairs(lanes) do
  add_lane(index, about)
end
if request[6] ~= '' then
  local levels = {}
  for level in string.gmatch((job.levels or '') .. ',' .. request[6], '%d+') do
    levels[tonumber(level)] = true
  end
  local list = {}
  for level in pairs(levels) do
    list[#list + 1] = level
    if uploaded['lv:' .. level] then
      local ranges = call('ZRANGE', uploaded['lv:' .. level], 0, -1, 'WITHSCORES')
      for i = 1, #ranges, 2 do
        call('ZADD', job.key .. ':lv:' .. level, ranges[i + 1], ranges[i])
      end
    end
  end
  table.sort(list)
  job.levels = table.concat(list, ',')
  S.set_job(job, 'levels', job.levels)
  call('SETRANGE', job.key .. ':need', 4 * before, call('GET', uploaded['need']))
  add_waiters()
elseif job.levels then
  call('SETRANGE', job.key .. ':need', 4 * total - 4, '\0\0\0\0')
end
call('SET', P .. 'uid:' .. request[1], 'extended', 'EX', 3600)
for _, name in ipairs(request[8]) do
  call('UNLINK', tmp .. name)
end
S.flush_jobs()
S.follow_up()
S.flush_jobs()
S.ring_for_new_tasks()
return S.finish('done')
