#!/usr/bin/env python3
"""Requests behind an odd end: there are as many answers as the grammar has requests, or a refusal and a close; no upstream sees another.

    tests/adversarial/terminators.py                           all inputs, before seven upstreams
    tests/adversarial/terminators.py --every 5                 one in five of them
    tests/adversarial/terminators.py --mutants 5000 --seed 7 --kinds node gunicorn

An input is one connection: a request with an odd end (terminator_inputs.py), and requests pipelined behind it. Each is sent in one piece, and
cut in two at a place from the seed. Mutants of them are sent too. request_grammar.py, which was written apart from the gateway, says how many
requests there are. A recorder before each upstream (nginx, Apache httpd, Node, Python's http.server, HAProxy, Caddy, gunicorn) keeps the raw
bytes, and the upstream's log says what it understood.

Caddy and gunicorn are left out, by name, where they are not installed.
"""

import argparse
import json
import random
import re
import shutil
import tempfile
import threading
import time
from collections import Counter, namedtuple
from concurrent.futures import ThreadPoolExecutor

from hostile_inputs import END, HONEST, Input, hidden, mutated
from lib.echo_testbed import FIRST_PORT, KINDS, Broken, Connection, EchoTestbed, at_least, none, require_tools, verdict
from lib.testbed import PORTCULLIS, progress
from recorded import RecordedAnswers, read_records, start_recorders, step
from request_grammar import read
from terminator_inputs import BODY, FOREIGN, HEAD, WHOLE, odd_requests

ALL_KINDS = (*KINDS, "caddy", "gunicorn")
PORT, RECORDER_PORT = 9177, 9180
THREADS = 12
TIMEOUT = 15
REFUSALS = {400, 501, 505}
# `odd`: the verdict, None for a mutant.
Trial = namedtuple("Trial", "name input odd")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=1500)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", default=ALL_KINDS, choices=ALL_KINDS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", help="print what became of the inputs whose name contains this")
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require_tools(options.binary)
    kinds = [kind for kind in options.kinds if kind in KINDS or shutil.which(kind)]
    rng = random.Random(options.seed)
    misread = [odd.name for odd in odd_requests() if verdict_of(odd.text) != odd.verdict.replace(FOREIGN, WHOLE)]
    trials = (catalogue() + mutants(rng, options.mutants))[::options.every]
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    testbed = TerminatorTestbed(folder, options.binary)
    try:
        testbed.start_echoes(kinds)
        start_recorders(testbed, ALL_KINDS, RECORDER_PORT)
        gateway = testbed.start_gateway(PORT, config())
        run = Run(options, kinds, rng)
        run.all(trials)
        ended = gateway.poll() is not None
        time.sleep(1)  # for the last lines of the logs
        rows = run.rows(testbed) + [none("panics, or an end", testbed.gateway_output().count("panicked") + ended)]
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    run.print_findings()
    for kind in set(options.kinds) - set(kinds):
        print(f"left out: {kind}, which is not installed")
    verdict([at_least("inputs", len(trials), 1), at_least("upstreams", len(kinds), min(5, len(options.kinds))), none("inputs that the grammar and their table read differently", misread), *rows])


def config():
    routes = []
    for number, kind in enumerate(ALL_KINDS):
        routes.append(f"  - {{path: /k{number}/open/**, upstream: {kind}, access: public}}")
        routes.append(f"  - {{path: /k{number}/closed/**, upstream: {kind}, access: {{scopes: [read:data]}}}}")
    upstreams = "\n".join(f"  {kind}: \"http://127.0.0.1:{RECORDER_PORT + number}\"" for number, kind in enumerate(ALL_KINDS))
    limits = "limits: {header_timeout: 1s, first_request_timeout: 1s, idle_timeout: 1s, body_idle_timeout: 500ms, connections_per_address: unlimited}"
    return f"{limits}\nupstreams:\n{upstreams}\nroutes:\n" + "\n".join(routes)


def catalogue():
    """Each odd request with an open path behind it, and between an honest one and a closed path."""
    trials = []
    for odd in odd_requests():
        trials.append(Trial(f"{odd.name}, with one behind it", Input(odd.name, odd.text + hidden("open") + END), odd.verdict))
        trials.append(Trial(f"{odd.name}, between two", Input(odd.name, HONEST + odd.text + hidden("closed") + END), odd.verdict))
    return trials


def mutants(rng, count):
    bases, trials = odd_requests(), []
    for number in range(count):
        base = rng.choice(bases)
        text = base.text
        for _ in range(rng.randint(1, 2)):
            text = mutated(rng, text)
        trials.append(Trial(f"mutant {number} of {base.name}", Input(base.name, text + hidden("open") + END), None))
    return trials


