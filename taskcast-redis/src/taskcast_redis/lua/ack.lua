-- Gives a lane back. KEYS[1]: tag. ARGV: id, lane, token, last index, rev. Reply: 1, or 0 if the lease is over.
local base, id, name, token = KEYS[1], arg(), arg(), arg()
local l, t = held_lane(base, id, name, token)
if not l then return 0 end
l.cursor, l.rev, l.attempt, l.token, l.held = num(), num(), 0, '-', 0
local kind, member = lane_kind(name), member_of(name, id)
call('ZREM', base .. ':lh:' .. kind, member)
call('ZREM', base .. ':ld:' .. kind, member)
if t.li <= l.cursor and t.rev <= l.rev then
  l.since = '-'
  call('HSET', t.key, 'dl', '-')
else
  l.since = int(NOW)
  call('ZADD', base .. ':ld:' .. kind, int(l.turn), member)
end
put_lane(t, name, l)
return 1
