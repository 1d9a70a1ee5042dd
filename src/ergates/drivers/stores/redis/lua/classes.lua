-- needs:
-- The numbers of requirements, given as they are written; a new one gets the next number. A number is never used again.

local numbers = {}
for i, body in ipairs(request) do
  local number = call('HGET', P .. 'classes', body)
  if not number then
    number = call('HINCRBY', META, 'classes', 1)
    call('HSET', P .. 'classes', body, number)
    call('HSET', P .. 'class', number, body)
    local nodes = cjson.decode(body).nodes
    if nodes and nodes > 1 then
      call('HSET', P .. 'gangs', number, nodes)
      call('HINCRBY', META, 'gangs', 1)
    end
  end
  numbers[i] = tonumber(number)
end
return S.finish(pack(numbers))
