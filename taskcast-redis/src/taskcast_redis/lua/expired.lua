-- KEYS[1]: tag. ARGV: limit, lease ms. Reply: assignments whose lease is over, each hidden for the lease.
local PORTION = 100
local limit, lease = num(), num()
local found, offset = {}, 0
while #found < limit do
  local some = call('ZRANGEBYSCORE', B .. ':al', '-inf', int(NOW), 'LIMIT', offset, PORTION)
  for _, id in ipairs(some) do
    if #found < limit and tonumber(call('ZSCORE', B .. ':ah', id) or 0) <= NOW then
      call('ZADD', B .. ':ah', int(NOW + lease), id)
      found[#found + 1] = get_assignment(id)
    end
  end
  offset = offset + PORTION
  if #some < PORTION then break end
end
return found
