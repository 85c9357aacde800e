-- KEYS[1]: tag. ARGV: id. Reply: {worker as JSON, last heartbeat or 0, slots in use} or nil.
local id = arg()
local packed = call('HGET', B .. ':W', id)
if not packed then return false end
local w = cmsgpack.unpack(packed)
return {w[2], w[3], used_slots(id)}
