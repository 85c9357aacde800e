-- A task. KEYS[1]: tag. ARGV: id. Reply: stored or nil.
local t = open_task(KEYS[1], arg())
return t and stored(t, record_of(t)) or false
