-- Bells, as `bells.py` reads them.
local LARGE_BELL = 32768

-- How to tell of a task: the command, and the channels on which somebody hears it; nil where nobody does.
-- `ring`: '' (say nothing), the command, or the command and by which word PUBSUB counts who hears it.
local function ears_of(t, ring)
  if ring == '' then return nil end
  local own, all = t.base .. ':b:' .. t.id, t.base .. ':a'
  local command, count = string.match(ring, '^(%S+) (%S+)$')
  if not command then return {ring, own, all} end
  local heard = redis.pcall('PUBSUB', count, own, all)
  if heard.err then return {command, own, all} end  -- a user who may not ask may ring
  local ears = {command}
  if heard[2] > 0 then ears[2] = own end
  if heard[4] > 0 then ears[#ears + 1] = all end
  return ears[2] and ears
end

-- Tells of what was appended from an index on; `head` and `body`: of each entry, or none where they stay at home.
local function send_bell(t, ears, first, head, body)
  local start = {1, t.ep, newest_salt(t), int(first), int(t.li), t.status, int(t.cr), #t.id}
  if head[1] then start[9] = table.concat(head, ' ') end
  local payload = table.concat(start, ' ') .. '\n' .. t.id .. table.concat(body)
  for i = 2, #ears do call(ears[1], ears[i], payload) end
end
