-- How many entries a view lets through below an index. KEYS[1]: tag. ARGV: id, epoch, index, view.
-- Reply: {'done', number, entries looked at}.
local t, why = readable(KEYS[1], arg(), tonumber(opt()))
if not t then return why end
local before = math.min(math.max(num(), 0), t.li + 1)
if before < t.fi then return {'not_retained', t.fi} end
local visible = visible_kinds(t, take_view())

local start, stop = before - before % SPAN, math.min(before - before % SPAN + SPAN, t.li + 1)

-- Near the end it is less work to go backward, from the next checkpoint or from what there is in all.
local function counts_backward()
  if stop > t.li then return count_in(t, before, stop, totals(t), -1) end
  local _, counts = checkpoint(t, stop)
  return count_in(t, before, stop, counts, -1)
end

local is_nearer = before <= t.li and stop - before < before - math.max(start, t.fi)
local counts, looked
if is_nearer then counts, looked = counts_backward() else counts, looked = counts_before(t, before) end
return {'done', total_of(visible, counts), looked}
