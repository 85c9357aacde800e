-- KEYS[1]: tag. Reply: {worker as JSON, last heartbeat or 0, slots in use} per worker.
local found, raw = {}, call('HGETALL', B .. ':W')
for i = 1, #raw, 2 do
  local w = cmsgpack.unpack(raw[i + 1])
  found[#found + 1] = {w[2], w[3], used_slots(raw[i])}
end
return found
