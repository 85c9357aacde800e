-- KEYS[1]: tag. ARGV: id, lease ms. Reply: as get_worker.
local id, lease = arg(), num()
local packed = call('HGET', B .. ':W', id)
if not packed then return false end
local w = cmsgpack.unpack(packed)
w[3] = NOW
call('HSET', B .. ':W', id, cmsgpack.pack(w))
for _, a in ipairs(assignments_of(id)) do
  if a[7] == 1 then extend(a, lease) end
end
return {w[2], w[3], used_slots(id)}
