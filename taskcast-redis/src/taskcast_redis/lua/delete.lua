-- Hides a task. KEYS[1]: tag. ARGV: id, linger ms. Reply: 1 or 0.
local base, id = KEYS[1], arg()
local t = open_task(base, id)
if not t then return 0 end
local till = int(NOW + num())
local purge = 'purge ' .. till
hide(base, id, t)
set_timers(base, id, t.timers, purge)
call('HSET', t.key, 'st', 'h', 'linger', till, 'timers', purge)
mark(t)
return 1
