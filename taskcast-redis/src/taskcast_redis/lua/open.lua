-- Opens the restored copy of a ticket. KEYS[1]: tag. ARGV: id, token.
-- Reply: stored, or nil: the ticket is not held, or has brought in nothing.
local base, id, token = KEYS[1], arg(), arg()
local ticket = get_ticket(base, id)
if not ticket or ticket.token ~= token or ticket.till <= NOW or ticket.gen == '-' or load_task(base, id) then
  return false
end
if call('EXISTS', base .. ':S:' .. ticket.gen) == 0 then return false end
call('DEL', base .. ':k:' .. id)
local t = open_staged(base, id, ticket.gen)
for _, name in ipairs(words(t.lanes)) do
  put_lane(t, name, {cursor = t.li, rev = t.rev, attempt = 0, token = '-', held = 0, since = '-', turn = 0})
end
return stored(t, record_of(t))
