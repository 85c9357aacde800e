-- Puts a staged copy under a ticket. KEYS[1]: tag. ARGV: id, token, generation, newest epoch. Reply: 1 or 0 (refused).
local base, id, token, gen, epoch = KEYS[1], arg(), arg(), arg(), num()
local ticket = get_ticket(base, id)
local tombstone = tonumber(call('GET', base .. ':x:' .. id) or 0)
if not ticket or ticket.token ~= token or ticket.till <= NOW or epoch <= tombstone or load_task(base, id) then
  drop_staged(base, gen)
  return 0
end
drop_staged(base, ticket.gen)
ticket.gen = gen
put_ticket(base, id, ticket)
return 1
