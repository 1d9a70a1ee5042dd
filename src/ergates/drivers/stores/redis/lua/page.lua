-- needs:
-- What readers need of tasks first..last besides their specs. The request: {job, first, last}. The answer: the bytes of state, nil for
-- a job that is not there; and
-- {setbacks as {task, setback}, holders as {task, worker}, reasons of cancelled ranges as {first, last, reason}}.

local job, first, last = S.load_job(request[1]), request[2], request[3]
if not job then
  return S.finish(false, '')
end
local states = S.read_states(job, first, last)
local changed, any_leased, any_cancelled = {}, false, false
for i = 1, #states do
  local state = string.byte(states, i)
  if state ~= FRESH then
    changed[#changed + 1] = first + i - 1
  end
  any_leased = any_leased or state == LEASED
  any_cancelled = any_cancelled or state == CANCELLED
end
local setbacks, holders, reasons = {}, {}, {}
if #changed > 0 then
  local found = call('HMGET', job.key .. ':back', unpack(changed))
  for i, task in ipairs(changed) do
    if found[i] then
      setbacks[#setbacks + 1] = { task, unpack_msgpack(found[i]) }
    end
  end
end
if any_leased then
  for _, worker in ipairs(call('ZRANGE', P .. 'roster', 0, -1)) do
    for _, field in ipairs(call('HKEYS', P .. 'own:' .. worker)) do
      local number, task = S.parse_place(field)
      if number == job.n and task >= first and task <= last then
        holders[#holders + 1] = { task, worker }
      end
    end
  end
end
if any_cancelled then
  for i, raw in ipairs(call('LRANGE', job.key .. ':why', 0, -1)) do
    reasons[i] = unpack_msgpack(raw)
  end
end
return S.finish(states, pack({ setbacks, holders, reasons }))
