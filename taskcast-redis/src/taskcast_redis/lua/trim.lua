-- Turns entries into holes. KEYS[1]: tag. ARGV: id, epoch, limit, first index to look at, entries to look at,
-- keep series ends, older than or '', modes (count, -1: any; then 'a', 'l', 'k' …), view.
-- Reply: {'done', removed, next index to look at, or -1 at the end}.
local t, why = open_task(KEYS[1], arg(), num())
if not t then return why end
local limit, from, budget, keep_ends, older = num(), num(), num(), arg() == '1', tonumber(opt())
local modes, n = nil, num()
if n >= 0 then
  modes = {}
  for _ = 1, n do modes[arg()] = true end
end
local visible = visible_kinds(t, take_view())
local last = ceiling(t)

local states = {}
local function state_of(id)
  if states[id] == nil then states[id] = get_series(t, id) end
  return states[id]
end

local function is_doomed(f, index, mode)
  if not visible[kind_of(f.m)] then return false end
  if modes and mode and not modes[mode] then return false end
  if older and time_of(f.m) >= older then return false end
  local state = keep_ends and f.s and state_of(f.s)
  return not (state and state[LAST] == index)
end

local doomed, looked, next_index = {}, 0, -1
local low = math.max(from, t.fi)
if low <= last then
  local entries = call('XRANGE', t.data .. ':l', entry_id(low), entry_id(last), 'COUNT', budget)
  for _, entry in ipairs(entries) do
    if #doomed >= limit then break end
    looked = looked + 1
    local f, index = fields_of(entry), index_of(entry)
    local mode = string.match(f.m, '^%d+ %d+ (%a)')
    if is_doomed(f, index, mode) then doomed[#doomed + 1] = {index = index, f = f, mode = mode} end
    next_index = index + 1
  end
  if #entries < budget and looked == #entries then next_index = -1 end
end

local lost, removed = {}, {}
for _, d in ipairs(doomed) do
  if d.mode == 'a' or d.mode == 'l' then
    local state = state_of(d.f.s)
    state[COUNT] = state[COUNT] - 1
    if state[LAST] == d.index then state[DATA] = d.f.x end
    lost[d.f.s] = state[COUNT] <= 0
  end
end
for i, d in ipairs(doomed) do
  call('XDEL', t.data .. ':l', entry_id(d.index))
  removed[i] = {d.index, time_of(d.f.m), kind_of(d.f.m), d.mode == 'a' and 1 or 0, d.f.s and lost[d.f.s] and 1 or 0}
end
dig(t, removed)
for id, is_lost in pairs(lost) do
  if is_lost then drop_series(t, id, states[id]) else put_series(t, id, states[id]) end
end
return {'done', #doomed, next_index}
