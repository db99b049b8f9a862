#!/usr/bin/env python3
"""The path that the gateway decides on is the path that every upstream behind it understands.

    tests/adversarial/paths.py                        50,000 paths
    tests/adversarial/paths.py --paths 5000 --seed 7

Paths are made at random, from a seed, of the parts of attacks: dots, escapes, escapes of escapes, escaped slashes and backslashes,
parameters, characters of other widths, empty segments, queries, upper case. Each is sent to a gateway with open routes inside closed ones and
the reverse, and two that opt in to every form of paths, in front of nginx, Apache httpd, Node, Python's http.server and HAProxy. An accepted
path is sent to all five. An upstream answers with the path that it received and with its own reading of it. The test decodes both again by its
own rules: decoded until nothing changes, without parameters, backslashes as slashes, dots and empty segments resolved. The rule for the result
must be the rule that the gateway applied, and the result must be below the pattern that this rule is for. The same path in lower case must not
be closed, and no path may leave an open prefix once every character is in its compatibility form. The path that was received must be spelt as
documented: as in the pattern where that names a segment, as the caller spelt it elsewhere, but with names decoded.
"""

import argparse
import random
import re
import shutil
import tempfile
import unicodedata
import urllib.parse
from collections import Counter

from lib.testbed import PORTCULLIS, progress
from lib.echo_testbed import KINDS, Broken, Connection, EchoTestbed, at_least, none, require_tools, verdict

PORT = 9140
# As the upstreams get them, most specific first. "one" is a route for one segment, "root" one for "/" alone.
RULES = {"/api/admin/help": "open", "/api/public/private": "closed", "/api/admin": "closed", "/api/public": "open", "/legacy": "open",
         "/archive": "open", "/files": "one", "/": "root"}
FORMS = "{allow: [semicolon, encoded_slash, encoded_backslash, empty_segment]}"
PIECES = """api public admin private help settings files x API Admin PUBLIC . .. ... .... %2e %2E %2e%2e .%2e %252e %252e%252e %25252e %25%32%65
    %2f %2F %5c %252f %255c \\ ; ;x=1 ;/ %3b %3B %253b %61dmin adm%69n %2561dmin %41dmin %70ublic %70rivate %2570rivate %20 + ~ %7e %7E * %2a %c3%bc
    ü %c0%ae %e0%80%ae %c0%af %ff %ef%bc%8e %ef%bc%8f %ef%bc%bc %ef%bc%9b %e2%80%a5 %ef%bc%852e ．． %zz % %2 %u002e %00 %0a %0d%0a %09 %7f %23 %3f
    %25 %2525 : @ & = $ , ! ' ( ) " < > | ^ ` { } [ ] a%20b 100%25 v1.2 .hidden x. ..x x.. %40 %26 %3d %2B %2b %3A %2D %5f legacy archive
    ;jsessionid=1 %3bx ..; ..%3b %2F.. ..%5C %2F%2f %5C%5c //""".split()
SEGMENTS = ["api", "public", "admin", "private", "help", "files", "..", ".", "", "%2e%2e", "%61dmin", "x"]
ROOTS = ["", "", "/api/public", "/api/public", "/api/public/x", "/api/public/private", "/api/admin", "/api/admin/help", "/api", "/files", "/API", "//api",
         "/legacy", "/legacy", "/legacy/x", "/old", "/old/x", "/archive", "//legacy"]
