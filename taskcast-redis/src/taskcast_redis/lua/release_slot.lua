-- KEYS[1]: tag. ARGV: assignment id. Reply: the assignment that has ended, or nil.
local a = get_assignment(arg())
if not a then return false end
end_assignment(a)
return a
