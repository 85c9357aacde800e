-- Follower lanes. A lane is kept as "cursor rev attempt token held_until dirty_since turn" ('-' where there is none).
-- `turn` is its place in the line (microseconds); a leased lane goes to the end of it.
local function lane_parse(text)
  local w = words(text)
  return {cursor = tonumber(w[1]), rev = tonumber(w[2]), attempt = tonumber(w[3]), token = w[4], held = tonumber(w[5]),
    since = w[6], turn = tonumber(w[7])}
end

local function lane_text(l)
  return table.concat({int(l.cursor), l.rev, l.attempt, l.token, int(l.held), l.since, int(l.turn)}, ' ')
end

local function lane_kind(name) return string.match(name, '^[^:]+') end

local function member_of(name, id) return name .. ' ' .. id end

local function put_lane(t, name, l) call('HSET', t.data .. ':L', name, lane_text(l)) end

-- The task has something new for its lanes.
local function mark(t)
  if t.dl == t.lanes then return end
  for _, name in ipairs(words(t.lanes)) do
    local text = call('HGET', t.data .. ':L', name)
    local l = text and lane_parse(text) or {cursor = -1, rev = 0, attempt = 0, token = '-', held = 0, since = '-'}
    if l.since == '-' then
      l.since, l.turn = int(NOW), NOW_US
      put_lane(t, name, l)
      call('ZADD', t.base .. ':ld:' .. lane_kind(name), l.turn, member_of(name, t.id))
    end
  end
  call('HSET', t.key, 'dl', t.lanes)
  t.dl = t.lanes
end

local function passed(t)
  for _, name in ipairs(words(t.lanes)) do
    local text = call('HGET', t.data .. ':L', name)
    if not text then return false end
    local l = lane_parse(text)
    if l.cursor ~= t.li or l.rev ~= t.rev then return false end
  end
  return true
end

-- The newest index that every lane has passed.
local function ceiling(t)
  local least = t.li
  for _, name in ipairs(words(t.lanes)) do
    local text = call('HGET', t.data .. ':L', name)
    least = math.min(least, text and lane_parse(text).cursor or -1)
  end
  return least
end

local function forget_lanes(t)
  for _, name in ipairs(words(t.lanes)) do
    call('ZREM', t.base .. ':ld:' .. lane_kind(name), member_of(name, t.id))
    call('ZREM', t.base .. ':lh:' .. lane_kind(name), member_of(name, t.id))
  end
  call('UNLINK', t.data .. ':L')
end

-- The lane of a lease that is still running, or nil.
local function held_lane(base, id, name, token)
  local t = load_task(base, id)
  local text = t and call('HGET', t.data .. ':L', name)
  if not text then return nil end
  local l = lane_parse(text)
  if l.token ~= token or l.held <= NOW then return nil end
  return l, t
end
