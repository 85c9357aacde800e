-- The states of all series. KEYS[1]: tag. ARGV: id, epoch.
-- Reply: {'done', epoch, last index, kinds, series}, a series being {id, mode, last index, field, default, run, length,
-- newest entry's text, {kind, index, ...}}.
local t, why = readable(KEYS[1], arg(), tonumber(opt()))
if not t then return why end
local found, raw = {}, call('HGETALL', t.data .. ':s')
for i = 1, #raw, 2 do
  local s = cmsgpack.unpack(raw[i + 1])
  found[#found + 1] = {raw[i], s[MODE], s[LAST], s[FIELD], s[DEFAULT], s[RUN], s[LEN], newest_text(t, s),
    flat(s[KINDS])}
end
return {'done', t.ep, t.li, call('HGETALL', t.data .. ':k'), found}
