"""For tests of the audit log: a gateway, and clients that keep the request ids of their answers."""

import base64
import http.client
import os
import ssl
import threading
import time

from lib.testbed import SECRET, UPSTREAM


def gateway_folder(testbed, name, port, audit):
    folder = testbed.path(name)
    os.makedirs(folder)
    with open(os.path.join(folder, "gateway.yaml"), "w") as file:
        file.write(f"""
version: 1
workers: 1
listeners:
  - address: 127.0.0.1:{port}
    tls: {{certificates: [{{cert: {testbed.crt}, key: {testbed.key}}}]}}
allow_literal_secrets: true
limits: {{connections_per_address: unlimited}}
shutdown: {{drain: 1s}}
oauth:
  issuer: https://localhost:{port}
  audiences: [https://api.example.com]
  signing_keys: {{algorithm: ES256}}
  token_endpoint: {{rate_limits: [{{rate: 1000000/s, per: address}}]}}
  clients:
    bench: {{secrets: [{{value: {SECRET}}}], scopes: [read:data]}}
upstreams: {{legacy: "http://127.0.0.1:{UPSTREAM}"}}
routes: [{{path: /**, name: data, upstream: legacy, access: {{scopes: [read:data]}}}}]
audit: {{{audit}}}
""")
    return folder


class TokenClient:
    """Asks for tokens and for the route in turn, on several threads."""

    def __init__(self, port, requests=True):
        self.port, self.requests = port, requests
        self.acknowledged, self.grants, self.refused = [], [], 0
        self.ends = threading.Event()
        self.lock = threading.Lock()
        self.context = ssl.create_default_context()
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self.basic = "Basic " + base64.b64encode(f"bench:{SECRET}".encode()).decode()

    def until_stopped(self):
        token = None
        while not self.ends.is_set():
            try:
                connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context, timeout=10)
                while not self.ends.is_set():
                    status, body = self.ask(connection, "POST", "/oauth/token", "grant_type=client_credentials", {
                        "Authorization": self.basic, "Content-Type": "application/x-www-form-urlencoded"})
                    if status == 200:
                        token = body
                    if token and self.requests:
                        self.ask(connection, "GET", "/data", None, {"Authorization": f"Bearer {token}"})
            except (OSError, http.client.HTTPException):
                # The gateway does not run, or it ended during an answer.
                self.ends.wait(0.01)

    def ask(self, connection, method, path, body, headers):
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        with self.lock:
            if answer.status == 200:
                self.acknowledged.append(answer.headers["X-Request-Id"])
                if method == "POST":
                    self.grants.append((time.monotonic(), answer.headers["X-Request-Id"]))
            elif answer.status == 503:
                self.refused += 1
        token = text.split('"access_token":"')[1].split('"')[0] if method == "POST" and answer.status == 200 else None
        return answer.status, token

    def next_grant_after(self, moment):
        """Seconds until a grant; at most 30."""
        while time.monotonic() < moment + 30:
            with self.lock:
                if self.grants and self.grants[-1][0] > moment:
                    return next(when for when, _ in self.grants if when > moment) - moment
            time.sleep(0.005)
        return 30.0

    def stop(self, threads):
        self.ends.set()
        for thread in threads:
            thread.join()