def verdict_of(text):
    """What the grammar says of an odd request before another one."""
    data, marked = Input("", text + END).build(0, 0)
    reading = read(data)
    if reading.end in (HEAD, BODY):
        return reading.end if not reading.requests else "late"
    return WHOLE if [request.case for request in reading.requests] == [case for case, *_ in marked] else "other"


class TerminatorTestbed(EchoTestbed):
    """Two more upstreams."""

    def __init__(self, folder, binary):
        super().__init__(folder, binary)
        self.ports = {kind: FIRST_PORT + number for number, kind in enumerate(ALL_KINDS)}

    def start_echoes(self, kinds):
        for kind in kinds:
            self.launch(getattr(self, f"echo_{kind}")(self.ports[kind]), self.ports[kind], self.path(f"{kind}.log"))

    def echo_caddy(self, port):
        # It would keep its configuration in the home directory.
        return ["env", f"XDG_CONFIG_HOME={self.folder}", f"XDG_DATA_HOME={self.folder}", "caddy", "run", "--adapter", "caddyfile", "--config", self.write("Caddyfile", f"""
            {{
              admin off
              auto_https off
            }}
            http://:{port} {{
              bind 127.0.0.1
              log {{
                output stdout
                format json
              }}
              header X-Echo {{http.request.header.X-Case}}
              respond "ok" 200
            }}""")]

    def echo_gunicorn(self, port):
        self.write("echo_wsgi.py", """
import os

def application(environ, start_response):
    body = environ["wsgi.input"].read()
    case = environ.get("HTTP_X_CASE", "-")
    os.write(1, f"{case} {environ['REQUEST_METHOD']} {environ['RAW_URI']}\\n".encode())
    start_response("200 OK", [("X-Echo", case), ("Content-Length", "2")])
    return [b"ok"]
""")
        return ["gunicorn", "--worker-class", "gthread", "--threads", "32", "--keep-alive", "3600", "--log-level", "critical", "--chdir", self.folder,
                "--bind", f"127.0.0.1:{port}", "echo_wsgi:application"]

    def seen(self, kind):
        if kind != "caddy":
            return super().seen(kind)
        lines = [json.loads(line) for line in open(self.path("caddy.log"), errors="replace") if line.startswith("{")]
        requests = [line["request"] for line in lines if "request" in line]
        return [[request["headers"].get("X-Case", ["-"])[0], request["method"], request["uri"]] for request in requests]


