-- needs:
-- A sign of life to a server that has no memory for more: its first write frees memory, and only the first is refused for want of it.
-- The request: the worker's id.

local W = P .. 'w:' .. request
call('HDEL', W, 'nothing')
local standing = call('HGET', W, 'standing')
if standing == 'live' or standing == 'condemned' then
  call('ZADD', P .. 'workers', at, request)
  call('ZREM', P .. 'left', request)
  call('HSET', W, 'beat', at, 'standing', 'live')
  call('SREM', P .. 'gone', request)
end
return S.finish(0)
