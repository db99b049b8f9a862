"""The inputs of hostile_http.py: known ways to make a gateway and a server disagree, and mutants of them.

An input is a text with marks. `«must»`, `«may»` and `«never»` are where a request's number goes, and say whether an upstream has to get it, may
get it, or must not. `«open»`, `«small»` and `«closed»` are paths: the first is public, the second public with a body of 16 bytes at most, the
third requires a token.
"""

import re
from collections import namedtuple

SECRET_WORD = "planted-secret-5f1d"
# `hides`: the bytes after the request are hidden in it, and a server that sees a request there has received a smuggled
# one. Otherwise these bytes are, or may be, a request.
Hostile = namedtuple("Hostile", "name text hides")
CHUNKED = "Transfer-Encoding: chunked\r\n"


class Input(namedtuple("Input", "name text")):
    def build(self, kind, number):
        """The bytes for the upstream of this number, and every request in them as (number, fate, method)."""
        requests = []

        def mark(found):
            if found[1] in WIDTHS:
                return f"/k{kind}/{found[1]}"
            fate, _, method = found[1].partition(" ")
            requests.append((f"{kind}{number:05}.{len(requests):02}", fate, method))
            return requests[-1][0]

        return re.sub("«([^»]*)»", mark, self.text).encode("latin-1"), requests


WIDTHS = {"open": 8, "small": 9, "closed": 10}
NUMBER_WIDTH = 9


def size(text):
    """The length of the text after its marks are replaced."""
    return len(re.sub("«([^»]*)»", lambda found: "x" * WIDTHS.get(found[1], NUMBER_WIDTH), text))


def ask(fate="may", fields="", body="", method="GET", target="«open»/x", version="HTTP/1.1", host="Host: a\r\n"):
    return f"{method} {target} {version}\r\nX-Case: «{fate} {method}»\r\n{host}{fields}\r\n{body}"


END = ask("may", "Connection: close\r\n")
HONEST = ask("must")


def hidden(place, fate="never"):
    return ask(fate, target=f"«{place}»/hidden", fields=f"Authorization: Bearer {SECRET_WORD}\r\nCookie: s={SECRET_WORD}\r\n")


def catalogue():
    """Every hostile request: alone, after an honest one, and with a request for an open and a closed path hidden after it."""
    inputs = []
    for hostile in [each for family in FAMILIES for each in family()]:
        # A server that sees a request behind an ambiguous end has been smuggled one.
        follows = [hidden("open", "never" if hostile.hides else "may"), hidden("closed")]
        end = END.replace("«may", "«never") if hostile.hides else END
        inputs.append(Input(f"{hostile.name}", hostile.text + end))
        for follow in follows:
            inputs.append(Input(f"{hostile.name}, with one behind it", hostile.text + follow + end))
            inputs.append(Input(f"{hostile.name}, between two", HONEST + hostile.text + follow + end))
    inputs += [Input(name, text + END) for name, text in large()]
    return inputs


def mutants(rng, count):
    """Hostile requests with a random change, and a request for a closed path after them: no upstream may ever see that one."""
    # If it is not known whether the method is HEAD, the end of the answer is unknown.
    bases = [each for family in FAMILIES for each in family() if "HEAD" not in each.text]
    inputs = []
    for number in range(count):
        base, other = rng.choice(bases), rng.choice(bases)
        text = base.text
        if rng.random() < 0.4 and "»\r\n" in text and "»\r\n" in other.text:
            # Adds the fields of another input.
            extra = other.text.split("»\r\n", 1)[1].split("\r\n\r\n")[0]
            text = text if "«" in extra else text.replace("»\r\n", "»\r\n" + extra + "\r\n", 1)
        # Only the gateway decides whether a mutant is valid, so it may or may not be forwarded.
        text = text.replace("«must", "«may").replace("«never", "«may")
        for _ in range(rng.randint(1, 3)):
            text = mutated(rng, text)
        before = HONEST.replace("«must", "«may") if rng.random() < 0.3 else ""
        inputs.append(Input(f"mutant {number} of {base.name}", before + text + hidden("closed") + END))
    return inputs


