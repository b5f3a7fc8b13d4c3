"""``await`` outside a function, and a last expression that becomes the value.

tries:  top-level await, async for, values of many types
expect: ok
value:  {"ticks": [0, 1, 2], "third": 0.3, "bytes": b"\\x00\\xff", "big": 1208925819614629174706176}
"""

import asyncio


async def ticks():
    for number in range(3):
        await asyncio.sleep(0)
        yield number


await asyncio.sleep(0.001)

collected = []
async for number in ticks():
    collected.append(number)

{"ticks": collected, "third": 0.3, "bytes": b"\x00\xff", "big": 2**80}
