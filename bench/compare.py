#!/usr/bin/env python3
"""CPU per request, side by side with nginx and HAProxy, in one run.

Each server runs alone on core 0 with one worker; the load (wrk, h2load) and a static nginx upstream run on core 1. Every
round runs every server once, in changing order, and nginx twice: where nginx disagrees with itself by more than 5 %, the
machine was too noisy and the figures say so. The figure of merit is run time of all threads of a server, from the kernel's
schedstat, divided by the requests that it answered with 2xx. A single other answer voids the round.

    bench/compare.py                      all scenarios, 5 rounds of 4 s
    bench/compare.py --rounds 7 one-token many-tokens

Needs nginx, haproxy, wrk, h2load (Debian: nginx-light haproxy wrk nghttp2-client), openssl, taskset, and a release build.
"""

import argparse
import base64
import glob
import json
import os
import re
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PORTCULLIS = os.path.join(ROOT, "target/release/portcullis")
SERVER_CORE, LOAD_CORE = "0", "1"
BASE = int(os.environ.get("BENCH_PORTS", 9100))
UPSTREAM, NGINX, HAPROXY, HAPROXY_JWT, OURS = range(BASE, BASE + 5)
OURS_BARE = BASE + 5
SECRET = "bench-secret-bench-secret"
BODY = "x" * 300


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", help=f"of: {', '.join(SCENARIOS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--json", help="also write the figures here")
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require(options.binary)
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    world = World(folder, options.binary)
    results = {}
    try:
        world.start_upstream()
        world.prepare()
        for name in options.scenarios or SCENARIOS:
            results[name] = SCENARIOS[name](world, options)
            report(name, results[name])
    finally:
        world.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({name: {server: [round(x, 2) for x in costs] for server, costs in result.items()} for name, result in results.items()}, file, indent=1)


def require(binary):
    missing = [tool for tool in ("nginx", "haproxy", "wrk", "h2load", "openssl", "taskset") if not shutil.which(tool)]
    if missing:
        sys.exit(f"missing: {' '.join(missing)} (Debian: apt-get install nginx-light haproxy wrk nghttp2-client openssl util-linux)")
    if not os.path.exists(binary):
        sys.exit("no release build: cargo build --release")


class World:
    """Certificates, tokens, the upstream, and servers that start and stop."""

    def __init__(self, folder, binary):
        self.folder, self.binary, self.running = folder, binary, []
        self.crt, self.key, self.pem = (self.path(name) for name in ("tls.crt", "tls.key", "tls.pem"))
        openssl = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                   "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", self.key, "-out", self.crt]
        subprocess.run(openssl, check=True, capture_output=True)
        os.chmod(self.key, 0o600)
        with open(self.pem, "w") as file:
            file.write(open(self.crt).read() + open(self.key).read())
        os.chmod(folder, 0o755)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)
        return self.path(name)

    def run(self, core, command, port, cwd=None):
        process = subprocess.Popen(["taskset", "-c", core, *command], cwd=cwd or self.folder, stdout=subprocess.DEVNULL,
                                   stderr=open(self.path("stderr"), "ab"), start_new_session=True)
        self.running.append(process)
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                return process
            except OSError:
                if process.poll() is not None:
                    sys.exit(f"{command[0]} ended at once:\n{open(self.path('stderr')).read()[-2000:]}")
                time.sleep(0.05)
        sys.exit(f"{command[0]} does not listen on {port}")

    def stop(self, process):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.running.remove(process)

    def stop_all(self):
        for process in list(self.running):
            self.stop(process)

    def start_upstream(self):
        config = self.write("upstream.conf", f"""
            daemon off; worker_processes 1; pid {self.path('upstream.pid')}; error_log /dev/null;
            events {{ worker_connections 4096; }}
            http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s;
              client_body_temp_path {self.folder}; proxy_temp_path {self.folder}; fastcgi_temp_path {self.folder};
              uwsgi_temp_path {self.folder}; scgi_temp_path {self.folder};
              server {{ listen 127.0.0.1:{UPSTREAM} backlog=4096; location / {{ default_type application/json; return 200 "{BODY}"; }} }} }}""")
        self.run(LOAD_CORE, ["nginx", "-e", "/dev/null", "-c", config, "-p", self.folder], UPSTREAM)

    def nginx(self):
        config = self.write("nginx.conf", f"""
            daemon off; worker_processes 1; pid {self.path('nginx.pid')}; error_log /dev/null;
            events {{ worker_connections 8192; }}
            http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s;
              client_body_temp_path {self.folder}; proxy_temp_path {self.folder}; fastcgi_temp_path {self.folder};
              uwsgi_temp_path {self.folder}; scgi_temp_path {self.folder};
              upstream legacy {{ server 127.0.0.1:{UPSTREAM}; keepalive 256; keepalive_requests 1000000000; }}
              server {{ listen 127.0.0.1:{NGINX} ssl http2 backlog=4096; ssl_certificate {self.crt}; ssl_certificate_key {self.key};
                ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:s:10m;
                location / {{ proxy_pass http://legacy; proxy_http_version 1.1; proxy_set_header Connection ""; }} }} }}""")
        return self.run(SERVER_CORE, ["nginx", "-e", "/dev/null", "-c", config, "-p", self.folder], NGINX), NGINX

    def haproxy(self, jwt):
        port = HAPROXY_JWT if jwt else HAPROXY
        checks = f"""
  http-request set-var(txn.bearer) http_auth_bearer
  http-request set-var(txn.iss) var(txn.bearer),jwt_payload_query('$.iss')
  http-request set-var(txn.aud) var(txn.bearer),jwt_payload_query('$.aud')
  http-request set-var(txn.exp) var(txn.bearer),jwt_payload_query('$.exp','int')
  http-request set-var(txn.scope) var(txn.bearer),jwt_payload_query('$.scope')
  http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_header_query('$.alg') -m str RS256 }}
  http-request deny deny_status 401 unless {{ var(txn.iss) -m str https://localhost:{OURS} }}
  http-request deny deny_status 401 unless {{ var(txn.aud) -m str https://api.example.com }}
  http-request deny deny_status 401 unless {{ date,neg,add(txn.exp) -m int gt 0 }}
  http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_verify("RS256","{self.path('public.pem')}") -m int 1 }}
  http-request deny deny_status 403 unless {{ var(txn.scope) -m sub read:data }}""" if jwt else ""
        config = self.write(f"haproxy-{port}.cfg", f"""
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
  http-reuse always
frontend f
  bind 127.0.0.1:{port} ssl crt {self.pem} alpn h2,http/1.1{checks}
  default_backend b
backend b
  server s 127.0.0.1:{UPSTREAM} pool-max-conn 256
""")
        return self.run(SERVER_CORE, ["haproxy", "-db", "-f", config], port), port

    def portcullis(self, policy="full", extra="", port=None, folder=None):
        port = port or (OURS if policy == "full" else OURS_BARE)
        folder = folder or self.path(f"ours-{policy}")
        os.makedirs(folder, exist_ok=True)
        access = "{scopes: [read:data]}" if policy == "full" else "public"
        limit = "rate_limits: [{rate: 1000000/s, per: client}]" if policy == "full" else ""
        with open(os.path.join(folder, "gateway.yaml"), "w") as file:
            file.write(f"""
version: 1
workers: 1
listeners:
  - address: 127.0.0.1:{port}
    tls: {{certificates: [{{cert: {self.crt}, key: {self.key}}}]}}
limits: {{connections_per_address: unlimited}}
allow_literal_secrets: true
oauth:
  issuer: https://localhost:{OURS}
  audiences: [https://api.example.com]
  signing_keys: {{directory: {self.path('keys')}}}
  token_endpoint: {{rate_limits: [{{rate: 100000/s, per: address}}]}}
  clients:
    bench: {{secrets: [{{value: {SECRET}}}], scopes: [read:data]}}
upstreams: {{legacy: "http://127.0.0.1:{UPSTREAM}"}}
routes:
  - name: data
    path: /**
    upstream: legacy
    access: {access}
    {limit}
{extra}
audit: {{file: audit.jsonl}}
""")
        return self.run(SERVER_CORE, [self.binary, "run"], port, cwd=folder), port

    def prepare(self):
        """Tokens of ours, and the public key that others verify them with."""
        process, port = self.portcullis()
        self.tokens = [grant(port) for _ in range(2000)]
        self.stop(process)
        pem = glob.glob(self.path("keys/RS256.*.pem"))[0]
        subprocess.run(["openssl", "pkey", "-in", pem, "-pubout", "-out", self.path("public.pem")], check=True, capture_output=True)
        self.rotation = self.write("rotate.lua", f"""
            local requests, next = {{}}, 0
            function init()
              for token in io.lines("{self.write('tokens', chr(10).join(self.tokens))}") do
                requests[#requests + 1] = wrk.format("GET", "/data", {{["Authorization"] = "Bearer " .. token, ["Host"] = "localhost"}})
              end
            end
            function request() next = next % #requests + 1; return requests[next] end""")


