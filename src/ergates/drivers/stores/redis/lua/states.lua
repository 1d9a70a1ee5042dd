-- What the hot call needs of tasks and workers: bytes of state, what a lease says, and what is gathered until it is written.

local ready_run -- tasks that became ready one after another, see tasks.lua
local steps = {} -- what follows from tasks that ended, see dependencies.lua
local new_ready = {} -- class -> how many tasks became ready for somebody in this script, see ring.lua
local sight = { host = '', others = nil } -- what the asking worker may see, see seeing.lua

function S.set_states(job, first, last, state)
  call('SETRANGE', job.key .. ':state', first - 1, string.rep(string.char(state), last - first + 1))
end

-- States of tasks first..last as a string; what was never written is FRESH.
function S.read_states(job, first, last)
  local states = call('GETRANGE', job.key .. ':state', first - 1, last - 1)
  return states .. string.rep('\0', last - first + 1 - #states)
end

-- The fence, whether the task has a setback, its lane, and whether there are two leases of it (copies.lua).
function S.parse_lease(value)
  local number, flag, lane = string.match(value, '^(%d+) (%d) (.*)$')
  return tonumber(number), flag == '1' or flag == '3', lane, flag >= '2'
end
