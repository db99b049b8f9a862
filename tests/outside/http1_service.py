"""An HTTP/1.1 service by aiohttp. Says its port, and serves until its standard input ends."""

import asyncio
import gzip
import hashlib
import json
import sys

from aiohttp import WSMsgType, web

LARGE = bytes(range(256)) * 4096


async def plain(request):
    headers = {"ETag": '"one"', "X-Field": "a, b", "Cache-Control": "no-store"}
    if request.headers.get("If-None-Match") == '"one"':
        return web.Response(status=304, headers=headers)
    answer = web.Response(text="hello", headers=headers)
    answer.headers.add("Set-Cookie", "a=b; Path=/")
    answer.headers.add("Set-Cookie", "c=d; HttpOnly")
    return answer


async def chunks(request):
    answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
    if request.version.minor:
        answer.enable_chunked_encoding()
    await answer.prepare(request)
    for piece in (b"one", b"two" * 10_000, b"three"):
        await answer.write(piece)
        await asyncio.sleep(0.001)
    return answer


async def large(request):
    return web.Response(body=LARGE)


async def zipped(request):
    return web.Response(body=gzip.compress(b"hello" * 1000, mtime=0), headers={"Content-Encoding": "gzip", "Content-Type": "text/plain"})


async def status(request):
    return web.Response(status=int(request.match_info["status"]))


async def moved(request):
    return web.Response(status=302, headers={"Location": "/plain"})


async def echo(request):
    """What has arrived, and how."""
    body = await request.read()
    return web.json_response({
        "method": request.method,
        "query": request.query_string,
        "type": request.headers.get("Content-Type"),
        # No length means none (RFC 9112 §6.3).
        "length": None if request.headers.get("Transfer-Encoding") else request.headers.get("Content-Length", "0"),
        "coding": request.headers.get("Transfer-Encoding"),
        "digest": hashlib.sha256(body).hexdigest(),
    })


async def refuse(request):
    """Instead of asking for the body of a request that waits to be asked."""
    raise web.HTTPRequestEntityTooLarge(max_size=0, actual_size=1, text="too large")


async def socket(request):
    peer = web.WebSocketResponse(max_msg_size=1 << 22, protocols=["chat"])
    await peer.prepare(request)
    async for message in peer:
        if message.type == WSMsgType.TEXT:
            await peer.send_str(message.data)
        elif message.type == WSMsgType.BINARY:
            await peer.send_bytes(message.data)
    return peer


async def serve():
    application = web.Application(client_max_size=1 << 23)
    application.add_routes([
        web.get("/plain", plain), web.get("/chunks", chunks), web.get("/large", large), web.get("/gzip", zipped), web.get("/moved", moved),
        web.get("/status/{status}", status), web.get("/socket", socket), web.route("*", "/echo", echo),
    ])
    application.router.add_post("/refuse", refuse, expect_handler=refuse)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(serve())
