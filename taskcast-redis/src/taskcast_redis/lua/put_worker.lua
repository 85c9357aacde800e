-- KEYS[1]: tag. ARGV: id, capacity, worker as JSON. Reply: slots in use.
local id, capacity, text = arg(), num(), arg()
call('HSET', B .. ':W', id, cmsgpack.pack({capacity, text, 0}))
return used_slots(id)
