-- Leases dirty lanes, longest waiting first. KEYS: tags. ARGV: kind, limit, lease ms ('-1' looks only), token.
-- Reply: per lane {token, id, lane, epoch, cursor, rev, attempt, task rev, deleted, turn}.
local MOST = 1000
local kind, limit, lease, token = arg(), num(), num(), arg()

local function split(member) return string.match(member, '^(%S+) (.*)$') end

-- Lanes whose lease or deferral is over are back in the line, at their place.
local function promote(base)
  for _, member in ipairs(call('ZRANGEBYSCORE', base .. ':lh:' .. kind, '-inf', int(NOW), 'LIMIT', 0, MOST)) do
    local name, id = split(member)
    local t = load_task(base, id)
    local text = t and call('HGET', t.data .. ':L', name)
    call('ZREM', base .. ':lh:' .. kind, member)
    if text then call('ZADD', base .. ':ld:' .. kind, int(lane_parse(text).turn), member) end
  end
end

local waiting = {}
for _, base in ipairs(KEYS) do
  promote(base)
  local some = call('ZRANGE', base .. ':ld:' .. kind, 0, limit - 1, 'WITHSCORES')
  for i = 1, #some, 2 do waiting[#waiting + 1] = {base, some[i], tonumber(some[i + 1])} end
end
table.sort(waiting, by(3, 2))

local claimed = {}
for _, one in ipairs(waiting) do
  if #claimed >= limit then break end
  local base, member, turn = one[1], one[2], one[3]
  local name, id = split(member)
  local t = load_task(base, id)
  local text = t and call('HGET', t.data .. ':L', name)
  if not text then
    call('ZREM', base .. ':ld:' .. kind, member)
  else
    local l, mine = lane_parse(text), token .. ':' .. #claimed
    if lease >= 0 then
      l.token, l.held, l.turn = mine, NOW + lease, NOW_US
      put_lane(t, name, l)
      call('ZREM', base .. ':ld:' .. kind, member)
      call('ZADD', base .. ':lh:' .. kind, int(l.held), member)
    end
    claimed[#claimed + 1] = {mine, id, name, t.ep, l.cursor, l.rev, l.attempt, t.rev, t.st == 'h' and 1 or 0, turn}
  end
end
return claimed
