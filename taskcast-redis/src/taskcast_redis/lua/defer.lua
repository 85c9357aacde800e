-- Lets a lane wait. KEYS[1]: tag. ARGV: id, lane, token, last index, attempt, until. Reply: 1, or 0 if the lease is over.
local base, id, name, token = KEYS[1], arg(), arg(), arg()
local l, t = held_lane(base, id, name, token)
if not l then return 0 end
l.cursor, l.attempt, l.held, l.token = num(), num(), num(), '-'
put_lane(t, name, l)
call('ZADD', base .. ':lh:' .. lane_kind(name), int(l.held), member_of(name, id))
return 1
