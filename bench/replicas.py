#!/usr/bin/env python3
"""Four replicas that share a real Redis and a real PostgreSQL: what they keep to together, also when a store is lost.

Prints each figure beside its target. Ends with 1 if a hard rule is broken: a limit that was exceeded, a revoked token that was
accepted, a 5xx for a bearer token, a good token that was refused."""

import argparse
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

from lib.testbed import BASE, PORTCULLIS, require

REPLICAS = 4
FIRST = BASE + 40
REDIS, POSTGRES, HAPROXY, RELAY = range(BASE + 60, BASE + 64)
SECRET = "bench-secret-bench-secret"
HEARTBEAT = 3
# Requests a second while a store is lost: twice the limit.
RATE_OF_LOSSES = 2000


class Relay:
    """Between one replica and Redis: can be cut, and can delay answers."""

    def __init__(self, port, to):
        self.to, self.cut, self.delay, self.open = to, False, 0, set()
        self.listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                near.close()
                continue
            for one, other, delays in ((near, far, False), (far, near, True)):
                threading.Thread(target=self.copy, args=(one, other, delays), daemon=True).start()

    def copy(self, one, other, delays):
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                if delays and self.delay:
                    time.sleep(self.delay)
                while self.cut:
                    time.sleep(0.05)
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class World:
    def __init__(self, folder, binary):
        self.folder, self.binary, self.processes, self.failed = folder, os.path.abspath(binary), {}, False
        os.chmod(folder, 0o755)

    def path(self, name):
        return os.path.join(self.folder, name)

    def spawn(self, name, command, port, **more):
        log = open(self.path(f"{name.replace('/', '-')}.log"), "ab")
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **more)
        self.processes[name] = process
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                return process
            except OSError:
                if process.poll() is not None:
                    sys.exit(f"{name} ended at once:\n{open(log.name).read()[-2000:]}")
                time.sleep(0.05)
        sys.exit(f"{name} does not listen on {port}")

    def kill(self, name, number=signal.SIGKILL):
        process = self.processes.pop(name, None)
        if process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            process.wait()

    def stop_all(self):
        for name in list(self.processes):
            self.kill(name)

    def redis(self):
        os.makedirs(self.path("redis"), exist_ok=True)
        self.spawn("redis", ["redis-server", "--port", str(REDIS), "--save", "", "--appendonly", "yes", "--dir", self.path("redis")],
                   REDIS)

    def empty_redis(self):
        shutil.rmtree(self.path("redis"))

    def postgres(self):
        data, tools = self.path("postgres"), "/usr/lib/postgresql/15/bin"
        as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if not os.path.exists(data):
            os.makedirs(data)
            if as_user:
                shutil.chown(data, "postgres", "postgres")
            subprocess.run([*as_user, f"{tools}/initdb", "-A", "trust", "-N", "-U", "gateway", "-D", data], check=True,
                           capture_output=True, cwd="/")
        options = ["-p", str(POSTGRES), "-k", "", "-h", "127.0.0.1", "-c", "fsync=off"]
        self.spawn("postgres", [*as_user, f"{tools}/postgres", "-D", data, *options], POSTGRES, cwd="/")
        time.sleep(0.5)

    def config(self, index, limit, redis, sections):
        keys = self.path("keys")
        return f"""
version: 1
workers: 1
allow_literal_secrets: true
listeners: [{{address: "127.0.0.1:{FIRST + index}"}}]
state_directory: {self.path(f'state-{index}')}
admin: {{address: "127.0.0.1:{FIRST + 10 + index}"}}
shared:
  redis: {{url: "redis://127.0.0.1:{redis}"}}
  instance: {{name: replica-{index}, heartbeat: {HEARTBEAT}s}}
{sections.get('shared', '')}
oauth:
  issuer: http://localhost:{FIRST}
  audiences: [https://api.example.com]
  signing_keys: {sections.get('keys', f'{{algorithm: ES256, directory: {keys}}}')}
  token_endpoint: {{rate_limits: [{{rate: 1000000/s, per: address, shared: false}}]}}
{sections.get('oauth', '')}
  clients:
    bench: {{secrets: [{{value: {SECRET}}}], scopes: [read:data]}}
routes:
  - {{name: data, path: /data, respond: {{status: 200, body: ok}}, access: {{scopes: [read:data]}}}}
  - {{name: limited, path: /limited, respond: {{status: 200, body: ok}}, access: {{scopes: [read:data]}}, rate_limits: [{limit}]}}
"""

    def start(self, index, limit="{rate: 1000/s, per: route}", redis=REDIS, **sections):
        folder = self.path(f"replica-{index}")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "gateway.yaml"), "w") as file:
            file.write(self.config(index, limit, redis, sections))
        self.spawn(f"replica-{index}", [self.binary, "run"], FIRST + index, cwd=folder)

    def start_all(self, redis_of=lambda index: REDIS, **more):
        for index in range(REPLICAS):
            self.start(index, redis=redis_of(index), **more)
        self.wait("the replicas know each other", lambda: all(self.metric(i, 'portcullis_replicas{state="alive"}') == REPLICAS
                                                            for i in range(REPLICAS)))
        # Before that they answer 503: they do not know what is revoked.
        self.wait("the replicas are ready", lambda: all(self.ask(FIRST + 10 + i, "/readyz")[0] == 200 for i in range(REPLICAS)))

    def stop_replicas(self):
        for index in range(REPLICAS):
            self.kill(f"replica-{index}", signal.SIGTERM)
            shutil.rmtree(self.path(f"state-{index}"), ignore_errors=True)

    def metric(self, index, name):
        with contextlib.suppress(OSError, urllib.error.URLError):
            text = urllib.request.urlopen(f"http://127.0.0.1:{FIRST + 10 + index}/metrics", timeout=5).read().decode()
            for line in text.splitlines():
                if line.startswith(name + " "):
                    return float(line.rsplit(" ", 1)[1])
        return None

    def wait(self, what, holds, seconds=60):
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                sys.exit(f"never came true: {what}")
            time.sleep(0.05)

    def ask(self, port, path, token=None, form=None, user=("bench", SECRET)):
        """The status and the body."""
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=form.encode() if form else None)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        elif form:
            import base64
            request.add_header("Authorization", "Basic " + base64.b64encode(":".join(user).encode()).decode())
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def token(self, index=0, user=("bench", SECRET)):
        status, body = self.ask(FIRST + index, "/oauth/token", form="grant_type=client_credentials", user=user)
        return json.loads(body)["access_token"] if status == 200 else None

    def revoke(self, index, token):
        return self.ask(FIRST + index, "/oauth/revoke", form=f"token={token}")[0]

    def figure(self, name, target, measured, holds, hard=False):
        verdict = "ok" if holds else ("BROKEN" if hard else "missed")
        self.failed |= hard and not holds
        print(f"{name:58} {target:34} {measured:40} {verdict}", flush=True)


