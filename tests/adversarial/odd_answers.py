#!/usr/bin/env python3
"""Odd answers of old servers: what the gateway, nginx and HAProxy make of each.

    tests/adversarial/odd_answers.py                         all answers, and all three
    tests/adversarial/odd_answers.py --write                 writes docs/reference/odd-answers.md too
    tests/adversarial/odd_answers.py --no-peers --only 204   the gateway alone, answers whose name contains this

The answers, and what the gateway must make of each, are in odd_answer_cases.py. Each proxy has an upstream of its own, which writes the raw
bytes of the answer to one request, over a new connection. Then it closes, resets, or stays and reads on. An honest request follows: it must
get its own answer, and shows whether the proxy used the connection again.

A refusal, and an answer that is broken off for its form, must name the rule: as a value in the audit line of the request, or in a log line.
"""

import argparse
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

from lib.echo_testbed import Broken, Connection, EchoTestbed, at_least, none, verdict
from lib.testbed import PORTCULLIS, ROOT, progress, require
from odd_answer_cases import EARLY, cases

PORTS = {"gateway": 9171, "nginx": 9172, "haproxy": 9173}
UPSTREAM_PORTS = {"gateway": 9174, "nginx": 9175, "haproxy": 9176}
PAGE = os.path.join(ROOT, "docs/reference/odd-answers.md")
TIMEOUT = 4
# Between two pieces: long enough to be read apart. Answers of many pieces are written faster.
PAUSE, SHORT_PAUSE = 0.05, 0.004
# `how`: whole, broken, none (the connection ended before an answer) or hangs.
Answer = namedtuple("Answer", "how status head fields body")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the page")
    parser.add_argument("--only", default="", help="answers whose name contains this")
    parser.add_argument("--no-peers", action="store_true", help="the gateway alone")
    parser.add_argument("--show", action="store_true", help="print what became of each answer")
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    proxies = ["gateway"] if options.no_peers else list(PORTS)
    if options.write and (options.only or options.no_peers):
        parser.error("--write needs all answers and all proxies")
    require(options.binary, "openssl", *proxies[1:])
    chosen = [(family, case) for family, case in cases() if options.only in case.name]
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    testbed = EchoTestbed(folder, options.binary)
    try:
        gateway = testbed.start_gateway(PORTS["gateway"], config())
        for name in proxies[1:]:
            testbed.launch(PEERS[name](testbed), PORTS[name], os.devnull)
        trials = [Trial(name, testbed) for name in proxies]
        with ThreadPoolExecutor(len(trials)) as pool:
            list(pool.map(lambda trial: trial.run([case for _, case in chosen]), trials))
        rows = trials[0].rows() + [none("panics, or an end", testbed.gateway_output().count("panicked") + (gateway.poll() is not None))]
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    progress("")
    if options.show:
        for _, case in chosen:
            print(f"{case.name:50}", " | ".join(trial.found[case.name].text(case) for trial in trials))
    trials[0].print_findings()
    if options.write:
        with open(PAGE, "w") as file:
            file.write(page(chosen, *trials))
    verdict([at_least("answers", len(chosen), 1 if options.only else 60), *rows, none("rows of the page that are missing or differ", differing(chosen))])


def config():
    return f"""
limits: {{body_idle_timeout: 1s, connections_per_address: unlimited}}
upstreams: {{odd: "http://127.0.0.1:{UPSTREAM_PORTS['gateway']}"}}
routes: [{{path: /**, upstream: odd, access: public, timeout: 1500ms}}]
"""


def nginx(testbed):
    return ["nginx", "-e", "/dev/null", "-p", testbed.folder, "-c", testbed.write("odd-nginx.conf", f"""
        daemon off; worker_processes 1; pid {testbed.path('odd-nginx.pid')}; error_log /dev/null;
        events {{ }}
        http {{ access_log off; {testbed.temporary_paths()}
          upstream odd {{ server 127.0.0.1:{UPSTREAM_PORTS['nginx']}; keepalive 8; }}
          server {{ listen 127.0.0.1:{PORTS['nginx']};
            location / {{ proxy_pass http://odd; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_read_timeout 1500ms; }} }} }}""")]


def haproxy(testbed):
    return ["haproxy", "-db", "-f", testbed.write("odd-haproxy.cfg", f"""
global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 10s
  timeout server 1500ms
  http-reuse always
frontend f
  bind 127.0.0.1:{PORTS['haproxy']}
  default_backend b
backend b
  server s 127.0.0.1:{UPSTREAM_PORTS['haproxy']}
""")]


