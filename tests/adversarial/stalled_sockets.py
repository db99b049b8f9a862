#!/usr/bin/env python3
"""Thousands of sockets that stall in twelve ways are closed by their timeouts, and an honest client does not notice them.

    tests/adversarial/stalled_sockets.py                  5,000 sockets
    tests/adversarial/stalled_sockets.py --sockets 500

The gateway runs with default limits and one worker on core 0. This script and a static nginx upstream run on core 1. The sockets come from as
many loopback addresses as the limit per address requires. The gateway must close every one of them within 65 s of its last useful byte. The
canary sends a request every 10 ms over its own connection and opens a new one every second. Every request must be answered, and its p99
during the stall is at most twice its p99 before.

Needs two open files per socket (ulimit -n), and a few more.
"""

import argparse
import errno
import multiprocessing
import os
import resource
import select
import shutil
import socket
import ssl
import statistics
import sys
import tempfile
import time
import urllib.request

from lib.testbed import LOAD_CORE, PORTCULLIS, SERVER_CORE, Testbed, progress, require

PORT, ADMIN, LARGE = 9107, 9108, 9109
DEADLINE, FACTOR = 65, 2
PER_ADDRESS = 200
DRIP_EVERY = 2
BASELINE = 5


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sockets", type=int, default=5000)
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require(options.binary, "nginx", "openssl", "taskset")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = (hard if hard != resource.RLIM_INFINITY else 1 << 20) // 2 - 512
    if options.sockets > most:
        print(f"only {most} sockets with {hard} open files")
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    testbed = Testbed(folder, options.binary)
    try:
        start_upstream(testbed)
        gateway = start(testbed)
        kept = measure(gateway, min(options.sockets, most), hard)
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(0 if kept else 1)


def start_upstream(testbed):
    with open(testbed.path("large"), "wb") as file:
        file.truncate(100 << 20)
    config = testbed.write("large.conf", f"""
        daemon off; worker_processes 1; pid {testbed.path('large.pid')}; error_log /dev/null;
        events {{ worker_connections 8192; }}
        http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s; client_max_body_size 0;
          client_body_temp_path {testbed.folder}; proxy_temp_path {testbed.folder}; fastcgi_temp_path {testbed.folder};
          uwsgi_temp_path {testbed.folder}; scgi_temp_path {testbed.folder};
          server {{ listen 127.0.0.1:{LARGE} backlog=4096 sndbuf=64k; root {testbed.folder};
            location /small {{ return 200 "ok"; }} }} }}""")
    os.chmod(testbed.path("large"), 0o644)
    testbed.run(LOAD_CORE, ["nginx", "-e", "/dev/null", "-c", config, "-p", testbed.folder], LARGE)


def start(testbed):
    """Starts the gateway with default limits."""
    folder = testbed.path("stalled")
    os.makedirs(folder)
    with open(os.path.join(folder, "gateway.yaml"), "w") as file:
        file.write(f"""
version: 1
workers: 1
listeners:
  - address: 127.0.0.1:{PORT}
    tls: {{certificates: [{{cert: {testbed.crt}, key: {testbed.key}}}]}}
upstreams: {{service: "http://127.0.0.1:{LARGE}"}}
routes:
  - {{path: /**, upstream: service, access: public}}
audit: {{file: audit.jsonl}}
admin: {{address: "127.0.0.1:{ADMIN}"}}
""")
    return testbed.run(SERVER_CORE, [testbed.binary, "run"], PORT, cwd=folder)


def measure(gateway, count, files):
    stop, phase = multiprocessing.Event(), multiprocessing.Value("i", 0)
    results = multiprocessing.SimpleQueue()
    canary = multiprocessing.Process(target=run_canary, args=(stop, phase, results), daemon=True)
    canary.start()
    time.sleep(BASELINE)
    phase.value = 1
    stalled = StalledSockets()
    stalled.open(count)
    phase.value = 2
    peak = connections()
    # Meanwhile the deadlines of the earliest sockets expire. The memory is measured while most still stall.
    stalled.watch(until=time.monotonic() + 5)
    phase.value = 3
    memory = resident(gateway)
    stalled.watch(until=stalled.last + DEADLINE + 10)
    left = connections()
    stop.set()
    latencies, failures = results.get()
    canary.join(5)
    return report(stalled, count, files, peak, left, latencies, failures, memory)


