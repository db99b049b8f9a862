#!/usr/bin/env python3
"""Many reloads under load: no request fails, no stream ends, no answer mixes two revisions, and rate limits count exactly.

    tests/adversarial/reload_storm.py                 10 minutes, 1,000 reloads, 2,000 requests/s
    tests/adversarial/reload_storm.py --minutes 1     100 reloads
    tests/adversarial/reload_storm.py --minutes 1 --plant decisions     must fail

Half of the requests come over HTTP/1.1, half over HTTP/2. Every revision has a number: it stands in a field that the gateway sets in the request,
in a field that it sets in the answer, and in its own body. `/flip` is public in even revisions and denied in odd ones. Each answer is compared
with the revision that its line in the audit log names. WebSockets and event streams are open all the time, and one route has a limit.
Every tenth reload is of a faulty file, which must be refused.
"""

import argparse
import glob
import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
import urllib.request

import storm_clients
from lib.echo_testbed import at_least, none, verdict
from lib.testbed import PORTCULLIS, Testbed, progress, require

PORT, ADMIN, UPSTREAM, SECOND = 9171, 9172, 9173, 9174
# 1,000 in 10 minutes, with the pauses at both ends.
RELOAD_EVERY = 0.59
# Of the limited route: 600/h.
BURST, EACH = 100, 6.0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=int, default=2000, help="requests/s")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--streams", type=int, default=25, help="WebSockets, and as many event streams")
    parser.add_argument("--plant", choices=("decisions", "buckets", "streams"), help="a fault that must be found")
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require(options.binary, "openssl", "taskset")
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    testbed = Testbed(folder, options.binary)
    try:
        storm = Storm(testbed, options)
        storm.run()
        storm.verify()
        panics = open(testbed.path("stderr"), errors="replace").read().count("panicked")
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    storm.report(panics)


