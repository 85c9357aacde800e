-- KEYS[1]: tag. ARGV: worker, task ('' or '=' id). Reply: live assignments.
local worker, task = opt(), opt()
local found = {}
if task then
  local id = call('HGET', B .. ':at', task)
  local a = id and get_assignment(id)
  if a and (not worker or a[3] == worker) then found[1] = a end
elseif worker then
  found = assignments_of(worker)
else
  for _, packed in ipairs(call('HVALS', B .. ':a')) do found[#found + 1] = cmsgpack.unpack(packed) end
end
return found
