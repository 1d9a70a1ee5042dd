-- needs:
-- Workers of one host that hold leases, with what is needed to see whether their processes live. The request: the host.

local found = {}
for _, worker in ipairs(call('SMEMBERS', P .. 'h:' .. request)) do
  if S.holds_any(worker) then
    local w = call('HMGET', P .. 'w:' .. worker, 'standing', 'info', 'beat')
    if w[1] == 'live' then
      found[#found + 1] = { worker, w[2], w[3] }
    end
  end
end
return S.finish(pack(found))