def mutated(rng, text):
    """The text with one change, anywhere but in a request's number."""
    parts = re.split("(\r\nX-Case: «[^»]*»\r\n|«[^»]*»)", text)
    places = [index for index in range(0, len(parts), 2) if parts[index]]
    index = rng.choice(places)
    part = parts[index]
    at = rng.randrange(len(part))
    odd = rng.choice(["\r", "\n", "\0", "\t", " ", "\x0b", "\x0c", "\x7f", "\x80", "\xa0", ",", ";", ":", "\r\n", "\r\n ", "\n\n", "_", "%", "0", "+", "-"])
    way = rng.randrange(7)
    if way == 0:
        part = part[:at] + odd + part[at:]
    elif way == 1:
        part = part[:at] + odd + part[at + 1:]
    elif way == 2:
        part = part[:at] + part[at + 1:]
    elif way == 3:
        part = part[:at] + part[at].swapcase() + part[at + 1:]
    elif way == 4:
        lines = part.split("\r\n")
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
        part = "\r\n".join(lines) if index else part
    elif way == 5:
        part = part.replace("\r\n", rng.choice(["\n", "\r", "\r\r\n", "\n\r"]), 1)
    else:
        part = part.replace(": ", rng.choice([":", " : ", ":\t", ": ,", ":\r\n "]), 1)
    parts[index] = part
    return "".join(parts)


def with_fields(name, fields, fate="never", hides=True, method="POST", body=""):
    return [Hostile(f"{name} {field!r}"[:90], ask(fate, field + "\r\n", body, method), hides) for field in fields]


def lengths():
    values = ["+5", "-0", "-5", "0x5", "5 5", "5_0", "\"5\"", "99999999999999999999", "", "5,", ",5", "5;", "5.0", "5e0", "٥".encode().decode("latin-1"), "5, 6", "5,6", "\x0b5", "5\x00", "NaN", "1" * 400]
    pairs = ["Content-Length: 0\r\nContent-Length: 5", "Content-Length: 5\r\nContent-Length: 0", "Content-Length: 5\r\ncontent-length: 6",
             "Content-Length: 5\r\nX: y\r\nContent-Length: +5"]
    yield from with_fields("length", [f"Content-Length: {value}" for value in values] + pairs)
    for same in ("Content-Length: 5\r\nContent-Length: 5", "Content-Length: 5, 5", "Content-Length: 05", "Content-Length:  5", "Content-Length: 5\t"):
        yield Hostile(f"length {same!r}", ask("may", same + "\r\n", "hello", "POST"), False)


def codings():
    values = ["xchunked", "chunked, identity", "identity", "identity, chunked", "chunkedx", "chunked;q=1", "", "gzip, chunked", "gzip", "deflate, chunked", "chunked, chunked",
              "\x0bchunked", "\"chunked\"", "chunked\x00", "chun ked", "x, chunked", "chunked, x", "chunked\x0c", "cow", ", chunked, gzip"]
    twice = ["chunked\r\nTransfer-Encoding: identity", "identity\r\nTransfer-Encoding: chunked", "chunked\r\nTransfer-Encoding: chunked", "chunked\r\nTransfer-encoding: x", "x\r\ntransfer-encoding: chunked"]
    yield from with_fields("coding", [f"Transfer-Encoding: {value}" for value in values + twice])
    for spelt in ("Transfer-Encoding: CHUNKED", "transfer-encoding:chunked", "TRANSFER-ENCODING:\tchunked", "Transfer-Encoding: chunked ", "Transfer-Encoding: ,chunked", "Transfer-Encoding: chunked,"):
        yield Hostile(f"coding {spelt!r}", ask("may", spelt + "\r\n", "3\r\nabc\r\n0\r\n\r\n", "POST"), False)


