-- Cuts a log behind an index and continues it in a new epoch. KEYS[1]: tag. ARGV: id, seen epoch, floor, salt.
-- Reply: nil without an open copy, else stored.
local t = open_task(KEYS[1], arg())
if not t then return false end
local seen, floor, salt = num(), num(), arg()
if t.ep ~= seen then return stored(t, record_of(t)) end
local D = t.data

-- What is left of a series whose newest entry goes: its newest entry before, and per kind the newest accumulate one.
local function rewind(id, state, gone)
  local kinds, newest = {}, nil
  local missing = {}
  for kind, index in pairs(state[KINDS]) do
    if index <= floor then kinds[kind] = index else missing[kind] = true end
  end
  local at = floor
  while at >= state[FIRST] and (not newest or next(missing)) do
    local some = call('XREVRANGE', D .. ':l', entry_id(at), entry_id(state[FIRST]), 'COUNT', 256)
    if #some == 0 then break end
    for _, entry in ipairs(some) do
      local f = fields_of(entry)
      local mode = string.match(f.m, '^%d+ %d+ ([al])')
      if f.s == id and mode then
        newest = newest or {index_of(entry), f, mode}
        if mode == 'a' and missing[kind_of(f.m)] then
          kinds[kind_of(f.m)], missing[kind_of(f.m)] = index_of(entry), nil
        end
      end
    end
    at = index_of(some[#some]) - 1
  end
  if not newest then
    drop_series(t, id, state)
    return
  end
  local index, f, mode = newest[1], newest[2], newest[3]
  state[LAST], state[MODE], state[DATA], state[KINDS], state[COUNT] = index, mode, false, kinds, state[COUNT] - gone
  if state[ACC_FIRST] > floor then state[DEFAULT], state[ACC_FIRST] = false, -1 end
  -- The string is cut behind the newest accumulate entry, which may stand before the newest one.
  local acc = index
  if mode ~= 'a' then
    state[FIELD], state[LEN], acc = false, -1, -1
    for _, i in pairs(kinds) do acc = math.max(acc, i) end
  end
  local entry = acc >= 0 and entry_at(t, acc)
  local m = entry and fields_of(entry).m or ''
  local run, len, bs, be = string.match(m, '^%d+ %d+ a (%d+) (%-?%d+) (%d+) (%d+)$')
  state[RUN], state[TOP] = tonumber(run or -1), tonumber(be or 0)
  state[BS], state[BE] = tonumber(bs or 0), tonumber(be or 0)
  if mode == 'a' then
    state[LEN] = tonumber(len)
    local is_plain, draft = pcall(cjson.decode, f.x)  -- a lone surrogate is too much for it
    state[FIELD] = is_plain and draft.seriesAccField or string.match(f.x, '"seriesAccField":"([^"\\]*)"}$') or 'delta'
  end
  local text = state[TOP] > 0 and call('GETRANGE', text_key(t, state), 0, int(state[TOP] - 1))
  if text then call('SET', text_key(t, state), text) else call('DEL', text_key(t, state)) end
  put_series(t, id, state)
end

if floor < t.li then
  local kept = math.max(floor, t.fi - 1)
  local lost_kinds, lost_series, lost_size = {}, {}, 0
  local low = entry_id(kept + 1)
  while true do
    local some = call('XRANGE', D .. ':l', low, '+', 'COUNT', 256)
    if #some == 0 then break end
    local ids = {}
    for i, entry in ipairs(some) do
      local f = fields_of(entry)
      ids[i] = entry[1]
      lost_kinds[kind_of(f.m)] = (lost_kinds[kind_of(f.m)] or 0) + 1
      lost_size = lost_size + #f.x
      if f.s and string.match(f.m, '^%d+ %d+ [al]') then lost_series[f.s] = (lost_series[f.s] or 0) + 1 end
      if f.g then call('HDEL', D .. ':i', f.g) end
    end
    call('XDEL', D .. ':l', unpack(ids))
  end
  -- Holes behind the floor go; of one across it the front remains.
  local function cut_hole(h)
    hole_drop(t, h.last)
    if h.first > kept then
      add(lost_kinds, h.counts)
      return
    end
    local counts = counts_between(t, h.first, kept + 1)
    for kind, n in pairs(h.counts) do
      lost_kinds[kind] = (lost_kinds[kind] or 0) + n - (counts[kind] or 0)
    end
    hole_put(t, {first = h.first, last = kept, ft = h.ft, lt = h.ft, cut = h.cut, lost = h.lost, counts = counts})
  end
  local hole = hole_from(t, kept + 1)
  while hole do
    cut_hole(hole)
    hole = hole_from(t, kept + 1)
  end
  cut_kinds(t, kept + 1)
  for kind, n in pairs(lost_kinds) do
    if n > 0 then call('HINCRBY', D .. ':n', kind, -n) end  -- Lua writes -0 as "-0", which is no integer
  end
  local boundary = kept + 1 - (kept + 1) % SPAN + SPAN
  while boundary <= t.li do
    call('HDEL', D .. ':c', int(boundary))
    boundary = boundary + SPAN
  end
  if (kept + 1) % SPAN == 0 then call('HDEL', D .. ':c', int(kept + 1)) end
  if kept < t.fi then call('DEL', D .. ':l')
  else call('XSETID', D .. ':l', entry_id(kept)) end
  local raw = call('HGETALL', D .. ':s')
  for i = 1, #raw, 2 do
    local state = cmsgpack.unpack(raw[i + 1])
    if state[LAST] > kept then rewind(raw[i], state, lost_series[raw[i]] or 0) end
  end
  local edge = entry_at(t, kept)
  local behind = hole_from(t, kept)
  if edge then t.lt = time_of(fields_of(edge).m)
  elseif behind then t.lt = behind.lt end
  t.li, t.sz = kept, math.max(0, t.sz - lost_size)
end

local segments = {}
for first, epoch, old in string.gmatch(t.seg, '(%d+) (%d+) (%d+)') do
  if tonumber(first) <= t.li then segments[#segments + 1] = first .. ' ' .. epoch .. ' ' .. old end
end
t.ep = t.ep + 1
segments[#segments + 1] = table.concat({int(t.li + 1), t.ep, salt}, ' ')
t.seg = table.concat(segments, ' ')
call('HSET', t.key, 'seg', t.seg, 'ep', t.ep, 'li', int(t.li), 'lt', int(t.lt), 'sz', int(t.sz), 'dl', '')
t.dl = ''
for _, name in ipairs(words(t.lanes)) do
  local text = call('HGET', D .. ':L', name)
  if text then
    local l = lane_parse(text)
    l.cursor, l.rev, l.token = math.min(l.cursor, t.li), 0, '-'
    if l.held > NOW or l.since ~= '-' then
      call('ZREM', t.base .. ':lh:' .. lane_kind(name), member_of(name, t.id))
      if l.since ~= '-' then call('ZADD', t.base .. ':ld:' .. lane_kind(name), int(l.turn), member_of(name, t.id)) end
    end
    l.held = 0
    put_lane(t, name, l)
  end
end
mark(t)
return stored(t, record_of(t))
