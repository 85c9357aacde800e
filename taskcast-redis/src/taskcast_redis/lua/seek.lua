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
if seen > wanted then return {'not_retained', t.fi} end
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
local removed = call('ZRANGEBYSCORE', t.data .. ':r', int(start), '+inf', 'LIMIT', 0, SPAN)
local e, r, looked = 1, 1, 0
while e <= #entries or r <= #removed do
  local index, n, kind = math.huge, 1, nil
  if removed[r] then index, n, kind = stretch_of(removed[r]) end
  if entries[e] and index_of(entries[e]) < index then
    index, n, kind = index_of(entries[e]), 1, kind_of(fields_of(entries[e]).m)
    e, looked = e + 1, looked + 1
  else
    r = r + 1
  end
  if visible[kind] then
    if seen + n > wanted then return {'done', index + wanted - seen, looked} end
    seen = seen + n
  end
end
return {'done', t.li, looked}
