-- A stretch of a log. KEYS[1]: tag. ARGV: id, epoch, after, before or '', limit, bytes, reverse.
-- Reply: {'done', epoch, last index, segments, start, stop, kinds, places, numbers, series, texts, given ids, holes};
-- the page covers [start, stop), and the counts of a hole that reaches beyond are those of the part inside. Entries are
-- columns, since each value costs as much as a text on its way: what neighbours have in common is said once. Places:
-- runs of indexes, each its first and how many; numbers, series ids or '': runs of equal ones, each the value and how
-- many. A given id comes behind its place on the page, from 1 on. Backwards, everything descends.
local PORTION = 128

local base, id, epoch = KEYS[1], arg(), tonumber(opt())
local after, before, limit, most_bytes, reverse = num(), tonumber(opt()), num(), num(), arg() == '1'
local t, why = readable(base, id, epoch)
if not t then return why end

local stop = math.min(before or t.li + 1, t.li + 1)
local start = math.max(after + 1, 0)
if start < t.fi and start < stop and not reverse then return {'not_retained', t.fi} end
start = math.max(start, t.fi)
if start >= stop then return {'done', t.ep, t.li, t.seg, stop, stop, {}, {}, {}, {}, {}, {}, {}} end

local log, places, numbers, series, texts, ids = t.data .. ':l', {}, {}, {}, {}, {}
local newest, newest_series  -- of numbers and of series, the last ones
local bytes, is_all, forward = 0, false, reverse and -1 or 1
local low, high = entry_id(start), entry_id(stop - 1)
local count, edge = 0, nil

local function place(first, n)
  local at = #places
  if at > 0 and places[at - 1] + forward * places[at] == first then places[at] = places[at] + n
  else places[at + 1], places[at + 2] = first, n end
end

while not is_all and count < limit and bytes < most_bytes do
  local want = math.min(PORTION, limit - count)
  local some = reverse and call('XREVRANGE', log, high, low, 'COUNT', want)
    or call('XRANGE', log, low, high, 'COUNT', want)
  local taken = 0
  for _, entry in ipairs(some) do
    local f = entry[2]  -- m and x come first, then s, then g, of which there may be none
    local text, of = f[4], f[5] == 's' and f[6] or ''
    taken = taken + 1
    texts[count + taken] = text
    if f[2] == newest then numbers[#numbers] = numbers[#numbers] + 1
    else
      newest = f[2]
      numbers[#numbers + 1] = newest
      numbers[#numbers + 1] = 1
    end
    if of == newest_series then series[#series] = series[#series] + 1
    else
      newest_series = of
      series[#series + 1] = of
      series[#series + 1] = 1
    end
    if f[#f - 1] == 'g' then
      ids[#ids + 1] = count + taken
      ids[#ids + 1] = f[#f]
    end
    bytes = bytes + #text
    if bytes >= most_bytes then break end
  end
  is_all = #some < want
  count = count + taken
  if taken > 0 then
    local first = index_of(some[1])
    edge = index_of(some[taken])
    if first + forward * (taken - 1) == edge then place(first, taken)
    else
      for at = 1, taken do place(index_of(some[at]), 1) end
    end
    if reverse then high = int(edge) .. '-0' else low = entry_id(edge + 1) end
    if (reverse and edge == start) or (not reverse and edge == stop - 1) then is_all = true end
  end
end
if not is_all then
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
return {'done', t.ep, t.li, t.seg, start, stop, call('HGETALL', t.data .. ':k'), places, numbers, series, texts, ids,
  holes}