class Storm:
    def __init__(self, testbed, options):
        self.testbed, self.options = testbed, options
        self.numbers, self.slow, self.wrong_reloads = {}, [], []
        self.reloads = self.refused = 0
        self.results, self.mixed, self.unrecorded = {}, [], 0

    def run(self):
        path = self.testbed.path("gateway.yaml")
        self.write(0)
        ends = time.monotonic() + self.options.minutes * 60
        upstream = multiprocessing.Process(target=storm_clients.upstream, args=(UPSTREAM,), daemon=True)
        upstream.start()
        gateway = self.testbed.run("0,1", [self.testbed.binary, "run", "--config", path], PORT)
        self.numbers[self.page()["config"]] = 0
        queue, half = multiprocessing.Queue(), self.options.rate / 2
        per_protocol = max(1, self.options.connections // 2)
        clients = [multiprocessing.Process(target=target, args=(*args, queue), daemon=True) for target, args in (
            (storm_clients.load, (PORT, "http/1.1", half, per_protocol, ends, self.testbed.path("http1.log"))),
            (storm_clients.load, (PORT, "h2", half, per_protocol, ends, self.testbed.path("http2.log"))),
            (storm_clients.streams, (SECOND, self.options.streams, ends)),
            (storm_clients.counted, (PORT, ends)))]
        for client in clients:
            client.start()
        time.sleep(2)
        self.reload_until(ends - 2, gateway)
        for _ in clients:
            name, count, failures = queue.get(timeout=60)
            self.results[name] = (count, failures)
        # The audit log is whole once the gateway has ended.
        gateway.send_signal(signal.SIGTERM)
        gateway.wait(60)
        upstream.kill()

    def reload_until(self, ends, gateway):
        number, due = 0, time.monotonic()
        while time.monotonic() < ends:
            due += RELOAD_EVERY
            faulty = (self.reloads + self.refused) % 10 == 9
            number += not faulty
            self.write(number, "surprise: 1" if faulty else "")
            began = time.monotonic()
            before = self.counts()
            gateway.send_signal(signal.SIGHUP)
            while self.counts() == before:
                if time.monotonic() > began + 10:
                    self.wrong_reloads.append(f"{number}: no result within 10 s")
                    return
                time.sleep(0.01)
            self.slow.append(time.monotonic() - began)
            page = self.page()
            if (page["last_reload"]["result"] == "refused") != faulty:
                self.wrong_reloads.append(f"{number}: {page['last_reload']}")
            if faulty:
                self.refused += 1
            else:
                self.reloads += 1
                self.numbers[page["config"]] = number
            progress(f"{self.reloads} reloads, {self.refused} refused")
            time.sleep(max(0, due - time.monotonic()))

    def counts(self):
        text = urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}/metrics").read().decode()
        return [line for line in text.splitlines() if line.startswith("portcullis_config_reloads_total")]

    def page(self):
        return json.load(urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}/config"))

    def write(self, number, more=""):
        plant = self.options.plant
        said = number - 1 if plant == "decisions" and number % 20 == 7 else number
        deny = ", deny_from: [127.0.0.0/8]" if said % 2 else ""
        # Another rate begins with a full bucket.
        rate = 601 if plant == "buckets" and number % 20 == 7 else 600
        # The plain listener of the streams.
        second = 9 if plant == "streams" and number % 20 == 7 else SECOND
        # Otherwise the streams of a removed listener go on for 30 s.
        drain = "shutdown: {drain: 1s}" if plant == "streams" else ""
        tls = f"tls: {{certificates: [{{cert: {self.testbed.crt}, key: {self.testbed.key}}}]}}"
        sets = f'{{set: {{x-number: "{said}"}}}}'
        text = f"""version: 1
workers: 2
listeners: [{{address: 127.0.0.1:{PORT}, {tls}}}, {{address: 127.0.0.1:{second}, {tls}}}]
admin: {{address: 127.0.0.1:{ADMIN}}}
limits: {{connections_per_address: unlimited}}
upstreams: {{service: "http://127.0.0.1:{UPSTREAM}"}}
routes:
  - {{name: flip, path: /flip, access: public, respond: {{body: "{said}"}}, response_headers: {sets}{deny}}}
  - {{name: through, path: /through, access: public, upstream: service, headers: {sets}, response_headers: {sets}}}
  - {{name: counted, path: /counted, access: public, respond: {{body: ok}}, rate_limits: [{{rate: {rate}/h, burst: {BURST}, per: address}}]}}
  - {{name: live, path: /live, access: public, upstream: service, websocket: true}}
  - {{name: events, path: /events, access: public, upstream: service}}
  - {{name: extra-{number}, path: /extra/{number}, access: public, respond: {{body: ok}}}}
audit: {{file: audit.jsonl, refusals_per_second: unlimited, rotate: {{size: unlimited, age: unlimited}}}}
{drain}
# revision {number}
{more}
"""
        temporary = self.testbed.write("next.yaml", text)
        os.replace(temporary, self.testbed.path("gateway.yaml"))

    def verify(self):
        """Compares each answer with the revision in its audit record."""
        answers = {}
        for log in ("http1.log", "http2.log"):
            for line in open(self.testbed.path(log)):
                request, *rest = line.split()
                answers[request] = rest
        self.answers = len(answers)
        for name in glob.glob(self.testbed.path("audit.jsonl*")):
            for line in open(name):
                record = json.loads(line)
                answer = answers.pop(record.get("gateway.request_id"), None)
                if answer:
                    self.compare(answer, self.numbers.get(record["gateway.config"]), record)
        self.unrecorded = len(answers)

    def compare(self, answer, number, record):
        path, status, field, body = answer
        wanted = "403" if path == "/flip" and number is not None and number % 2 else "200"
        decision = "deny" if status == "403" else "allow"
        # A refusal has the field of the route, and not its body.
        numbers = (field, body if status == "200" else str(number))
        if status != wanted or numbers != (str(number), str(number)) or record["gateway.decision"] != decision:
            self.mixed.append(f"{path} {status} {field} {body}, but revision {number} decided: {record['gateway.decision']}")

    def report(self, panics):
        (passed, took), counted_failures = self.results["counted"]
        http1, http2 = self.results["http/1.1"], self.results["h2"]
        failed = http1[1] + http2[1] + counted_failures
        ended = self.results["streams"][1]
        expected = BURST + took / EACH
        for each in (failed[:5] + ended[:5] + self.mixed[:5] + self.wrong_reloads[:5]):
            print(each)
        reloads = sorted(self.slow)
        print(f"reloads took {reloads[len(reloads) // 2] * 1000:.0f} ms in the median, {reloads[-1] * 1000:.0f} ms at most")
        print(f"the limit let {len(passed)} pass; exact are {expected:.1f}")
        seconds = self.options.minutes * 60
        verdict([
            at_least("reloads", self.reloads + self.refused, int((seconds - 4) / RELOAD_EVERY * 0.95)),
            at_least("requests over HTTP/1.1", http1[0], int(seconds * self.options.rate / 2 * 0.8)),
            at_least("requests over HTTP/2", http2[0], int(seconds * self.options.rate / 2 * 0.8)),
            none("failed requests", failed),
            none("WebSockets and event streams that ended", ended),
            none("answers that do not agree with their revision", self.mixed),
            none("answers without an audit record", self.unrecorded),
            none("passes of the limit more or fewer than exact", 0 if abs(len(passed) - expected) <= 2 else abs(round(len(passed) - expected))),
            none("reloads with the wrong result", self.wrong_reloads),
            none("panics", panics),
        ])


if __name__ == "__main__":
    main()
