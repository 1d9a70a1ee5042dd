-- needs:
-- A worker announces itself; under a known id it is a new epoch without leases. The request: {id, host, info, registered}.
-- Workers that left or were reaped more than an hour ago are forgotten.

local KEPT_US, FORGET_AT_ONCE = 3600 * 1000000, 100
local worker, host = request[1], request[2]
local W = P .. 'w:' .. worker

for _, old in ipairs(call('ZRANGEBYSCORE', P .. 'left', '-inf', S.text(at - KEPT_US), 'LIMIT', 0, FORGET_AT_ONCE)) do
  if not S.holds_any(old) then
    S.forget(old)
  end
end
S.give_back_all(worker)
S.flush_jobs()
S.follow_up()
S.flush_jobs()
local orders = call('HMGET', W, 'orders', 'version', 'host')
if orders[3] then
  call('SREM', P .. 'h:' .. orders[3], worker)
end
call('DEL', W)
call('HSET', W, 'host', host, 'info', request[3], 'registered', request[4], 'standing', 'live', 'beat', at,
  'asker', '', 'number', 0, 'version', orders[2] or 0, 'orders', orders[1] or '')
call('ZADD', P .. 'workers', at, worker)
call('ZADD', P .. 'roster', at, worker)
call('SADD', P .. 'h:' .. host, worker)
call('SREM', P .. 'idle', worker)
if S.gangs > 0 then
  S.look_again()
end
call('ZREM', P .. 'left', worker)
S.ring_for_new_tasks()
return S.finish(0)
