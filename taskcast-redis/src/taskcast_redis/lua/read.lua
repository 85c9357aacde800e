-- A stretch of a log. KEYS[1]: tag. ARGV: id, epoch, after, before or '', limit, bytes, reverse.
-- Reply: {'done', epoch, last index, segments, start, stop, kinds, entries, given ids, holes}; the page covers
-- [start, stop), and the counts of a hole that reaches beyond are those of the part inside. Of each entry: its id in the
-- stream, numbers, text, and series id or ''.
local PORTION = 128

local base, id, epoch = KEYS[1], arg(), tonumber(opt())
local after, before, limit, most_bytes, reverse = num(), tonumber(opt()), num(), num(), arg() == '1'
local t, why = readable(base, id, epoch)
if not t then return why end

local stop = math.min(before or t.li + 1, t.li + 1)
local start = math.max(after + 1, 0)
if start < t.fi and start < stop and not reverse then return {'not_retained', t.fi} end
start = math.max(start, t.fi)
if start >= stop then return {'done', t.ep, t.li, t.seg, stop, stop, {}, {}, {}, {}} end

local log, entries, ids, bytes, is_all = t.data .. ':l', {}, {}, 0, false
local low, high = entry_id(start), entry_id(stop - 1)
local count, edge = 0, nil
while not is_all and count < limit and bytes < most_bytes do
  local want = math.min(PORTION, limit - count)
  local some = reverse and call('XREVRANGE', log, high, low, 'COUNT', want)
    or call('XRANGE', log, low, high, 'COUNT', want)
  for _, entry in ipairs(some) do
    local f, at = entry[2], 4 * count  -- m and x come first, then s, then g, of which there may be none
    entries[at + 1], entries[at + 2], entries[at + 3] = entry[1], f[2], f[4]
    entries[at + 4] = f[5] == 's' and f[6] or ''
    if f[#f - 1] == 'g' then
      ids[#ids + 1] = entry[1]
      ids[#ids + 1] = f[#f]
    end
    count = count + 1
    bytes = bytes + #f[4]
    if bytes >= most_bytes then break end
  end
  is_all = #some < want
  if #some > 0 then
    edge = tonumber(string.match(entries[4 * count - 3], '^%d+')) - 1
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
return {'done', t.ep, t.li, t.seg, start, stop, call('HGETALL', t.data .. ':k'), entries, ids, holes}