COUNT = """
local counts = {}
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init() ok, limited, failed, other = 0, 0, 0, 0 end
function response(status)
  if status == 200 then ok = ok + 1 elseif status == 429 then limited = limited + 1
  elseif status >= 500 then failed = failed + 1 else other = other + 1 end
end
function done(summary, latency)
  local ok, limited, failed, other = 0, 0, 0, 0
  for _, thread in ipairs(threads) do
    ok = ok + thread:get("ok"); limited = limited + thread:get("limited")
    failed = failed + thread:get("failed"); other = other + thread:get("other")
  end
  local errors = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  print(string.format("COUNTS %d %d %d %d %d %d", ok, limited, failed, other, errors, latency:percentile(99)))
end
"""


class Load:
    """wrk against ports, all at once. Counts answers."""

    def __init__(self, world, ports, path, token, seconds, connections=8):
        script = world.path("count.lua")
        with open(script, "w") as file:
            file.write(COUNT)
        self.begun = time.time()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script, "-H", f"Authorization: Bearer {token}"]
        self.running = [subprocess.Popen([*command, f"http://127.0.0.1:{port}{path}"], stdout=subprocess.PIPE, text=True)
                        for port in ports]

    def end(self):
        outputs = [process.communicate()[0] for process in self.running]
        self.seconds = time.time() - self.begun
        counts = [list(map(int, re.search(r"COUNTS (.*)", output).group(1).split())) for output in outputs]
        self.ok, self.limited, self.failed, self.other, self.errors = (sum(column) for column in list(zip(*counts))[:5])
        self.p99 = max(count[5] for count in counts) / 1000
        self.all = self.ok + self.limited + self.failed + self.other
        return self


