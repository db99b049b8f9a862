#!/usr/bin/env python3
"""Restarts under load with a socket of a service manager: no connection is refused, no request fails.

    tests/adversarial/restarts.py                     100 restarts
    tests/adversarial/restarts.py --times 10 --clients 64
    tests/adversarial/restarts.py --times 5 --own-socket     must fail

This program holds the listening socket, as systemd does, and passes it to one gateway after the other: each is stopped by SIGTERM, and the next
is started when it has ended. Clients open a connection for each request, over HTTP/1.1 with TLS, and repeat nothing.
"""

import argparse
import asyncio
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter

from lib.echo_testbed import at_least, none, verdict
from lib.testbed import PORTCULLIS, Testbed, progress, require
from storm_clients import context

PORT = 9191
ANSWER_WITHIN = 30
MOVE = 'exec 3<&"$0"; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--own-socket", action="store_true", help="the gateway opens its socket itself: connections are refused")
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require(options.binary, "openssl")
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    testbed = Testbed(folder, options.binary)
    testbed.write("gateway.yaml", f"""version: 1
listeners: [{{address: 127.0.0.1:{PORT}, tls: {{certificates: [{{cert: {testbed.crt}, key: {testbed.key}}}]}}}}]
limits: {{connections_per_address: unlimited}}
routes: [{{path: /**, access: public, respond: {{body: ok}}}}]
audit: {{file: audit.jsonl}}
""")
    try:
        took, codes, counts, examples = run(testbed, options)
        panics = open(testbed.path("stderr"), errors="replace").read().count("panicked")
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    for each in examples[:10]:
        print(each)
    print(f"from SIGTERM until the next gateway is ready, at most {max(took):.2f} s")
    verdict([
        at_least("restarts", len(took), options.times),
        at_least("requests, each on a connection of its own", counts["answered"], options.times * 20),
        none("connections refused", counts["refused"]),
        none("requests that failed otherwise", counts["failed"]),
        none("gateways that ended other than with 0", sum(code != 0 for code in codes)),
        none("panics", panics),
    ])


def run(testbed, options):
    held = None
    if not options.own_socket:
        held = socket.create_server(("127.0.0.1", PORT), backlog=4096)
    results, goes_on = multiprocessing.Queue(), multiprocessing.Value("b", True)
    gateway, took, codes = start(testbed, held), [], []
    clients = multiprocessing.Process(target=lambda: results.put(asyncio.run(load(options.clients, goes_on))), daemon=True)
    clients.start()
    for number in range(options.times):
        time.sleep(0.5)
        began = time.monotonic()
        gateway.send_signal(signal.SIGTERM)
        codes.append(gateway.wait(60))
        testbed.running.remove(gateway)
        gateway = start(testbed, held)
        took.append(time.monotonic() - began)
        progress(f"{number + 1} of {options.times}")
    time.sleep(1)
    goes_on.value = False
    counts, examples = results.get(timeout=60)
    return took, codes, counts, examples


def start(testbed, held):
    """A gateway that is ready: it says so on a socket for notifications."""
    notify = testbed.path("notify")
    if os.path.exists(notify):
        os.remove(notify)
    ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ready.bind(notify)
    ready.settimeout(30)
    command, passed = [testbed.binary, "run"], []
    if held:
        command, passed = ["sh", "-c", MOVE, str(held.fileno()), *command], [held.fileno()]
    gateway = subprocess.Popen(command, cwd=testbed.folder, env={**os.environ, "NOTIFY_SOCKET": notify}, pass_fds=passed, start_new_session=True,
                               stdout=subprocess.DEVNULL, stderr=open(testbed.path("stderr"), "ab"))
    testbed.running.append(gateway)
    if b"READY=1" not in ready.recv(4096):
        raise RuntimeError("the gateway is not ready")
    ready.close()
    return gateway


async def load(clients, goes_on):
    counts, examples, tls = Counter(), [], context("http/1.1")
    await asyncio.gather(*(client(tls, goes_on, counts, examples) for _ in range(clients)))
    return counts, examples


async def client(tls, goes_on, counts, examples):
    while goes_on.value:
        try:
            await asyncio.wait_for(request(tls), ANSWER_WITHIN)
            counts["answered"] += 1
        except ConnectionRefusedError:
            counts["refused"] += 1
            await asyncio.sleep(0.01)
        except Exception as error:  # Whatever it is, the request has failed.
            counts["failed"] += 1
            examples.append(repr(error))


async def request(tls):
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT, ssl=tls, server_hostname="localhost")
    try:
        writer.write(b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        if not answer.startswith(b"HTTP/1.1 200") or not answer.endswith(b"ok"):
            raise ConnectionError(f"not answered whole: {answer[:80]!r}")
    finally:
        writer.close()


if __name__ == "__main__":
    main()