def report(sockets, count, files, peak, left, latencies, failures, memory):
    print(f"\n{count} stalled sockets ({files} open files allowed), {peak} connections at the peak, {memory / 1024:.0f} MiB resident then")
    print(f"  {'kind':34} {'sockets':>8} {'closed':>8} {'median s':>9} {'max s':>7}")
    kept = True
    for kind in sockets.kinds:
        took = sorted(sockets.took.get(kind.name, []))
        opened = sockets.opened[kind.name]
        good = len(took) == opened and (not took or took[-1] <= DEADLINE)
        kept &= good
        if took:
            print(f"  {kind.name:34} {opened:8} {len(took):8} {statistics.median(took):9.1f} {took[-1]:7.1f}{'' if good else '  MISSED'}")
        else:
            print(f"  {kind.name:34} {opened:8} {0:8}{'' if good else '  MISSED'}")
    # The connection of the canary, the one of this query, and those that the canary has just closed.
    kept &= left <= 3
    print(f"  connections that the gateway has in the end: {left}, the canary's among them{'' if left <= 3 else '  MISSED'}")
    baseline, stalled = percentile(latencies[0]), percentile(latencies[2] + latencies[3])
    ratio = stalled / baseline
    kept &= ratio <= FACTOR and not failures
    names = ["before", "while they open", "while all stall", "while they are closed"]
    print("  canary, p50 and p99 in ms: " + ", ".join(
        f"{name} {percentile(values, 50) * 1000:.2f} {percentile(values) * 1000:.2f}" for name, values in zip(names, latencies) if values))
    print(f"  canary: p99 {ratio:.2f} x its p99 before (target {FACTOR}), {sum(map(len, latencies))} requests, {failures} failed")
    print("kept" if kept else "MISSED")
    return kept


class Kind:
    """One way to stall: the first bytes, bytes that follow every two seconds, and whether answers are read."""

    def __init__(self, name, share, tls=None, first=b"", drip=b"", answer=False, reads=True):
        self.name, self.share, self.tls, self.first, self.drip, self.answer, self.reads = name, share, tls, first, drip, answer, reads


def get(path):
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def post(length):
    return f"POST /small HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n0123456789".encode()


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def header(name, value):
    return bytes([name, len(value)]) + value


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, HEADERS, PING, ACK, END = 4, 1, 6, 1, 5
NO_WINDOW = frame(SETTINGS, 0, 0, (4).to_bytes(2, "big") + (0).to_bytes(4, "big"))
ASK = b"".join(frame(HEADERS, END, stream, b"\x82\x87" + header(0x41, b"localhost") + header(0x44, b"/large")) for stream in (1, 3))
HELLO = bytes.fromhex("1603010200010001fc0303")

# The longest deadlines first, so that all of them stall at once.
KINDS = [
    Kind("idle after an answer", 12, "http/1.1", get("/small"), answer=True),
    Kind("HTTP/2, no window for answers", 4, "h2", PREFACE + NO_WINDOW + ASK),
    Kind("HTTP/2, no request", 6, "h2", PREFACE + frame(SETTINGS, 0, 0, b"")),
    Kind("HTTP/1.1, answer not read", 4, "http/1.1", get("/large"), reads=False),
    Kind("no request after the handshake", 12, "http/1.1"),
    Kind("half a head", 12, "http/1.1", b"GET /small HTTP/1.1\r\nHost: loc"),
    Kind("a head, 1 byte in 2 s", 6, "http/1.1", b"GET /small HTTP/1.1\r\nX: ", drip=b"x"),
    Kind("a body, 5 bytes a second", 6, "http/1.1", post(1000), drip=b"0123456789"),
    Kind("half a body", 8, "http/1.1", post(1000)),
    Kind("handshake, 1 byte in 2 s", 6, None, HELLO, drip=b"\x01"),
    Kind("half a handshake", 12, None, HELLO),
    Kind("not one byte", 12),
]


