-- Gangs: one task on several workers at once, all or none. A gang waits in its lane like any task. Only the most urgent one
-- that enough live workers could serve *assembles*: workers with room take seats (`seats`, by when they were taken). When the last
-- one is taken the gang runs: the leader (rank 0) holds an ordinary lease, and every member has an entry in mem:<worker>,
-- "job:task:fence" -> "rank given"; `given` 1 once its worker was told. gang:<job>:<task> is the record of a running gang:
-- fence, size, lane, known, workers, hosts, how many have `ended`, e:<rank> for each end, and in `over` the rank of the first bad one.
-- A member whose gang is over, or whose record is gone or has another fence, is to end; nothing else has to be told to it.
-- Where roles ask for labels (roles.lua) a seat is taken only by who can be dealt out together with those who sit already, and the
-- ranks follow the roles.

local PATIENCE_US, PUT_OFF_US, LOOK_US, LANES_LOOKED = 600 * 1000000, 120 * 1000000, 1000000, 1000
local ASSEMBLY, SEATS, GANG_LANES = P .. 'assembly', P .. 'seats', P .. 'gang_lanes'
local sizes, living = {}, nil

-- How many workers one task of a class needs.
function S.nodes_of(class)
  if S.gangs == 0 then
    return 1
  end
  sizes[class] = sizes[class] or tonumber(call('HGET', P .. 'gangs', class) or 1)
  return sizes[class]
end

-- --- assembling -----------------------------------------------------------------------------------

