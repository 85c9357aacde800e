-- Drops a hot copy. KEYS[1]: tag. ARGV: id, epoch, last index, rev. Reply: 1 or 0.
local base, id = KEYS[1], arg()
local t = open_task(base, id)
if not t or t.ep ~= num() or t.li ~= num() or t.rev ~= num() or not passed(t) then return 0 end
hide(base, id, t)
set_timers(base, id, t.timers, '')
forget_lanes(t)
unlink_data(t.data)
call('DEL', t.key)
return 1
