"""The scenarios of compare.py and their targets. A scenario returns its figures: values of each server, round by round, in one unit."""

import os
import statistics
import sys
import time

from lib import load
from lib import peers
from lib import tokens
from lib.load import BadAnswers
from lib.testbed import OURS, OURS_BARE, progress, resident, run_time

# The number of times that a void measurement is repeated.
VOID = 2


class Scenario:
    """Targets are (ours, theirs, at most): medians of ratios of the same round; without `theirs`, of the figure itself."""

    def __init__(self, title, unit, measure, targets, command, note=""):
        self.title, self.unit, self.measure, self.targets, self.command, self.note = title, unit, measure, targets, command, note


def cpu(servers, ask, warm_up=None):
    """CPU per request: all servers once a round, each started again, in changing order."""
    def measure(testbed, options):
        def one(name):
            process, port = peers.start(testbed, name)
            try:
                (warm_up or ask)(testbed, name, port, 1)
                return spent(process, lambda: ask(testbed, name, port, options.seconds), options.seconds)
            finally:
                testbed.stop(process)
        return rounds(options, servers, one)
    return measure


def spent(process, ask, seconds):
    """(microseconds per request, requests per second)"""
    before = run_time(process)
    requests = ask()
    return (run_time(process) - before) / requests * 1e6, requests / seconds


def rounds(options, servers, one):
    """Every server once a round, in changing order. A measurement in which one answer is not 2xx is void and is repeated. A peer whose
    repeated measurements are void, too, is left out."""
    found, void = {name: [] for name in servers}, {}
    for number in range(options.rounds):
        turn = number % len(servers)
        for name in servers[turn:] + servers[:turn]:
            if name not in found:
                continue
            progress(f"{options.scenario}, round {number + 1} of {options.rounds}: {name}")
            try:
                found[name].append(valid(name, one, void))
            except BadAnswers:
                if name == servers[0] or f"{name} again" in servers or name.endswith(" again"):
                    raise
                progress(f"{options.scenario}: {name} is left out")
                del found[name]
    progress("")
    return {"values": {name: [value for value, _ in each] for name, each in found.items()},
            "rates": {name: statistics.median(rate for _, rate in each) for name, each in found.items()}, "void": void}


def valid(name, one, void):
    for attempt in range(VOID + 1):
        try:
            return one(name)
        except BadAnswers as error:
            void[name] = void.get(name, 0) + 1
            print(f"\n{name}: void: {' '.join(str(error).split())[-200:]}", file=sys.stderr)
            if attempt == VOID:
                raise
    return None


def get(path="/data", connections=64):
    return lambda testbed, name, port, seconds: load.wrk(
        port, seconds, connections, token=testbed.token, path=path, scheme="http" if name == "TCP relay" else "https")


def http2(testbed, name, port, seconds):
    return load.h2load(port, ["-c16", "-m8", f"-D{seconds}", "--warm-up-time=0"], testbed.token)


def fresh_connections(testbed, name, port, seconds):
    return load.fresh_connections(port, seconds, testbed.token)


def rotating(testbed, name, port, seconds):
    return load.wrk(port, seconds, script=tokens.rotation(testbed, testbed.rotating))


def fill(port, script, requests=12_000):
    """Sends until all rotating tokens are in the caches. A cache keeps a token after it was used again."""
    while requests > 0:
        requests -= load.wrk(port, 1, script=script)


def filled(testbed, name, port, seconds):
    fill(port, tokens.rotation(testbed, testbed.rotating))


def never_seen(testbed, name, port, seconds):
    if not os.path.exists(testbed.path("fresh")):
        # More tokens than a server with one core can verify in the time.
        tokens.tokens_file(testbed, "fresh", testbed.sign(18_000 * seconds))
    return load.wrk(port, seconds, script=tokens.once_each(testbed, testbed.path("fresh")))


def upload(testbed, name, port, seconds):
    script = testbed.write("upload.lua", 'wrk.method, wrk.body = "POST", string.rep("x", 1048576)')
    return load.wrk(port, seconds, 16, token=testbed.token, script=script, path="/sink")