local function live_workers()
  if not living then
    living = {}
    for _, worker in ipairs(call('ZREVRANGEBYSCORE', P .. 'workers', '+inf', S.text(at - lease_us))) do
      local w = call('HMGET', P .. 'w:' .. worker, 'standing', 'unfit', 'asked')
      if w[1] == 'live' then
        living[#living + 1] = { w[2] or '', w[3] or '' }
      end
    end
  end
  return living
end

local function could_start(about)
  local class, job, found = ',' .. about.class .. ',', ',' .. about.job .. ',', 0
  local size, seats = S.nodes_of(about.class), S.roles_of(about.class)
  local seating = seats and S.new_seating(seats)
  for _, w in ipairs(live_workers()) do
    if not string.find(w[1], class, 1, true) and (w[2] == '' or string.find(w[2], job, 1, true)) then
      if not seating or S.seat(seating, S.kind_of(about.class, seats, w[1])) then
        found = found + 1
      end
    end
    if found >= size then
      return true
    end
  end
  return false
end

local function most_urgent()
  for _, lane in ipairs(call('ZRANGE', GANG_LANES, 0, LANES_LOOKED - 1)) do
    local about = S.parse_lane(lane)
    local job = S.load_job(about.job)
    if job and S.leases_out(job) and could_start(about) then
      local until_us = tonumber(call('HGET', P .. 'put_off', lane) or 0)
      if until_us <= at then
        return lane
      end
    end
  end
  return ''
end

local function change_seats(...)
  S.forget_seating()
  return call(...)
end

-- Idle workers that could take the seats that are left hear of it.
local function ring_for_seats(class)
  S.ring_idle(class, math.max(0, S.nodes_of(class) - call('ZCARD', SEATS)))
end

-- A worker has its seat no more.
local function lose_seat(worker)
  if change_seats('ZREM', SEATS, worker) == 1 then
    ring_for_seats(S.parse_lane(call('HGET', ASSEMBLY, 'lane')).class)
  end
end

local function empty_seats()
  for _, worker in ipairs(call('ZRANGE', SEATS, 0, -1)) do
    S.ring(worker)
  end
  change_seats('DEL', SEATS)
end

-- The lane whose first task assembles now, or ''. Looked for anew once a second; one that does not come together for
-- PATIENCE_US is put off, so that neither other gangs nor the room kept for it wait for ever.
function S.assembling()
  local a = call('HMGET', ASSEMBLY, 'lane', 'since', 'looked')
  local lane = a[1] or ''
  local stands = lane == '' or (call('ZSCORE', GANG_LANES, lane) and S.leases_out(S.load_job(S.parse_lane(lane).job)))
  if stands and a[3] and at - tonumber(a[3]) < LOOK_US then
    return lane
  end
  if lane ~= '' and at - tonumber(a[2]) > PATIENCE_US then
    call('HSET', P .. 'put_off', lane, S.text(at + PUT_OFF_US))
  end
  local chosen = most_urgent()
  call('HSET', ASSEMBLY, 'looked', S.text(at))
  if chosen ~= lane then
    empty_seats()
    call('HDEL', P .. 'put_off', chosen)
    call('HSET', ASSEMBLY, 'lane', chosen, 'since', S.text(at))
    S.forget_seating()
    if chosen ~= '' then
      ring_for_seats(S.parse_lane(chosen).class)
    end
  end
  return chosen
end

-- A lane of gangs has something to offer now.
function S.show_gang_lane(lane, priority)
  call('ZADD', GANG_LANES, -priority, lane)
  S.look_again()
end

-- Something changed that may let another gang assemble.
function S.look_again()
  call('HDEL', ASSEMBLY, 'looked')
end

-- Whether a lane is no gang's, or the one in which the asking worker may take a seat.
function S.may_have_seat(lane, about)
  return S.nodes_of(about.class) == 1 or lane == sight.gang
end

-- What this worker cannot serve, or does not ask for; a seat in a class it cannot serve is given up, and one that it cannot keep
-- beside the others because it can take fewer roles.
function S.declare(worker, unfit_list, asked)
  local W = P .. 'w:' .. worker
  local unfit = #unfit_list > 0 and ',' .. table.concat(unfit_list, ',') .. ',' or ''
  local jobs_asked = #asked > 0 and ',' .. table.concat(asked, ',') .. ',' or ''
  local before = call('HMGET', W, 'unfit', 'asked')
  local changed = (before[1] or '') ~= unfit
  if changed or (before[2] or '') ~= jobs_asked then
    call('HSET', W, 'unfit', unfit, 'asked', jobs_asked)
    living = nil
    S.forget_seating()
    S.look_again()
  end
  local taken = unfit ~= '' and call('ZSCORE', SEATS, worker)
  if taken then
    local class = S.parse_lane(call('HGET', ASSEMBLY, 'lane')).class
    if string.find(unfit, ',' .. class .. ',', 1, true) then
      lose_seat(worker)
    elseif changed and S.roles_of(class) then
      change_seats('ZREM', SEATS, worker)
      if S.finds_seat(class, unfit) then
        change_seats('ZADD', SEATS, taken, worker)
      else
        ring_for_seats(class)
      end
    end
  end
end

local function what_it_lacks(worker)
  return call('HGET', P .. 'w:' .. worker, 'unfit') or ''
end

-- The lane of which this worker may take a seat; the seat it has: {job, class, priority, taken, size, since}, or false.
function S.seats_for(worker)
  local lane = S.assembling()
  if lane == '' then
    return nil, false
  end
  local about = S.parse_lane(lane)
  if not call('ZSCORE', SEATS, worker) then
    return S.finds_seat(about.class, what_it_lacks(worker)) and lane or nil, false
  end
  local since = tonumber(call('HGET', ASSEMBLY, 'since'))
  return nil, { about.job, about.class, about.priority, call('ZCARD', SEATS), S.nodes_of(about.class), since }
end

local function start_gang(lane, members)
  local about = S.parse_lane(lane)
  local job, task = S.load_job(about.job), S.take_front({ lane }, 1)[1][1]
  local lease_fence = S.text(S.new_fences(1))
  local known = S.read_state(job, task) == READY
  local place, hosts = about.job .. ':' .. task, {}
  for rank, member in ipairs(members) do
    hosts[rank] = call('HGET', P .. 'w:' .. member, 'host')
    call('HSET', P .. 'mem:' .. member, place .. ':' .. lease_fence, (rank - 1) .. ' 0')
    S.ring(member)
  end
  call('HSET', P .. 'own:' .. members[1], place, lease_fence .. (known and ' 1 ' or ' 0 ') .. lane)
  call('DEL', P .. 'gang:' .. place)
  call('HSET', P .. 'gang:' .. place, 'fence', lease_fence, 'size', #members, 'lane', lane, 'known', known and '1' or '0',
    'workers', pack(members), 'hosts', pack(hosts), 'ended', 0)
  S.set_states(job, task, task, LEASED)
  S.move(job, READY, LEASED, 1)
  S.lane_shrinks(job, lane, 1)
  change_seats('DEL', SEATS, ASSEMBLY)
end

-- A worker has room for a member of this lane's first task now. The last one starts the gang.
function S.take_seat(worker, job, class, priority)
  local lane = S.assembling()
  local about = lane ~= '' and S.parse_lane(lane)
  if not about or about.job ~= job or about.class ~= class or about.priority ~= priority then
    return
  end
  if not call('ZSCORE', SEATS, worker) and not S.finds_seat(class, what_it_lacks(worker)) then
    return -- it knows only now which roles it can take, and those are full
  end
  change_seats('ZADD', SEATS, 'NX', at, worker)
  local seats, members, seated = S.roles_of(class), {}, {}
  local seating = seats and S.new_seating(seats)
  for _, member in ipairs(call('ZRANGE', SEATS, 0, -1)) do
    local w = call('HMGET', P .. 'w:' .. member, 'standing', 'beat', 'unfit')
    local kind = seats and S.kind_of(class, seats, w[3] or '')
    if w[1] == 'live' and at - tonumber(w[2]) <= lease_us and (not seating or S.seat(seating, kind)) then
      members[#members + 1], seated[#seated + 1] = member, { member, kind }
    else
      change_seats('ZREM', SEATS, member)
    end
  end
  if #members < S.nodes_of(class) then
    ring_for_seats(class)
  else
    start_gang(lane, seating and S.dealt(seating, seated) or members)
  end
end

-- --- running --------------------------------------------------------------------------------------

local function parse_member(field)
  local job, task, lease_fence = string.match(field, '^(%d+):(%d+):(%d+)$')
  return tonumber(job), tonumber(task), lease_fence
end

local function ring_members(key)
  for _, member in ipairs(unpack_msgpack(call('HGET', key, 'workers'))) do
    S.ring(member)
  end
end

-- One member has ended: `blob` says how, '' for one that never started or was handed back.
local function note_end(key, field, worker, rank, blob, succeeded)
  call('HSET', key, 'e:' .. rank, blob)
  if rank > 0 then
    call('HDEL', P .. 'mem:' .. worker, field)
  end
  local all = call('HINCRBY', key, 'ended', 1) == tonumber(call('HGET', key, 'size'))
  if (not succeeded and call('HSETNX', key, 'over', rank) == 1) or all then
    ring_members(key)
  end
end

-- The user cancelled it.
function S.break_gang(number, task)
  local key = P .. 'gang:' .. number .. ':' .. task
  if call('EXISTS', key) == 1 and call('HSETNX', key, 'over', -1) == 1 then
    ring_members(key)
  end
end

-- Its leader's lease is over: what is left of the gang is to end.
function S.dissolve(number, task)
  local key = P .. 'gang:' .. number .. ':' .. task
  local g = call('HMGET', key, 'fence', 'workers')
  if g[1] then
    ring_members(key)
    call('HDEL', P .. 'mem:' .. unpack_msgpack(g[2])[1], number .. ':' .. task .. ':' .. g[1])
    call('DEL', key)
  end
end

-- The end of a member, told by its worker or by who found that worker dead. False: it had no seat under this fence, or it led a gang
-- that is gone, and has nothing to wait for. The end of who leads may be told again while the gang waits, and counts once.
function S.commit_seat(worker, c, blob)
  local key, rank, lease_fence = P .. 'gang:' .. c[1] .. ':' .. c[2], c[11][1], S.text(c[3])
  local field = c[1] .. ':' .. c[2] .. ':' .. lease_fence
  local g = call('HMGET', key, 'fence', 'workers', 'e:' .. rank)
  if g[1] ~= lease_fence then
    return call('HDEL', P .. 'mem:' .. worker, field) == 1 and rank > 0 -- the gang is gone, and that was the last of it
  end
  local holder = unpack_msgpack(g[2])[rank + 1]
  if not holder or call('HEXISTS', P .. 'mem:' .. holder, field) == 0 then
    return false
  end
  if g[3] then
    return rank == 0 and holder == worker
  end
  if holder ~= worker then
    if rank == 0 or call('SISMEMBER', P .. 'gone', holder) == 0 then
      return false
    end
    S.count_as_reaped(holder)
  end
  note_end(key, field, holder, rank, blob, c[5] == 'succeeded')
  if holder ~= worker then
    S.forget_empty_handed(holder)
  end
  return true
end

-- A worker that starts anew or leaves: its members are handed back. Those it led went with their leases.
function S.give_back_members(worker)
  lose_seat(worker)
  local held = call('HGETALL', P .. 'mem:' .. worker)
  for i = 1, #held, 2 do
    local job, task, lease_fence = parse_member(held[i])
    local key, rank = P .. 'gang:' .. job .. ':' .. task, tonumber(string.match(held[i + 1], '^%d+'))
    if rank > 0 and call('HGET', key, 'fence') == lease_fence then
      note_end(key, held[i], worker, rank, '', false)
    end
  end
  call('DEL', P .. 'mem:' .. worker)
end

-- What this worker holds of gangs, each as {job, task, fence as text, rank, the gang's lane, known, host}; what is left of gangs
-- that are gone is forgotten. For those who found the worker dead; rank 0 is an ordinary lease and not among them.
function S.members_of_the_dead(worker)
  local found, held = {}, call('HGETALL', P .. 'mem:' .. worker)
  for i = 1, #held, 2 do
    local job, task, lease_fence = parse_member(held[i])
    local g = call('HMGET', P .. 'gang:' .. job .. ':' .. task, 'fence', 'lane', 'known', 'hosts')
    local rank = tonumber(string.match(held[i + 1], '^%d+'))
    if g[1] ~= lease_fence then
      call('HDEL', P .. 'mem:' .. worker, held[i])
      S.count_as_reaped(worker) -- it may still run it, and nothing else would tell it to end
    elseif rank > 0 then
      found[#found + 1] = { job, task, tonumber(lease_fence), g[2], g[3] == '1', { rank, unpack_msgpack(g[4]) } }
    end
  end
  return found
end

-- --- what a worker learns -------------------------------------------------------------------------

-- Members that start now join `leases`; those never told of a gang that is over need not be.
function S.call_up(worker, leases)
  local held = call('HGETALL', P .. 'mem:' .. worker)
  for i = 1, #held, 2 do
    local rank, given = string.match(held[i + 1], '^(%d+) (%d)$')
    if given == '0' then
      rank = tonumber(rank)
      local number, task, lease_fence = parse_member(held[i])
      local key = P .. 'gang:' .. number .. ':' .. task
      local g = call('HMGET', key, 'fence', 'lane', 'known', 'hosts', 'over')
      if g[1] ~= lease_fence then
        call('HDEL', P .. 'mem:' .. worker, held[i])
      elseif g[5] and rank > 0 then
        note_end(key, held[i], worker, rank, '', false)
      else
        local job, about = S.load_job(number), S.parse_lane(g[2])
        local b = g[3] == '1' and S.read_setback(job, task)
        local pasts = b and { { task, b[ATTEMPTS], b[1], b[2], b[3], b[4], b[5] } } or {}
        leases[#leases + 1] = { number, job.uid, task, 1, tonumber(lease_fence), about.class, about.priority, job.edits,
          pasts, { rank, unpack_msgpack(g[4]) } }
        call('HSET', P .. 'mem:' .. worker, held[i], rank .. ' 1')
      end
    end
  end
end

-- Members that are to end join `revoked`; gangs it leads that have ended join `ended` as {job, task, fence, cause or false, size}, and
-- how their members ended `blobs`, in the same order.
function S.tell_members(worker, revoked, ended, blobs)
  local held = call('HGETALL', P .. 'mem:' .. worker)
  for i = 1, #held, 2 do
    local number, task, lease_fence = parse_member(held[i])
    local rank, given = string.match(held[i + 1], '^(%d+) (%d)$')
    local key = P .. 'gang:' .. number .. ':' .. task
    local g = call('HMGET', key, 'fence', 'over', 'ended', 'size', 'e:' .. rank)
    local ours = g[1] == lease_fence
    if given == '1' and (not ours or (g[2] and not g[5])) then
      revoked[#revoked + 1] = { number, task, tonumber(lease_fence) }
    elseif ours and rank == '0' and g[3] == g[4] then
      for place = 0, tonumber(g[4]) - 1 do
        blobs[#blobs + 1] = call('HGET', key, 'e:' .. place)
      end
      ended[#ended + 1] = { number, task, tonumber(lease_fence), g[2] and tonumber(g[2]), tonumber(g[4]) }
    end
  end
end