class StalledSockets:
    """All stalled sockets, and the time when each was closed."""

    def __init__(self):
        self.kinds, self.poll, self.sockets = KINDS, select.epoll(), {}
        self.opened, self.took, self.last = {}, {}, 0
        self.drips, self.next_drip = [], 0
        self.addresses = 0
        self.contexts = {}
        for protocol in ("http/1.1", "h2"):
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.set_alpn_protocols([protocol])
            self.contexts[protocol] = context

    def open(self, count):
        whole = sum(kind.share for kind in self.kinds)
        number = 0
        for kind in self.kinds:
            self.opened[kind.name] = 0
            for _ in range(count * kind.share // whole):
                self.stall(kind, number)
                number += 1
                if number % 50 == 0:
                    self.watch(until=0)
                    progress(f"{number} sockets")
        progress("")

    def stall(self, kind, number):
        raw = socket.socket()
        if not kind.reads:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        # Other addresses than the canary's, and no more sockets from one address than the gateway accepts.
        raw.bind((f"127.1.{number // PER_ADDRESS // 250}.{number // PER_ADDRESS % 250 + 1}", 0))
        raw.connect(("127.0.0.1", PORT))
        wire = self.contexts[kind.tls].wrap_socket(raw, server_hostname="localhost") if kind.tls else raw
        if kind.first:
            wire.sendall(kind.first)
        if kind.answer and not wire.recv(65536).startswith(b"HTTP/1.1 200"):
            sys.exit("not 200")
        wire.setblocking(False)
        self.last = time.monotonic()
        self.sockets[wire.fileno()] = (wire, kind, self.last)
        self.opened[kind.name] += 1
        self.poll.register(wire.fileno(), select.EPOLLRDHUP | (select.EPOLLIN if kind.reads else 0))
        if kind.drip:
            self.drips.append(wire.fileno())

    def watch(self, until):
        """Reads, sends the slow bytes and counts, until the given time or until all sockets are closed."""
        while self.sockets:
            for number, event in self.poll.poll(0.05 if until else 0, 1024):
                wire, kind, _ = self.sockets[number]
                ended = event & (select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR)
                if ended or not self.listen(wire, kind):
                    self.remove(number)
            now = time.monotonic()
            if now >= self.next_drip:
                self.next_drip = now + DRIP_EVERY
                self.drip()
                self.check_unread()
            if now >= until:
                return

    def listen(self, wire, kind):
        """False once the other end has closed."""
        try:
            received = wire.recv(65536)
        except (ssl.SSLWantReadError, BlockingIOError):
            return True
        except OSError:
            return False
        if received and kind.tls == "h2":
            self.acknowledge(wire, received)
        return bool(received)

    def acknowledge(self, wire, received):
        """Answers pings and settings, as an attacker would."""
        while len(received) >= 9:
            length = int.from_bytes(received[:3], "big")
            kind, flags = received[3], received[4]
            try:
                if kind == PING and not flags & ACK:
                    wire.send(frame(PING, ACK, 0, received[9:9 + length]))
                elif kind == SETTINGS and not flags & ACK:
                    wire.send(frame(SETTINGS, ACK, 0, b""))
            except OSError:
                return
            received = received[9 + length:]

    def drip(self):
        for number in self.drips:
            if number in self.sockets:
                wire, kind, _ = self.sockets[number]
                try:
                    wire.send(kind.drip)
                except OSError as error:
                    if error.errno not in (errno.EAGAIN, ssl.SSL_ERROR_WANT_WRITE):
                        self.remove(number)

    def check_unread(self):
        """Finds closed connections with unread answers from the other side: this side would see the end only after the answer."""
        unread = [number for number, (_, kind, _) in self.sockets.items() if not kind.reads]
        if unread:
            established = open_ports()
            for number in unread:
                if self.sockets[number][0].getsockname()[:2] not in established:
                    self.remove(number)

    def remove(self, number):
        wire, kind, since = self.sockets.pop(number)
        self.took.setdefault(kind.name, []).append(time.monotonic() - since)
        self.poll.unregister(number)
        wire.close()


def open_ports():
    """Addresses of clients whose connection the gateway has not closed."""
    found = set()
    for line in open("/proc/net/tcp").readlines()[1:]:
        words = line.split()
        (_, port), (address, peer) = (word.split(":") for word in words[1:3])
        if int(port, 16) == PORT and words[3] == "01":
            found.add((socket.inet_ntoa(bytes.fromhex(address)[::-1]), int(peer, 16)))
    return found


def connections():
    for line in urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}/metrics").read().decode().splitlines():
        if line.startswith("portcullis_connections "):
            return int(float(line.split()[1]))
    sys.exit("no portcullis_connections")


def resident(process):
    for line in open(f"/proc/{process.pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    return 0


def run_canary(stop, phase, results):
    """The canary: latencies by phase, and how many requests failed."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])

    def connect():
        return context.wrap_socket(socket.create_connection(("127.0.0.1", PORT), 10), server_hostname="localhost")

    latencies, failures, number = [[], [], [], []], 0, 0
    wire = connect()
    due = time.monotonic()
    while not stop.is_set():
        now, began = phase.value, time.monotonic()
        try:
            wire.sendall(get("/small"))
            answer = wire.recv(65536)
            good = answer.startswith(b"HTTP/1.1 200")
            why = answer[:60]
        except OSError as error:
            good, why = False, error
        latencies[now].append(time.monotonic() - began)
        number += 1
        if not good:
            failures += 1
            print(f"  canary: a request failed after {time.monotonic() - began:.2f} s in phase {now}: {why!r}", flush=True)
        if not good or number % 100 == 0:
            wire.close()
            try:
                wire = connect()
            except OSError as error:
                failures += 1
                print(f"  canary: a connection failed in phase {now}: {error!r}", flush=True)
        due = max(due + 0.01, time.monotonic())
        time.sleep(max(0, due - time.monotonic()))
    results.put((latencies, failures))


def percentile(values, of=99):
    return sorted(values)[min(len(values) - 1, len(values) * of // 100)]


if __name__ == "__main__":
    main()