QUERIES = ["", "", "", "", "?", "?x=/api/public", "?/../admin", "?a=%2e%2e", "?a;b", "?%00", "?x=%zz", "#", "#/../admin", "?x#y", "/?/../public"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require_tools(options.binary)
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    testbed = EchoTestbed(folder, options.binary)
    try:
        testbed.start_echoes()
        gateway = testbed.start_gateway(PORT, config(testbed))
        tried = Trial(options.seed)
        for number in range(options.paths):
            tried.path(number)
            if number % 500 == 0:
                progress(f"{number} paths, {tried.accepted} accepted, {len(tried.differences)} differences")
        panics = testbed.gateway_output().count("panicked") + (gateway.poll() is not None)
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    progress("")
    for path, kind, ours, theirs in tried.differences[:20]:
        print(f"{path} at {kind}: decided {ours}, read as {theirs}")
    for path, kind, raw, expected in tried.misspelt[:20]:
        print(f"{path} at {kind}: sent as {raw}, expected {expected}")
    print("answers:", ", ".join(f"{status} {count}" for status, count in sorted(tried.statuses.items())))
    verdict([
        at_least("paths", tried.count, options.paths),
        at_least("accepted, and sent to all five upstreams", tried.accepted, options.paths // 50),
        at_least("accepted with a form that its route opts in to", tried.opted_in, options.paths // 200),
        at_least("requests that reached an upstream", tried.forwarded, tried.accepted * len(KINDS)),
        none("decisions other than for what the upstream was sent", tried.differences),
        none("targets in another spelling than documented", tried.misspelt),
        none("answers that were not the request's own", tried.crossed),
        none("canaries that failed", tried.canaries),
        none("panics, or an end", panics),
    ])


def config(testbed):
    routes = []
    for kind in KINDS:
        for path, access in (("/api/admin/help", "public"), ("/api/public/private/**", "{scopes: [read:data]}"), ("/api/admin/**", "{scopes: [admin]}"),
                             ("/api/public/**", "public"), ("/files/{name}", "public"), ("/", "public"),
                             ("/legacy/**", f"public, paths: {FORMS}"), ("/old/**", f"public, rewrite: /archive/**, paths: {FORMS}")):
            routes.append(f"  - {{path: \"{path}\", hosts: [{kind}.test], upstream: {kind}, access: {access}, name: \"{kind} {path}\"}}")
    upstreams = "\n".join(f"  {kind}: \"http://127.0.0.1:{port}\"" for kind, port in testbed.ports.items())
    return f"upstreams:\n{upstreams}\nroutes:\n" + "\n".join(routes)


class Trial:
    """Sends the paths, and collects every difference."""

    def __init__(self, seed):
        self.random, self.line = random.Random(seed), None
        self.count = self.accepted = self.opted_in = self.forwarded = 0
        self.statuses, self.differences, self.misspelt, self.crossed, self.canaries = Counter(), [], [], [], []

    def path(self, number):
        path = make(self.random)
        self.count += 1
        kinds = [KINDS[number % len(KINDS)]]
        for turn in range(len(KINDS)):
            status, fields = self.ask(path, kinds[turn], f"p{number}.{turn}")
            self.statuses[status] += turn == 0
            if status == 200 and turn == 0:
                self.accepted += 1
                self.opted_in += bool(re.search("//|;|%3b|%2f|%5c", path.split("?")[0], re.I))
                kinds += [kind for kind in KINDS if kind != kinds[0]]
            if status != 200:
                ours = {401: "closed", 404: "none"}.get(status)
                # A path without a route, or with a closed one, is a decision too.
                if ours == "none" and turn:
                    self.differences.append((path, kinds[turn], ours, "accepted for another"))
                break
            self.forwarded += 1
            self.judge(path, kinds[turn], fields)
        if number % 100 == 0 and self.ask("/api/public/canary", KINDS[number // 100 % len(KINDS)], f"c{number}")[0] != 200:
            self.canaries.append(number)

    def ask(self, path, kind, case):
        for _ in range(2):
            try:
                self.line = self.line or Connection(PORT)
                self.line.send(f"GET {path} HTTP/1.1\r\nHost: {kind}.test\r\nX-Case: {case}\r\n\r\n".encode())
                status, fields, _ = self.line.answer()
                break
            except Broken:
                self.line = None
        else:
            return 0, {}
        if status == 200 and fields.get("x-echo") != case:
            self.crossed.append((case, fields.get("x-echo")))
        if fields.get("connection") == "close":
            self.line.close()
            self.line = None
        return status, fields

    def judge(self, path, kind, fields):
        raw = fields["x-raw"].removeprefix("GET ").removesuffix(" HTTP/1.1")
        opinion = fields["x-path"][1:-1].encode("latin-1").decode("utf-8", "replace")
        owner, expected = forwarded(path)
        if raw != expected:
            self.misspelt.append((path, kind, raw, expected))
        # The token that a closed route requires is never sent: a path with the answer 200 was decided to be open.
        for reading in (fully_decoded(raw.split("?")[0]), fully_decoded(opinion)):
            # For a service that ignores case, no open path may be a closed one.
            if rule(reading) not in ("open", "one", "root") or rule(reading.lower()) == "closed" or root_of(reading) != owner:
                self.differences.append((path, kind, "open", f"{raw} -> {reading}"))
        folded = fully_decoded(raw.split("?")[0], fold=True)
        # Full-width slashes may occur in honest names: the test is that no path leaves its prefix.
        if rule(folded) == "closed" and not folded.startswith("/api/public/"):
            self.differences.append((path, kind, "open", f"{raw} -> {folded}"))


def make(rng):
    """A target without characters that are not allowed in it in HTTP/1.1 (spaces, line ends)."""
    segments = []
    for _ in range(rng.randint(0, 5)):
        way = rng.random()
        if way < 0.5:
            segments.append(rng.choice(SEGMENTS))
        elif way < 0.65:
            segments.append(escaped(rng, rng.choice(["admin", "private", "public", "help", ".."])))
        else:
            segments.append("".join(rng.choice(PIECES) for _ in range(rng.randint(1, 3))))
    if rng.random() < 0.3:
        # Includes honest paths: a test in which no path is accepted proves nothing.
        segments = [segment for segment in segments if segment.replace(".", "").isalnum()]
    path = rng.choice(ROOTS) + "".join("/" + segment for segment in segments) + rng.choice(["", "", "/"])
    return (path if path.startswith("/") else "/" + path) + rng.choice(QUERIES)


def escaped(rng, word):
    """The same word, for a server that decodes once or twice, or removes parameters."""
    escape = rng.choice(["%", "%", "%25", "%2525", "%25%32%35"])
    letters = [f"{escape}{ord(letter):02x}" if rng.random() < 0.3 else letter for letter in word]
    if rng.random() < 0.3:
        letters = [letter.upper() if len(letter) == 1 and rng.random() < 0.5 else letter for letter in letters]
    return "".join(letters) + rng.choice(["", "", "", ";x", "%3bx", "%253bx", "%ef%bc%9bx"])


def fully_decoded(path, fold=False):
    """The path as a service reads it that decodes as much as possible."""
    while True:
        again = urllib.parse.unquote(path, errors="replace").replace("\\", "/")
        if fold:
            again = unicodedata.normalize("NFKC", again)
        again = "/".join(segment.split(";")[0] for segment in again.split("/"))
        if again == path:
            break
        path = again
    segments = []
    for segment in path.split("/"):
        if segment == "..":
            segments = segments[:-1]
        elif segment not in ("", "."):
            segments.append(segment)
    return "/" + "/".join(segments)


def rule(path):
    return RULES.get(root_of(path), "none")


def root_of(path):
    """The first root of the rules that holds for a path."""
    for root, access in RULES.items():
        inside = path == root or path.startswith(root.rstrip("/") + "/")
        if access == "root" and path != "/" or access == "one" and len(path.split("/")) != 3 or root == "/api/admin/help" and path != root:
            continue
        if inside:
            return root
    return None


def forwarded(target):
    """The root that an accepted target is for, as the upstream knows it, and the target that the upstream must get."""
    path, mark, query = target.partition("?")
    segments = path.split("/")[1:]
    names = [urllib.parse.unquote(segment) for segment in segments]
    for root in ("/api/admin/help", "/api/public/private", "/api/admin", "/api/public", "/legacy", "/old", "/files", "/"):
        named = [name for name in root.split("/") if name]
        if names[:len(named)] == named and (root != "/api/admin/help" or len([name for name in names if name]) == 3):
            rest = "".join("/" + spelt(segment) for segment in segments[len(named):])
            root = "/archive" if root == "/old" else root
            return root, root.rstrip("/") + rest + mark + query


def spelt(segment):
    """The caller's own spelling, with the characters of names decoded."""
    return re.sub("%[0-9a-fA-F]{2}", lambda escape: decoded_name(escape[0]), segment)


def decoded_name(escape):
    character = chr(int(escape[1:], 16))
    return character if character.isascii() and (character.isalnum() or character in "-._") else escape


main()
