-- The index at a filtered position. KEYS[1]: tag. ARGV: id, epoch, position, view.
-- Reply: {'done', index or -1, entries looked at}.
local t, why = readable(KEYS[1], arg(), tonumber(opt()))
if not t then return why end
local wanted = num()
local visible = visible_kinds(t, take_view())
if wanted < 0 or total_of(visible, totals(t)) <= wanted then return {'done', -1, 0} end

-- The newest checkpoint at which the total has not passed the position yet.
local start, seen = t.fi, 0
local _, base_counts = checkpoint(t, t.fi)
seen = total_of(visible, base_counts)
if seen > wanted then return {'done', t.fi, 0} end
local low, high = math.floor(t.fi / SPAN) + 1, math.floor(t.li / SPAN)
while low <= high do
  local middle = math.floor((low + high) / 2)
  local _, counts = checkpoint(t, middle * SPAN)
  local total = total_of(visible, counts)
  if total <= wanted then
    start, seen, low = middle * SPAN, total, middle + 1
  else
    high = middle - 1
  end
end

local entries = call('XRANGE', t.data .. ':l', entry_id(start), '+', 'COUNT', SPAN)
local lasts = call('ZRANGEBYSCORE', t.data .. ':h', int(start), '+inf', 'LIMIT', 0, SPAN + 1)
local e, h, looked = 1, 1, 0
while e <= #entries or h <= #lasts do
  local index = entries[e] and index_of(entries[e]) or math.huge
  local hole = lasts[h] and tonumber(lasts[h]) or math.huge
  if index < hole then
    if visible[kind_of(fields_of(entries[e]).m)] then seen = seen + 1 end
    e, looked = e + 1, looked + 1
  else
    seen = seen + total_of(visible, hole_get(t, hole).counts)
    index, h = hole, h + 1
  end
  if seen > wanted then return {'done', index, looked} end
end
return {'done', t.li, looked}
