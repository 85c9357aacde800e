-- Which of these tasks are in somebody's hands. KEYS[1]: tag. ARGV: ids. Reply: assignment id or nil per task.
if #ARGV == 0 then return {} end
return call('HMGET', B .. ':at', unpack(ARGV))
