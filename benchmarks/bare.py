"""The servers that the tracker is measured by: an echo in aiohttp, and a tracker that keeps nothing.

Run as ``python -m benchmarks.bare``; the first line it prints is its port. It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read(), content_type="application/json")


async def new(request: web.Request) -> web.Response:
    return web.json_response({"token": "t", "display_name": "one-two-3", "project": "bare", "stage_name": "CPU"})


async def new_job(request: web.Request) -> web.Response:
    await request.read()
    return web.json_response({"data": "s3://bucket/part-00001.tar", "number": 1})


async def okay(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(text="200 OK")


async def serve() -> None:
    app = web.Application()
    app.router.add_post("/echo", echo)
    app.router.add_get("/api/new", new)
    app.router.add_post("/api/newJob", new_job)
    for path in ("completeJob", "updateProgress", "bye"):
        app.router.add_post(f"/api/{path}", okay)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve())
