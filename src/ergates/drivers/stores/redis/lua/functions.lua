-- The table of all functions (scripts.py), and those that belong to base.lua.

local S = {}
S.gangs = gangs

function S.text(number)
  return format('%.0f', number)
end

function S.new_fences(count)
  local first = fence + 1
  fence = fence + count
  return generation * 4294967296 + first
end

function S.flush_meta()
  local counters =
    struct.pack('<dddddddd', generation, fence, rows, open_tasks, seen, steps_in_work, ageing_jobs, first_due)
  if counters ~= meta[3] then
    call('HSET', META, 'counters', counters)
  end
end

-- How every script ends: what changed is written, and the caller learns the correction of its clock.
function S.finish(...)
  S.flush_meta()
  return { pack(ahead), ... }
end
