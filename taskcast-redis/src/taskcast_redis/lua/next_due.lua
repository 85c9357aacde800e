-- When the earliest timer of a kind runs out. KEYS: tags. ARGV: kind. Reply: ms or nil.
local kind, least = arg(), nil
for _, base in ipairs(KEYS) do
  local first = call('ZRANGE', base .. ':w:' .. kind, 0, 0, 'WITHSCORES')
  if first[2] then least = math.min(least or math.huge, tonumber(first[2])) end
end
return least or false
