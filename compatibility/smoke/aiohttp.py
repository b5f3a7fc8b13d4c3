"""Parts that need no network: parsers, addresses, forms, an application's routes."""

import asyncio
from unittest.mock import Mock

import aiohttp
from aiohttp import web
from aiohttp.http_parser import HttpRequestParser
from multidict import CIMultiDict
from yarl import URL


async def hello(request):
    return web.json_response({"name": request.match_info["name"]})


async def main():
    app = web.Application()
    app.router.add_get("/hello/{name}", hello)
    parser = HttpRequestParser(Mock(), asyncio.get_running_loop(), 2**16)
    messages, _, _ = parser.feed_data(b"GET /hello/you HTTP/1.1\r\nHost: x.test\r\n\r\n")
    return messages[0][0].path


all(
    (
        asyncio.run(main()) == "/hello/you",
        str(URL("http://x.test/a") / "b" % {"q": "1"}) == "http://x.test/a/b?q=1",
        CIMultiDict({"Accept": "x"})["ACCEPT"] == "x",
        aiohttp.FormData({"a": "1"})().decode() == "a=1",
    )
)
