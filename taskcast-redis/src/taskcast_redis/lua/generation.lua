-- A name for a copy that is about to be brought in. KEYS[1]: tag. Reply: its number.
return call('INCR', KEYS[1] .. ':g')
