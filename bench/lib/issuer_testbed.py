"""For tests of external issuers: an issuer that rotates its keys, fails, and counts requests, a gateway that trusts it,
load at a fixed rate, and floods."""

import argparse
import asyncio
import base64
import http.server
import json
import os
import re
import shutil
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time

from lib import testbed as settings
from lib.testbed import LOAD_CORE, PORTCULLIS, ROOT, SERVER_CORE, Testbed

VENV = os.path.join(ROOT, "tests/outside/.venv/bin/python")

try:
    from cryptography.hazmat.primitives.asymmetric import ec, utils
    from cryptography.hazmat.primitives.hashes import SHA256
except ImportError:
    # The interpreter that tests/install-outside.sh installs has it.
    if os.path.exists(VENV) and sys.executable != VENV:
        os.execv(VENV, [VENV, *sys.argv])
    sys.exit("no `cryptography`: run tests/install-outside.sh, or pip install cryptography")

AUDIENCE = "https://api.example.com"


def options(description, minutes):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=os.path.abspath, default=PORTCULLIS)
    parser.add_argument("--minutes", type=float, default=minutes, help="how long it takes; less is for trying it")
    parser.add_argument("--rate", type=int, default=200, help="valid requests a second")
    parser.add_argument("--flood", type=int, default=10000, help="tokens with random key ids a second, where there is a flood")
    return parser


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Key:
    def __init__(self, kid):
        self.kid, self.private = kid, ec.generate_private_key(ec.SECP256R1())
        point = self.private.public_key().public_numbers()
        x, y = (encode(number.to_bytes(32, "big")) for number in (point.x, point.y))
        self.jwk = {"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": kid, "x": x, "y": y}

    def sign(self, issuer):
        now = int(time.time())
        claims = {"iss": issuer, "sub": "bench", "aud": AUDIENCE, "iat": now, "exp": now + 3600, "jti": encode(os.urandom(12))}
        parts = {"alg": "ES256", "typ": "JWT", "kid": self.kid}, claims
        text = ".".join(encode(json.dumps(part).encode()) for part in parts)
        r, s = utils.decode_dss_signature(self.private.sign(text.encode(), ec.ECDSA(SHA256())))
        return f"{text}.{encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


class Issuer:
    """Serves its keys over HTTP on loopback, records the times of requests, and can be stopped."""

    def __init__(self, max_age=None):
        self.port, self.max_age, self.keys, self.asked, self.server = free_port(), max_age, [], [], None
        self.name = f"http://127.0.0.1:{self.port}"

    def start(self):
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                issuer.asked.append(time.monotonic())
                body = json.dumps({"keys": [key.jwk for key in issuer.keys]}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                if issuer.max_age is not None:
                    self.send_header("Cache-Control", f"max-age={issuer.max_age}")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True
            allow_reuse_address = True

        self.server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self):
        """From now on connections are refused."""
        self.server.shutdown()
        self.server.server_close()

    def most_fetches(self, window, since=0.0):
        """The most requests in any span of this number of seconds."""
        times = [at for at in self.asked if at >= since]
        return max((sum(1 for other in times if at <= other < at + window) for at in times), default=0)


