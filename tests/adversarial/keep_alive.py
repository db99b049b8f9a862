#!/usr/bin/env python3
"""Requests that meet the end of a kept connection: a POST is not sent again, so each one that does is lost.

    tests/adversarial/keep_alive.py                    96 POSTs for each case
    tests/adversarial/keep_alive.py --posts 20

A service behind a relay, 15 ms away in each direction, closes a connection that has been idle for a second. One client
sends a POST every 0.96 to 1.04 s. With `keep_alive: {idle: 500ms}`, or with the service's own announcement, no POST may
be answered 502. Without either, some are: that case shows that the testbed can tell the difference, and its only target
is that at least one POST fails.
"""

import argparse
import asyncio
import random
import shutil
import tempfile
from collections import Counter

from lib.echo_testbed import Connection, EchoTestbed, at_least, none, verdict
from lib.testbed import PORTCULLIS, progress, require

PORT, FIRST_UPSTREAM_PORT = 9144, 9170
IDLE, DELAY = 1.0, 0.015
CASES = {
    "neither": ("", ""),
    "idle: 500ms": ("keep_alive: {idle: 500ms}", ""),
    "timeout=1": ("", "Keep-Alive: timeout=1\r\n"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=96)
    parser.add_argument("--clients", type=int, default=1, help="clients of each case, at the same time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require(options.binary, "openssl")
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    testbed = EchoTestbed(folder, options.binary)
    try:
        counts = asyncio.run(run(testbed, options))
        panics = testbed.gateway_output().count("panicked")
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    progress("")
    for case, count in counts.items():
        print(f"{case}: {dict(count)}")
    bad = {case: [status for status in count.elements() if status != 200] for case, count in counts.items()}
    verdict([
        at_least("POSTs of each case", min(sum(count.values()) for count in counts.values()), options.posts * options.clients),
        at_least("without either: lost", len(bad["neither"]), 1),
        none("with idle: 500ms: answers other than 200", bad["idle: 500ms"]),
        none("with the service's announcement: answers other than 200", bad["timeout=1"]),
        none("panics", panics),
    ])


async def run(testbed, options):
    ports = {case: FIRST_UPSTREAM_PORT + number for number, case in enumerate(CASES)}
    servers = [await serve(ports[case], announcement) for case, (_, announcement) in CASES.items()]
    upstreams = ", ".join(f'case-{number}: {{servers: ["http://127.0.0.1:{ports[case]}"], {CASES[case][0]}}}' for number, case in enumerate(CASES))
    routes = ", ".join(f"{{path: /{number}, upstream: case-{number}, access: public}}" for number in range(len(CASES)))
    # One worker has all idle connections, so that each POST finds the one of the POST before.
    await asyncio.to_thread(testbed.start_gateway, PORT, f"workers: 1\nupstreams: {{{upstreams}}}\nroutes: [{routes}]\n")
    counts = {case: Counter() for case in CASES}
    draw = random.Random(options.seed)
    async with asyncio.TaskGroup() as tasks:
        for number, case in enumerate(CASES):
            for _ in range(options.clients):
                tasks.create_task(client(number, counts[case], options.posts, draw))
    for server in servers:
        server.close()
    return counts


async def serve(port, announcement):
    """A service that closes after a second without a request, behind a latency of 15 ms."""
    async def service(reader, writer):
        try:
            while True:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), IDLE)
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                writer.write(f"HTTP/1.1 200 OK\r\n{announcement}Content-Length: 2\r\n\r\nok".encode())
        except (asyncio.IncompleteReadError, asyncio.TimeoutError, OSError):
            writer.close()

    behind = await asyncio.start_server(service, "127.0.0.1", 0)
    hidden = behind.sockets[0].getsockname()[1]

    async def relay(reader, writer):
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", hidden)
        await asyncio.gather(delayed(reader, far_writer), delayed(far_reader, writer))

    return await asyncio.start_server(relay, "127.0.0.1", port)


async def delayed(reader, writer):
    """Passes bytes and the end on, each after the delay, and in order."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue()

    async def write():
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0, due - loop.time()))
            if not data:
                writer.close()
                return
            writer.write(data)

    writing = asyncio.create_task(write())
    data = b"first"
    while data:
        try:
            data = await reader.read(65536)
        except OSError:
            data = b""
        await queue.put((loop.time() + DELAY, data))
    await writing


async def client(number, counts, posts, draw):
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT, ssl=Connection.CONTEXT, server_hostname="localhost")
    for post in range(posts):
        writer.write(f"POST /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        counts[int(head.split(b" ")[1])] += 1
        if number == 0:
            progress(f"{post + 1} of {posts}")
        await asyncio.sleep(draw.uniform(0.96, 1.04))
    writer.close()


main()
