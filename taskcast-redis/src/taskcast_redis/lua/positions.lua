-- Filtered positions and holes. A checkpoint at every multiple of SPAN says how many entries of each kind stand before
-- it. A removed entry counts where it stood: stretches of them are kept with their kind, none across a multiple of SPAN.

local function add(total, more)
  for kind, n in pairs(more) do total[kind] = (total[kind] or 0) + n end
end

local function totals(t)
  local found, raw = {}, call('HGETALL', t.data .. ':n')
  for i = 1, #raw, 2 do found[tonumber(raw[i])] = tonumber(raw[i + 1]) end
  return found
end

local function hole_get(t, last)
  local h = cmsgpack.unpack(call('HGET', t.data .. ':d', int(last)))
  return {first = h[1], last = tonumber(last), ft = h[2], lt = h[3], cut = h[4], lost = h[5], counts = h[6]}
end

local function hole_put(t, h)
  call('ZADD', t.data .. ':h', h.last, int(h.last))
  call('HSET', t.data .. ':d', int(h.last), cmsgpack.pack({h.first, h.ft, h.lt, h.cut, h.lost, h.counts}))
end

local function hole_drop(t, last)
  call('ZREM', t.data .. ':h', int(last))
  call('HDEL', t.data .. ':d', int(last))
end

-- The hole in which an index lies, or the next one behind it.
local function hole_from(t, index)
  local last = call('ZRANGEBYSCORE', t.data .. ':h', int(index), '+inf', 'LIMIT', 0, 1)[1]
  return last and hole_get(t, last)
end

-- First index, length and kind of a stretch of removed entries.
local function stretch_of(text)
  local first, n, kind = string.match(text, '^(%d+) (%d+) (%d+)$')
  return tonumber(first), tonumber(n), tonumber(kind)
end

local function put_stretch(t, first, n, kind)
  call('ZADD', t.data .. ':r', int(first), table.concat({int(first), int(n), int(kind)}, ' '))
end

-- The newest stretch of the same span that begins before an index.
local function stretch_before(t, index)
  return call('ZREVRANGEBYSCORE', t.data .. ':r', '(' .. int(index), int(index - index % SPAN), 'LIMIT', 0, 1)[1]
end

-- Keep of what kind removed entries were; the first ones may go on a stretch that is there.
local function keep_kinds(t, stretches)
  local one = stretches[1]
  local before = one[1] % SPAN > 0 and stretch_before(t, one[1])
  if before then
    local first, n, kind = stretch_of(before)
    if first + n == one[1] and kind == one[3] then
      call('ZREM', t.data .. ':r', before)
      one[1], one[2] = first, n + one[2]
    end
  end
  for _, each in ipairs(stretches) do put_stretch(t, each[1], each[2], each[3]) end
end

-- Forget the removed entries from an index on.
local function cut_kinds(t, stop)
  call('ZREMRANGEBYSCORE', t.data .. ':r', int(stop), '+inf')
  local before = stop % SPAN > 0 and stretch_before(t, stop)
  if not before then return end
  local first, n, kind = stretch_of(before)
  if first + n > stop then
    call('ZREM', t.data .. ':r', before)
    put_stretch(t, first, stop - first, kind)
  end
end

local function checkpoint(t, index)
  if index <= t.fi then
    local base = t.fi > 0 and call('HGET', t.data .. ':c', 'base')
    return t.fi, base and cmsgpack.unpack(base) or {}
  end
  return index, cmsgpack.unpack(call('HGET', t.data .. ':c', int(index)))
end

-- Adds what stands, or stood, in [start, stop) to counts, or takes it away (sign -1); also says how many entries stand.
local function count_in(t, start, stop, counts, sign)
  local entries = stop > start and call('XRANGE', t.data .. ':l', entry_id(start), entry_id(stop - 1)) or {}
  for _, entry in ipairs(entries) do
    local kind = kind_of(fields_of(entry).m)
    counts[kind] = (counts[kind] or 0) + sign
  end
  for _, text in ipairs(call('ZRANGEBYSCORE', t.data .. ':r', int(start - start % SPAN), '(' .. int(stop))) do
    local first, n, kind = stretch_of(text)
    local inside = math.min(first + n, stop) - math.max(first, start)
    if inside > 0 then counts[kind] = (counts[kind] or 0) + sign * inside end
  end
  return counts, #entries
end

-- How many entries of each kind stand below an index; and how many entries were looked at.
local function counts_before(t, before)
  if before > t.li then return totals(t), 0 end
  local start, counts = checkpoint(t, before - before % SPAN)
  return count_in(t, start, before, counts, 1)
end

-- How many entries of each kind stand, or stood, in [start, stop).
local function counts_between(t, start, stop)
  local counts = counts_before(t, stop)
  for kind, n in pairs(counts_before(t, start)) do
    counts[kind] = counts[kind] > n and counts[kind] - n or nil
  end
  return counts
end

local function write_checkpoint(t, index, counts)
  call('HSET', t.data .. ':c', int(index), cmsgpack.pack(counts))
end

local function put_run(t, run)
  keep_kinds(t, run.stretches)
  local left = call('ZSCORE', t.data .. ':h', int(run.first - 1)) and hole_get(t, run.first - 1)
  if left then
    hole_drop(t, left.last)
    run.first, run.ft = left.first, left.ft
    add(run.counts, left.counts)
    run.cut, run.lost = math.max(run.cut, left.cut), math.max(run.lost, left.lost)
  end
  local right = hole_from(t, run.last + 1)
  if right and right.first == run.last + 1 then
    hole_drop(t, right.last)
    run.last, run.lt = right.last, right.lt
    add(run.counts, right.counts)
    run.cut, run.lost = math.max(run.cut, right.cut), math.max(run.lost, right.lost)
  end
  hole_put(t, run)
end

-- Put holes where these entries, in index order, have been: {index, time, kind, cut, lost}.
local function dig(t, removed)
  local run
  for _, one in ipairs(removed) do
    if run and one[1] ~= run.last + 1 then
      put_run(t, run)
      run = nil
    end
    if not run then run = {first = one[1], ft = one[2], counts = {}, cut = 0, lost = 0, stretches = {}} end
    local newest = run.stretches[#run.stretches]
    if newest and newest[3] == one[3] and one[1] % SPAN > 0 then newest[2] = newest[2] + 1
    else run.stretches[#run.stretches + 1] = {one[1], 1, one[3]} end
    run.last, run.lt = one[1], one[2]
    run.counts[one[3]] = (run.counts[one[3]] or 0) + 1
    run.cut, run.lost = math.max(run.cut, one[4]), math.max(run.lost, one[5])
  end
  if run then put_run(t, run) end
end
