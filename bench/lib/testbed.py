"""Shared by all scripts: certificates, tokens, a static upstream, servers that start and stop, and their CPU time and memory."""

import base64
import contextlib
import glob
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request

# Scripts of tests/adversarial/ reach this folder through a symbolic link.
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
# The build that is shipped: `cargo build --profile dist`.
PORTCULLIS = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "dist", "portcullis")
# Installed by `install.sh`: Envoy, and an interpreter that can sign.
VENV = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "portcullis-bench", "venv")
SERVER_CORE, LOAD_CORE = "0", "1"
BASE = int(os.environ.get("BENCH_PORTS", 9100))
UPSTREAM, NGINX, HAPROXY, HAPROXY_JWT, OURS, OURS_BARE, RELAY, ENVOY, CADDY, APACHE, JWKS = range(BASE, BASE + 11)
SECRET = "bench-secret-bench-secret"
AUDIENCE = "https://api.example.com"
BODY = "x" * 300
# Tools whose Debian package has another name.
PACKAGES = {"nginx": "nginx-light", "h2load": "nghttp2-client", "taskset": "util-linux", "prlimit": "util-linux", "node": "nodejs"}


def require(binary, *tools):
    """Ends the program if one of these tools, or the gateway itself, is missing."""
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        packages = sorted({PACKAGES.get(tool, tool) for tool in missing})
        sys.exit(f"missing: {' '.join(missing)}; run bench/install.sh, or apt-get install {' '.join(packages)}")
    if not os.path.exists(binary):
        sys.exit(f"{binary} does not exist: run cargo build --profile dist, or give --binary PATH")


