-- Removes a deleted task's data. KEYS[1]: tag. ARGV: id, tombstone ms. Reply: 1, or 0 while it has to wait.
local base, id, tombstone = KEYS[1], arg(), num()
local t = load_task(base, id)
if not t or t.st ~= 'h' then return 1 end
if t.linger > NOW or not passed(t) then return 0 end
forget_lanes(t)
set_timers(base, id, t.timers, '')
unlink_data(t.data)
call('DEL', t.key)
call('SET', base .. ':x:' .. id, t.ep, 'PX', tombstone)
return 1
