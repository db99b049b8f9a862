#!/usr/bin/env python3
"""Go's x/oauth2 gets tokens of each signing algorithm, and go-oidc verifies them, from the metadata alone.

    tests/adversarial/go_clients.py

Needs Go and the two libraries as Debian has them: golang-go, golang-github-coreos-go-oidc-dev and
golang-golang-x-oauth2-dev. That is 90 MB to download and 450 MB on the disk, which is why `cargo test` does not run it.
With --root DIR the packages are taken from a folder into which they were unpacked by `dpkg -x`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BINARY = os.path.join(HERE, "../../target/dist/portcullis")
SECRET = "correct-horse-battery-staple"
FIRST_PORT = 9121
# The algorithms, and a path of the issuer for each.
CASES = [("RS256", ""), ("PS256", "/auth/v1"), ("ES256", "/auth/"), ("ES384", ""), ("EdDSA", "/auth")]

CONFIG = """
version: 1
workers: 1
listeners:
  - address: 127.0.0.1:{port}
    tls: {{certificates: [{{cert: {folder}/localhost.crt, key: {folder}/localhost.key, self_signed: true}}]}}
allow_literal_secrets: true
state_directory: {folder}/{algorithm}
oauth:
  issuer: https://localhost:{port}{path}
  audiences: [https://api.example.com]
  signing_keys: {{algorithm: {algorithm}}}
  clients: {{app: {{secrets: [{{value: {secret}}}], scopes: [read:data]}}}}
audit: {{file: "-"}}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=BINARY)
    parser.add_argument("--root", default="/", help="where Debian's packages are unpacked")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="portcullis-go-")
    gateways, cases = [], []
    try:
        program = build(options.root, folder)
        for number, (algorithm, path) in enumerate(CASES):
            port = FIRST_PORT + number
            gateways.append(start(options.binary, folder, port, algorithm, path))
            cases.append({"algorithm": algorithm, "issuer": f"https://localhost:{port}{path}"})
        surroundings = {"CASES": json.dumps(cases), "CLIENT_ID": "app", "CLIENT_SECRET": SECRET}
        surroundings["CA"] = f"{folder}/localhost.crt"
        found = json.loads(subprocess.run([program], env=surroundings, check=True, stdout=subprocess.PIPE).stdout)
    finally:
        for gateway in gateways:
            gateway.terminate()
            gateway.wait()
        shutil.rmtree(folder)
    for algorithm, outcome in found.items():
        print(f"{algorithm:<6} {'verified' if outcome == 'app' else outcome} (target: verified)")
    sys.exit(any(outcome != "app" for outcome in found.values()))


def build(root, folder):
    go = shutil.which("go") or os.path.join(root, "usr/lib/go-1.19/bin/go")
    if not os.path.exists(go):
        sys.exit("go is missing; --help names Debian's packages")
    libraries = os.path.join(root, "usr/share/gocode")
    surroundings = {**os.environ, "GO111MODULE": "off", "GOPATH": libraries, "GOFLAGS": "", "CGO_ENABLED": "0"}
    surroundings["GOCACHE"] = f"{folder}/cache"
    if root != "/":
        surroundings["GOROOT"] = os.path.join(root, "usr/lib/go-1.19")
    program = f"{folder}/go_clients"
    subprocess.run([go, "build", "-o", program, os.path.join(HERE, "go_clients/main.go")], env=surroundings, check=True)
    return program


def start(binary, folder, port, algorithm, path):
    config = f"{folder}/{algorithm}.yaml"
    with open(config, "w", encoding="utf-8") as file:
        file.write(CONFIG.format(port=port, folder=folder, algorithm=algorithm, path=path, secret=SECRET))
    gateway = subprocess.Popen(
        [binary, "run", "--config", config], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 20
    for line in gateway.stderr:
        if '"serving"' in line:
            return gateway
        if time.monotonic() > deadline:
            break
    sys.exit(f"the gateway of {algorithm} does not start: {config}")


if __name__ == "__main__":
    main()
