-- How many entries a view lets through below an index. KEYS[1]: tag. ARGV: id, epoch, index, view.
-- Reply: {'done', number, entries looked at}.
local t, why = readable(KEYS[1], arg(), tonumber(opt()))
if not t then return why end
local before = math.min(math.max(num(), 0), t.li + 1)
if before < t.fi then return {'not_retained', t.fi} end
local visible = visible_kinds(t, take_view())
local counts, looked = counts_before(t, before)
return {'done', total_of(visible, counts), looked}