class PacedLoad:
    """h2load against ports, all at once, at a rate for all of them together. Counts answers, and times each of them."""

    CONNECTIONS = 8

    def __init__(self, world, ports, path, token, seconds, rate):
        self.begun = time.time()
        self.logs = [world.path(f"paced-{port}.log") for port in ports]
        for log in self.logs:
            with contextlib.suppress(FileNotFoundError):
                os.remove(log)
        command = ["h2load", "--h1", "-t1", f"-c{self.CONNECTIONS}", f"-D{seconds}", "--warm-up-time=0",
                   f"--rps={rate / len(ports) / self.CONNECTIONS:.3f}", "-H", f"authorization: Bearer {token}"]
        self.running = [subprocess.Popen([*command, f"--log-file={log}", f"http://127.0.0.1:{port}{path}"], stdout=subprocess.DEVNULL)
                        for port, log in zip(ports, self.logs)]

    def end(self):
        for process in self.running:
            process.wait()
        self.seconds = time.time() - self.begun
        answers = [line.split()[1:] for log in self.logs for line in open(log)]
        statuses = [int(status) for status, _ in answers]
        self.all, self.ok = len(statuses), statuses.count(200)
        self.failed, self.errors = sum(status >= 500 for status in statuses), sum(status <= 0 for status in statuses)
        self.p99 = sorted(int(microseconds) for _, microseconds in answers)[len(answers) * 99 // 100] / 1000
        return self


def ports():
    return [FIRST + index for index in range(REPLICAS)]


def limit(world, arguments):
    world.start_all()
    load = Load(world, ports(), "/limited", world.token(), arguments.seconds).end()
    bound = 1000 * load.seconds + 1000
    world.figure(f"1,000/s over 4 replicas, {load.all:,} requests", "0 above the bound", f"{load.ok:,} of {bound:,.0f}",
                 load.ok <= bound, hard=True)
    used = load.ok / (1000 * load.seconds)
    world.figure("  part of the rate that was used", ">= 97 %", f"{used:.1%}", used >= 0.97)
    world.figure("  answers 5xx", "0", str(load.failed), load.failed == 0, hard=True)


def cold(world, arguments):
    """The first request of a key asks Redis, the second is served from the lease."""
    world.start(0, limit="{rate: 1000/s, per: \"header:x-key\"}")
    world.wait("the replica is ready", lambda: world.ask(FIRST + 10, "/readyz")[0] == 200)
    connection, token, times = http.client.HTTPConnection("127.0.0.1", FIRST), world.token(), ([], [])
    for number in range(2000):
        for turn in times:
            begun = time.perf_counter()
            connection.request("GET", "/limited", headers={"Authorization": f"Bearer {token}", "X-Key": str(number)})
            answer = connection.getresponse()
            answer.read()
            turn.append((time.perf_counter() - begun) * 1000)
            assert answer.status == 200, answer.status
    first, second = (sorted(turn) for turn in times)
    more = [statistics.median(first) - statistics.median(second), first[1980] - second[1980]]
    world.figure("first request of a key waits longer, median and p99", "<= 5 ms", f"{more[0]:.2f}, {more[1]:.2f} ms",
                 max(more) <= 5)


def losses(world, arguments):
    world.start_all(redis_of=lambda index: RELAY if index == 3 else REDIS)
    relay, token = world.relay, world.token()
    paced = lambda seconds: PacedLoad(world, ports(), "/limited", token, seconds, RATE_OF_LOSSES)
    quiet = paced(12).end()
    time.sleep(2)

    def during(name, act, undo, allowance=0.0, seconds=12):
        load = paced(seconds)
        time.sleep(3)
        act()
        time.sleep(4)
        undo()
        load.end()
        bound = 1000 * load.seconds + 1000 + allowance
        world.figure(f"Redis {name}", "<= bound", f"{load.ok:,} of {bound:,.0f}", load.ok <= bound, hard=True)
        world.figure("  answers 5xx, none", "0, 0", f"{load.failed}, {load.errors} of {load.all:,}",
                     load.failed == load.errors == 0, hard=True)
        world.figure(f"  p99 at {RATE_OF_LOSSES:,}/s (with Redis: {quiet.p99:.2f} ms)", "unchanged (<= 1.2 x)", f"{load.p99:.2f} ms",
                     load.p99 <= quiet.p99 * 1.2)
        world.wait("all replicas reach the store", lambda: all(world.metric(i, "portcullis_shared_store_reachable") == 1
                                                                for i in range(REPLICAS)))
        time.sleep(3)

    during("killed and back", lambda: world.kill("redis"), world.redis)
    during("killed and back, empty", lambda: (world.kill("redis"), world.empty_redis()), world.redis)
    during("stopped (SIGSTOP) and back", lambda: os.killpg(world.processes["redis"].pid, signal.SIGSTOP),
           lambda: os.killpg(world.processes["redis"].pid, signal.SIGCONT))

    def slow(seconds):
        relay.delay = seconds

    def cut(is_cut):
        relay.cut = is_cut

    share = 1000 / REPLICAS
    during("slow by 200 ms for one replica", lambda: slow(0.2), lambda: slow(0), share * HEARTBEAT)
    during("cut off from one replica", lambda: cut(True), lambda: cut(False), share * HEARTBEAT)


def revocations(world, arguments):
    world.start_all()
    times, refused = [], 0
    for number in range(100):
        token, at = world.token(), number % REPLICAS
        assert world.revoke(at, token) == 200
        begun = time.monotonic()
        is_refused = lambda: all(world.ask(port, "/data", token)[0] == 401 for port in ports())
        while not is_refused() and time.monotonic() - begun < 5:
            time.sleep(0.01)
        times.append(time.monotonic() - begun)
        refused += times[-1] <= 1
    world.figure("revoked on one, refused on all within 1 s", "100 of 100", f"{refused} of 100, {max(times):.2f} s at most",
                 refused == 100)
    revoked = world.token()
    world.revoke(1, revoked)
    time.sleep(1)
    for index in range(REPLICAS):
        world.kill(f"replica-{index}", signal.SIGTERM)
        world.start(index)
    statuses = [world.ask(port, "/data", revoked)[0] for port in ports()]
    world.figure("  after a restart of each", "401 everywhere", str(statuses), statuses == [401] * REPLICAS, hard=True)
    token = world.token()
    world.kill("redis")
    time.sleep(1)
    world.revoke(2, token)
    away = [world.ask(port, "/data", token)[0] for port in ports()]
    world.redis()
    world.wait("the others learn it", lambda: all(world.ask(port, "/data", token)[0] == 401 for port in ports()), 20)
    world.figure("  with Redis away: at once here, later elsewhere", "[200, 200, 401, 200], then 401", f"{away}, then 401",
                 away == [200, 200, 401, 200])


def keys(world, arguments):
    """Signing keys in the database, rotated every 30 s; one replica at a time is stopped for a minute."""
    world.postgres()
    url, wrapping = f"postgres://gateway@127.0.0.1:{POSTGRES}/postgres", "A" * 43
    sections = {
        "shared": f"  postgres: {{url: \"{url}\"}}",
        "oauth": "  token_ttl: 5m",
        "keys": f"{{algorithm: ES256, in: postgres, wrapping_key: {wrapping}, rotate_every: 30s}}",
    }
    migrate(world, sections)
    world.start_all(**sections)
    end, refused, unavailable, checked, number = time.monotonic() + arguments.minutes * 60, 0, 0, 0, 0
    stopped, since = None, time.monotonic()
    while time.monotonic() < end:
        if time.monotonic() - since > 60:
            if stopped is not None:
                os.killpg(world.processes[f"replica-{stopped}"].pid, signal.SIGCONT)
                time.sleep(1)
            stopped, since = number % REPLICAS, time.monotonic()
            number += 1
            os.killpg(world.processes[f"replica-{stopped}"].pid, signal.SIGSTOP)
        awake = [index for index in range(REPLICAS) if index != stopped]
        for signer in awake:
            token = world.token(signer)
            # A replica that was stopped looks at the database again before it signs.
            if token is None:
                unavailable += 1
                continue
            for verifier in awake:
                checked += 1
                status = world.ask(FIRST + verifier, "/data", token)[0]
                refused += status not in (200, 503)
                unavailable += status == 503
    if stopped is not None:
        os.killpg(world.processes[f"replica-{stopped}"].pid, signal.SIGCONT)
    world.figure(f"keys rotated every 30 s, {arguments.minutes:g} min, one replica stopped", "0 refused",
                 f"{refused} of {checked:,}, {unavailable} x 503", refused == 0, hard=True)


def migrate(world, sections):
    folder = world.path("migrate")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "gateway.yaml"), "w") as file:
        file.write(world.config(0, "{rate: 1000/s, per: route}", REDIS, sections))
    subprocess.run([world.binary, "store", "migrate"], check=True, cwd=folder, capture_output=True)
    return folder


