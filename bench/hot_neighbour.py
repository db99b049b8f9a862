#!/usr/bin/env python3
"""The effect of one busy HTTP/2 connection on other connections of the same worker.

    bench/hot_neighbour.py

One worker on core 0. A client sends one request after the other over its own HTTP/1.1 connection. Its latency is measured alone; beside one
connection with 100 busy streams; beside 100 connections with one stream each; and beside downloads of 8 MiB, both ways. The worker is fair
if one connection with 100 streams costs the client no more than 100 connections do.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time

from lib import load
from lib.testbed import BODY, LOAD_CORE, PORTCULLIS, UPSTREAM, Testbed, require

LARGE = 8 * 1024 * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=6, help="the length of each measurement")
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require(options.binary, "nginx", "h2load", "openssl", "taskset")
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    testbed = Testbed(folder, options.binary)
    try:
        with open(testbed.path("large"), "wb") as file:
            file.write(b"x" * LARGE)
        config = testbed.write("upstream.conf", f"""
            daemon off; worker_processes 1; pid {testbed.path('upstream.pid')}; error_log /dev/null;
            events {{ worker_connections 4096; }}
            http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s;
              client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
              uwsgi_temp_path {folder}; scgi_temp_path {folder};
              server {{ listen 127.0.0.1:{UPSTREAM} backlog=4096; root {folder};
                location /data {{ return 200 "{BODY}"; }} }} }}""")
        testbed.run(LOAD_CORE, ["nginx", "-e", "/dev/null", "-c", config, "-p", folder], UPSTREAM)
        _, port = testbed.portcullis("bare")
        measure(port, options.seconds)
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)


def measure(port, seconds):
    for name, flood in {
        "alone": None,
        "one connection, 100 streams": ["-c1", "-m100", f"https://localhost:{port}/data"],
        "100 connections, 1 stream": ["-c100", "-m1", f"https://localhost:{port}/data"],
        "one connection, 100 downloads": ["-c1", "-m100", f"https://localhost:{port}/large"],
        "100 connections, 1 download": ["-c100", "-m1", f"https://localhost:{port}/large"],
    }.items():
        flooding = flood and subprocess.Popen(["taskset", "-c", LOAD_CORE, "h2load", "-t1", f"-D{seconds + 2}", *flood],
                                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1)
        latencies = sorted(neighbour(port, seconds))
        if flooding:
            flooding.kill()
            flooding.wait()
        at = lambda part: latencies[int(len(latencies) * part)] * 1000
        print(f"{name:32} median {at(0.5):6.2f} ms   p99 {at(0.99):6.2f} ms   most {latencies[-1] * 1000:6.2f} ms   ({len(latencies)} requests)", flush=True)


def neighbour(port, seconds):
    connection = load.answered_connection(load.tls_context(), port)
    end = time.monotonic() + seconds
    while (began := time.monotonic()) < end:
        connection.sendall(b"GET /data HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if not connection.recv(65536).startswith(b"HTTP/1.1 200"):
            sys.exit("not 200")
        yield time.monotonic() - began
        time.sleep(0.002)


if __name__ == "__main__":
    main()
