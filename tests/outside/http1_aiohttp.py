"""aiohttp: all cases, uploads that wait to be asked for their body, fifty requests at once, and a WebSocket."""

import asyncio
import os
import ssl

import aiohttp
from http1_cases import BODY, CASES, interest, pieces

from surroundings import CA, ORIGIN, tell


async def slowly():
    for piece in pieces():
        yield piece


async def ask(session, method, path, headers, body, **more):
    data = slowly() if body == "pieces" else body
    async with session.request(method, ORIGIN + path, headers=headers, data=data, allow_redirects=False, **more) as answer:
        return interest(answer.status, lambda name: answer.headers.getall(name, []), await answer.read())


async def socket(session):
    large = os.urandom(1 << 20)
    async with session.ws_connect(f"{ORIGIN}/socket", protocols=["chat"], max_msg_size=1 << 22) as peer:
        await peer.send_str("hello")
        greeting = await peer.receive_str()
        await peer.send_bytes(large)
        is_same = await peer.receive_bytes() == large
        await peer.close()
        return [peer.protocol, greeting, is_same, peer.close_code]


async def main():
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=CA))
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(20)) as session:
        found = {name: await ask(session, *case) for name, case in CASES.items()}
        text = {"Content-Type": "text/plain"}
        found["expected"] = await ask(session, "PUT", "/echo", text, BODY, expect100=True)
        found["expected_pieces"] = await ask(session, "PUT", "/echo", text, "pieces", expect100=True)
        found["refused"] = await ask(session, "POST", "/refuse", text, BODY, expect100=True)
        crowd = await asyncio.gather(*(ask(session, "POST", "/echo", text, b"%d" % number) for number in range(50)))
        found["crowd"] = [answer["body"] for answer in crowd]
        found["socket"] = await socket(session)
        tell(**found)


asyncio.run(main())
