-- The newest index that is not younger than a time. KEYS[1]: tag. ARGV: id, epoch, ms. Reply: {'done', index}.
local t, why = readable(KEYS[1], arg(), tonumber(opt()))
if not t then return why end
local wanted = num()

local function time_at(index)
  local entry = entry_at(t, index)
  if entry then return time_of(fields_of(entry).m) end
  local hole = hole_from(t, index)
  return index == hole.last and hole.lt or hole.ft
end

local low, high = t.fi - 1, t.li  -- low: known to be old enough
while low < high do
  local middle = math.ceil((low + high) / 2)
  if time_at(middle) <= wanted then low = middle else high = middle - 1 end
end
if low < t.fi and t.fi > 0 then return {'not_retained', t.fi} end
return {'done', low}
