-- Makes a task with an empty log. KEYS[1]: tag. ARGV: id, salt, how to ring (see `ears_of`), key ('' or '=' name, hash,
-- ttl), record.
-- Reply: {'done', stored}, {'kept', stored}, {'exists'}, {'deleting'} or {'conflict'}.
local base, id, salt, ring = KEYS[1], arg(), arg(), arg()
local key, hash, ttl = opt(), nil, nil
if key then hash, ttl = arg(), num() end
local f = take_record()

if key then
  local kept = call('GET', base .. ':r:' .. key)
  if kept then
    local k = cmsgpack.unpack(kept)
    if k[1] ~= hash then return {'conflict'} end
    return {'kept', {k[5], k[6], k[7], k[8], k[9], k[10]}}
  end
end
local old = load_task(base, id)
if old then return {old.st == 'h' and 'deleting' or 'exists'} end
if has_ticket(base, id) then return {'exists'} end

local epoch = tonumber(call('GET', base .. ':x:' .. id) or 0) + 1
local segments = '0 ' .. epoch .. ' ' .. salt
local gen = call('INCR', base .. ':g')
local task = base .. ':t:' .. id
call('HSET', task, 'st', 'o', 'gen', gen, 'rev', 1, 'seg', segments, 'ep', epoch, 'li', -1, 'lt', int(NOW), 'fi', 0,
  'sz', 0, 'dl', '', 'sn', 0, 'kn', 0)
write_record(task, f)
show(base, id, f)
set_timers(base, id, '', f.timers)
local t = load_task(base, id)
mark(t)
if key then
  call('SET', base .. ':r:' .. key, cmsgpack.pack({hash, epoch, 0, 0, f.rec, segments, 1, -1, NOW, 0}), 'PX', ttl)
end
local ears = ears_of(t, ring)
if ears then send_bell(t, ears, 0, {}, {}) end
return {'done', stored(t)}