def clients(world, arguments):
    """PostgreSQL killed while clients of it get tokens."""
    world.postgres()
    sections = {"shared": f"  postgres: {{url: \"postgres://gateway@127.0.0.1:{POSTGRES}/postgres\"}}", "oauth": "  clients_in: postgres"}
    folder = migrate(world, sections)
    command = [world.binary, "client", "new", "stored", "--scopes", "read:data", "--store", "--format", "json"]
    made = subprocess.run(command, check=True, cwd=folder, capture_output=True, text=True).stdout
    user = ("stored", json.loads(made)["secret"])
    world.start_all(**sections)
    assert all(world.token(index, user) for index in range(REPLICAS)), "a client of the database gets no token"
    world.kill("postgres")
    end, failed, granted, unknown = time.monotonic() + arguments.minutes * 60, 0, 0, 0
    while time.monotonic() < end:
        for index in range(REPLICAS):
            granted += 1
            failed += world.token(index, user) is None
            status, _ = world.ask(FIRST + index, "/oauth/token", form="grant_type=client_credentials", user=("nobody", SECRET))
            unknown += status == 200
        time.sleep(0.02)
    world.figure(f"PostgreSQL away for {arguments.minutes:g} min", "0 failed grants, 0 unknown", f"{failed} of {granted:,}, {unknown}",
                 failed == 0 and unknown == 0, hard=True)


