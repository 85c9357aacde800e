-- How far a kind of follower is behind. KEYS: tags. ARGV: kind, lanes per tag to add up at most.
-- Reply: {lanes, events, age of the oldest mark}.
local kind, most = arg(), num()
local lanes, events, oldest = 0, 0, NOW
for _, base in ipairs(KEYS) do
  for _, line in ipairs({base .. ':ld:' .. kind, base .. ':lh:' .. kind}) do
    lanes = lanes + call('ZCARD', line)
    for _, member in ipairs(call('ZRANGE', line, 0, most - 1)) do
      local name, id = string.match(member, '^(%S+) (.*)$')
      local t = load_task(base, id)
      local text = t and call('HGET', t.data .. ':L', name)
      if text then
        local l = lane_parse(text)
        events = events + math.max(0, t.li - l.cursor)
        oldest = math.min(oldest, tonumber(l.since) or NOW)
      end
    end
  end
end
return {lanes, events, NOW - oldest}
