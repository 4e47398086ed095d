"""The Lua scripts for histories, and the clock that all scripts begin with.

They take three KEYS: the group's stream, its options (``count`` and ``age``, and ``last``, the time
of its last message), and the base epoch, which positions have in groups without messages.

Each stream entry holds the message, its epoch, and the id of the entry before it. That id shows
whether anything between that entry and an older id is gone. The epoch of the last entry is the
stream's epoch.
"""

from __future__ import annotations

# The server's clock in milliseconds, so the workers' clocks don't matter.
CLOCK = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

HISTORY = (
    CLOCK
    + """local function field(entry, name)
    for i = 1, #entry[2], 2 do
        if entry[2][i] == name then
            return entry[2][i + 1]
        end
    end
end
local function epoch_of(entry)
    local epoch = field(entry, 'epoch') or ''
    return #epoch == 12 and string.match(epoch, '^%d+$')
end
local function newest()
    local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
    return last, last and epoch_of(last)
end
local function keep_options(life)
    if redis.call('PTTL', KEYS[2]) < tonumber(life) then
        redis.call('PEXPIRE', KEYS[2], life)
    end
end
local function trim(age)
    redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f', now - age))
end
"""
)

# ARGV: the channel, the message, the deadline in ms of the server's clock, how many messages to
# keep, for how many ms, the command that publishes, and an epoch for a new stream. A count of
# "none" keeps this message out of the history.
PUBLISH = (
    HISTORY
    + """
if now > tonumber(ARGV[3]) then
    return {'late', tostring(now)}
end
local count, age = ARGV[4], ARGV[5]
if count == 'none' then
    count = ''
elseif count == '' and age == '' then
    local options = redis.call('HMGET', KEYS[2], 'count', 'age')
    count, age = options[1] or '', options[2] or ''
end
local id = ''
if count ~= '' or age ~= '' then
    local last, epoch = newest()
    local before = epoch and last[1]
    if not epoch then
        -- Earlier messages may have been in a stream that has expired or was evicted.
        local published = redis.call('HGET', KEYS[2], 'last')
        before = published and published .. '-0' or ''
        epoch = ARGV[7]
    end
    id = redis.call(
        'XADD', KEYS[1], '*', 'before', before, 'epoch', epoch, 'message', ARGV[2]
    )
    if count ~= '' then
        redis.call('XTRIM', KEYS[1], 'MAXLEN', count)
    end
    local life = 86400000
    if age ~= '' then
        trim(age)
        life = age
    end
    redis.call('PEXPIRE', KEYS[1], life)
    redis.call('HSET', KEYS[2], 'last', string.format('%.0f', now))
    keep_options(life)
    id = epoch .. '-' .. id
end
redis.call(ARGV[6], ARGV[1], id .. '\\n' .. ARGV[2])
return {id, tostring(now)}
"""
)