def grant(port):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    request = urllib.request.Request(f"https://127.0.0.1:{port}/oauth/token", b"grant_type=client_credentials", {
        "Authorization": "Basic " + base64.b64encode(f"bench:{SECRET}".encode()).decode(),
        "Content-Type": "application/x-www-form-urlencoded", "Host": "localhost"})
    return json.load(urllib.request.urlopen(request, context=context))["access_token"]


def run_time(process):
    """Seconds that all threads of a process and its children have run."""
    total = 0
    for pid in family(process.pid):
        for stat in glob.glob(f"/proc/{pid}/task/*/schedstat"):
            try:
                total += int(open(stat).read().split()[0])
            except OSError:
                pass
    return total / 1e9


def family(pid):
    pids = [pid]
    for children in glob.glob(f"/proc/{pid}/task/*/children"):
        pids += [child for each in open(children).read().split() for child in family(int(each))]
    return pids


def wrk(port, seconds, connections=64, token=None, script=None, path="/data"):
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
    command += ["-H", f"Authorization: Bearer {token}"] if token else []
    command += ["-s", script] if script else []
    text = subprocess.run([*command, f"https://localhost:{port}{path}"], check=True, capture_output=True, text=True).stdout
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)", text)
    if bad:
        sys.exit(f"answers other than 2xx:\n{text}")
    return int(re.search(r"(\d+) requests in", text).group(1))


