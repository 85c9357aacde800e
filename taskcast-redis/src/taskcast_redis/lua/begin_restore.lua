-- Takes a restore ticket. KEYS[1]: tag. ARGV: id, token, lease ms. Reply: {'done'}, {'exists'}, {'deleting'}, {'refused'}.
local base, id, token, lease = KEYS[1], arg(), arg(), num()
local t = load_task(base, id)
if t then return {t.st == 'h' and 'deleting' or 'exists'} end
local ticket = get_ticket(base, id)
if ticket then
  if ticket.till > NOW then return {'refused'} end
  drop_staged(base, ticket.gen)
end
put_ticket(base, id, {token = token, till = NOW + lease, gen = '-'})
call('PEXPIRE', base .. ':k:' .. id, lease + 3600000)
return {'done'}
