-- needs:
-- The numbers of requirements, given as they are written; a new one gets the next number. A number is never used again. Behind a
-- gang whose roles ask for labels (roles.lua) a number is kept for each role.

local numbers = {}
for i, body in ipairs(request) do
  local number = call('HGET', P .. 'classes', body)
  if not number then
    number = call('HINCRBY', META, 'classes', 1)
    call('HSET', P .. 'classes', body, number)
    call('HSET', P .. 'class', number, body)
    local needed = cjson.decode(body)
    if needed.nodes and needed.nodes > 1 then
      call('HSET', P .. 'gangs', number, needed.nodes)
      call('HINCRBY', META, 'gangs', 1)
      if needed.role_labels and needed.roles then
        local seats = {}
        for place, role in ipairs(needed.roles) do
          seats[place] = role[2]
        end
        call('HSET', P .. 'gang_roles', number, pack(seats))
        call('HINCRBY', META, 'classes', #seats)
      end
    end
  end
  numbers[i] = tonumber(number)
end
return S.finish(pack(numbers))