PEERS = {"nginx": nginx, "haproxy": haproxy}


class OddUpstream(threading.Thread):
    """Writes the current case's answer to the request that asks for it, and honest answers to all others."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self.case, self.lock, self.count, self.seen = None, threading.Lock(), 0, []
        # The number of the current case's first connection.
        self.first = 1

    def run(self):
        while True:
            stream, _ = self.listener.accept()
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.count += 1
            threading.Thread(target=self.serve, args=(stream, self.count), daemon=True).start()

    def serve(self, stream, number):
        unread, case = b"", self.case
        is_early = case.request == EARLY and number == self.first
        with stream:
            try:
                if is_early:
                    self.write(stream, case)
                while True:
                    while b"\r\n\r\n" not in unread:
                        data = stream.recv(65536)
                        if not data:
                            return
                        unread += data
                    head, unread = unread.split(b"\r\n\r\n", 1)
                    target = head.decode("latin-1").split(" ")[1]
                    with self.lock:
                        self.seen.append((target, number))
                    if not (is_early and target.startswith("/odd")) and not self.answer(stream, target):
                        return
            except OSError:
                pass

    def answer(self, stream, target):
        """False if the connection is to end."""
        if not target.startswith("/odd"):
            body = f"honest {target}".encode()
            # Closed, so that the next odd answer comes over a new connection.
            stream.sendall(b"HTTP/1.1 200 OK\r\nX-Echo: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (target.encode(), len(body), body))
            return False
        self.write(stream, self.case)
        if self.case.ends == "resets":
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return self.case.ends == "stays"

    def write(self, stream, case):
        for number, piece in enumerate(case.pieces):
            if number:
                time.sleep(PAUSE if len(case.pieces) < 4 or case.expected.kind == "late" else SHORT_PAUSE)
            stream.sendall(piece)


class Client(Connection):
    """Reads what a proxy makes of an answer, and keeps its head as it came."""

    def __init__(self, port, tls):
        if tls:
            super().__init__(port, TIMEOUT)
        else:
            self.socket, self.unread = socket.create_connection(("127.0.0.1", port), TIMEOUT), b""

    def read(self, method):
        head, status, fields = b"", 0, {}
        try:
            while status < 200 and status != 101:
                head = self._until(b"\r\n\r\n")
                status, fields = parse(head)
            if method == "HEAD" or status in (101, 204, 304):
                body = b""
            elif "chunked" in fields.get("transfer-encoding", "").lower():
                body = self._chunks()
            elif "content-length" in fields:
                body = self._exactly(int(fields["content-length"]))
            else:
                body = self._rest()
            return Answer("whole", status, head, fields, body)
        except (Broken, ValueError) as error:
            how = "hangs" if "timed out" in str(error) else "broken" if status >= 200 else "none"
            return Answer(how, status, head, fields, head + self.unread if how == "none" else self.unread)

    def _chunks(self):
        body = b""
        while True:
            size = int(self._until(b"\r\n").split(b";")[0], 16)
            if not size:
                while self._until(b"\r\n"):
                    pass  # a trailer
                return body
            chunk = self._exactly(size + 2)
            if not chunk.endswith(b"\r\n"):
                raise Broken("a chunk without an end")
            body += chunk[:-2]

    def _rest(self):
        while True:
            try:
                self._more()
            except Broken as error:
                if str(error) != "closed":
                    raise
                return self.unread


def parse(head):
    """(status, fields in lower case), of whatever a proxy writes. Raises `Broken` if it is no HTTP."""
    lines = head.decode("latin-1").split("\r\n")
    status = re.match(r"HTTP/1\.[01] (\d{3})", lines[0])
    if not status:
        raise Broken("no HTTP")
    return int(status[1]), {name.strip().lower(): value.strip(" \t") for name, _, value in (line.partition(":") for line in lines[1:])}


class Found(namedtuple("Found", "answer is_reused next_is_right times log")):
    """What became of a case: the client's answer, the fate of the connection, and what the gateway logged."""

    def text(self, case):
        """For the page."""
        answer, wanted = self.answer, case.expected
        if answer.how == "none":
            said = f"{answer.status} only" if answer.status else "no valid head" if answer.body else "no answer"
        elif answer.how == "hangs":
            said = f"{answer.status:03}, hangs" if answer.status else "hangs"
        elif answer.how == "broken":
            said = f"{answer.status}, broken off"
        else:
            said = str(answer.status)
            if answer.status not in (502, 504):
                said += ", kept" if self.is_reused else ", closed"
                if wanted.kind == "broken" and not wanted.rules:
                    said += ", **taken for whole**"
                elif wanted.body is not None and answer.body != wanted.body:
                    said += ", another body"
        return said if self.next_is_right else said + ", **next answer wrong**"


