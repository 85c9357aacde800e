-- Restore tickets: "token lease_until generation" ('-' where nothing has been brought in yet).
local function get_ticket(base, id)
  local w = words(call('GET', base .. ':k:' .. id) or nil)
  if not w[1] then return nil end
  return {token = w[1], till = tonumber(w[2]), gen = w[3]}
end

local function put_ticket(base, id, ticket)
  call('SET', base .. ':k:' .. id, table.concat({ticket.token, int(ticket.till), ticket.gen}, ' '))
end

local function has_ticket(base, id)
  local ticket = get_ticket(base, id)
  return ticket and ticket.till > NOW
end

local function drop_staged(base, gen)
  if gen ~= '-' then
    unlink_data(base .. ':' .. gen)
    call('UNLINK', base .. ':S:' .. gen)
  end
end

-- Make a staged copy the open one. The id is free.
local function open_staged(base, id, gen)
  for _, key in ipairs(data_keys(base .. ':' .. gen)) do call('PERSIST', key) end
  call('PERSIST', base .. ':S:' .. gen)
  call('RENAME', base .. ':S:' .. gen, base .. ':t:' .. id)
  call('HSET', base .. ':t:' .. id, 'st', 'o')
  local t = load_task(base, id)
  show(base, id, t)
  set_timers(base, id, '', t.timers)
  return t
end
