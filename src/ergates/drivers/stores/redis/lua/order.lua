-- needs:
-- Orders for a worker. The request: {worker, version they were merged with, version, orders in JSON}. The answer: 1, or 0 when somebody
-- else gave orders meanwhile.

local W = P .. 'w:' .. request[1]
local version = tonumber(call('HGET', W, 'version') or -1)
if version ~= request[2] then
  return S.finish(0)
end
call('HSET', W, 'version', request[3], 'orders', request[4])
S.ring(request[1])
return S.finish(1)
