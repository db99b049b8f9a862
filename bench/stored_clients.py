#!/usr/bin/env python3
"""Clients in a file of SQLite: memory and grants with many rows.

Fills a new file with rows of one secret, starts a gateway, and gets a token for each of many clients once, then many
tokens for few clients. Prints the resident memory at each step, and the grants per second of both phases, over a plain
connection of the loopback address.
"""

import argparse
import base64
import concurrent.futures
import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time

from lib.testbed import PORTCULLIS, require

SECRET = "gw_" + base64.urlsafe_b64encode(bytes(32)).decode().rstrip("=")
PORT = 28443
CONFIG = """version: 1
workers: 1
listeners: [{{address: 127.0.0.1:{port}}}]
oauth:
  issuer: https://localhost:{port}
  audiences: [https://api.example.com]
  signing_keys: {{algorithm: EdDSA}}
  clients_in: {place}
  token_endpoint: {{rate_limits: []}}
  clients:
{clients}
upstreams: {{x: "http://127.0.0.1:1"}}
routes: [{{path: /x, upstream: x, access: {{}}}}]
audit: {{file: audit.jsonl}}
"""


def entry():
    digest = base64.urlsafe_b64encode(hashlib.sha256(SECRET.encode()).digest()).decode().rstrip("=")
    return json.dumps({"secrets": [{"hash": "sha256:" + digest}], "scopes": ["a", "b", "c"], "token_ttl": "10m"})


def fill(file, rows):
    database = sqlite3.connect(file)
    database.execute("PRAGMA synchronous = OFF")
    text, now = entry(), int(time.time())
    values = ((f"client-{number:08}", text, now) for number in range(rows))
    database.executemany("INSERT INTO clients (id, entry, changed_at) VALUES (?, ?, ?)", values)
    database.commit()
    database.close()


def resident(process):
    with open(f"/proc/{process.pid}/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS:"))


def grant(connection, client):
    credentials = base64.b64encode(f"{client}:{SECRET}".encode()).decode()
    headers = {"Authorization": "Basic " + credentials, "Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/oauth/token", "grant_type=client_credentials", headers)
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200, (client, answer.status)


def grants(clients):
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    for client in clients:
        grant(connection, client)


def phase(name, process, clients):
    parts = [clients[part::4] for part in range(4)]
    begun, cpu = time.time(), cpu_of(process)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(grants, parts))
    took, cpu = time.time() - begun, cpu_of(process) - cpu
    each = cpu / len(clients) * 1e6
    print(f"{name}: {len(clients)} grants, {len(clients) / took:.0f}/s, {each:.0f} us of CPU each, {resident(process):.1f} MiB")


def cpu_of(process):
    with open(f"/proc/{process.pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start(binary, folder):
    process = subprocess.Popen([binary, "run"], cwd=folder, stderr=open(os.path.join(folder, "log"), "w"))
    for _ in range(600):
        try:
            http.client.HTTPConnection("127.0.0.1", PORT).connect()
            return process
        except OSError:
            time.sleep(0.05)
    raise SystemExit(open(os.path.join(folder, "log")).read())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=PORTCULLIS)
    parser.add_argument("--rows", type=int, default=1_000_000, help="clients in the file")
    parser.add_argument("--used", type=int, default=50_000, help="clients that get a token, each once")
    arguments = parser.parse_args()
    require(arguments.binary)
    binary = os.path.abspath(arguments.binary)
    folder = tempfile.mkdtemp(prefix="portcullis-clients-")
    try:
        of_file = "\n".join(f"    app-{number}: {entry()}" for number in range(100))
        with open(os.path.join(folder, "gateway.yaml"), "w") as config:
            config.write(CONFIG.format(port=PORT, place="sqlite", clients=of_file))
        process = start(binary, folder)
        print(f"no rows: {resident(process):.1f} MiB")
        process.send_signal(signal.SIGTERM)
        process.wait()
        begun = time.time()
        file = os.path.join(folder, "state", "clients.db")
        fill(file, arguments.rows)
        print(f"{arguments.rows} rows: {os.path.getsize(file) / 2**20:.0f} MiB, made in {time.time() - begun:.0f} s")
        process = start(binary, folder)
        print(f"started: {resident(process):.1f} MiB")
        used = random.sample(range(arguments.rows), arguments.used)
        phase("each client once", process, [f"client-{number:08}" for number in used])
        few = [f"client-{number:08}" for number in used[:100]]
        phase("100 clients again", process, few)
        phase("100 held clients", process, few * (arguments.used // 100))
        phase("100 clients of the file", process, [f"app-{number}" for number in range(100)] * (arguments.used // 100))
        process.send_signal(signal.SIGTERM)
        process.wait()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