# ARGV: the epoch and the rest of the id to start after, the most messages and the most bytes to
# return, how many messages to keep, for how many ms, an epoch for a new stream, how long to keep
# the options and the base epoch in ms, and whether the id can be trusted. Clients can invent ids;
# workers have received theirs from the server.
REPLAY = (
    HISTORY
    + """
local from_epoch, from = ARGV[1], ARGV[2]
local life = 86400000
-- If the server is out of memory, the replay goes on without it.
redis.pcall('HSET', KEYS[2], 'count', ARGV[5], 'age', ARGV[6])
keep_options(ARGV[8])
if ARGV[6] ~= '' then
    trim(ARGV[6])
    life = tonumber(ARGV[6])
end
local last, epoch = newest()

local function begin_epoch()
    epoch = ARGV[7]
    redis.call('XADD', KEYS[1], '*', 'before', '', 'epoch', epoch)
    last = newest()
end

local function base_epoch()
    local known = redis.call('GET', KEYS[3])
    if not known then
        known = ARGV[7]
        redis.pcall('SET', KEYS[3], known)
    end
    if ARGV[9] ~= '' then
        redis.call('PEXPIRE', KEYS[3], ARGV[9])
    end
    return known
end

local function parts(id)
    local time, number = string.match(id, '^(%d+)-(%d+)$')
    return tonumber(time), tonumber(number)
end

local function is_before(one, other)
    local time, number = parts(one)
    local its_time, its_number = parts(other)
    return time < its_time or (time == its_time and number < its_number)
end

local function is_kept(id)
    return #redis.call('XRANGE', KEYS[1], id, id) > 0
end

local function page(start, is_seen)
    local entries, size = {}, 0
    local most, room = tonumber(ARGV[3]), tonumber(ARGV[4])
    while true do
        local some = redis.call('XRANGE', KEYS[1], start, '+', 'COUNT', 10)
        for _, entry in ipairs(some) do
            if not is_seen(entry) then
                size = size + #(field(entry, 'message') or '')
                if #entries > 0 and (#entries == most or size > room) then
                    return entries, 0
                end
                entries[#entries + 1] = entry
            end
        end
        if #some < 10 then
            return entries, 1
        end
        start = '(' .. some[10][1]
    end
end

if last and not epoch then
    begin_epoch()
end
if last then
    redis.call('PEXPIRE', KEYS[1], life)
    keep_options(life)
end
local function empty_position()
    return base_epoch() .. '-' .. string.format('%.0f-0', now)
end

if from == '' then
    return {last and epoch .. '-' .. last[1] or empty_position(), 1, 1, epoch or '', {}}
end

if not last then
    -- The id's history is empty, has expired or never existed.
    local time = parts(from)
    local published = tonumber(redis.call('HGET', KEYS[2], 'last') or -1)
    local complete = from_epoch == base_epoch() and time <= now and now - time < life
        and published < time
    return {empty_position(), complete and 1 or 0, 1, '', {}}
end

local entries, is_last = {}, 1
if from_epoch ~= epoch then
    entries, is_last = page('-', function(entry)
        return epoch_of(entry) == from_epoch and not is_before(from, entry[1])
    end)
elseif is_before(from, last[1]) then
    entries, is_last = page('(' .. from, function()
        return false
    end)
end
local first = entries[1]
local before = first and field(first, 'before')
local complete = false
local is_rolled_back = false
if from_epoch == epoch then
    if not first then
        complete = from == last[1]
        is_rolled_back = not complete
    elseif before == '' then
        complete = true
    elseif before then
        complete = not is_before(from, before)
        is_rolled_back = is_before(before, from) and not is_kept(from)
    else
        complete = is_kept(from)
    end
elseif before and from_epoch == base_epoch() then
    local time = parts(from)
    local began = parts(first[1])
    local is_first = before == '' or parts(before) < time
    complete = is_first and time <= began and began - time < life
end
local place = first and entries[#entries] or last
if ARGV[10] ~= '' and is_rolled_back then
    -- The server has lost messages up to this id (as after a failover) and assigns lower ids again.
    complete = false
    begin_epoch()
    if is_last == 1 then
        place = last
    end
end
local position = (epoch_of(place) or epoch) .. '-' .. place[1]
return {position, complete and 1 or 0, is_last, epoch, entries}
"""
)

# ARGV: how many messages to keep, for how many ms, and how long to keep these options, in ms.
RENEW_OPTIONS = (
    HISTORY
    + """
redis.call('HSET', KEYS[2], 'count', ARGV[1], 'age', ARGV[2])
keep_options(ARGV[3])
"""
)

# ARGV: the channel and the PUBSUB subcommand that counts its subscribers. The last subscriber
# removes the options, unless something was published. Without permission to count, they expire.
RELEASE_OPTIONS = """
if redis.call('EXISTS', KEYS[1]) == 1 or redis.call('HEXISTS', KEYS[2], 'last') == 1 then
    return
end
local listeners = redis.pcall('PUBSUB', ARGV[2], ARGV[1])
if listeners[2] == 0 then
    redis.call('DEL', KEYS[2])
end
"""
