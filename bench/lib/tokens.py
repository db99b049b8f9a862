"""Tokens by the hundred thousand, signed with the gateway's own keys or with those of a test issuer, and files of them for wrk."""

import base64
import glob
import http.server
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time

from lib.testbed import AUDIENCE, JWKS, OURS, VENV, grant

try:
    from cryptography.hazmat.primitives.asymmetric import ed25519, padding
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_private_key
except ImportError:
    # The interpreter that install.sh installs has it.
    interpreter = os.path.join(VENV, "bin/python")
    if os.path.exists(interpreter) and not sys.prefix == VENV:
        os.execv(interpreter, [interpreter, *sys.argv])
    sys.exit("no `cryptography`: run bench/install.sh")


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text):
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def prepare(testbed, rotating=2000):
    """Prepares a token of the gateway, further tokens like it, and the public key in the forms that the peers need.
    `testbed.sign(count)` makes more tokens."""
    process, port = testbed.portcullis()
    testbed.token = grant(port)
    testbed.stop(process)
    pem = own_key(testbed, "keys")
    header, claims, _ = testbed.token.split(".")
    testbed.sign = lambda count: signed(open(pem, "rb").read(), decode(header), decode(claims), [{}] * count)
    testbed.rotating = tokens_file(testbed, "rotating", [testbed.token, *testbed.sign(rotating - 1)])
    subprocess.run(["openssl", "pkey", "-in", pem, "-pubout", "-out", testbed.path("public.pem")], check=True, capture_output=True)
    subprocess.run(["openssl", "req", "-x509", "-new", "-key", pem, "-days", "30", "-subj", "/CN=bench", "-out", testbed.path("public.crt")], check=True, capture_output=True)
    numbers = load_pem_private_key(open(pem, "rb").read(), None).public_key().public_numbers()
    n, e = (encode(number.to_bytes((number.bit_length() + 7) // 8, "big")) for number in (numbers.n, numbers.e))
    testbed.jwk = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": decode(header)["kid"], "n": n, "e": e}
    os.chmod(testbed.path("public.pem"), 0o644)
    os.chmod(testbed.path("public.crt"), 0o644)


def own_key(testbed, directory):
    return glob.glob(testbed.path(f"{directory}/*.pem"))[0]


def signed(pem, header, claims, changes):
    """A token for each of `changes`, which replace claims. Each has a `jti` of its own, and all have the same length."""
    parts = max(1, min(len(changes) // 500, os.cpu_count()))
    work = [(pem, header, claims, changes[part::parts]) for part in range(parts)]
    if parts == 1:
        return _sign(work[0])
    with multiprocessing.Pool(parts) as pool:
        return [token for tokens in pool.map(_sign, work) for token in tokens]


def _sign(work):
    pem, header, claims, changes = work
    key = ed25519_key(pem) if header["alg"] == "EdDSA" else load_pem_private_key(pem, None)
    head, now = encode(json.dumps(header).encode()), int(time.time())
    claims = {**claims, "iat": now - 60, "nbf": now - 60, "exp": now + 86000}
    rs256 = (padding.PKCS1v15(), SHA256()) if header["alg"] == "RS256" else ()
    tokens = []
    for change in changes:
        text = f"{head}.{encode(json.dumps({**claims, 'jti': os.urandom(12).hex(), **change}).encode())}"
        tokens.append(f"{text}.{encode(key.sign(text.encode(), *rs256))}")
    return tokens


def ed25519_key(pem):
    """The key from PKCS #8 of either version. The library cannot read version 2, which includes the public key."""
    der = base64.b64decode(b"".join(pem.splitlines()[1:-1]))
    start = der.index(bytes([0x04, 0x22, 0x04, 0x20])) + 4
    return ed25519.Ed25519PrivateKey.from_private_bytes(der[start:start + 32])


def tokens_file(testbed, name, tokens):
    return testbed.write(name, "".join(f"{token}\n" for token in tokens))


def rotation(testbed, file, paths=("/data",)):
    """A script for wrk: all tokens of a file in turn, each on the next of the paths."""
    return testbed.write(f"rotate-{os.path.basename(file)}-{len(paths)}.lua", f"""
        local requests, next, paths = {{}}, 0, {{}}
        function init()
          for path in io.lines("{testbed.write(f'paths-{len(paths)}', ''.join(f'{path}{chr(10)}' for path in paths))}") do paths[#paths + 1] = path end
          local tokens = {{}}
          for token in io.lines("{file}") do tokens[#tokens + 1] = token end
          for n = 0, math.max(#tokens, #paths) - 1 do
            requests[#requests + 1] = wrk.format("GET", paths[n % #paths + 1], {{["Authorization"] = "Bearer " .. tokens[n % #tokens + 1], ["Host"] = "localhost"}})
          end
        end
        function request() next = next % #requests + 1; return requests[next] end""")


def once_each(testbed, file, hot=None):
    """A script for wrk: each token of a file once, from the line that is given as an argument. Then wrk stops. With `hot`, every
    second request has one of those tokens instead, in turn."""
    with open(file) as lines:
        width = len(lines.readline())
    return testbed.write(f"once-{os.path.basename(file)}{'-hot' if hot else ''}.lua", f"""
        local tokens, hot, turn = nil, {{}}, 0
        local before, after = "GET /data HTTP/1.1\\r\\nHost: localhost\\r\\nAuthorization: Bearer ", "\\r\\n\\r\\n"
        function init(arguments)
          tokens = io.open("{file}")
          tokens:seek("set", {width} * tonumber(arguments[1] or 0))
          {f'for token in io.lines("{hot}") do hot[#hot + 1] = token end' if hot else ''}
        end
        function request()
          turn = turn + 1
          if #hot > 0 and turn % 2 == 0 then return before .. hot[turn / 2 % #hot + 1] .. after end
          local token = tokens:read()
          if not token then
            wrk.thread:stop()
            tokens:seek("set", 0)
            token = tokens:read()
          end
          return before .. token .. after
        end""")


class Issuer:
    """An issuer of ours with one Ed25519 key, whose JWK Set it serves on loopback."""

    NAME = f"http://127.0.0.1:{JWKS}"
    YAML = f'issuers:\n  corp: {{issuer: "{NAME}", jwks_uri: "{NAME}/jwks", audiences: ["{AUDIENCE}"]}}'

    def __init__(self):
        self.key = ed25519.Ed25519PrivateKey.generate()
        public = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        body = json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "bench", "x": encode(public)}]}).encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            allow_reuse_address = True

        self.server = Server(("127.0.0.1", JWKS), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def sign(self, count):
        pem = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        header = {"alg": "EdDSA", "typ": "at+jwt", "kid": "bench"}
        claims = {"iss": self.NAME, "sub": "bench", "client_id": "bench", "aud": AUDIENCE, "scope": "read:data"}
        return signed(pem, header, claims, [{}] * count)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def of_clients(testbed, directory, clients):
    """A token of each client, signed with the gateway's Ed25519 key."""
    pem = open(own_key(testbed, directory), "rb").read()
    kid = os.path.basename(own_key(testbed, directory)).split(".")[1]
    claims = {"iss": f"https://localhost:{OURS}", "aud": AUDIENCE, "scope": "read:data"}
    return signed(pem, {"alg": "EdDSA", "typ": "at+jwt", "kid": kid}, claims, [{"sub": client, "client_id": client} for client in clients])