class Run:
    """Sends all inputs, and collects every violation."""

    def __init__(self, options, kinds, rng):
        self.options, self.kinds, self.rng = options, kinds, rng
        self.lock, self.statuses, self.done, self.notes = threading.Lock(), Counter(), 0, []
        self.may, self.names = set(), {}
        self.found = {what: [] for what in ("answers", "refused", "crossed", "unparsed", "hanging")}

    def all(self, trials):
        work = []
        for number, trial in enumerate(trials):
            # A mutant is sent once, before one of the upstreams.
            for kind in self.kinds if trial.odd else [self.kinds[number % len(self.kinds)]]:
                work.append((len(work), kind, trial, None))
                work.append((len(work), kind, trial, self.rng.random()))
        with ThreadPoolExecutor(THREADS) as pool:
            for number, _ in enumerate(pool.map(lambda item: self.one(*item), work)):
                if number % 500 == 0:
                    progress(f"{number} of {len(work)}")

    def one(self, number, kind, trial, cut):
        data, marked = trial.input.build(ALL_KINDS.index(kind), number)
        reading = read(data)
        with self.lock:
            self.done += 1
            self.names.update((case, f"{trial.name}, before {kind}") for case, *_ in marked)
            self.may.update(request.case for request in [*reading.requests, *([reading.begun] if reading.begun else [])])
        place = len(data) if cut is None else 1 + int(cut * (len(data) - 1))
        received, has_ended = self.exchange([data[:place], data[place:]])
        answers = self.answers(trial, kind, reading, received)
        with self.lock:
            self.statuses.update(status for status, *_ in answers)
            self.judge(f"{trial.name}, before {kind}, {'whole' if cut is None else f'cut at {place}'}", trial, reading, answers)
            # Answers come in the order of the requests, each at most once, and none belongs to another connection.
            cases = iter([case for case, *_ in marked])
            echoes = [fields["x-echo"] for _, fields in answers if fields.get("x-echo")]
            self.found["crossed"] += [(trial.name, kind, echo) for echo in echoes if echo not in cases]
            if not has_ended:
                self.found["hanging"].append((trial.name, kind))

    def exchange(self, pieces):
        """All bytes received in answer to these, and whether the connection ended."""
        received, ends = b"", time.monotonic() + TIMEOUT
        try:
            line = Connection(PORT)
        except OSError as error:
            return f"no connection: {error}".encode(), False
        line.socket.settimeout(0)
        unsent, later = pieces
        try:
            while time.monotonic() < ends:
                if not unsent and later:
                    time.sleep(0.005)  # so that they are read apart
                    unsent, later = later, b""
                unsent, data = step(line.socket, unsent)
                if data == b"":
                    return received, True
                received += data or b""
            return received, False
        finally:
            line.close()

    def answers(self, trial, kind, reading, data):
        """(status, fields) of the answers in these bytes."""
        line, found = RecordedAnswers(data), []
        methods = iter([request.method for request in [*reading.requests, *([reading.begun] if reading.begun else [])]])
        while line.unread:
            try:
                found.append(line.answer(next(methods, "GET"))[:2])
            except Broken as error:
                # The answer to a request with a broken body may break too.
                if reading.end not in (BODY, "cut") or len(found) != len(reading.requests):
                    with self.lock:
                        self.found["unparsed"].append((trial.name, kind, str(error), data[-200:]))
                break
        return found

    def judge(self, name, trial, reading, answers):
        """As many answers as requests; or fewer, and the last is a refusal that closes; and a refusal where the grammar has a fault."""
        wanted, statuses = len(reading.requests), [status for status, _ in answers]
        where = (name, f"{wanted} requests, then {reading.end} {reading.rule}", statuses)
        if self.options.show and self.options.show in name:
            self.notes.append(where)
        closes = bool(answers) and statuses[-1] >= 400 and answers[-1][1].get("connection") == "close"
        if len(answers) < wanted:
            is_right = closes
        elif len(answers) == wanted:
            is_right = reading.end != HEAD or closes
        else:
            last, echo = statuses[-1], answers[-1][1].get("x-echo")
            if reading.begun:
                # Its path or method may be refused, or the upstream may answer, before the fault has come.
                is_right = last >= 400 or echo == reading.begun.case
            else:
                is_right = last in REFUSALS if reading.end == HEAD else last == 408 and reading.end == "cut"
            is_right = is_right and len(answers) == wanted + 1
        if not is_right:
            self.found["answers"].append(where)
        elif trial.odd == WHOLE and (len(answers) != wanted or set(statuses) - {200, 401}):
            self.found["refused"].append(where)

    def rows(self, testbed):
        recorded, malformed, forged = read_records(testbed, self.kinds)
        seen = [(case, kind) for kind in self.kinds for case, *_ in testbed.seen(kind)]
        upstream, begun = Counter(case for case, _ in seen), Counter(case for case, _ in recorded)
        whole = Counter(case for case, is_whole in recorded if is_whole)
        self.found |= {
            "behind": [(self.names.get(case), case) for case in {*upstream, *begun} if case not in self.may],
            "twice": [(self.names.get(case), case) for case, times in (upstream | begun).items() if times > 1],
            "apart": [(self.names.get(case), case) for case in {*upstream, *begun} if upstream[case] > begun[case] or whole[case] > upstream[case]],
            "malformed": malformed,
            "forged": forged,
        }
        return [
            at_least("connections", self.done, 1),
            at_least("requests that reached an upstream", sum(upstream.values()), self.done // 4),
            none("other answers than the grammar has requests", self.found["answers"]),
            none("valid requests that are refused", self.found["refused"]),
            none("seen by an upstream, and no request by the grammar", self.found["behind"]),
            none("seen twice", self.found["twice"]),
            none("smuggled: upstream and recorder do not agree", self.found["apart"]),
            none("written to an upstream not strictly as HTTP/1.1 is", malformed),
            none("hop-by-hop fields written to an upstream", forged),
            none("crossed: answers to another request", self.found["crossed"]),
            none("answers that are not whole", self.found["unparsed"]),
            none("connections left hanging", self.found["hanging"]),
        ]

    def print_findings(self):
        progress("")
        for what, found in self.found.items():
            # Each kind of input once.
            shown = {re.sub(r", before .*|mutant \d+ of ", "", str(each[0])): each for each in reversed(found)}
            for each in list(shown.values())[:200]:
                print(f"{what}: {each}")
        for note in self.notes:
            print(*note)
        print("answers:", ", ".join(f"{status} {count}" for status, count in sorted(self.statuses.items())))


main()
