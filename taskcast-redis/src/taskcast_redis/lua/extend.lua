-- KEYS[1]: tag. ARGV: assignment id, lease ms. Reply: 1 or 0.
local a = get_assignment(arg())
if not a then return 0 end
extend(a, num())
return 1
