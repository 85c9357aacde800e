-- Timers that have run out, earliest first. KEYS: tags. ARGV: kind, limit, lease ms ('-1' looks without leasing).
-- Reply: {id, ms} per timer.
local PORTION = 100
local kind, limit, lease = arg(), num(), num()
local found = {}
for _, base in ipairs(KEYS) do
  local mine, offset = 0, 0
  while mine < limit do
    local some = call('ZRANGEBYSCORE', base .. ':w:' .. kind, '-inf', int(NOW), 'WITHSCORES', 'LIMIT', offset, PORTION)
    for i = 1, #some, 2 do
      if mine < limit and tonumber(call('ZSCORE', base .. ':wl:' .. kind, some[i]) or 0) <= NOW then
        mine = mine + 1
        found[#found + 1] = {base, some[i], tonumber(some[i + 1])}
      end
    end
    offset = offset + PORTION
    if #some < 2 * PORTION then break end
  end
end
table.sort(found, by(3, 2))
local reply = {}
for i = 1, math.min(limit, #found) do
  local one = found[i]
  if lease >= 0 then call('ZADD', one[1] .. ':wl:' .. kind, int(NOW + lease), one[2]) end
  reply[i] = {one[2], one[3]}
end
return reply
