"""For tests of HTTP/1.1: upstreams of five products that report what they received, a gateway, and a client that writes raw bytes.

Every upstream answers 200 with `X-Echo` (the `X-Case` that it received), `X-Raw` (the target that it received) and `X-Path` (its reading of
the target, in angle brackets), and logs a line per request. All are configured as leniently as they allow.
"""

import os
import re
import socket
import ssl
import subprocess
import sys
import time

from lib.testbed import SECRET, Testbed, progress, require

KINDS = ("nginx", "apache", "node", "python", "haproxy")
FIRST_PORT = 9130


class EchoTestbed(Testbed):
    """Upstreams, the gateway before them, and the logs of both."""

    def __init__(self, folder, binary):
        super().__init__(folder, os.path.abspath(binary))
        self.ports = {kind: FIRST_PORT + number for number, kind in enumerate(KINDS)}

    def launch(self, command, port, output, cwd=None):
        """Runs a program until `stop`. Its output goes to the file `output`."""
        with open(self.path("stderr"), "ab") as errors, open(output, "ab") as lines:
            process = subprocess.Popen(command, cwd=cwd or self.folder, stdout=lines, stderr=errors, start_new_session=True)
        self.running.append(process)
        for _ in range(400):
            try:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                return process
            except OSError:
                if process.poll() is not None:
                    break
                time.sleep(0.05)
        sys.exit(f"{command[0]} does not listen on {port}:\n{open(self.path('stderr')).read()[-2000:]}")

    def start_echoes(self):
        for kind in KINDS:
            self.launch(getattr(self, f"echo_{kind}")(self.ports[kind]), self.ports[kind], self.path(f"{kind}.log"))

    def echo_nginx(self, port):
        temporary = "".join(f"{name}_temp_path {self.folder}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        return ["nginx", "-e", "/dev/null", "-p", self.folder, "-c", self.write("echo-nginx.conf", f"""
            daemon off; worker_processes 1; pid {self.path('echo-nginx.pid')}; error_log /dev/null;
            events {{ worker_connections 4096; }}
            http {{ log_format case '$http_x_case $request_method $request_uri'; access_log /dev/stdout case; {temporary}
              keepalive_requests 1000000000; keepalive_timeout 3600s; client_max_body_size 0;
              large_client_header_buffers 8 128k; underscores_in_headers on; ignore_invalid_headers off;
              server {{ listen 127.0.0.1:{port} backlog=4096;
                add_header X-Echo $http_x_case always; add_header X-Raw $request_uri always; add_header X-Path "<$uri>" always;
                location / {{ return 200 "ok"; }} }} }}""")]

    def echo_apache(self, port):
        modules = "\n".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in ("mpm_event", "authz_core", "headers", "rewrite"))
        return ["apache2", "-DFOREGROUND", "-f", self.write("echo-apache.conf", f"""
            {modules}
            ServerRoot {self.folder}
            ServerName localhost
            PidFile {self.path('echo-apache.pid')}
            DefaultRuntimeDir {self.folder}
            Listen 127.0.0.1:{port}
            User www-data
            Group www-data
            ErrorLog /dev/null
            DocumentRoot {self.folder}
            HttpProtocolOptions Unsafe LenientMethods Allow0.9
            AllowEncodedSlashes On
            KeepAliveTimeout 3600
            MaxKeepAliveRequests 0
            LimitRequestLine 131072
            LimitRequestFieldSize 131072
            LimitRequestFields 1000
            LogFormat "%{{X-Case}}i %m %U" case
            CustomLog /dev/stdout case
            Header always set X-Echo "expr=%{{req:X-Case}}"
            Header always set X-Raw "expr=%{{THE_REQUEST}}"
            Header always set X-Path "expr=<%{{REQUEST_URI}}>"
            RewriteEngine On
            RewriteRule ^ - [R=200,L]
            """)]

    def echo_node(self, port):
        return ["node", self.write("echo.js", f"""
            const http = require('http'), path = require('path'), fs = require('fs');
            const bytes = text => Buffer.from(text, 'utf8').toString('latin1');
            const log = text => fs.writeSync(1, text + '\\n');
            const server = http.createServer({{ insecureHTTPParser: true, maxHeaderSize: 131072, requireHostHeader: false }}, (request, response) => {{
              let decoded = request.url.split('?')[0];
              try {{ decoded = decodeURIComponent(new URL(request.url, 'http://x').pathname); }} catch {{}}
              log(`${{request.headers['x-case'] || '-'}} ${{request.method}} ${{request.url}}`);
              request.on('error', () => {{}});
              request.on('data', () => {{}}).on('end', () => {{
                response.setHeader('X-Echo', request.headers['x-case'] || '');
                response.setHeader('X-Raw', request.url);
                response.setHeader('X-Path', `<${{bytes(path.posix.normalize(decoded))}}>`);
                response.end('ok');
              }});
            }});
            server.on('clientError', (error, socket) => {{ if (!['ECONNRESET', 'EPIPE', 'HPE_INVALID_EOF_STATE'].includes(error.code)) log('- malformed ' + error.code); socket.destroy(); }});
            server.keepAliveTimeout = 3600000; server.requestTimeout = 0; server.headersTimeout = 0;
            server.listen({port}, '127.0.0.1', 4096);""")]

    def echo_python(self, port):
        return [sys.executable, self.write("echo.py", f"""
import http.client, http.server, os, posixpath, urllib.parse

http.client._MAXHEADERS = 1000

class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True

    def answer(self):
        os.write(1, (" ".join((self.headers.get("X-Case", "-"), self.command, self.path)) + "\\n").encode())
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while size := int(self.rfile.readline().split(b";")[0], 16):
                self.rfile.read(size + 2)
            while self.rfile.readline() not in (b"\\r\\n", b"\\n", b""):
                pass
        else:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
        opinion = posixpath.normpath(urllib.parse.unquote(self.path.split("?")[0]))
        self.send_response(200)
        self.send_header("X-Echo", self.headers.get("X-Case", ""))
        self.send_header("X-Raw", self.path)
        self.send_header("X-Path", "<" + opinion.encode().decode("latin-1") + ">")
        self.send_header("Content-Length", "2")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"ok")

    def send_error(self, code, *rest):
        os.write(1, b"- malformed %d\\n" % code)
        self.close_connection = True

    def log_message(self, *rest):
        pass