def both():
    for length in ("0", "4", "5", "30", "99999"):
        for fields in (f"Content-Length: {length}\r\n{CHUNKED}", f"{CHUNKED}Content-Length: {length}\r\n"):
            for method in ("POST", "GET"):
                yield Hostile(f"both, {length}, {method}", ask("may", fields, "3\r\nabc\r\n0\r\n\r\n", method), True)
    for almost in ("Transfer-Encoding: xchunked", "Transfer-Encoding : chunked", "Transfer-Encoding:\x0bchunked", " Transfer-Encoding: chunked",
                   "X: y\rTransfer-Encoding: chunked", "Transfer-Encoding\x00: chunked", "X:\r\n Transfer-Encoding: chunked"):
        yield Hostile(f"length and {almost!r}", ask("never", f"Content-Length: 5\r\n{almost}\r\n", "0\r\n\r\n", "POST"), True)
    # Refused because of a name. The length of the body is clear.
    yield Hostile("length and underscore", ask("never", "Content-Length: 5\r\nTransfer_Encoding: chunked\r\n", "0\r\n\r\n", "POST"), False)
    # A line may end in LF alone (RFC 9112 §2.2): then both fields are present.
    yield Hostile("length and chunks behind LF", ask("may", "Content-Length: 5\r\nX: y\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", "POST"), True)


def names():
    fields = ["Transfer-Encoding : chunked", "Transfer Encoding: chunked", "Transfer_Encoding: chunked", "Content_Length: 5", "Content-Length : 5", "Content-Length\t: 5", "Transfer-Encoding\x0b: chunked",
              "Transfer.Encoding: chunked", "Content~Length: 5"]
    # Refused because of the name. The request has no body, so the following bytes are a request.
    for field in fields:
        broken = " :" in field or "\t:" in field or "\x0b" in field or " E" in field
        yield Hostile(f"name {field!r}", ask("never", field + "\r\n", "", "POST"), broken)


def chunks():
    # All parsers read `3 ` as 3 (the space belongs before an extension), and it is forwarded as 3.
    for size in ("3 ", "3\t", "03", "0000003"):
        yield Hostile(f"chunk size {size!r}", ask("may", CHUNKED, f"{size}\r\nabc\r\n0\r\n\r\n", "POST"), False)
    bad = ["0x3", "+3", "-1", "-0", " 3", "\t3", "10000000000000000", "3_0", "zz", "", "3g", "\"3\"", "3,", "３".encode().decode("latin-1"), "3\x00", "3\x0b"]
    for size in bad:
        yield Hostile(f"chunk size {size!r}", ask("may", CHUNKED, f"{size}\r\nabc\r\n0\r\n\r\n", "POST"), True)
    for name, body in {"no end": "3\r\nabcd\r\n0\r\n\r\n", "no line end": "3\r\nabc0\r\n\r\n", "bare LF": "3\nabc\n0\n\n", "LF after size": "3\nabc\r\n0\r\n\r\n", "LF after data": "3\r\nabc\n0\r\n\r\n",
                       "bare CR": "3\rabc\r\n0\r\n\r\n", "CR in extension": "3;a\r\r\nabc\r\n0\r\n\r\n", "LF in extension": "3;a\nb\r\nabc\r\n0\r\n\r\n", "LF ends extension": "3;a\nabc\r\n0\r\n\r\n",
                       "two CR, two letters": "0\r\r\nXX\r\n", "last without line end": "3\r\nabc\r\n0\r\n", "last with LF": "3\r\nabc\r\n0\n\n", "last with LF end": "3\r\nabc\r\n0\r\n\n", "CR CR LF": "3\r\r\nabc\r\n0\r\n\r\n",
                       "extension with CR LF by halves": "3;\r\nabc\r\n0;\n\r\n\r\n", "two bytes for an end": "3\r\nabcXX0\r\n\r\n", "one byte for an end": "3\r\nabcX0\r\n\r\n"}.items():
        # Some of these have only one reading. Whether they are accepted or not, the closed path after them must stay
        # closed.
        yield Hostile(f"chunk {name}", ask("may", CHUNKED, body, "POST"), None)
    for name, body in {"FFFFFFFFFFFFFFFF": "FFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n", "FFFFFFFFFFFFFFFE": "FFFFFFFFFFFFFFFE\r\nabc\r\n0\r\n\r\n", "7FFFFFFFFFFFFFFF": "7FFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n"}.items():
        yield Hostile(f"chunk {name}", ask("may", CHUNKED, body, "POST"), True)
    for extension in (";a", ";a=b", ";a=\"b\"", ";a=\"b;c\"", "; a = b", ";" + "x" * 1000):
        yield Hostile(f"extension {extension[:20]!r}", ask("may", CHUNKED, f"3{extension}\r\nabc\r\n0{extension}\r\n\r\n", "POST"), False)


