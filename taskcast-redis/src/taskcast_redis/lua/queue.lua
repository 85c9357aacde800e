-- Pending tasks in the order of the queue. KEYS: tags. ARGV: limit, behind (priority, created_at, id; or '', '', ''),
-- modes. Reply: per task {score, id, record}.
local limit, priority, created, after = num(), tonumber(opt()), tonumber(opt()), arg()
local behind = priority and priority * QUEUE_STEP + created
local found = {}
for _, mode in ipairs(words(arg())) do
  for _, base in ipairs(KEYS) do
    local line, offset, mine = base .. ':p:' .. mode, 0, 0
    while mine < limit do
      local some = call('ZRANGEBYSCORE', line, behind and int(behind) or '-inf', '+inf', 'WITHSCORES', 'LIMIT', offset,
        limit)
      for i = 1, #some, 2 do
        local score = tonumber(some[i + 1])
        if not behind or score > behind or precedes(after, some[i]) then
          found[#found + 1] = {score, some[i], base}
          mine = mine + 1
        end
      end
      offset = offset + limit
      if #some < 2 * limit then break end
    end
  end
end
table.sort(found, by(1, 2))
local reply = {}
for i = 1, math.min(limit, #found) do
  local score, id, base = found[i][1], found[i][2], found[i][3]
  reply[i] = {score, id, call('HGET', base .. ':t:' .. id, 'rec')}
end
return reply