for method in "GET HEAD POST PUT PATCH DELETE OPTIONS".split():
    setattr(Echo, "do_" + method, Echo.answer)
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
    def handle_error(self, *rest):
        pass
Server(("127.0.0.1", {port}), Echo).serve_forever()
""")]

    def echo_haproxy(self, port):
        return ["haproxy", "-db", "-f", self.write("echo-haproxy.cfg", f"""
global
  expose-experimental-directives
  tune.bufsize 262144
  tune.http.maxhdr 1000
  log stdout format raw local0
defaults
  mode http
  log global
  option accept-invalid-http-request
  option dontlognull
  timeout client 3600s
  timeout http-keep-alive 3600s
frontend f
  bind 127.0.0.1:{port} backlog 4096
  log-format "%[var(txn.case)] %HM %HU"
  http-request set-var(txn.case) req.hdr(x-case)
  http-request set-var(txn.raw) pathq
  http-request normalize-uri percent-decode-unreserved
  http-request normalize-uri path-strip-dot
  http-request normalize-uri path-merge-slashes
  http-request normalize-uri path-strip-dotdot full
  http-request return status 200 content-type text/plain string ok hdr X-Echo %[var(txn.case)] hdr X-Raw %[var(txn.raw)] hdr X-Path <%[path,url_dec]>
""")]

    def start_gateway(self, port, text, name="gateway"):
        """Starts the gateway with this configuration. The certificates, the issuer and the audit log are added here."""
        folder = self.path(name)
        os.makedirs(folder, exist_ok=True)
        self.audit, self.gateway_port = os.path.join(folder, "audit.jsonl"), port
        with open(os.path.join(folder, "gateway.yaml"), "w") as file:
            file.write(f"""
version: 1
listeners:
  - address: 127.0.0.1:{port}
    tls: {{certificates: [{{cert: {self.crt}, key: {self.key}}}]}}
