"""Client assertions (`private_key_jwt`, RFC 7523), each good for one request, and scripts for wrk that send them."""

import http.server
import json
import os
import threading
import time

from lib.tokens import SHA256, encode as base64url

from cryptography.hazmat.primitives.asymmetric import ec, utils

ASSERTION_TYPE = "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"


def encode(part):
    return base64url(part if isinstance(part, bytes) else json.dumps(part).encode())


class ClientKey:
    """A key of P-256 of a client."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())

    def jwk(self):
        numbers = self.key.public_key().public_numbers()
        x, y = (encode(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        return {"kty": "EC", "crv": "P-256", "kid": "bench", "x": x, "y": y}

    def assertions(self, client, audience, count):
        for number in range(count):
            text = unsigned(client, audience, f"{time.time_ns()}-{number}")
            r, s = utils.decode_dss_signature(self.key.sign(text.encode(), ec.ECDSA(SHA256())))
            yield f"{text}.{encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def unsigned(client, audience, token_id):
    now = int(time.time())
    claims = {"iss": client, "sub": client, "aud": audience, "jti": token_id, "iat": now, "exp": now + 300}
    return f"{encode({'alg': 'ES256', 'typ': 'JWT', 'kid': 'bench'})}.{encode(claims)}"


def of_unknown_clients(audience, count):
    """Each is of another client. No key has signed them."""
    for number in range(count):
        yield f"{unsigned(f'nobody-{number}', audience, str(number))}.{encode(os.urandom(64))}"


def script(testbed, name, assertions, delay=0):
    """For wrk: each request has the next assertion. `delay` is the pause of a connection before each, in milliseconds."""
    lines = testbed.write(f"{name}.txt", "\n".join(assertions) + "\n")
    pace = f"function delay() return {delay} end" if delay else ""
    return testbed.write(f"{name}.lua", f"""
        local assertions, number = {{}}, 0
        for line in io.lines("{lines}") do assertions[#assertions + 1] = line end
        local headers = {{ ["Content-Type"] = "application/x-www-form-urlencoded" }}
        local start = "grant_type=client_credentials&client_assertion_type={ASSERTION_TYPE}&client_assertion="
        function request()
          number = number % #assertions + 1
          return wrk.format("POST", nil, headers, start .. assertions[number])
        end
        {pace} """)


class KeySetServer:
    """Serves the JWK Set of a client, and counts the requests for it."""

    def __init__(self, key):
        document, self.fetches = json.dumps({"keys": [key.jwk()]}).encode(), 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.fetches += 1
                self.send_response(200)
                self.send_header("Content-Length", str(len(document)))
                self.end_headers()
                self.wfile.write(document)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
