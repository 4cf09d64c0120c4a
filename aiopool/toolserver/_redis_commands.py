"""Which commands a tool may send, and what they do to the connection that they are sent on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import isinf

from aiopool.adapters._redis_effects import left_behind, seconds_blocked


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: They delete everything, run code, show or change the server and its users, or hold it up for all others.
DANGEROUS = _names("""
    ACL BGREWRITEAOF BGSAVE CLIENT CLUSTER COMMANDLOG CONFIG DEBUG EVAL EVALSHA EVALSHA_RO EVAL_RO FAILOVER FCALL
    FCALL_RO FLUSHALL FLUSHDB FUNCTION INFO KEYS LATENCY LOLWUT MEMORY MIGRATE MODULE PFDEBUG PFSELFTEST REPLICAOF
    RESTORE RESTORE-ASKING ROLE SAVE SCRIPT SHUTDOWN SLAVEOF SLOWLOG SORT SORT_RO SWAPDB
""")
#: A connection that others use next cannot take these, whatever the file allows.
UNFIT = _names("""
    ASKING AUTH DISCARD EXEC HELLO MONITOR MULTI PSUBSCRIBE PSYNC PUNSUBSCRIBE QUIT READONLY READWRITE REPLCONF RESET
    SELECT SSUBSCRIBE SUBSCRIBE SUNSUBSCRIBE SYNC UNSUBSCRIBE UNWATCH WATCH
""")
#: The commands that change nothing, of those that tools are made of.
READING = _names("""
    BITCOUNT BITPOS DBSIZE DUMP ECHO EXISTS EXPIRETIME GEODIST GEOHASH GEOPOS GEOSEARCH GET GETBIT GETRANGE HEXISTS
    HGET HGETALL HKEYS HLEN HMGET HRANDFIELD HSCAN HSTRLEN HVALS INFO LASTSAVE LCS LINDEX LLEN LPOS LRANGE MGET OBJECT
    PEXPIRETIME PFCOUNT PING PTTL RANDOMKEY SCAN SCARD SDIFF SINTER SINTERCARD SISMEMBER SMEMBERS SMISMEMBER
    SRANDMEMBER SSCAN STRLEN SUNION TIME TTL TYPE XINFO XLEN XPENDING XRANGE XREVRANGE ZCARD ZCOUNT ZDIFF ZINTER
    ZINTERCARD ZLEXCOUNT ZMSCORE ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANK ZREVRANGE ZREVRANK ZSCAN ZSCORE
    ZUNION
""")


def refused(words: Sequence[str], allow: Collection[str], *, is_open: bool = False) -> str | None:
    """What is wrong with sending that command, whose first word is its name and whose second may belong to it.

    `allow` has names, in capitals, such as `KEYS` or `CONFIG GET`; with `is_open` only what is there will do.
    """
    name = words[0].upper()
    if not name.isascii() or not name or any(each.isspace() for each in name):
        return "the name of a command is one word: write what follows it as further elements"
    names = {name, " ".join(words[:2]).upper()}
    if name in UNFIT or left_behind([word.upper().encode(errors="replace") for word in words], 0):
        return f"{name} would change the connection for others, so it cannot be a tool"
    if names.isdisjoint(allow):
        if is_open:
            return f"{name[:64]} is not allowed here; allowed are: {', '.join(sorted(allow))}"
        if name in DANGEROUS:
            return f"{name} can harm or show the server and its data; if that is meant, write `allow: [{name}]`"
    return None


def blocks(words: Sequence[str]) -> bool:
    """Whether the command waits on purpose."""
    return seconds_blocked([word.upper().encode(errors="replace") for word in words]) > 0


def waits_too_long(words: Sequence[str], timeout: float) -> str | None:
    """What is wrong with how long it waits, if anything: what it takes after its caller has gone would be lost."""
    seconds = seconds_blocked([word.upper().encode(errors="replace") for word in words])
    if seconds < timeout:
        return None
    waits = "for ever" if isinf(seconds) else f"{seconds:g} s"
    return f"{words[0].upper()} would wait {waits}: give it a timeout under the tool's {timeout:g} s"