class Trial:
    """All cases, one after the other, through one proxy."""

    def __init__(self, name, testbed):
        self.name, self.testbed, self.found, self.client = name, testbed, {}, None
        self.upstream = OddUpstream(UPSTREAM_PORTS[name])
        self.upstream.start()

    def run(self, chosen):
        self.cases = chosen
        for number, case in enumerate(chosen):
            if self.name == "gateway" and number % 20 == 0:
                progress(f"{number} of {len(chosen)}")
            self.found[case.name] = self.one(number, case)

    def one(self, number, case):
        self.upstream.case, self.upstream.first = case, self.upstream.count + 1
        target, honest = f"/odd{number}", f"/honest{number}"
        logged = len(self.testbed.gateway_output())
        client = Client(PORTS[self.name], self.name == "gateway")
        answer = self.ask(client, target, "GET" if case.request == EARLY else case.request)
        # A late piece must arrive before the next request.
        time.sleep(PAUSE * 1.5 if len(case.pieces) == 2 else PAUSE / 2)
        following = self.ask(client, honest) if answer.how == "whole" and not client.unread and case.request != "POST" else None
        client.close()
        if not following or following.how == "none":
            client = Client(PORTS[self.name], self.name == "gateway")
            following = self.ask(client, honest)
            client.close()
        places = {name: connection for name, connection in self.upstream.seen if name in (target, honest)}
        is_right = (following.status, following.fields.get("x-echo"), following.body) == (200, honest, f"honest {honest}".encode())
        times = sum(name == target for name, _ in self.upstream.seen)
        log = self.logged(logged, answer) if self.name == "gateway" else []
        return Found(answer, places.get(target) is not None and places.get(target) == places.get(honest), is_right, times, log)

    def ask(self, client, target, method="GET"):
        # A body that does not end before its answer has come.
        body = "Content-Length: 10\r\n\r\nhalf" if method == "POST" else "\r\n"
        client.send(f"{method} {target} HTTP/1.1\r\nHost: a\r\n{body}".encode())
        return client.read(method)

    def logged(self, start, answer):
        """All values in the lines of the audit log and the log since `start`; waits for the audit line of the answer."""
        ends = time.monotonic() + 1
        while True:
            lines = [json.loads(line) for line in self.testbed.gateway_output()[start:].splitlines() if line.startswith("{") and line.endswith("}")]
            request_id = answer.fields.get("x-request-id")
            if not request_id or time.monotonic() > ends or any(line.get("gateway.request_id") == request_id for line in lines):
                return [value for line in lines for value in values(line)]
            time.sleep(0.01)

    def rows(self):
        self.findings = {"answer": [], "connection": [], "rule": [], "field": [], "bytes": [], "next": [], "times": []}
        for case in self.cases:
            self.judge(case, self.found[case.name])
        found = self.findings
        return [
            none("statuses and bodies that are not as expected", found["answer"]),
            none("connections used again, or closed, unlike expected", found["connection"]),
            none("fields that are not as expected", found["field"]),
            none("refusals and breaks that name no rule, or another", found["rule"]),
            none("answers with CR, LF or NUL in a line", found["bytes"]),
            none("honest requests after it without their own answer", found["next"]),
            none("requests that the upstream got more than once", found["times"]),
        ]

    def judge(self, case, found):
        wanted, answer = case.expected, found.answer

        def note(what, *more):
            self.findings[what].append((case.name, *more))

        how = "broken" if wanted.kind == "broken" else "whole"
        statuses = (200, 502) if wanted.kind == "either" else (wanted.status,)
        body_differs = wanted.body is not None and answer.body != wanted.body
        if answer.how != how or answer.status not in statuses or body_differs:
            note("answer", f"expected {promise(case)}", f"found {found.text(case)}", answer.body[:60] if body_differs else "")
        elif wanted.kind not in ("forwarded", "either") and found.is_reused != (wanted.kind == "kept"):
            note("connection", f"expected {promise(case)}", f"found {found.text(case)}")
        elif wanted.rules and not set(wanted.rules) & set(found.log):
            note("rule", f"expected {' or '.join(wanted.rules)}", f"found {found.text(case)}")
        else:
            for name, value in wanted.fields.items():
                if answer.fields.get(name, answer.fields.get(name.replace("_", "-"))) != value:
                    note("field", name, f"expected {value!r:.40}", f"found {answer.fields.get(name.replace('_', '-'))!r:.40}")
        if re.search(rb"[\r\n\0]", answer.head.replace(b"\r\n", b"")):
            note("bytes", answer.head[:80])
        if not found.next_is_right:
            note("next")
        # An upstream that the gateway could not reach would make any refusal look right.
        if found.times != 1 and not (wanted.kind == "either" and not found.times):
            note("times", found.times)

    def print_findings(self):
        for what, found in self.findings.items():
            for each in found:
                print(f"{what}: {', '.join(str(part) for part in each if part != '')}")