allow_literal_secrets: true
oauth:
  issuer: https://localhost:{port}
  audiences: [https://api.example.com]
  signing_keys: {{algorithm: ES256, directory: {self.path('keys')}}}
  token_endpoint: {{rate_limits: [{{rate: 100000/s, per: address}}]}}
  clients:
    bench: {{secrets: [{{value: {SECRET}}}], scopes: [read:data]}}
audit: {{file: audit.jsonl}}
{text}""")
        self.log = os.path.join(folder, "log")
        return self.launch([self.binary, "run"], port, self.log, cwd=folder)

    def gateway_output(self):
        """All text that the gateway has written: its log, and its audit log."""
        return open(self.path("stderr"), errors="replace").read() + open(self.audit, errors="replace").read()

    def seen(self, kind):
        """The requests that an upstream has logged, as [case, method, target]."""
        lines = open(self.path(f"{kind}.log"), errors="replace").read().splitlines()
        return [(line.split(" ", 2) + ["", ""])[:3] for line in lines if line.strip()]


def require_tools(binary):
    require(binary, "nginx", "apache2", "node", "haproxy", "openssl")


def descriptors(process):
    return len(os.listdir(f"/proc/{process.pid}/fd"))


def resident(process):
    """The resident memory of a process in MiB."""
    if process.poll() is not None:
        return 0
    return next(int(line.split()[1]) for line in open(f"/proc/{process.pid}/status") if line.startswith("VmRSS")) // 1024


class Broken(Exception):
    """The other end has closed, or has sent bytes that are not an answer."""


class Connection:
    """One TLS connection to the gateway, over which the test writes raw bytes."""

    CONTEXT = ssl.create_default_context()
    CONTEXT.check_hostname, CONTEXT.verify_mode = False, ssl.CERT_NONE
    CONTEXT.set_alpn_protocols(["http/1.1"])

    def __init__(self, port, timeout=10):
        plain = socket.create_connection(("127.0.0.1", port), timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = self.CONTEXT.wrap_socket(plain, server_hostname="localhost")
        self.socket.settimeout(timeout)
        self.unread = b""

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            pass  # A closed connection is found by the next read.

    def answer(self, method="GET"):
        """(status, header fields in lower case, body), parsed strictly. Raises `Broken` if the answer is incomplete."""
        while True:
            head = self._until(b"\r\n\r\n")
            status, fields = parse_head(head)
            if status >= 200:
                break
        if method == "HEAD" or status in (204, 304):
            return status, fields, b""
        if fields.get("transfer-encoding") == "chunked":
            return status, fields, self._chunks()
        if "content-length" in fields:
            return status, fields, self._exactly(int(fields["content-length"]))
        raise Broken("an answer without an end")

    def ask(self, target, case, method="GET", host="a", more="", body=b""):
        self.send(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nX-Case: {case}\r\n{more}\r\n".encode("latin-1") + body)
        return self.answer(method)

    def close(self):
        try:
            self.socket.close()
        except OSError:
            pass

    def _chunks(self):
        body = b""
        while True:
            size = int(self._until(b"\r\n"), 16)
            chunk = self._exactly(size + 2)
            if not chunk.endswith(b"\r\n"):
                raise Broken("a chunk without an end")
            if not size:
                return body
            body += chunk[:-2]

    def _until(self, mark):
        while mark not in self.unread:
            self._more()
        found, self.unread = self.unread.split(mark, 1)
        return found

    def _exactly(self, size):
        while len(self.unread) < size:
            self._more()
        found, self.unread = self.unread[:size], self.unread[size:]
        return found

    def _more(self):
        try:
            data = self.socket.recv(65536)
        except OSError as error:
            raise Broken(str(error)) from error
        if not data:
            raise Broken("closed")
        self.unread += data


def parse_head(head):
    lines = head.decode("latin-1").split("\r\n")
    matched = re.fullmatch(r"HTTP/1\.[01] (\d{3})(?: .*)?", lines[0])
    if not matched:
        raise Broken(f"no answer: {lines[0][:80]!r}")
    fields = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        fields[name.lower()] = value.strip()
    return int(matched.group(1)), fields


def verdict(rows):
    """Prints (name, found, target, met), and exits with 1 if a target was missed."""
    progress("")
    print(f"{'':58}{'found':>10}{'target':>12}")
    for what, found, target, met in rows:
        print(f"{what:58}{found:>10}{target:>12}{'' if met else '   MISSED'}")
    sys.exit(0 if all(met for *_, met in rows) else 1)


def none(what, found):
    """A row for an event that must not happen."""
    return what, len(found) if not isinstance(found, int) else found, "0", not found


def at_least(what, found, target):
    return what, found, f">= {target}", found >= target
