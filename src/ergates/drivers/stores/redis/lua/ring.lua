-- The bell: idle workers block on a list of their own (`wake:<worker>`); who makes tasks ready rings as many as there are new
-- tasks, never all. A worker that judged a class unfit for itself is passed over for it, so a ring is not lost on it.

local RING_TTL_MS = 60000

function S.ring(worker)
  local key = P .. 'wake:' .. worker
  if call('EXISTS', key) == 0 then
    call('RPUSH', key, 1)
    call('PEXPIRE', key, RING_TTL_MS)
  end
end

function S.is_unfit(worker, class)
  local unfit = call('HGET', P .. 'w:' .. worker, 'unfit') or ''
  if string.find(unfit, ',' .. class .. ',', 1, true) then
    return true
  end
  -- It may have its seat in a gang already, or fit only roles that are full.
  return S.nodes_of(class) > 1 and (call('ZSCORE', P .. 'seats', worker) or not S.finds_seat(class, unfit))
end

-- Wake up to `count` idle workers for which `class` is not unfit.
function S.ring_idle(class, count)
  local idle = P .. 'idle'
  local popped = call('SPOP', idle, count)
  local passed_over = {}
  while #popped > 0 do
    local missing = 0
    for _, worker in ipairs(popped) do
      if S.is_unfit(worker, class) then
        passed_over[#passed_over + 1] = worker
        missing = missing + 1
      else
        call('HSET', P .. 'w:' .. worker, 'idle', '', 'rung', '1')
        S.ring(worker)
      end
    end
    popped = missing > 0 and call('SPOP', idle, missing) or {}
  end
  for i = 1, #passed_over, 1000 do
    call('SADD', idle, unpack(passed_over, i, math.min(#passed_over, i + 999)))
  end
end

function S.ring_for_new_tasks()
  if next(new_ready) and call('EXISTS', P .. 'idle') == 1 then
    for class, count in pairs(new_ready) do
      S.ring_idle(class, count)
    end
  end
end
