-- Removes a dead letter. KEYS[1]: tag. ARGV: id. Reply: the letter as JSON, or nil.
local id = arg()
local text = call('HGET', KEYS[1] .. ':m', id)
call('HDEL', KEYS[1] .. ':m', id)
call('ZREM', KEYS[1] .. ':ml', id)
return text
