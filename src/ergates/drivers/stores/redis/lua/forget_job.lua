-- needs:
-- Remove a finished job, all of it at once: some forty keys at most, however many tasks it had, for a server frees what UNLINK takes
-- away in a thread of its own. The request: {job, whether attempts that no ledger has may go, too}. The answer: 'unknown',
-- 'not finished', 'history' (there are such attempts) or 'forgotten'.
--
-- Nothing of a finished job lies elsewhere but steps in `work`, which are skipped when their turn comes (dependencies.lua):
-- it has no leases, its lanes are empty, it waits for no moment.

local job = S.load_job(request[1])
if not job then
  return S.finish('unknown')
elseif not job.finished then
  return S.finish('not finished')
elseif not request[2] and call('EXISTS', job.key .. ':log') == 1 then
  return S.finish('history')
end
local keys = { job.key }
for _, name in ipairs({ 'spec', 'state', 'back', 'lane', 'lanes', 'row', 'why', 'log', 'pre', 'waiters', 'need', 'edits', 'delayed' }) do
  keys[#keys + 1] = job.key .. ':' .. name
end
for level in string.gmatch(job.levels or '', '%d+') do
  keys[#keys + 1] = job.key .. ':lv:' .. level
end
local key = call('HGET', job.key, 'key')
local left = {}
for number in string.gmatch(call('HGET', P .. 'keys', key) or '', '%d+') do
  if tonumber(number) ~= job.n then
    left[#left + 1] = number
  end
end
if #left > 0 then
  call('HSET', P .. 'keys', key, table.concat(left, ' '))
else
  call('HDEL', P .. 'keys', key)
end
call('ZREM', P .. 'jobs', job.n)
call('ZREM', P .. 'logs', job.n)
call('ZREM', P .. 'due', job.n)
call('UNLINK', unpack(keys))
return S.finish('forgotten')
