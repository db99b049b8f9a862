#!/usr/bin/env python3
"""What a hot HTTP/2 connection does to its neighbours on the same worker.

    bench/hot_neighbour.py

One worker on core 0. A neighbour asks over its own HTTP/1.1 connection, one request after the other, and its latency is told: alone;
while one connection has 100 streams busy without a pause; while 100 connections with a stream each make the same load; and the same with
downloads of 8 MiB. The worker is fair if one connection is no worse than a hundred. Needs h2load, nginx, openssl, taskset and a release
build.
"""

import shutil
import subprocess
import sys
import tempfile
import time

from world import BODY, LOAD_CORE, PORTCULLIS, UPSTREAM, World, require
from footprint import ask, client

SECONDS = 6
LARGE = 8 * 1024 * 1024


def main():
    binary = sys.argv[1] if len(sys.argv) > 1 else PORTCULLIS
    require(binary)
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    world = World(folder, binary)
    try:
        with open(world.path("large"), "wb") as file:
            file.write(b"x" * LARGE)
        config = world.write("upstream.conf", f"""
            daemon off; worker_processes 1; pid {world.path('upstream.pid')}; error_log /dev/null;
            events {{ worker_connections 4096; }}
            http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s;
              client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
              uwsgi_temp_path {folder}; scgi_temp_path {folder};
              server {{ listen 127.0.0.1:{UPSTREAM} backlog=4096; root {folder};
                location /data {{ return 200 "{BODY}"; }} }} }}""")
        world.run(LOAD_CORE, ["nginx", "-e", "/dev/null", "-c", config, "-p", folder], UPSTREAM)
        _, port = world.portcullis("bare")
        measure(port)
    finally:
        world.stop_all()
        shutil.rmtree(folder, ignore_errors=True)


def measure(port):
    for name, flood in {
        "alone": None,
        "one connection, 100 streams": ["-c1", "-m100", f"https://localhost:{port}/data"],
        "100 connections, 1 stream": ["-c100", "-m1", f"https://localhost:{port}/data"],
        "one connection, 100 downloads": ["-c1", "-m100", f"https://localhost:{port}/large"],
        "100 connections, 1 download": ["-c100", "-m1", f"https://localhost:{port}/large"],
    }.items():
        load = flood and subprocess.Popen(["taskset", "-c", LOAD_CORE, "h2load", "-t1", f"-D{SECONDS + 2}", *flood],
                                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1)
        latencies = sorted(neighbour(port))
        if load:
            load.kill()
            load.wait()
        at = lambda part: latencies[int(len(latencies) * part)] * 1000
        print(f"{name:32} median {at(0.5):6.2f} ms   p99 {at(0.99):6.2f} ms   most {latencies[-1] * 1000:6.2f} ms   ({len(latencies)} requests)", flush=True)


def neighbour(port):
    connection = ask(client(), port)
    end = time.monotonic() + SECONDS
    while (began := time.monotonic()) < end:
        connection.sendall(b"GET /data HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if not connection.recv(65536).startswith(b"HTTP/1.1 200"):
            sys.exit("not 200")
        yield time.monotonic() - began
        time.sleep(0.002)


if __name__ == "__main__":
    main()
