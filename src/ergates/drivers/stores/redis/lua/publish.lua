-- needs: find
-- Make a job visible whose tasks lie under temporary keys, all at once. The request: {uid, key, again, spec, total, blocked, levels,
-- lanes, uploaded keys, most failed tasks, ageing interval, open}. A lane is {class, priority, waiting, where}: `where` is a
-- temporary key with its ranges, or {first, last} when it is one range. Asked twice it answers as it did at first.

local uid, tmp = request[1], P .. 'new:' .. request[1] .. ':'
local before = call('GET', P .. 'uid:' .. uid)
if before then
  return S.finish(before)
end
local answer = S.find_known(request[2], request[3])
if answer[1] ~= 0 then
  for _, name in ipairs(request[9]) do
    call('UNLINK', tmp .. name)
  end
  return S.finish(pack(answer))
end
for _, name in ipairs(request[9]) do
  if call('EXISTS', tmp .. name) == 0 then
    return redis.error_reply('ERGUPLOAD what was sent ahead of this job has expired: submit it again')
  end
end

local number = call('HINCRBY', META, 'jobs', 1)
local key = P .. 'j:' .. number
local total, blocked, lanes = request[5], request[6], request[8]
-- A hash with a value of more than 64 bytes is a real one: else each field of it would be looked for from its beginning.
local spec = request[4] .. string.rep(' ', 65 - #request[4])
call('HSET', key, 'uid', uid, 'key', request[2], 'spec', spec, 'phase', 'active', 'submitted_ns', now_text,
  'submitted', head[3], 'finished', (total == 0 and not request[12]) and now_text or '', 'total', total,
  'max_failed', request[10], 'aging', request[11], 'levels', request[7], 'open', request[12] and '1' or '0',
  'out', '0', 'lanes', #lanes, 'counts',
  struct.pack('<ddddddd', blocked, total - blocked, 0, 0, 0, 0, 0))
call('ZADD', P .. 'jobs', number, number)
local same = call('HGET', P .. 'keys', request[2])
call('HSET', P .. 'keys', request[2], same and (same .. ' ' .. number) or tostring(number))
for _, name in ipairs(request[9]) do
  if string.sub(name, 1, 2) ~= 'l:' then
    call('RENAME', tmp .. name, key .. ':' .. name)
    call('PERSIST', key .. ':' .. name)
  end
end
for index, about in ipairs(lanes) do
  local lane = S.lane_name(number, about[1], about[2], '')
  call('HSET', key .. ':lanes', index - 1, about[1] .. ':' .. about[2])
  if about[3] > 0 then
    if type(about[4]) == 'table' then
      S.put_range(lane, about[4][1], about[4][2])
    else
      call('RENAME', tmp .. about[4], P .. 'l:' .. lane)
      call('PERSIST', P .. 'l:' .. lane)
    end
    call('HSET', P .. 'waiting', lane, about[3])
    call('ZADD', key .. ':row', -about[2], lane)
  end
end
local job = S.load_job(number)
job.total_before, job.ended_before = 0, 0
S.flush_jobs()
S.ring_for_new_tasks()
answer = pack({ number, total, false, 0 })
call('SET', P .. 'uid:' .. uid, answer, 'EX', 3600)
return S.finish(answer)
