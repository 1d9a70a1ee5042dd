-- needs: commits leases
-- The hot call: commit what ended, beat, lease what is asked for, say what is on offer.
--
-- The request: {worker, who asks, number, commits, wants, jobs, unfit, load or false, orders seen, asked again}. A request that was
-- carried out before (its answer was lost) is answered again with what it granted and refused then. One that is asked again is noted
-- even if nothing came of it: the first may still be on its way, and nobody would hear what it was granted.
-- The answer: {leases, refused} and {stale, offers, revoked, next ready, open tasks, orders, seat, ended gangs}, each in MessagePack;
-- the last two only in a queue that knows gangs (gangs.lua). Then, packed, how each member of the ended gangs ended.

local BEAT_EVERY_US = 500000
local worker, asker, number = request[1], request[2], request[3]
local commits, wants, asked, unfit_list = request[4], request[5], request[6], request[7]
local W = P .. 'w:' .. worker
local w = call('HMGET', W, 'standing', 'host', 'beat', 'asker', 'number', 'revoked', 'idle', 'rung', 'version')
local changes = {}

local function set(field, value)
  changes[#changes + 1] = field
  changes[#changes + 1] = value
end

if w[1] ~= 'live' and w[1] ~= 'condemned' then
  return S.finish(pack({ {}, {} }), pack({ true, {}, {}, false, 0, '' }))
end
sight.host = w[2]
if at - tonumber(w[3]) >= BEAT_EVERY_US or w[1] == 'condemned' then
  call('ZADD', P .. 'workers', at, worker)
  set('beat', at)
  if at - tonumber(w[3]) > lease_us then
    call('ZREM', P .. 'left', worker)
  end
  if w[1] == 'condemned' then
    call('SREM', P .. 'gone', worker)
    set('standing', 'live')
  end
end

local core
local repeated = w[4] == asker and tonumber(w[5]) >= number
local revoked_count = tonumber(w[6] or 0)
if repeated then
  core = tonumber(w[5]) == number and call('HGET', W, 'answer') or pack({ {}, {} })
elseif #commits > 0 then
  revoked_count = revoked_count - S.commit_all(worker, w[2], commits, revoked_count > 0, 2)
end
if #steps > 0 or steps_in_work > 0 then
  S.follow_up()
end
local due = first_due > 0 and call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES') or {}
if due[1] and tonumber(due[2]) <= at then
  due = S.wake_delayed(1000)
end
local leases = {}
if S.gangs > 0 then
  S.declare(worker, unfit_list, asked)
end
if not repeated then
  leases = S.lease_wanted(worker, wants)
  if S.gangs > 0 then
    S.call_up(worker, leases)
  end
  core = pack({ leases, refused })
  if #leases > 0 or #commits > 0 or request[10] then
    set('asker', asker)
    set('number', number)
    set('answer', core)
  end
end
S.flush_jobs()

local unfit
if #unfit_list > 0 then
  unfit = {}
  for _, class in ipairs(unfit_list) do
    unfit[class] = true
  end
end
local seat, gang_ends, blobs, revoked = false, {}, {}, {}
if S.gangs > 0 then
  sight.gang, seat = S.seats_for(worker)
  S.tell_members(worker, revoked, gang_ends, blobs)
end
local offers, hidden = S.offers_now(asked, unfit)

if revoked_count > 0 then
  for _, field in ipairs(call('HKEYS', P .. 'rev:' .. worker)) do
    local job, task = S.parse_place(field)
    revoked[#revoked + 1] = { job, task, (S.parse_lease(call('HGET', P .. 'own:' .. worker, field))) }
  end
  S.tell_overtaken(worker, revoked)
end
if revoked_count ~= tonumber(w[6] or 0) then
  set('revoked', revoked_count)
end

local orders = ''
if tonumber(w[9] or 0) > request[9] then
  orders = call('HGET', W, 'orders')
end
if request[8] then
  set('load', request[8])
end

-- Nothing on offer: ring when there is. If it was rung and takes nothing, another one shall look: perhaps it can use what this
-- one cannot. Who passes a ring on has judged the class (it is unfit) or sees what is on offer, so rings do not go round.
if #offers == 0 and #leases == 0 then
  if w[7] ~= '1' then
    set('idle', '1')
    call('SADD', P .. 'idle', worker)
  end
  set('unfit', unfit and ',' .. table.concat(unfit_list, ',') .. ',' or '')
elseif w[7] == '1' then
  set('idle', '')
  call('SREM', P .. 'idle', worker)
end
if w[8] == '1' then
  set('rung', '')
end
if #changes > 0 then
  call('HSET', W, unpack(changes))
end
if w[8] == '1' and #leases == 0 and (offers[1] or hidden) then
  S.ring_idle(offers[1] and offers[1][2] or hidden, 1)
end
if next(new_ready) then
  S.ring_for_new_tasks()
end
local earliest = due[1] and S.next_ready(asked, due)
local answer = { false, offers, revoked, earliest and earliest - ahead or false, S.count_open(asked), orders }
if S.gangs > 0 then
  answer[7], answer[8] = seat, gang_ends
end
return S.finish(core, pack(answer), unpack(blobs))
