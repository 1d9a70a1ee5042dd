-- needs:
-- The ledger has these rows: drop them. The request: a list of {job, id of the last entry}. What was added since stays.

for _, about in ipairs(request) do
  local log = P .. 'j:' .. about[1] .. ':log'
  call('XTRIM', log, 'MINID', '=', about[2] .. '-2')
  local first = call('XRANGE', log, '-', '+', 'COUNT', 1)
  if first[1] then
    call('ZADD', P .. 'logs', 'XX', string.match(first[1][1], '^%d+'), about[1])
  else
    call('DEL', log)
    call('ZREM', P .. 'logs', about[1])
  end
end
return S.finish(0)
