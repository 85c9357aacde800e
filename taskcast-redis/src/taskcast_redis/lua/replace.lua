-- Puts a staged copy in the place of the open log. KEYS[1]: tag. ARGV: id, epoch, generation.
-- Reply: stored, or nil: there is no open log of that epoch.
local base, id, epoch, gen = KEYS[1], arg(), num(), arg()
local old = open_task(base, id, epoch)
if not old or call('EXISTS', base .. ':S:' .. gen) == 0 then
  drop_staged(base, gen)
  return false
end
local lanes = call('HGETALL', old.data .. ':L')
hide(base, id, old)
set_timers(base, id, old.timers, '')
forget_lanes(old)
call('DEL', old.key)
local new = base .. ':' .. gen
for _, suffix in ipairs({':q', ':Q'}) do
  if call('EXISTS', old.data .. suffix) == 1 then call('RENAME', old.data .. suffix, new .. suffix) end
end
unlink_data(old.data)
local t = open_staged(base, id, gen)
call('HSET', t.key, 'kn', int(old.kn))
t.kn = old.kn
for i = 1, #lanes, 2 do
  local l = lane_parse(lanes[i + 1])
  put_lane(t, lanes[i], {cursor = math.min(l.cursor, t.li), rev = 0, attempt = l.attempt, token = '-', held = 0,
    since = '-', turn = 0})
end
mark(t)
return stored(t, record_of(t))