def h2load(port, seconds, token=None):
    command = ["taskset", "-c", LOAD_CORE, "h2load", "-t1", "-c16", "-m8", f"-D{seconds}", "--warm-up-time=0"]
    command += ["-H", f"authorization: Bearer {token}"] if token else []
    text = subprocess.run([*command, f"https://localhost:{port}/data"], check=True, capture_output=True, text=True).stdout
    done = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
    if not done or any(int(done.group(n)) for n in (2, 3, 4)):
        sys.exit(f"answers other than 2xx:\n{text}")
    return int(done.group(1))


def rounds(world, options, servers, load):
    """CPU microseconds per request of each server, round by round."""
    costs = {name: [] for name in servers}
    for number in range(options.rounds):
        order = list(servers)
        order = order[number % len(order):] + order[:number % len(order)]
        for name in order:
            process, port = servers[name]()
            load(name, port, 1)
            before = run_time(process)
            requests = load(name, port, options.seconds)
            costs[name].append((run_time(process) - before) / requests * 1e6)
            world.stop(process)
            progress(f"round {number + 1}/{options.rounds}  {name}: {costs[name][-1]:.1f} us")
    progress("")
    return costs


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


def one_token(world, options):
    servers = {"nginx": world.nginx, "portcullis": world.portcullis, "portcullis, all off": lambda: world.portcullis("bare"),
               "haproxy": lambda: world.haproxy(False), "haproxy jwt_verify": lambda: world.haproxy(True), "nginx again": world.nginx}
    return rounds(world, options, servers, lambda name, port, seconds: wrk(port, seconds, token=world.tokens[0]))


def many_tokens(world, options):
    servers = {"nginx": world.nginx, "portcullis": world.portcullis, "haproxy jwt_verify": lambda: world.haproxy(True), "nginx again": world.nginx}
    return rounds(world, options, servers, lambda name, port, seconds: wrk(port, seconds, script=world.rotation))


def http2(world, options):
    servers = {"nginx": world.nginx, "portcullis": world.portcullis, "haproxy": lambda: world.haproxy(False), "nginx again": world.nginx}
    return rounds(world, options, servers, lambda name, port, seconds: h2load(port, seconds, world.tokens[0]))


SCENARIOS = {"one-token": one_token, "many-tokens": many_tokens, "http2": http2}


def report(name, costs):
    print(f"\n{name}: CPU per request, median of {len(next(iter(costs.values())))} rounds")
    print(f"  {'server':24} {'us':>7}  {'x nginx':>8}  {'min':>6} {'max':>6}")
    for server, values in costs.items():
        ratios = [value / base for value, base in zip(values, costs["nginx"])]
        print(f"  {server:24} {statistics.median(values):7.1f}  {statistics.median(ratios):8.2f}  {min(ratios):6.2f} {max(ratios):6.2f}")
    if "haproxy jwt_verify" in costs:
        ratios = [ours / theirs for ours, theirs in zip(costs["portcullis"], costs["haproxy jwt_verify"])]
        print(f"  portcullis / haproxy jwt_verify: {statistics.median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f})")
    control = statistics.median([again / first for again, first in zip(costs["nginx again"], costs["nginx"])])
    print(f"  control, nginx / itself: {control:.3f}{'' if abs(control - 1) <= 0.05 else '  TOO NOISY: measure again'}")


if __name__ == "__main__":
    main()
