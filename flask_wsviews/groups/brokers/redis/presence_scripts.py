"""The Lua scripts for presence.

They take two KEYS: a sorted set of leases, and a hash with the data of each member.
"""

from __future__ import annotations

from .scripts import CLOCK

PRESENCE = (
    CLOCK
    + """local function set_lease(id, lease)
    redis.call('ZADD', KEYS[1], string.format('%.0f', now + lease), id)
end
local function keep(lease)
    -- Longer than a lease, so that expired leases can still be reported.
    redis.call('PEXPIRE', KEYS[1], lease * 10)
    redis.call('PEXPIRE', KEYS[2], lease * 10)
end
local function sweep()
    local gone = {}
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))) do
        gone[#gone + 1] = id
        gone[#gone + 1] = redis.call('HGET', KEYS[2], id) or ''
        redis.call('ZREM', KEYS[1], id)
        redis.call('HDEL', KEYS[2], id)
    end
    return gone
end
"""
)

# ARGV: the lease in ms, the member's id, and its data.
ENTER = (
    PRESENCE
    + """
local gone = sweep()
local is_new = redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
set_lease(ARGV[2], ARGV[1])
keep(ARGV[1])
return {is_new, gone}
"""
)

# ARGV: the lease in ms, and the ids. A lease that expired before anybody noticed is renewed.
RENEW_LEASES = (
    PRESENCE
    + """
local missing = {}
for i = 2, #ARGV do
    if redis.call('HEXISTS', KEYS[2], ARGV[i]) == 1 then
        set_lease(ARGV[i], ARGV[1])
    else
        missing[#missing + 1] = ARGV[i]
    end
end
local gone = sweep()
keep(ARGV[1])
return {missing, gone}
"""
)

# ARGV: the id.
LEAVE = """
redis.call('ZREM', KEYS[1], ARGV[1])
return redis.call('HDEL', KEYS[2], ARGV[1])
"""

MEMBERS = (
    CLOCK
    + """
local found = {}
local after = '(' .. string.format('%.0f', now)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], after, '+inf')) do
    found[#found + 1] = id
    found[#found + 1] = redis.call('HGET', KEYS[2], id) or ''
end
return found
"""
)

COUNT = (
    CLOCK
    + """
return redis.call('ZCOUNT', KEYS[1], '(' .. string.format('%.0f', now), '+inf')
"""
)