def kills(world, arguments):
    """A replica is killed every 10 s, behind HAProxy."""
    world.start_all()
    servers = "".join(f"  server r{index} 127.0.0.1:{FIRST + index} check inter 500\n" for index in range(REPLICAS))
    path = world.path("haproxy.cfg")
    with open(path, "w") as file:
        file.write(f"defaults\n  mode tcp\n  timeout connect 1s\n  timeout client 60s\n  timeout server 60s\n"
                   f"listen all\n  bind 127.0.0.1:{HAPROXY}\n  balance roundrobin\n  option redispatch\n{servers}")
    world.spawn("haproxy", ["haproxy", "-f", path, "-db"], HAPROXY)
    tokens, revoked = [], []
    load = Load(world, [HAPROXY], "/data", world.token(), arguments.seconds, connections=16)
    end, number = time.monotonic() + arguments.seconds - 2, 0
    while time.monotonic() < end:
        name = f"replica-{number % REPLICAS}"
        world.kill(name)
        for _ in range(20):
            status, body = world.ask(HAPROXY, "/oauth/token", form="grant_type=client_credentials")
            if status == 200:
                tokens.append(json.loads(body)["access_token"])
                if len(tokens) % 2 and world.ask(HAPROXY, "/oauth/revoke", form=f"token={tokens[-1]}")[0] == 200:
                    revoked.append(tokens[-1])
        world.start(number % REPLICAS)
        number += 1
        time.sleep(max(0, min(10, end - time.monotonic())))
    load.end()
    time.sleep(2)
    lost = sum(world.ask(port, "/data", token)[0] != 401 for token in revoked for port in ports())
    bad = sum(world.ask(port, "/data", token)[0] != 200 for token in tokens if token not in revoked for port in ports())
    world.kill("haproxy")
    world.figure(f"{number} replicas killed behind HAProxy: failed of {load.all:,}", "<= 16 a kill, no 5xx",
                 f"{load.errors}, {load.failed}", load.errors <= 16 * number and load.failed == 0)
    world.figure(f"  {len(revoked)} revoked, {len(tokens)} granted: lost", "0, 0", f"{lost}, {bad}", lost == bad == 0, hard=True)


