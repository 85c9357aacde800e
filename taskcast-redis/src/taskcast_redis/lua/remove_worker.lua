-- KEYS[1]: tag. ARGV: id. Reply: 1 or 0.
return call('HDEL', B .. ':W', arg())