def trailers():
    for field in ("Content-Length: 50", "Transfer-Encoding: chunked", "Host: b", "Authorization: Bearer forged", "X-Auth-Subject: forged", "X-Forwarded-For: forged", "X-Case: forged", "Connection: close", "X-Late: 1",
                  "Content-Length: 5\r\nContent-Length: 6", "Trailer: x"):
        for announced in ("", "Trailer: X-Auth-Subject, Content-Length\r\n"):
            yield Hostile(f"trailer {field!r}", ask("may", CHUNKED + announced, f"3\r\nabc\r\n0\r\n{field}\r\n\r\n", "POST"), False)
    for field in ("no colon", "X : y", " X: y", "X: a\0b", "X: a\rb", "X\x7f: y"):
        yield Hostile(f"trailer {field!r}", ask("may", CHUNKED, f"3\r\nabc\r\n0\r\n{field}\r\n\r\n", "POST"), None)


def old():
    yield Hostile("1.0 with chunks", ask("never", CHUNKED, "0\r\n\r\n", "POST", version="HTTP/1.0"), True)
    yield Hostile("1.0 with chunks and keep-alive", ask("never", CHUNKED + "Connection: keep-alive\r\n", "0\r\n\r\n", "POST", version="HTTP/1.0"), True)
    yield Hostile("1.0 with both", ask("never", CHUNKED + "Content-Length: 5\r\nConnection: keep-alive\r\n", "0\r\n\r\n", "POST", version="HTTP/1.0"), True)
    yield Hostile("1.0 without length", ask("must", "", "", "POST", version="HTTP/1.0"), True)
    yield Hostile("1.0 without length, kept", ask("must", "Connection: keep-alive\r\n", "", "POST", version="HTTP/1.0"), False)
    yield Hostile("1.0 without host", ask("never", "", "", "GET", version="HTTP/1.0", host=""), False)
    yield Hostile("1.0 with length", ask("must", "Content-Length: 5\r\nConnection: keep-alive\r\n", "hello", "POST", version="HTTP/1.0"), False)


def upgrades():
    for name, fields in {"websocket": "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
                         "h2c": "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n", "h2c alone": "Upgrade: h2c\r\n", "h2c, websocket": "Connection: upgrade\r\nUpgrade: h2c, websocket\r\n",
                         "TLS": "Connection: Upgrade\r\nUpgrade: TLS/1.3\r\n", "forged": "Connection: Upgrade\r\nUpgrade: forged\r\n", "twice": "Connection: Upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n"}.items():
        yield Hostile(f"upgrade {name}", ask("must", fields), False)
        yield Hostile(f"upgrade {name} with a body", ask("must", fields + "Content-Length: 5\r\n", "hello", "POST"), False)
        yield Hostile(f"upgrade {name} to closed", ask("never", fields, target="«closed»/x"), False)


