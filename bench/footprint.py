#!/usr/bin/env python3
"""Start-up time, memory when idle, and memory per idle TLS connection.

    bench/footprint.py

Start-up is from exec to the first answer over TLS, with 1,000 routes and 1,000 clients, signing keys present; memory is the
resident set, with one worker. Needs openssl and a release build.
"""

import os
import shutil
import socket
import ssl
import statistics
import sys
import tempfile
import time

from world import PORTCULLIS, World, require

CONNECTIONS = 1000


def main():
    require(PORTCULLIS)
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    world = World(folder, PORTCULLIS)
    try:
        world.start_upstream()
        memory(world)
        startup(world)
    finally:
        world.stop_all()
        shutil.rmtree(folder, ignore_errors=True)


def memory(world):
    process, port = world.portcullis()
    context = client()
    with ask(context, port):
        pass
    idle = resident(process)
    connections = [ask(context, port) for _ in range(CONNECTIONS)]
    # After a second or two they are at rest.
    time.sleep(4)
    loaded = resident(process)
    print(f"resident, idle:                  {idle / 1024:.1f} MiB")
    print(f"resident per idle TLS connection: {(loaded - idle) / CONNECTIONS:.1f} KiB  ({CONNECTIONS} connections, one request each)")
    for connection in connections:
        connection.close()
    world.stop(process)


def startup(world):
    routes = "\n".join(f"  - {{name: r{n}, path: '/r{n}/{{id}}/**', upstream: legacy, access: {{scopes: [s{n % 50}]}}}}" for n in range(1000))
    clients = "\n".join(f"    c{n}: {{secrets: [{{hash: 'sha256:{'A' * 43}'}}], scopes: [s{n % 50}]}}" for n in range(1000))
    folder = world.path("large")
    os.makedirs(folder)
    times = []
    for _ in range(11):
        os.makedirs(folder, exist_ok=True)
        process, took = start(world, folder, routes, clients)
        times.append(took)
        world.stop(process)
    # The first start made the signing key.
    print(f"start to serving, 1,000 routes and 1,000 clients: {statistics.median(times[1:]) * 1000:.0f} ms  (min {min(times[1:]) * 1000:.0f}, max {max(times[1:]) * 1000:.0f}, first with key generation {times[0] * 1000:.0f})")


def start(world, folder, routes, clients):
    import subprocess
    port = 9106
    with open(os.path.join(folder, "gateway.yaml"), "w") as file:
        file.write(f"""
version: 1
workers: 1
listeners:
  - address: 127.0.0.1:{port}
    tls: {{certificates: [{{cert: {world.crt}, key: {world.key}}}]}}
oauth:
  issuer: https://localhost:{port}
  audiences: [https://api.example.com]
  clients:
{clients}
upstreams: {{legacy: "http://127.0.0.1:1"}}
routes:
{routes}
""")
    context = client()
    began = time.monotonic()
    process = subprocess.Popen([world.binary, "run"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    world.running.append(process)
    while True:
        try:
            ask(context, port).close()
            return process, time.monotonic() - began
        except OSError:
            if process.poll() is not None or time.monotonic() - began > 30:
                sys.exit("the gateway did not start")
            time.sleep(0.001)


def client():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def ask(context, port):
    """A connection that has had one answer."""
    connection = context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost")
    connection.sendall(b"GET /.well-known/jwks.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
    if not connection.recv(65536).startswith(b"HTTP/1.1 200"):
        sys.exit("not 200")
    return connection


def resident(process):
    for line in open(f"/proc/{process.pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    return 0


if __name__ == "__main__":
    main()
