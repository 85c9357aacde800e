-- How many tasks of each "status type". KEYS: tags. Reply: per tag a flat list.
local found = {}
for i, base in ipairs(KEYS) do found[i] = call('HGETALL', base .. ':y') end
return found
