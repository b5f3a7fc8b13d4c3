"""An asyncio pipeline: a queue between tasks, gather, and a timeout that strikes.

tries:  asyncio queues, task groups, gather and timeouts
expect: ok
value:  {"squares": 338350, "slow": "timed out", "order": [0, 1, 2]}
"""

import asyncio


async def produce(queue):
    for number in range(1, 101):
        await queue.put(number)
    await queue.put(None)


async def consume(queue):
    total = 0
    while (number := await queue.get()) is not None:
        total += number * number
    return total


async def slow():
    try:
        async with asyncio.timeout(0.02):
            await asyncio.Event().wait()
    except TimeoutError:
        return "timed out"


async def echo(number):
    await asyncio.sleep(0.003 * (3 - number))
    return number


async def main():
    queue = asyncio.Queue(maxsize=8)
    async with asyncio.TaskGroup() as group:
        group.create_task(produce(queue))
        squares = group.create_task(consume(queue))
    return {
        "squares": squares.result(),
        "slow": await slow(),
        "order": await asyncio.gather(*(echo(number) for number in range(3))),
    }


asyncio.run(main())