def latency(testbed, options):
    """The peak rate of nginx is measured first. Then all servers get half of that rate, and every answer is timed."""
    process, port = peers.start(testbed, "nginx")
    try:
        peak = max(get()(testbed, "nginx", port, options.seconds) / options.seconds for _ in range(2))
    finally:
        testbed.stop(process)

    def one(name):
        process, port = peers.start(testbed, name)
        try:
            get()(testbed, name, port, 1)
            found = load.latencies(port, options.seconds + 1, peak / 2, testbed.token, testbed.path("latencies"))
            return found[len(found) * 99 // 100], len(found) / (options.seconds + 1)
        finally:
            testbed.stop(process)
    return {**rounds(options, ["portcullis", "nginx", "HAProxy", "nginx again"], one), "rate": peak / 2}


def idle_memory(testbed, options):
    """KiB of resident memory per idle connection. Each has had an answer."""
    values = {}
    for name in ("portcullis", "nginx", "HAProxy", "Envoy", "Caddy"):
        process, port = peers.start(testbed, name)
        # All connections share the memory that the first ones allocate.
        first = load.idle_connections(port, 50, testbed.token)
        time.sleep(4)
        before = resident(process)
        connections = load.idle_connections(port, options.connections, testbed.token)
        # Servers that release buffers do so after some seconds.
        time.sleep(4)
        values[name] = [(resident(process) - before) / len(connections)]
        progress(f"{options.scenario}: {name} {values[name][0]:.1f} KiB")
        for connection in first + connections:
            connection.close()
        testbed.stop(process)
    progress("")
    return {"values": values, "connections": options.connections}


# The rest compares a small and a large Portcullis. Both run all the time, so that the large one is filled only once.

def pair(testbed, options, servers, ask):
    """`servers`: name → (process, port), the last a second measurement of the first."""
    try:
        return rounds(options, list(servers), lambda name: spent(servers[name][0], lambda: ask(name, servers[name][1], options.seconds), options.seconds))
    finally:
        for process in {process for process, _ in servers.values()}:
            testbed.stop(process)


LIMITED = "rate_limits: [{rate: 1000000/s, per: client}]"


def many_routes(testbed, options):
    def server(count, port):
        routes = "".join(f"\n  - {{path: '/r{n}/{{id}}/**', upstream: legacy, access: {{scopes: [read:data]}}, {LIMITED}}}" for n in range(count))
        return testbed.gateway(port, testbed.path(f"routes-{count}"), routes)
    # Both get requests for the same number of different paths, 8 under each route of the small one.
    few, many = server(10, OURS), server(10_000, OURS_BARE)
    token = tokens.tokens_file(testbed, "one", [testbed.token])
    scripts = {"10": tokens.rotation(testbed, token, [f"/r{n % 10}/{n}/a" for n in range(2000)]),
               "10,000": tokens.rotation(testbed, token, [f"/r{n * 7919 % 10_000}/{n}/a" for n in range(2001)])}
    for name, (_, port) in (("10", few), ("10,000", many)):
        fill(port, scripts[name])
    return pair(testbed, options, {"10": few, "10,000": many, "10 again": few},
                lambda name, port, seconds: load.wrk(port, seconds, script=scripts[name.removesuffix(" again")]))


def many_clients(testbed, options):
    """Each of the clients has a limiter that is in use. Then 2,000 tokens rotate, evenly spread over all clients: they are in the cache."""
    # Ed25519, because RSA would sign the tokens for minutes.
    keys = {"algorithm": "EdDSA", "keys": "keys-eddsa"}
    limited = "\n  - {name: data, path: /**, upstream: legacy, access: {scopes: [read:data]}, rate_limits: [{rate: 10/h, burst: 800000, per: client}]}"

    def server(count, port):
        clients = "".join(f"    c{n:06}: {{secrets: [{{hash: 'sha256:{'A' * 43}'}}], scopes: [read:data]}}\n" for n in range(count))
        return testbed.gateway(port, testbed.path(f"clients-{count}"), limited, clients=clients, **keys)
    few, many = server(10, OURS), server(99_000, OURS_BARE)
    progress(f"{options.scenario}: signing")
    everyone = tokens.tokens_file(testbed, "everyone", tokens.of_clients(testbed, "keys-eddsa", [f"c{n:06}" for n in range(99_000)]))
    spread = tokens.of_clients(testbed, "keys-eddsa", [f"c{n * 7919 % 99_000:06}" for n in range(2000)])
    narrow = tokens.of_clients(testbed, "keys-eddsa", [f"c{n % 10:06}" for n in range(2000)])
    scripts = {"10": tokens.rotation(testbed, tokens.tokens_file(testbed, "narrow", narrow)),
               "100,000": tokens.rotation(testbed, tokens.tokens_file(testbed, "spread", spread))}
    progress(f"{options.scenario}: every client asks once")
    feed(testbed, many, everyone, 99_000)
    for name, (_, port) in (("10", few), ("100,000", many)):
        fill(port, scripts[name])
    return pair(testbed, options, {"10": few, "100,000": many, "10 again": few},
                lambda name, port, seconds: load.wrk(port, seconds, script=scripts[name.removesuffix(" again")]))


def feed(testbed, server, file, count, each=None):
    """Sends all tokens of a file once, except the last few: wrk drops requests in flight when there are no more. `each` is called, every few
    seconds, with the number of tokens so far and the cost of a request since the last call."""
    process, port = server
    script, seen = tokens.once_each(testbed, file), 0
    while count - seen > 500:
        before = run_time(process)
        done = load.wrk(port, 3, script=script, arguments=[seen])
        # Requests in flight at the end were not counted.
        seen += done + 64
        if each:
            each(min(seen, count), (run_time(process) - before) / done * 1e6)


def many_tokens(testbed, options):
    """Every second request has one of ten tokens, which is a cache hit. The others have tokens that were never seen, which are misses.
    Half are hits, for any number of earlier tokens. The large gateway has seen a million tokens before. The small one is started again each time."""
    issuer = tokens.Issuer()
    routes = f"\n  - {{path: /**, upstream: legacy, access: {{scopes: [read:data]}}, {LIMITED}}}"
    start = lambda port: testbed.gateway(port, testbed.path(f"tokens-{port}"), routes, issuers=issuer.YAML)
    growth = []
    try:
        progress(f"{options.scenario}: signing {options.tokens:,}")
        million = tokens.tokens_file(testbed, "million", issuer.sign(options.tokens))
        hot = tokens.tokens_file(testbed, "hot", issuer.sign(10))
        per_round = 12_000 * options.seconds
        fresh = tokens.tokens_file(testbed, "fresh-eddsa", issuer.sign(per_round * (options.rounds + VOID)))
        script = tokens.once_each(testbed, fresh, hot)
        many = start(OURS)
        warm = tokens.rotation(testbed, hot)
        load.wrk(many[1], 1, script=warm)
        idle = resident(many[0])

        def each(seen, cost):
            growth.append((seen, cost, resident(many[0])))
            progress(f"{options.scenario}: {seen:,} seen, {cost:.1f} us each, {growth[-1][2] // 1024} MiB")
        feed(testbed, many, million, options.tokens, each)
        turn = dict.fromkeys(("10", "1,000,000", "10 again"), 0)

        def one(name):
            process, port = start(OURS_BARE) if name != "1,000,000" else many
            try:
                load.wrk(port, 1, script=warm)
                # Tokens that this gateway has not seen. Only the large one keeps running from round to round.
                offset = turn[name] * per_round if process is many[0] else 0
                turn[name] += 1
                return spent(process, lambda: load.wrk(port, options.seconds, script=script, arguments=[offset]), options.seconds)
            finally:
                if process is not many[0]:
                    testbed.stop(process)
        found = rounds(options, list(turn), one)
        testbed.stop(many[0])
        return {**found, "growth": growth, "idle": idle}
    finally:
        issuer.stop()
        for name in ("million", "fresh-eddsa"):
            if os.path.exists(testbed.path(name)):
                os.remove(testbed.path(name))


EVERYONE = ["portcullis", "nginx", "HAProxy", "TCP relay", "Envoy", "Envoy jwt_authn, cache", "nginx again", "portcullis, all off",
            "HAProxy jwt_verify", "Envoy jwt_authn", "Caddy", "Apache mod_auth_openidc"]
PLAIN = ["portcullis", "nginx", "HAProxy", "nginx again"]
VERIFYING = ["portcullis", "HAProxy jwt_verify", "HAProxy jwt_verify again"]
CPU = "µs of CPU per request"

SCENARIOS = {
    "one-token": Scenario(
        "HTTPS/1.1 keep-alive GET, 300-byte answer, one RS256 token", CPU, cpu(EVERYONE, get()),
        [("portcullis", "nginx", 0.9), ("portcullis", "Envoy jwt_authn, cache", 0.25), ("portcullis", "HAProxy jwt_verify", 0.3),
         ("portcullis", "TCP relay", 1.7), ("portcullis", "portcullis, all off", 1.15)],
        "wrk -t1 -c64 -d{seconds}s -H 'Authorization: Bearer …' https://localhost:…/data",
        "nginx, HAProxy, Envoy and Caddy without a suffix authenticate no client; the relay has neither TLS nor HTTP."),
    "http2": Scenario(
        "The same over HTTP/2, 16 connections of 8 streams", CPU, cpu(PLAIN + ["Envoy", "Caddy"], http2),
        [("portcullis", "nginx", 0.9), ("portcullis", "HAProxy", 1.1)],
        "h2load -t1 -c16 -m8 -D{seconds} -H 'authorization: Bearer …' https://localhost:…/data"),
    "many-tokens": Scenario(
        "2,000 RS256 tokens in rotation", CPU, cpu(VERIFYING, rotating, filled),
        [("portcullis", "HAProxy jwt_verify", 0.35)],
        "wrk -t1 -c64 -d{seconds}s -s rotate.lua https://localhost:…/data"),
    "new-tokens": Scenario(
        "RS256 tokens that were never seen before", CPU, cpu(VERIFYING, never_seen, filled),
        [("portcullis", "HAProxy jwt_verify", 0.85)],
        "wrk -t1 -c64 -d{seconds}s -s once-each.lua https://localhost:…/data"),
    "new-connections": Scenario(
        "A new TLS connection for each request", CPU, cpu(PLAIN, fresh_connections),
        [("portcullis", "nginx", 0.7)],
        "h2load --h1 -t1 -c100 -n100 https://localhost:…/data, again and again",
        "Full TLS 1.3 handshakes: h2load resumes none (wrk would)."),
    "download": Scenario(
        "1 MiB download", CPU, cpu(PLAIN, get("/big", 16)), [("portcullis", "nginx", 0.8)],
        "wrk -t1 -c16 -d{seconds}s -H 'Authorization: Bearer …' https://localhost:…/big"),
    "upload": Scenario(
        "1 MiB upload", CPU, cpu(PLAIN, upload), [("portcullis", "nginx", 0.8)],
        "wrk -t1 -c16 -d{seconds}s -s upload.lua -H 'Authorization: Bearer …' https://localhost:…/sink"),
    "latency": Scenario(
        "99th percentile of latency at half of nginx's peak rate", "µs", latency, [("portcullis", "nginx", 1.0)],
        "h2load --h1 -t1 -c64 -D… --rps=… --log-file=… -H 'authorization: Bearer …' https://localhost:…/data"),
    "idle-memory": Scenario(
        "Memory per idle TLS connection, HTTP/1.1", "KiB", idle_memory, [("portcullis", None, 20)],
        "{connections} connections, each with one answer behind it"),
    "routes": Scenario(
        "10 routes or 10,000", CPU, many_routes, [("10,000", "10", 1.1)],
        "wrk -t1 -c64 -d{seconds}s -s rotate.lua, 2,000 paths in turn"),
    "clients": Scenario(
        "10 clients or 100,000", CPU, many_clients, [("100,000", "10", 1.1)],
        "wrk -t1 -c64 -d{seconds}s -s rotate.lua, 2,000 tokens in turn",
        "99,000, since a limit of a route keeps 100,000 keys apart; each has asked before, so that each has a limiter in use."),
    "tokens": Scenario(
        "10 distinct tokens or 1,000,000, half of the requests hits", CPU, many_tokens, [("1,000,000", "10", 1.1)],
        "wrk -t1 -c64 -d{seconds}s -s once-each-hot.lua",
        "Ed25519 tokens of an external issuer: every second request has one of ten tokens (a hit), every other a token never seen before (a miss). "
        "The one gateway has seen 1,000,000 distinct tokens before, the other is new."),
}


def ratios(values, ours, theirs):
    return [a / b for a, b in zip(values[ours], values[theirs])] if theirs else values[ours]


def judged(name, result):
    """(ours, theirs, found, at most, met) for each target; and how far the control is off."""
    values = result["values"]
    rows = [(ours, theirs, statistics.median(ratios(values, ours, theirs)), limit) for ours, theirs, limit in SCENARIOS[name].targets if ours in values]
    return [(*row, round(row[2], 2) <= row[3]) for row in rows], control(values)


def control(values):
    again = next((name for name in values if name.endswith(" again")), None)
    return statistics.median(ratios(values, again, again.removesuffix(" again"))) if again else None