def cpu(world, arguments):
    """CPU of one replica for each request, by the shared limit and by its own, in pairs of changing order."""
    pairs = []
    for number in range(9):
        both = [("shared", "true"), ("own", "false")]
        used = {}
        for name, shared in both if number % 2 else reversed(both):
            world.start(0, limit=f"{{rate: 1000000/s, per: client, shared: {shared}}}")
            world.wait("the replica is ready", lambda: world.ask(FIRST + 10, "/readyz")[0] == 200)
            token = world.token()
            process = world.processes["replica-0"].pid
            Load(world, [FIRST], "/limited", token, 1, connections=32).end()
            before = seconds_of(process)
            load = Load(world, [FIRST], "/limited", token, 4, connections=32).end()
            used[name] = (seconds_of(process) - before) / load.all * 1e6
            world.kill("replica-0", signal.SIGTERM)
        pairs.append(used)
    ratios = sorted(used["shared"] / used["own"] for used in pairs)
    middle = ratios[len(ratios) // 2]
    typical = next(used for used in pairs if used["shared"] / used["own"] == middle)
    world.figure("CPU of a request, shared limit against own", "<= +3 %",
                 f"{typical['shared']:.2f} / {typical['own']:.2f} us, {middle - 1:+.1%} ({ratios[0] - 1:+.1%} to {ratios[-1] - 1:+.1%})",
                 middle <= 1.03)


def seconds_of(process):
    fields = open(f"/proc/{process}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


SCENARIOS = {"limit": limit, "cold": cold, "losses": losses, "revocations": revocations, "kills": kills, "cpu": cpu,
             "clients": clients, "keys": keys}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=PORTCULLIS)
    parser.add_argument("--only", choices=list(SCENARIOS), action="append")
    parser.add_argument("--seconds", type=int, default=60, help="of load")
    parser.add_argument("--minutes", type=float, default=10, help="without PostgreSQL, and of rotations")
    arguments = parser.parse_args()
    require(arguments.binary, "wrk", "h2load", "redis-server", "haproxy")
    with tempfile.TemporaryDirectory() as folder:
        world = World(folder, arguments.binary)
        world.relay = Relay(RELAY, REDIS)
        try:
            for name in arguments.only or SCENARIOS:
                world.redis()
                SCENARIOS[name](world, arguments)
                world.stop_replicas()
                world.stop_all()
                world.empty_redis()
        finally:
            world.stop_all()
    sys.exit(1 if world.failed else 0)


if __name__ == "__main__":
    main()
