-- KEYS[1]: tag. ARGV: assignment id, task, worker, cost, lease ms, status. Reply: 1 or 0.
local id, task, worker, cost, lease, status = arg(), arg(), arg(), num(), num(), arg()
local packed = call('HGET', B .. ':W', worker)
if not packed or call('HEXISTS', B .. ':at', task) == 1 or call('HEXISTS', B .. ':a', id) == 1 then return 0 end
if used_slots(worker) + cost > cmsgpack.unpack(packed)[1] then return 0 end
put_assignment({id, task, worker, cost, NOW, NOW + lease, 0, status})
call('HSET', B .. ':at', task, id)
call('SADD', B .. ':aw:' .. worker, id)
call('ZADD', B .. ':al', int(NOW + lease), id)
return 1
