#!/usr/bin/env python3
"""How long a worker stands still while a large configuration is reloaded: 10,000 routes and 100,000 clients.

    bench/reload_stalls.py                            20 reloads
    bench/reload_stalls.py --reloads 5 --clients 1000

One worker answers a small request every millisecond, on one connection in clear text: first without a reload, then during reloads that change a
route and a client each. The time of each request is divided by what the kernel tells of both threads: the worker works (in one piece, with the
request itself), one of them waits for a processor because of other threads, or the worker is blocked: for a lock, or for memory.
"""

import argparse
import glob
import json
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
import urllib.request

from lib.testbed import PORTCULLIS, Testbed, progress, require

PORT, ADMIN = 9181, 9182
STALL = 0.005
RELOAD_WITHIN = 3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--routes", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=100_000)
    parser.add_argument("--reloads", type=int, default=20)
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require(options.binary, "openssl", "taskset")
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    testbed = Testbed(folder, options.binary)
    try:
        text = configuration(options)
        write(testbed, text, 0)
        gateway = testbed.run("0,1", [testbed.binary, "run", "--config", testbed.path("gateway.yaml")], PORT)
        took, during, idle = measure(testbed, worker_thread(gateway.pid), gateway, text, options.reloads)
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"reloads: {len(took)}, in the median {sorted(took)[len(took) // 2]:.2f} s, at most {max(took):.2f} s   target {RELOAD_WITHIN} s")
    missed = max(took) > RELOAD_WITHIN
    print(f"{'':20}{'requests':>10}{'answer':>12}{'worker busy':>14}{'over 5 ms':>11}{'no processor':>14}{'blocked':>10}{'over 5 ms':>11}   at most, ms")
    for name, taken in (("without a reload", idle), ("during reloads", during)):
        answer, busy, waited, blocked = (sorted(times) for times in zip(*taken))
        print(f"{name:20}{len(taken):>10}{answer[-1] * 1000:>12.2f}{busy[-1] * 1000:>14.2f}{sum(time > STALL for time in busy):>11}"
              f"{waited[-1] * 1000:>14.2f}{blocked[-1] * 1000:>10.2f}{sum(time > STALL for time in blocked):>11}")
        missed |= busy[-1] > STALL
    sys.exit(1 if missed else 0)


def measure(testbed, schedstat, gateway, text, reloads):
    """The durations of the reloads, and the times of the requests during them and without them."""
    took = []
    requests = Requests(schedstat)
    for number in range(1, reloads + 1):
        write(testbed, text, number)
        before, began = page(), time.monotonic()
        gateway.send_signal(signal.SIGHUP)
        while (after := page())["config"] == before["config"]:
            if after["last_reload"] and after["last_reload"]["result"] != "ok":
                sys.exit(f"refused: {after['last_reload']}")
            time.sleep(0.05)
        took.append(time.monotonic() - began)
        progress(f"{number} of {reloads}")
        # The former snapshot is dropped after a while.
        time.sleep(1)
    seconds = requests.seconds()
    during = requests.stop()
    requests = Requests(schedstat)
    time.sleep(seconds)
    return took, during, requests.stop()


class Requests:
    """Requests of another process, until `stop`, which gives the times of each: answer, busy, no processor, blocked."""

    def __init__(self, schedstat):
        self.began, self.goes_on, self.results = time.monotonic(), multiprocessing.Value("b", True), multiprocessing.Queue()
        multiprocessing.Process(target=requests, args=(schedstat, self.goes_on, self.results), daemon=True).start()

    def seconds(self):
        return time.monotonic() - self.began

    def stop(self):
        self.goes_on.value = False
        return self.results.get(timeout=60)


def requests(schedstat, goes_on, results):
    worker, own = os.open(schedstat, os.O_RDONLY), os.open("/proc/self/schedstat", os.O_RDONLY)
    connection = socket.create_connection(("127.0.0.1", PORT))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    taken = []
    while goes_on.value:
        before = scheduled(worker), scheduled(own)
        began = time.perf_counter()
        connection.sendall(b"GET /probe HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = connection.recv(4096)
        took = time.perf_counter() - began
        if not answer.startswith(b"HTTP/1.1 200"):
            sys.exit(f"not 200: {answer[:80]!r}")
        (busy, waited), (own_busy, own_waited) = (
            tuple(now - then for now, then in zip(scheduled(of), first)) for of, first in ((worker, before[0]), (own, before[1])))
        taken.append((took, busy, waited + own_waited, max(0, took - busy - waited - own_busy - own_waited)))
        time.sleep(0.001)
    results.put(taken)


def scheduled(schedstat):
    """The seconds of a thread on a processor, and in the queue for one."""
    busy, waited, _ = os.pread(schedstat, 96, 0).split()
    return int(busy) / 1e9, int(waited) / 1e9


def worker_thread(pid):
    """The `schedstat` of the only worker. The gateway listens before it has one."""
    for _ in range(600):
        for task in glob.glob(f"/proc/{pid}/task/*"):
            if open(f"{task}/comm").read().startswith("worker-"):
                return f"{task}/schedstat"
        time.sleep(0.1)
    sys.exit("the gateway has no worker thread")


def page():
    return json.load(urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}/config"))


def configuration(options):
    digest = "sha256:2RG_ZklKftARNsx6xHruEHJ3_UP79NgbwkcHFg4N8BM"
    clients = "".join(f'    c{n}: {{secrets: [{{hash: "{digest}"}}], scopes: [read:data]}}\n' for n in range(options.clients))
    routes = "".join(f"  - {{name: r{n}, path: /r{n}/**, upstream: service, access: {{scopes: [read:data]}}}}\n" for n in range(options.routes))
    return f"""version: 1
workers: 1
listeners: [{{address: 127.0.0.1:{PORT}}}]
admin: {{address: 127.0.0.1:{ADMIN}}}
oauth:
  issuer: https://localhost:{PORT}
  audiences: [https://api.example.com]
  signing_keys: {{algorithm: ES256}}
  clients:
    last: {{secrets: [{{hash: "{digest}"}}], scopes: [read:data]}}
{clients}upstreams: {{service: "http://127.0.0.1:9"}}
routes:
  - {{name: probe, path: /probe, access: public, respond: {{body: ok}}}}
{routes}audit: {{file: audit.jsonl}}
"""


def write(testbed, text, number):
    changed = text.replace("    last:", f"    last{number}:").replace("body: ok", f"body: ok{number}")
    os.replace(testbed.write("next.yaml", changed), testbed.path("gateway.yaml"))


if __name__ == "__main__":
    main()
