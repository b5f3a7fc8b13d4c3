"""Requests through a transport that answers by itself, blocking and async; no network."""

import asyncio

import httpx


def answer(request):
    return httpx.Response(200, json={"path": request.url.path, "n": len(request.content)})


transport = httpx.MockTransport(answer)


async def ask():
    async with httpx.AsyncClient(transport=transport) as client:
        replies = await asyncio.gather(*(client.get(f"https://x.test/{n}") for n in range(5)))
        return [reply.json()["path"] for reply in replies]


with httpx.Client(transport=transport, base_url="https://x.test") as client:
    reply = client.post("/form", data={"a": "1"})
all(
    (
        reply.json() == {"path": "/form", "n": 3},
        asyncio.run(ask()) == ["/0", "/1", "/2", "/3", "/4"],
    )
)
