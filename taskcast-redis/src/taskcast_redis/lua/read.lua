-- A stretch of a log. KEYS[1]: tag. ARGV: id, epoch, after, before or '', limit, bytes, reverse.
-- Reply: {'done', epoch, last index, segments, start, stop, kinds, entries, holes}; the page covers [start, stop),
-- and the counts of a hole that reaches beyond are those of the part inside.
local PORTION = 128

local base, id, epoch = KEYS[1], arg(), tonumber(opt())
local after, before, limit, most_bytes, reverse = num(), tonumber(opt()), num(), num(), arg() == '1'
local t, why = readable(base, id, epoch)
if not t then return why end

local stop = math.min(before or t.li + 1, t.li + 1)
local start = math.max(after + 1, 0)
if start < t.fi and start < stop and not reverse then return {'not_retained', t.fi} end
start = math.max(start, t.fi)
if start >= stop then return {'done', t.ep, t.li, t.seg, stop, stop, {}, {}, {}} end

local log, entries, bytes, is_all = t.data .. ':l', {}, 0, false
local low, high = entry_id(start), entry_id(stop - 1)
while not is_all and #entries < limit and bytes < most_bytes do
  local want = math.min(PORTION, limit - #entries)
  local some = reverse and call('XREVRANGE', log, high, low, 'COUNT', want)
    or call('XRANGE', log, low, high, 'COUNT', want)
  for _, entry in ipairs(some) do
    entries[#entries + 1] = entry
    bytes = bytes + #fields_of(entry).x
    if bytes >= most_bytes then break end
  end
  is_all = #some < want
  if #some > 0 then
    local edge = index_of(entries[#entries])
    if reverse then high = edge .. '-0' else low = entry_id(edge + 1) end
    if (reverse and edge == start) or (not reverse and edge == stop - 1) then is_all = true end
  end
end
if not is_all then
  local edge = index_of(entries[#entries])
  if reverse then start = edge else stop = edge + 1 end
end

local lasts
local holes_key = t.data .. ':h'
if reverse then
  -- the last hole may reach beyond the stretch
  lasts = call('ZREVRANGEBYSCORE', holes_key, '(' .. int(stop), int(start), 'LIMIT', 0, limit)
  local beyond = hole_from(t, stop)
  if beyond and beyond.first < stop then table.insert(lasts, 1, int(beyond.last)) end
else
  lasts = call('ZRANGEBYSCORE', holes_key, int(start), '+inf', 'LIMIT', 0, limit)
end
local holes = {}
for _, last in ipairs(lasts) do
  local h = hole_get(t, last)
  if h.first >= stop then break end
  if h.first < start or h.last >= stop then
    h.counts = counts_between(t, math.max(h.first, start), math.min(h.last + 1, stop))
  end
  holes[#holes + 1] = {h.first, h.last, h.ft, h.lt, h.cut, h.lost, flat(h.counts)}
end
return {'done', t.ep, t.li, t.seg, start, stop, call('HGETALL', t.data .. ':k'), entries, holes}
