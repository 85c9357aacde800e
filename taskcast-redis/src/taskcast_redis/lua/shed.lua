-- Lets go of the oldest entries. KEYS[1]: tag. ARGV: id, epoch, first index to keep, entries at most.
-- Reply: {'done', first index}.
local t, why = open_task(KEYS[1], arg(), num())
if not t then return why end
local stop = math.min(num(), ceiling(t) + 1)
local cut = math.min(stop, t.fi + num())
local hole = hole_from(t, cut)
if hole and hole.first < cut then cut = hole.last < stop and hole.last + 1 or hole.first end
if cut <= t.fi then return {'done', t.fi} end

local counts = counts_before(t, cut)
local gone = {}  -- per series: how many entries, and the newest of them
for _, entry in ipairs(call('XRANGE', t.data .. ':l', entry_id(t.fi), entry_id(cut - 1))) do
  local f = fields_of(entry)
  if f.g then call('HDEL', t.data .. ':i', f.g) end
  if f.s and string.match(f.m, '^%d+ %d+ [al]') then
    gone[f.s] = gone[f.s] or {n = 0}
    gone[f.s].n, gone[f.s].index, gone[f.s].text = gone[f.s].n + 1, index_of(entry), f.x
  end
end
for id, g in pairs(gone) do
  local state = get_series(t, id)
  if state then
    state[COUNT] = state[COUNT] - g.n
    if state[LAST] == g.index then state[DATA] = g.text end
    put_series(t, id, state)
  end
end
call('XTRIM', t.data .. ':l', 'MINID', entry_id(cut))
call('ZREMRANGEBYSCORE', t.data .. ':r', '-inf', '(' .. int(cut))
for _, last in ipairs(call('ZRANGEBYSCORE', t.data .. ':h', '-inf', '(' .. int(cut))) do hole_drop(t, last) end
for boundary = t.fi - t.fi % SPAN, cut, SPAN do call('HDEL', t.data .. ':c', int(boundary)) end
call('HSET', t.data .. ':c', 'base', cmsgpack.pack(counts))
call('HSET', t.key, 'fi', int(cut))
return {'done', cut}
