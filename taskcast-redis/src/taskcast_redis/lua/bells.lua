-- Bells, as `bells.py` reads them.
local LARGE_BELL = 32768

-- Tells of what was appended from an index on; `head` and `body`: of each entry, or none where they stay at home.
local function send_bell(t, ring, first, head, body)
  local start = {1, t.ep, newest_salt(t), int(first), int(t.li), t.status, int(t.cr), #t.id}
  if head[1] then start[9] = table.concat(head, ' ') end
  local payload = table.concat(start, ' ') .. '\n' .. t.id .. table.concat(body)
  call(ring, t.base .. ':b:' .. t.id, payload)
  call(ring, t.base .. ':a', payload)
end
