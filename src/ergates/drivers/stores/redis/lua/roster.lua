-- needs:
-- All workers for people, the longest registered first: a list of {info, standing, microseconds since the last beat, leases, orders,
-- load}, the records in JSON.

local found = {}
for _, worker in ipairs(call('ZRANGE', P .. 'roster', 0, -1)) do
  local w = call('HMGET', P .. 'w:' .. worker, 'info', 'standing', 'beat', 'orders', 'load')
  if w[1] then
    local age = math.max(0, at - tonumber(w[3]))
    local standing = w[2]
    if standing == 'live' and age > lease_us then
      standing = 'silent'
    end
    found[#found + 1] = { w[1], standing, age, S.leases_of(worker), w[4] or '', w[5] or '' }
  end
end
return S.finish(pack(found))
