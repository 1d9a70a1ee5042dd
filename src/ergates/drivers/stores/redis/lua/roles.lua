-- Roles of a gang that ask for labels of their own: which of them a worker can take, and whether those who sit can be dealt out to
-- them. How and why: taskqueue/gang_roles.py. `gang_roles` has, by class, the seats of each role (packed); classes whose members
-- are all alike are not in it. A worker's *kind* is a text with 1 for each role it can take and 0 for the others.

local roles, standing = {}, nil

-- The seats of each role; nil where all members are alike.
function S.roles_of(class)
  if roles[class] == nil then
    local packed = call('HGET', P .. 'gang_roles', class)
    roles[class] = packed and unpack_msgpack(packed) or false
  end
  return roles[class] or nil
end

-- The kind of a worker that says this of itself; the numbers of the roles follow that of their class.
function S.kind_of(class, seats, unfit)
  if string.find(unfit, ',' .. class .. ',', 1, true) then
    return string.rep('0', #seats)
  end
  local kind = {}
  for place = 1, #seats do
    kind[place] = string.find(unfit, ',' .. (class + place) .. ',', 1, true) and '0' or '1'
  end
  return table.concat(kind)
end

-- --- seatings -------------------------------------------------------------------------------------

function S.new_seating(seats)
  local seating = { left = {}, given = {} }
  for place, count in ipairs(seats) do
    seating.left[place], seating.given[place] = count, {}
  end
  return seating
end

-- A role that is full takes one more when one of those it has can be moved to another role.
local function give_place(seating, kind, looked)
  for place = 1, #seating.left do
    if string.byte(kind, place) == 49 and not looked[place] then
      looked[place] = true
      local given, found = seating.given[place], seating.left[place] > 0
      if found then
        seating.left[place] = seating.left[place] - 1
      else
        for other, count in pairs(given) do
          if count > 0 and give_place(seating, other, looked) then
            given[other] = count - 1
            found = true
            break
          end
        end
      end
      if found then
        given[kind] = (given[kind] or 0) + 1
        return true
      end
    end
  end
  return false
end

-- One more of this kind sits down. False, and nothing changed: there is no seat for it, however the others are dealt out.
function S.seat(seating, kind)
  seating.open = nil
  return give_place(seating, kind, {})
end

local function touches(kind, open)
  for place in pairs(open) do
    if string.byte(kind, place) == 49 then
      return true
    end
  end
  return false
end

-- Roles with a seat left, or with one that could be left: who has it could move on to such a role.
local function open_roles(seating)
  local open, grown = {}, true
  for place, left in ipairs(seating.left) do
    open[place] = left > 0 or nil
  end
  while grown do
    grown = false
    for place, given in ipairs(seating.given) do
      for kind, count in pairs(given) do
        if not open[place] and count > 0 and touches(kind, open) then
          open[place], grown = true, true
        end
      end
    end
  end
  return open
end

-- Those who sit, as {worker, kind} in the order of their seats: the workers in the order of their ranks.
function S.dealt(seating, seated)
  local found, workers = {}, {}
  for place = 1, #seating.given do
    found[place] = {}
  end
  for _, member in ipairs(seated) do
    for place, given in ipairs(seating.given) do
      if (given[member[2]] or 0) > 0 then
        given[member[2]] = given[member[2]] - 1
        table.insert(found[place], member[1])
        break
      end
    end
  end
  for _, some in ipairs(found) do
    for _, worker in ipairs(some) do
      workers[#workers + 1] = worker
    end
  end
  return workers
end

-- --- the gang that assembles ----------------------------------------------------------------------

-- Seats were taken or lost, or another gang assembles, or a worker says something else of itself.
function S.forget_seating()
  standing = nil
end

-- Who sits in the gang that assembles; nobody, when that is of another class. Those who went silent do not count.
local function seating_of(class, seats)
  if not standing or standing.class ~= class then
    standing = S.new_seating(seats)
    standing.class = class
    local lane = call('HGET', P .. 'assembly', 'lane')
    if lane and lane ~= '' and S.parse_lane(lane).class == class then
      for _, member in ipairs(call('ZRANGE', P .. 'seats', 0, -1)) do
        local w = call('HMGET', P .. 'w:' .. member, 'standing', 'beat', 'unfit')
        if w[1] == 'live' and at - tonumber(w[2]) <= lease_us then
          S.seat(standing, S.kind_of(class, seats, w[3] or ''))
        end
      end
    end
  end
  return standing
end

-- Whether a worker that says this of itself finds a seat in the gang of this class, beside those who have theirs.
function S.finds_seat(class, unfit)
  local seats = S.roles_of(class)
  if not seats then
    return true
  end
  local seating = seating_of(class, seats)
  seating.open = seating.open or open_roles(seating)
  return touches(S.kind_of(class, seats, unfit), seating.open)
end
