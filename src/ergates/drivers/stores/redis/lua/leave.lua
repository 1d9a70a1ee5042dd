-- needs:
-- A clean good-bye; leases still held go back unharmed. The request: the worker's id.

local W = P .. 'w:' .. request
local host = call('HGET', W, 'host')
if host then
  S.give_back_all(request)
  S.flush_jobs()
  S.follow_up()
  S.flush_jobs()
  call('HSET', W, 'standing', 'left', 'idle', '', 'beat', at)
  call('ZREM', P .. 'workers', request)
  call('ZADD', P .. 'left', at, request)
  call('SREM', P .. 'h:' .. host, request)
  call('SREM', P .. 'idle', request)
  call('DEL', P .. 'wake:' .. request)
  S.ring_for_new_tasks()
end
return S.finish(0)