def methods():
    yield Hostile("CONNECT", ask("never", method="CONNECT", target="a:443", host="Host: a:443\r\n"), False)
    yield Hostile("CONNECT path", ask("never", method="CONNECT", target="«closed»/x"), None)
    yield Hostile("CONNECT with a body", ask("never", "Content-Length: 5\r\n", "hello", method="CONNECT", target="a:443", host="Host: a:443\r\n"), None)
    yield Hostile("PRI", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", True)
    yield Hostile("PRI with frames", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", True)
    for method in ("TRACE", "get", "FOO", "GETT", "PURGE", "DEBUG", "M-SEARCH", "G=T", "\"GET\"", "GET\t", "G\0T"):
        yield Hostile(f"method {method!r}", ask("never", method=method), None)
    for override in ("X-HTTP-Method-Override: forged", "X-HTTP-Method: forged", "X-Method-Override: forged"):
        yield Hostile(f"override {override}", ask("must", override + "\r\n", method="POST"), False)


def bodies():
    """A request as the body of another one: it must never be read as a request, for any method, whether the other one is refused or not."""
    inner = ask("never", target="«open»/inner")
    chunk = f"{size(inner):x}\r\n{inner}\r\n0\r\n\r\n"
    for target, fate in (("«open»/x", "may"), ("«closed»/x", "never"), ("«small»/x", "may"), ("«open»/../x", "never"), ("/none", "never")):
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "FOO", "TRACE"):
            for expect in ("", "Expect: 100-continue\r\n", "Expect: forged\r\n"):
                sure = "never" if method in ("FOO", "TRACE") else fate
                # Requests such as HEAD with a body above the limit of its path: the requests after it may be lost with
                # the connection.
                name = f"body of {method} {target} {expect[:12]}"
                yield Hostile(f"{name} by length", ask(sure, f"{expect}Content-Length: {size(inner)}\r\n", inner, method, target), False)
                yield Hostile(f"{name} by chunks", ask(sure, f"{expect}{CHUNKED}", chunk, method, target), False)
                yield Hostile(f"{name} cut short", ask(sure, f"{expect}Content-Length: {size(inner) + 5000}\r\n", inner, method, target), True)


def hosts():
    wrong = ["", "Host:\r\n", "Host: a\r\nHost: a\r\n", "Host: a\r\nHost: b\r\n", "Host: a, b\r\n", "Host: a b\r\n", "Host: u@a\r\n", "Host: a/b\r\n", "Host: a:b\r\n", "Host: a:99999\r\n", "Host: [::1\r\n", "Host: a%00\r\n",
             "Host: \xe4\r\n", "Host: a..b\r\n", "Host: .\r\n", "Host: a?x\r\n", "Host: a#x\r\n", "Host: a\\b\r\n", f"Host: {'a' * 8192}\r\n", f"Host: {'a' * 256}\r\n", "Host: http://a\r\n"]
    for host in wrong:
        yield Hostile(f"host {host[:40]!r}", ask("never", host=host), False)
    for host in ("Host : a\r\n", " Host: a\r\n", "Ho\0st: a\r\n", "Host: a\0\r\n", "Host: a\rb\r\n"):
        yield Hostile(f"host {host!r}", ask("never", host=host), True)
    for target in ("http://b«open»/x", "https://b«open»/x", "http://a«open»/x", "https://u@a«open»/x", "https://u:p@a«open»/x", "ftp://a«open»/x", "//a«open»/x", "a«open»/x", "*", "a:80", "?x", "https://a", "javascript:1",
                   "https://a:1«open»/x", "https://a#«open»/x", "https://a\\«open»/x", "https://«open»/x", "https:«open»/x", "https:///«open»/x"):
        yield Hostile(f"target {target}", ask("never", target=target), None)
    yield Hostile("absolute target", ask("must", target="https://a«open»/x"), False)
    yield Hostile("absolute target, closed", ask("never", target="https://a«closed»/x"), False)
    yield Hostile("host and underscore", ask("may", "X_Host: forged\r\nX-Host: b\r\n"), False)
    yield Hostile("forwarded host", ask("must", "X-Forwarded-Host: forged\r\nForwarded: host=forged\r\nX-Original-Host: forged\r\n"), False)


def odd_bytes():
    fields = ["X: a\rb", "X: a\0b", "X: a\1b", "X: a\x7fb", "X\0: a", "X\1: a", "X y: a", "X : a", "no colon", ": a", "X\t: a", "X: a\r\n folded", "X: a\r\n\tfolded", "X: a\r\n  Transfer-Encoding: chunked",
              "X(y): a", "X[y]: a", "\xfc: a", "X\x80: a", "X: \x1ba", "X: a\x08", "X: \r", "\rX: a", "X: a\r\r"]
    for field in fields:
        yield Hostile(f"byte {field!r}", ask("never", field + "\r\n"), True)
        yield Hostile(f"byte {field!r} and a body", ask("never", f"Content-Length: 5\r\n{field}\r\n", "hello", "POST"), True)
    for fine in ("X: a\tb", "X: \xe4", "X: \x80\xff", "X:", "X:   a   ", "x!#$%&'*+.^`|~: a"):
        yield Hostile(f"byte {fine!r}", ask("may", fine + "\r\n"), False)
    yield Hostile("leading space", ask("never").replace("\r\nX-Case", "\r\n X-Case"), True)
    yield Hostile("bare LF throughout", ask("may").replace("\r\n", "\n"), False)
    yield Hostile("bare CR throughout", ask("never").replace("\r\n", "\r"), True)
    for before in ("\r\n", "\n", "\r\n\r\n"):
        yield Hostile(f"{before!r} before", before + ask("may"), False)
    for before in ("\0", " ", "\t", "\x16\x03\x01\x02\0\1\0", "\r"):
        yield Hostile(f"{before!r} before", before + ask("may"), None)


def sizes():
    many = "".join(f"X-{number}: a\r\n" for number in range(101))
    total = "".join(f"X-{number}: {'a' * 1000}\r\n" for number in range(40))
    for name, fields in (("101 fields", many), ("33 KiB in one", f"X: {'a' * 33 * 1024}\r\n"), ("40 KiB in 40", total), ("33 KiB of a name", "a" * 33 * 1024 + ": x\r\n"), ("101 of one name", "X: a\r\n" * 101)):
        yield Hostile(name, ask("never", fields), True)
        yield Hostile(f"{name} and a body", ask("never", f"Content-Length: 5\r\n{fields}", "hello", "POST"), True)
    yield Hostile("one field of 31 KiB", ask("may", f"X: {'a' * 31 * 1024}\r\n"), False)
    yield Hostile("a name of 8 KiB", ask("never", "a" * 8192 + ": x\r\n"), False)
    yield Hostile("a name of 255", ask("may", "a" * 255 + ": x\r\n"), False)
    yield Hostile("97 fields", ask("may", "".join(f"X-{number}: a\r\n" for number in range(97))), False)
    for name, target in (("path", f"«open»/{'a' * 8192}"), ("query", f"«open»/x?{'a' * 8193}"), ("slashes", "/" * 8000), ("dots", "«open»/" + "../" * 2600)):
        yield Hostile(f"long {name}", ask("never", target=target), False)
    yield Hostile("path at the limit", ask("may", target=f"«open»/{'a' * (8192 - 9)}"), False)


def versions():
    # A higher minor version is HTTP/1.1 to a server that knows no more (RFC 9110 §2.5).
    yield Hostile("version 'HTTP/1.2'", ask("may", version="HTTP/1.2"), False)
    for version in ("HTTP/01.1", "HTTP/1.01", "http/1.1", "HTTP/2.0", "HTTP/3", "HTTP/0.9", "HTTP/1.1x", "HTTP/ 1.1", "HTTP/1.1 x", "HTTP1.1", "HTTPS/1.1", "XTTP/1.1", "HTTP/1.1\t", "HTTP/1,1", "", " "):
        yield Hostile(f"version {version!r}", ask("never", version=version), True)
    for text in ("GET «open»/x\r\n", "GET «open»/x\n", "garbage\r\n\r\n", "\0\0\0\0\r\n\r\n", "\x16\x03\x01\x02\0\1\0\1\r\n\r\n", ":\r\n\r\n", "\x80\x2e\1\0\2"):
        yield Hostile(f"garbage {text!r}", text, True)
    for line in ("GET  «open»/x HTTP/1.1", "GET «open»/x  HTTP/1.1", " GET «open»/x HTTP/1.1", "GET «open»/x y HTTP/1.1", "GET\t«open»/x HTTP/1.1", "GET «open»/x\tHTTP/1.1", "GET HTTP/1.1", "GET «open»/x\0 HTTP/1.1",
                 "GET «open»/\xfc HTTP/1.1", "GET «open»/x\r HTTP/1.1", "GET «open»/x HTTP/1.1 ", "GET «open»/x\x0bHTTP/1.1", "GET\x0c«open»/x HTTP/1.1", "GET «open»/x#«closed» HTTP/1.1", "GET «open»\\..\\x HTTP/1.1"):
        yield Hostile(f"line {line!r}", f"{line}\r\nX-Case: «{'may' if '#' in line else 'never'} GET»\r\nHost: a\r\n\r\n", None)


SPOOFED = """X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto X-Forwarded-Prefix X-Forwarded-Uri X-Forwarded-User X-Forwarded-Port Forwarded Via X-Real-IP X-Original-URL
    X-Original-URI X-Rewrite-URL X-Client-Cert X-Auth-Subject X-Auth-Client-Id X-Auth-Scope X-Auth-Issuer X-Auth-Roles X-Request-Id Proxy Proxy-Authorization Keep-Alive TE Proxy-Connection""".split()


def spoofs():
    for name in SPOOFED:
        for spelt in (name, name.lower(), name.upper()):
            yield Hostile(f"spoofed {spelt}", ask("must", f"{spelt}: forged\r\n"), False)
        yield Hostile(f"spoofed twice {name}", ask("must", f"{name}: forged\r\n{name.upper()}: forged, admin\r\n"), False)
        yield Hostile(f"spoofed empty {name}", ask("must", f"{name}: \r\n"), False)
        yield Hostile(f"listed {name}", ask("may", f"Connection: {name}\r\n"), False)
        if "-" in name:
            for other in ("_", ".", "~", "!"):
                yield Hostile(f"look-alike {name.replace('-', other)}", ask("never", f"{name.replace('-', other)}: forged\r\n"), False)
            yield Hostile(f"look-alike {name.replace('-', '_', 1)}", ask("never", f"{name.replace('-', '_', 1)}: forged\r\n"), False)
    yield Hostile("a thousand hops", ask("may", "X-Forwarded-For: " + "10.0.0.1, " * 1000 + "forged\r\n"), False)
    yield Hostile("an honest underscore", ask("must", "api_key: 1\r\n"), False)
    for listed in ("Host", "Content-Length", "Transfer-Encoding", "Authorization", "close, X-Auth-Subject", "x_auth_scope", "\"a\"", "a b", ",,,", "Cookie", "Upgrade, Host"):
        yield Hostile(f"listed {listed}", ask("may" if listed in (",,,", "Cookie") else "never", f"Connection: {listed}\r\nContent-Length: 5\r\n", "hello", "POST"), listed.startswith("close"))


def credentials():
    for fields in ("Authorization: Bearer a\r\nAuthorization: Bearer b", "Authorization: Bearer a, Bearer b", "Authorization: Basic YTpi\r\nAuthorization: Bearer a", "Authorization:", "Authorization: Bearer", "Authorization: Bearer ",
                   "Authorization: Bearer\ta", "Authorization: bearer a.b.c", "Authorization_: Bearer a", "Proxy-Authorization: Bearer a", "Cookie: access_token=a", "X-Auth-Subject: admin\r\nX-Auth-Scope: read:data",
                   "Authorization: Bearer " + "a" * 9000, "Authorization: Bearer a\x80", "X-Forwarded-User: admin", "X-Original-URL: «open»/x".replace("«open»", "/k0/open")):
        yield Hostile(f"credentials {fields[:60]!r}", ask("never", fields + "\r\n", target="«closed»/x"), False)
        yield Hostile(f"credentials {fields[:60]!r} with a body", ask("never", fields + "\r\nContent-Length: 14\r\nContent-Type: application/x-www-form-urlencoded\r\n", "access_token=a", "POST", "«closed»/x"), False)
    for target in ("«closed»/x?access_token=a", "«closed»/x?token=a", "«closed»", "«closed»/", "«open»/../../k0/closed", "«open»/%2e%2e/closed", "«open»/..;/closed", "//k0/closed", "«open»/..%2fclosed", "«closed»;x"):
        yield Hostile(f"closed by {target}", ask("never", target=target), False)


FAMILIES = (lengths, codings, both, names, chunks, trailers, old, upgrades, methods, bodies, hosts, odd_bytes, sizes, versions, spoofs, credentials)


def large():
    """Inputs that take long, and are sent only once."""
    yield "64 KiB of one extension", ask("may", CHUNKED, f"1;{'x' * 65536}\r\na\r\n0\r\n\r\n", "POST") + hidden("closed")
    yield "100,000 chunks with an extension", ask("may", CHUNKED, "1;x\r\na\r\n" * 100_000 + "0\r\n\r\n", "POST") + hidden("closed")
    yield "10,000 trailers", ask("may", CHUNKED, "1\r\na\r\n0\r\n" + "X-A: b\r\n" * 10_000 + "\r\n", "POST") + hidden("closed")
    yield "1,000 empty lines", "\r\n" * 1000
    yield "50 requests in one breath", "".join(ask("must" if number % 2 else "never", target="«open»/x" if number % 2 else "«closed»/x") for number in range(50))