class Testbed:
    """Certificates, tokens, the upstream, and servers that start and stop."""

    def __init__(self, folder, binary):
        self.folder, self.binary, self.running = folder, os.path.abspath(binary), []
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

    def run(self, core, command, port, cwd=None, environment=None):
        process = subprocess.Popen(["taskset", "-c", core, *command], cwd=cwd or self.folder, stdout=subprocess.DEVNULL, env=environment,
                                   stderr=open(self.path("stderr"), "ab"), start_new_session=True)
        self.running.append(process)
        for _ in range(1200):
            try:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                return process
            except OSError:
                if process.poll() is not None:
                    sys.exit(f"{command[0]} ended at once:\n{open(self.path('stderr')).read()[-2000:]}")
                time.sleep(0.05)
        sys.exit(f"{command[0]} does not listen on {port}")

    def stop(self, process):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.running.remove(process)

    def stop_all(self):
        for process in list(self.running):
            self.stop(process)

    def start_upstream(self):
        """Answers 300 bytes to everything, `/big` with 1 MiB; `/sink` reads all of a body before it does."""
        with open(self.path("big"), "wb") as file:
            file.write(b"x" * (1 << 20))
        os.chmod(self.path("big"), 0o644)
        config = self.write("upstream.conf", f"""
            daemon off; worker_processes 1; pid {self.path('upstream.pid')}; error_log /dev/null;
            events {{ worker_connections 16384; }}
            http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s; sendfile on; client_max_body_size 0;
              {self.temporary_paths()}
              server {{ listen 127.0.0.1:{UPSTREAM} backlog=4096; default_type application/json;
                location / {{ return 200 "{BODY}"; }}
                location = /big {{ root {self.folder}; open_file_cache max=10; }}
                location = /sink {{ client_body_buffer_size 2m; proxy_pass http://127.0.0.1:{UPSTREAM}/data; proxy_http_version 1.1;
                  proxy_pass_request_body off; proxy_method GET; proxy_set_header Content-Length ""; proxy_set_header Connection ""; }} }} }}""")
        self.run(LOAD_CORE, ["nginx", "-e", "/dev/null", "-c", config, "-p", self.folder], UPSTREAM)

    def temporary_paths(self):
        return "".join(f"{name}_temp_path {self.folder}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))

    def portcullis(self, policy="full", extra="", port=None, folder=None, **more):
        """`full`: authentication, a scope rule, a rate limit and the audit log. Otherwise only the audit log, which is always on."""
        port = port or (OURS if policy == "full" else OURS_BARE)
        folder = folder or self.path(f"ours-{policy}")
        access = "{scopes: [read:data]}" if policy == "full" else "public"
        limit = "rate_limits: [{rate: 1000000/s, per: client}]" if policy == "full" else ""
        routes = f"""
  - name: data
    path: /**
    upstream: legacy
    access: {access}
    {limit}
{extra}"""
        return self.gateway(port, folder, routes, **more)

    def authorization_server(self, port, algorithm, clients=""):
        """A gateway that grants tokens without a limit, signed with this algorithm, and has no upstream."""
        folder = self.path(f"issuer-{port}")
        os.makedirs(folder)
        with open(os.path.join(folder, "gateway.yaml"), "w") as file:
            file.write(f"""
version: 1
workers: 1
listeners:
  - address: 127.0.0.1:{port}
    tls: {{certificates: [{{cert: {self.crt}, key: {self.key}}}]}}
allow_literal_secrets: true
oauth:
  issuer: https://localhost:{port}
  audiences: [https://api.example.com]
  signing_keys: {{algorithm: {algorithm}}}
  token_endpoint: {{rate_limits: [{{rate: 1000000/s, per: address}}]}}
  clients:
    bench: {{secrets: [{{value: {SECRET}}}], scopes: [read:data]}}
{clients}
upstreams: {{none: "http://127.0.0.1:1"}}
routes: [{{path: /**, upstream: none, access: {{}}}}]
""")
        return self.run(SERVER_CORE, [self.binary, "run"], port, cwd=folder)

    def gateway(self, port, folder, routes, clients="", issuers="", algorithm="RS256", keys="keys", workers=1, cores=SERVER_CORE, client_ca=None):
        client_auth = f", client_auth: {{mode: optional, ca: {client_ca}}}" if client_ca else ""
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "gateway.yaml"), "w") as file:
            file.write(f"""
version: 1
workers: {workers}
listeners:
  - address: 127.0.0.1:{port}
    tls: {{certificates: [{{cert: {self.crt}, key: {self.key}}}]{client_auth}}}
limits: {{connections_per_address: unlimited}}
allow_literal_secrets: true
oauth:
  issuer: https://localhost:{OURS}
  audiences: [{AUDIENCE}]
  token_ttl: 24h
  signing_keys: {{algorithm: {algorithm}, directory: {self.path(keys)}}}
  token_endpoint: {{rate_limits: [{{rate: 100000/s, per: address}}]}}
  clients:
    bench: {{secrets: [{{value: {SECRET}}}], scopes: [read:data]}}
{clients}
{issuers}
upstreams: {{legacy: "http://127.0.0.1:{UPSTREAM}"}}
routes:{routes}
audit: {{file: audit.jsonl}}
""")
        return self.run(cores, [self.binary, "run"], port, cwd=folder), port


def grant(port):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    request = urllib.request.Request(f"https://127.0.0.1:{port}/oauth/token", b"grant_type=client_credentials", {
        "Authorization": "Basic " + base64.b64encode(f"bench:{SECRET}".encode()).decode(),
        "Content-Type": "application/x-www-form-urlencoded", "Host": "localhost"})
    return json.load(urllib.request.urlopen(request, context=context))["access_token"]


def run_time(process):
    """The run time, in seconds, of all threads of a process and its children."""
    total = 0
    for pid in family(process.pid):
        for stat in glob.glob(f"/proc/{pid}/task/*/schedstat"):
            try:
                total += int(open(stat).read().split()[0])
            except OSError:
                pass
    return total / 1e9


def resident(process):
    """The resident memory of a process and its children in KiB."""
    total = 0
    for pid in family(process.pid):
        try:
            total += next(int(line.split()[1]) for line in open(f"/proc/{pid}/status") if line.startswith("VmRSS"))
        except (OSError, StopIteration):
            pass
    return total


def family(pid):
    pids = [pid]
    for children in glob.glob(f"/proc/{pid}/task/*/children"):
        try:
            pids += [child for each in open(children).read().split() for child in family(int(each))]
        except OSError:
            pass
    return pids


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)
