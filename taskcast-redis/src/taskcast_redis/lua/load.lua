-- Opens a staged copy as an import. KEYS[1]: tag. ARGV: id, generation, salt, overwrite.
-- Reply: {'done', stored}, {'exists'} or {'deleting'}.
local base, id, gen, salt, overwrite = KEYS[1], arg(), arg(), arg(), arg() == '1'
local old = load_task(base, id)
local refused
if old and old.st == 'h' then refused = 'deleting'
elseif (old and not overwrite) or has_ticket(base, id) then refused = 'exists' end
if refused then
  drop_staged(base, gen)
  return {refused}
end
local epoch, rev
if old then
  epoch, rev = old.ep + 1, old.rev + 1
  hide(base, id, old)
  set_timers(base, id, old.timers, '')
  forget_lanes(old)
  unlink_data(old.data)
  call('DEL', old.key)
else
  epoch, rev = tonumber(call('GET', base .. ':x:' .. id) or 0) + 1, 1
end
call('HSET', base .. ':S:' .. gen, 'ep', epoch, 'rev', rev, 'seg', table.concat({0, epoch, salt}, ' '))
local t = open_staged(base, id, gen)
mark(t)
return {'done', stored(t, record_of(t))}
