-- Keeps a dead letter. KEYS[1]: tag. ARGV: id, letter as JSON.
local id, text = arg(), arg()
if call('HSETNX', KEYS[1] .. ':m', id, text) == 1 then call('ZADD', KEYS[1] .. ':ml', 0, id) end
return 1
