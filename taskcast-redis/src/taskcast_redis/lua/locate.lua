-- What stands where an event id points. KEYS[1]: tag. ARGV: id, epoch, event id, index that it names or -1.
-- Reply: {'given', index}, {'entry', salt, time, given id or nil}, {'hole', salt, first time, last time} or {'none'}.
local t, why = readable(KEYS[1], arg(), tonumber(opt()))
if not t then return why end
local given = call('HGET', t.data .. ':i', arg())
if given then return {'given', tonumber(given)} end
local index = num()
if index < t.fi or index > t.li then return {'none'} end
local entry = entry_at(t, index)
if entry then
  local f = fields_of(entry)
  return {'entry', salt_at(t, index), time_of(f.m), f.g or false}
end
local hole = hole_from(t, index)
return {'hole', salt_at(t, index), hole.ft, hole.lt}
