-- Binds a key to a task id. KEYS[1]: tag of the key. ARGV: key, hash, ttl, id. Reply: {'done', id} or {'conflict'}.
local key, hash, ttl, id = KEYS[1] .. ':v:' .. arg(), arg(), num(), arg()
local known = call('GET', key)
if known then
  local k = cmsgpack.unpack(known)
  if k[1] ~= hash then return {'conflict'} end
  return {'done', k[2]}
end
call('SET', key, cmsgpack.pack({hash, id}), 'PX', ttl)
return {'done', id}