class IssuerTestbed(Testbed):
    """A gateway with one worker that trusts `issuer` for tokens in clear text, before a static upstream."""

    def __init__(self, binary, issuer):
        super().__init__(tempfile.mkdtemp(prefix="portcullis-bench-"), binary)
        self.issuer, self.port, self.admin = issuer, free_port(), free_port()
        settings.UPSTREAM = free_port()
        self.start_upstream()
        self.write("gateway.yaml", f"""
version: 1
workers: 1
listeners: [{{address: 127.0.0.1:{self.port}}}]
limits: {{connections_per_address: unlimited}}
issuers:
  corp: {{issuer: "{issuer.name}", jwks_uri: "{issuer.name}/jwks", audiences: ["{AUDIENCE}"], max_stale: 1h}}
upstreams: {{legacy: "http://127.0.0.1:{settings.UPSTREAM}"}}
routes:
  - {{name: data, path: /**, upstream: legacy, access: {{}}}}
audit: {{file: audit.jsonl}}
admin: {{address: "127.0.0.1:{self.admin}"}}
""")

    def start_gateway(self):
        return self.run(SERVER_CORE, [self.binary, "run"], self.port)

    def close(self):
        self.running = [process for process in self.running if process.poll() is None]
        self.stop_all()
        shutil.rmtree(self.folder, ignore_errors=True)

    def metric(self, name):
        """The sum over all series of this name with the issuer `corp`."""
        with socket.create_connection(("127.0.0.1", self.admin), 5) as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            page = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        found = re.findall(rf'^{name}{{issuer="corp"[^}}]*}} (\S+)$', page, re.M)
        return sum(map(float, found))

    def ready(self):
        """Waits until the gateway has the issuer's keys."""
        deadline = time.monotonic() + 20
        while status_of(self.port, self.issuer.keys[0].sign(self.issuer.name)) != 200:
            if time.monotonic() > deadline:
                sys.exit(f"the gateway does not take the issuer's tokens:\n{open(self.path('stderr')).read()[-2000:]}")
            time.sleep(0.05)

    def flood(self, rate, seconds, token=None):
        """Starts wrk. `flooded` returns the result. Key ids are made of random groups of three characters; with a `token`,
        it is sent instead. Pauses vary, so that connections don't come all at once."""
        connections = 64
        pause = max(0, round(connections * 1000 / rate) - 1)
        claims = encode(json.dumps({"iss": self.issuer.name, "sub": "flood", "aud": AUDIENCE, "exp": int(time.time()) + 86400}).encode())
        head = encode(b'{"alg":"ES256","typ":"JWT","kid":"x-')
        script = self.write("flood.lua", f"""
            local groups, letters = {{}}, "abcdefghijklmnopqrstuvwxyz"
            {BASE64_OF_THREE}
            function init() math.randomseed(os.time())
              for n = 1, 4096 do groups[n] = base64_of_three(math.random(97, 122), math.random(97, 122), math.random(97, 122)) end end
            function delay() return math.random(0, {2 * pause}) end
            local token = "{token or ''}"
            function request()
              if token ~= "" then
                return wrk.format("GET", "/data", {{["Host"] = "localhost", ["Authorization"] = "Bearer " .. token}})
              end
              local kid = {{}}
              for n = 1, 8 do kid[n] = groups[math.random(4096)] end
              return wrk.format("GET", "/data", {{["Host"] = "localhost", ["Authorization"] =
                "Bearer {head}" .. table.concat(kid) .. "{encode(b'"}')}.{claims}.{'A' * 86}"}})
            end""")
        command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", script, f"http://127.0.0.1:{self.port}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.running.append(process)
        return process

    def flooded(self, process):
        """Tokens a second, and how many were accepted: wrk counts other statuses than 2xx and 3xx separately."""
        text = process.communicate()[0]
        self.running.remove(process)
        requests, rate = int(re.search(r"(\d+) requests in", text).group(1)), float(re.search(r"Requests/sec:\s+(\S+)", text).group(1))
        refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
        return rate, requests - (int(refused.group(1)) if refused else 0)


BASE64_OF_THREE = """
            local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
            function base64_of_three(a, b, c)
              local n = a * 65536 + b * 256 + c
              local text = ""
              for shift = 3, 0, -1 do
                local at = math.floor(n / 64 ^ shift) % 64 + 1
                text = text .. alphabet:sub(at, at)
              end
              return text
            end"""


def status_of(port, token):
    """The status of one request on a connection of its own, or None if there was no answer."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(request(token))
            return int(connection.recv(65536).split()[1])
    except (OSError, IndexError, ValueError):
        return None


def request(token):
    return f"GET /data HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


async def paced(port, rate, seconds, draw, judge, connections=8):
    """Sends `rate` requests a second. `draw()` gives (token, context); `judge(context, status, sent, answered)` is called for each."""
    idle, tasks = asyncio.Queue(), set()
    for _ in range(connections):
        idle.put_nowait(None)

    async def one(connection, token, context):
        sent = time.monotonic()
        try:
            reader, writer = connection or await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(token))
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            length = int(re.search(rb"content-length: (\d+)", head, re.I).group(1))
            await asyncio.wait_for(reader.readexactly(length), 10)
            status, connection = int(head.split()[1]), (reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, AttributeError):
            status, connection = None, None
        judge(context, status, sent, time.monotonic())
        idle.put_nowait(connection)

    began, number = time.monotonic(), 0
    while (now := time.monotonic()) < began + seconds:
        due = began + number / rate
        if due > now:
            await asyncio.sleep(due - now)
        number += 1
        connection = await idle.get()
        task = asyncio.create_task(one(connection, *draw()))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    while not idle.empty():
        connection = idle.get_nowait()
        if connection:
            connection[1].close()


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def verdict(title, rows, remarks=()):
    """Prints rows of (name, target, measured, kept), and exits with 1 if a target is missed."""
    print(f"\n{title}")
    width = max(len(what) for what, *_ in rows)
    print(f"  {'':{width}}  {'target':>12}  {'measured':>12}")
    for what, target, measured, kept in rows:
        print(f"  {what:{width}}  {target:>12}  {measured:>12}  {'ok' if kept else 'MISSED'}")
    for remark in remarks:
        print(f"  {remark}")
    sys.exit(0 if all(kept for *_, kept in rows) else 1)
