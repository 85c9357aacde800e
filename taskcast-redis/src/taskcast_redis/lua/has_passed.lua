-- Whether every lane of a task has everything. KEYS[1]: tag. ARGV: id. Reply: 1 or 0.
local t = load_task(KEYS[1], arg())
return (not t or passed(t)) and 1 or 0