def values(value):
    if isinstance(value, dict):
        return [each for inner in value.values() for each in values(inner)]
    return [value] if isinstance(value, str) else []


def promise(case):
    """The gateway's part of a row."""
    wanted = case.expected
    rule = f" `{wanted.rules[0]}`" if wanted.rules else ""
    if wanted.kind in ("kept", "closed"):
        return f"{wanted.status}, {wanted.kind}"
    if wanted.kind == "broken":
        return f"{wanted.status}, broken off{rule}"
    if wanted.kind == "either":
        return "200 or 502"
    return f"{wanted.status}{rule}"


def row(case):
    """The beginning of the case's row, without what the peers do."""
    ends = {"stays": "", "closes": "close", "resets": "reset"}[case.ends]
    return f"| {case.name} | {ends} | {promise(case)} |"


INTRODUCTION = """# Odd answers

Old servers send answers that HTTP does not allow, or that can be read in two ways. This page lists what becomes of each
over HTTP/1.1. The gateway refuses what can be read in two ways, and names the rule in the audit log. If the log has
named a rule, search this page for it:
[the service's answer is refused](../how-to/find-out-why-a-request-was-refused.md#the-services-answer-is-refused).

| word | meaning |
| --- | --- |
| 200, kept | The answer is forwarded. The connection to the upstream is used again. |
| 200, closed | The answer is forwarded. The connection to the upstream is closed. |
| 200 | The answer is forwarded. The connection may be used again or not. |
| 200 or 502 | It depends on what the gateway sees first. |
| 502 | The answer is refused, and the connection is closed. |
| 504 | The answer did not come in time. |
| broken off | The head is forwarded, the body is not valid or not whole. The client's answer is broken off too. |
| taken for whole | The client gets a complete answer, though the upstream's was cut. |
| no answer | The connection to the client ends without a byte. |
| no valid head | The client gets bytes that begin with no valid status line. |
| 100 only | The client gets this interim answer, and no other. |
| hangs | The client waits in vain, for longer than the timeouts of the proxy. |

The column *then* says what the upstream does after these bytes: it closes the connection, resets it, or keeps it open.
Three rules explain most rows:

- Forwarded answers are written anew: one length or chunks, one line a field, no bytes from behind the answer.
- A connection is used again only if both sides agree where the answer ended.
- After the head has been forwarded, a fault can be shown only by a break. A body that looks complete is complete.

[`odd_answers.py`](../../tests/adversarial/odd_answers.py) tests the gateway's column and measures the other two:
{versions}, as plain proxies with kept connections to the upstream. With `--write` it
writes this page.
"""


def page(chosen, gateway, nginx, haproxy):
    text = INTRODUCTION.format(versions=f"nginx {version('nginx', '-v')} and HAProxy {version('haproxy', '-v')}")
    family = None
    for title, case in chosen:
        if title != family:
            family = title
            text += f"\n## {title}\n\n| answer | then | gateway | nginx | HAProxy |\n| --- | --- | --- | --- | --- |\n"
        text += f"{row(case)} {nginx.found[case.name].text(case)} | {haproxy.found[case.name].text(case)} |\n"
    return text


def version(program, option):
    said = subprocess.run([program, option], capture_output=True, text=True)
    return re.search(r"\d+\.\d+\.\d+", said.stdout + said.stderr)[0]


def differing(chosen):
    """The cases whose row in the page does not say what the gateway does."""
    written = open(PAGE).read() if os.path.exists(PAGE) else ""
    return [case.name for _, case in chosen if f"\n{row(case)}" not in written]


main()
