-- Ready tasks lie in lanes: one for each (job, class, priority, host to avoid). A lane is a sorted set of ranges of ids, member
-- the last id, score the first: taking from the front moves a score. Lanes of jobs that lease stand in one sorted set by
-- priority, so what is on offer is read from its top, however many jobs there are; those of ageing jobs are merged in.

function S.lane_name(job, class, priority, avoid)
  return format('%010d:%06d:%d:%s', job, class, priority, avoid or '')
end

-- The class, priority and host to avoid of a lane's name.
local parsed_lanes = {}
function S.parse_lane(lane)
  local found = parsed_lanes[lane]
  if not found then
    local number, class, priority, avoid = string.match(lane, '^(%d+):(%d+):(%-?%d+):(.*)$')
    found = { job = tonumber(number), class = tonumber(class), priority = tonumber(priority), avoid = avoid }
    parsed_lanes[lane] = found
  end
  return found
end


function S.lane_shrinks(job, lane, count)
  if call('HINCRBY', P .. 'waiting', lane, -count) == 0 then
    call('HDEL', P .. 'waiting', lane)
    call('ZREM', job.key .. ':row', lane)
    call('ZREM', P .. 'offers', lane)
    if S.gangs > 0 then
      call('ZREM', P .. 'gang_lanes', lane)
    end
    if S.parse_lane(lane).avoid ~= '' then
      call('HDEL', P .. 'touched', lane)
    end
  end
end
