-- Written twice into a script, so that what is seldom needed captures less.

local FRESH, BLOCKED, READY, DELAYED, LEASED, DONE, FAILED, CANCELLED = 0, 2, 3, 4, 5, 6, 7, 8
-- One byte for each task. FRESH is ready as it was submitted, nothing ever happened to it: its byte need not exist.

-- Places in a setback, see tasks.lua.
local ATTEMPTS, CLASS, PRIORITY, AVOID, DUE, REASON, CAUSE, WORD = 6, 7, 8, 9, 10, 11, 12, 13
