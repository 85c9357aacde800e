-- Dead letters in id order. KEYS[1]: tag. ARGV: limit, after ('' or '=' id). Reply: letters as JSON.
local limit, after = num(), opt()
local ids = call('ZRANGEBYLEX', KEYS[1] .. ':ml', after and '(' .. after or '-', '+', 'LIMIT', 0, limit)
if #ids == 0 then return {} end
return call('HMGET', KEYS[1] .. ':m', unpack(ids))
