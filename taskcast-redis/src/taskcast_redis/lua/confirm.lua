-- KEYS[1]: tag. ARGV: assignment id. Reply: 1 or 0.
local a = get_assignment(arg())
if not a then return 0 end
a[7] = 1
put_assignment(a)
return 1
