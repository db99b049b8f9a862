"""The inputs of terminators.py: requests with an odd end, and what RFC 9112 says of each.

A verdict is WHOLE (one request, and the next begins behind it), FOREIGN (the same, and the gateway refuses it for what it asks), HEAD (its
head is refused with 400 or 501) or BODY (its head is valid, its body is not).
"""

from collections import namedtuple

from hostile_inputs import CHUNKED, ask

Odd = namedtuple("Odd", "name text verdict")
WHOLE, FOREIGN, HEAD, BODY = "whole", "foreign", "head", "body"


def chunked(name, body, verdict):
    return Odd(f"{name} {body!r}"[:80], ask("odd", CHUNKED, body, "POST"), verdict)


def terminators():
    """The end of a chunked body: its last chunk, its trailers, and its empty line."""
    for end in ("0\r\n\r\n", "000\r\n\r\n", "0000000000000000\r\n\r\n", "0;x\r\n\r\n", "0;x=y\r\n\r\n", "0;x=\"y\"\r\n\r\n", "0;x=\"y;\\\"z\\\"\"\r\n\r\n", "0;x=\"\"\r\n\r\n", "0;x;y;z=1\r\n\r\n",
                "0 ;x\r\n\r\n", "0; x\r\n\r\n", "0\t;\tx\t=\ty\r\n\r\n", "0;x=\"\xe4\t\"\r\n\r\n", "0\r\nA: b\r\n\r\n", "0\r\nA:\r\n\r\n", "0\r\nA: b\r\nC: d\r\n\r\n", "0\r\nA: \xe4\t\r\n\r\n",
                "0\r\nContent-Length: 50\r\n\r\n", "0\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\nHost: b\r\n\r\n", "0\r\nConnection: close\r\n\r\n"):
        yield chunked("end", "5\r\nhello\r\n" + end, WHOLE)
    for end in ("0\r\n\n", "0\n\r\n", "0\n\n", "0\r\r\n\r\n", "0\r\n\r\r\n", "0\r\n\r", "0\r\n\n\r\n", "0\r\r\n", "0\r\n\0\r\n", "0\r\n \r\n", "0\r\n\t\r\n\r\n",
                "0\r\nA: b\n\n", "0\r\nA: b\n\r\n", "0\r\nA: b\r\n\n", "0\r\nA: b\n", "0\r\nA: b\r\r\n\r\n", "0\r\nA: b\rC: d\r\n\r\n", "0\nA: b\r\n\r\n",
                "0\r\nA : b\r\n\r\n", "0\r\n A: b\r\n\r\n", "0\r\nA\r\n\r\n", "0\r\n: b\r\n\r\n", "0\r\nA: b\0\r\n\r\n", "0\r\nA: \x01\r\n\r\n", "0\r\nA: b\r\n c\r\n\r\n", "0\r\nA\x80: b\r\n\r\n", "0\r\nA B: c\r\n\r\n",
                "0;x\n\r\n", "0;x\r\r\n\r\n", "0;x\rA\r\n\r\n", "0;\r\n\r\n", "0; \r\n\r\n", "0;;x\r\n\r\n", "0;x;\r\n\r\n", "0 \r\n\r\n", " 0\r\n\r\n", "0\t\r\n\r\n", "0;x \r\n\r\n", "0 x\r\n\r\n", "0x\r\n\r\n",
                "0;x=\r\n\r\n", "0;=y\r\n\r\n", "0;x=\"y\r\n\r\n", "0;x=\"y\"z\r\n\r\n", "0;x=y z\r\n\r\n", "0;x=\"\\\r\n\r\n", "0;x\x01\r\n\r\n", "0;x\x7f\r\n\r\n", "0;\x80\r\n\r\n", "0;x\0\r\n\r\n", "0;x=\"\x01\"\r\n\r\n", "0;x=\"\n\"\r\n\r\n",
                "0x0\r\n\r\n", "-0\r\n\r\n", "+0\r\n\r\n", "0,\r\n\r\n", "0_0\r\n\r\n", "0\x0b\r\n\r\n", "0\x0c\r\n\r\n", "00000000000000000\r\n\r\n", "\r\n0\r\n\r\n", "\n0\r\n\r\n", "\r\n\r\n", "G\r\n\r\n"):
        yield chunked("end", "5\r\nhello\r\n" + end, BODY)


def chunk_lines():
    """A chunk before the last one."""
    for body in ("5;a\r\nhello\r\n", "5;a=\"b;c\"\r\nhello\r\n", "05\r\nhello\r\n", "5\r\n\r\n0\r\n\r\n", "7\r\n0\r\n\r\nGE\r\n", "A\r\nhellohello\r\n"):
        yield chunked("chunk", body + "0\r\n\r\n", WHOLE)
    for body in ("5\r\nhello", "5\r\nhelloXX", "5\r\nhello\n", "5\r\nhello\r", "5\nhello\r\n", "5\n\nhello\r\n", "6\r\nhello\r\n", "4\r\nhello\r\n", "5\r\r\nhello\r\n", "5 \r\nhello\r\n", " 5\r\nhello\r\n", "5\t\r\nhello\r\n",
                 "5;\r\nhello\r\n", "5;a\x01\r\nhello\r\n", "5;a\0\r\nhello\r\n", "5;a\nb\r\nhello\r\n", "5;a\rb\r\nhello\r\n", "5;a=\"b\r\nhello\r\n", "5;\n\r\nhello\r\n", "5;a=\"\n\"\r\nhello\r\n", "5;a\x1b[0m\r\nhello\r\n",
                 "0x5\r\nhello\r\n", "+5\r\nhello\r\n", "-5\r\nhello\r\n", "5h\r\nhello\r\n", "5,5\r\nhello\r\n", "5.\r\nhello\r\n", "\r\nhello\r\n", ";a\r\nhello\r\n", "00000000000000005\r\nhello\r\n", "10000000000000005\r\nhello\r\n"):
        yield chunked("chunk", body + "0\r\n\r\n", BODY)


def fields(name, lines, verdict, body="hello", **more):
    for line in lines:
        yield Odd(f"{name} {line!r}"[:80], ask("odd", line + "\r\n", body, "POST", **more), verdict)


def lengths():
    yield from fields("length", ["Content-Length: 5", "Content-Length:5", "Content-Length: 5 ", "Content-Length:\t5\t", "content-length: 05", "CONTENT-LENGTH: 5"], WHOLE)
    yield from fields("length", ["Content-Length: 5, 5", "Content-Length: 5,5", "Content-Length: 5\r\nContent-Length: 5", "Content-Length: 5\r\nContent-Length: 6", "Content-Length: 0\r\nContent-Length: 5",
                                 "Content-Length: 5\r\nX: y\r\nContent-Length: 0", "Content-Length: 5, 0", "Content-Length: 5,", "Content-Length: ,5", "Content-Length: +5", "Content-Length: -5", "Content-Length: 0x5", "Content-Length: 5 5",
                                 "Content-Length: 5;", "Content-Length: 5.0", "Content-Length: \"5\"", "Content-Length: ", "Content-Length:", "Content-Length: 99999999999999999999", "Content-Length: 18446744073709551621",
                                 "Content-Length: 5\x0b", "Content-Length: \x0c5", "Content-Length: 5\0", "Content-Length : 5", "Content-Length\t: 5", " Content-Length: 5", "Content-Length:\r\n 5", "Content-Length: 5\r\n ", "Content-Length: 5\rX: y",
                                 "Content-Length\0: 5", "Content-Length: \xb25"], HEAD)


def codings():
    end = "5\r\nhello\r\n0\r\n\r\n"
    yield from fields("coding", ["Transfer-Encoding: chunked", "Transfer-Encoding:chunked", "Transfer-Encoding: CHUNKED", "transfer-encoding:\tchunked\t", "TRANSFER-ENCODING: Chunked "], WHOLE, end)
    yield from fields("coding", ["Transfer-Encoding: xchunked", "Transfer-Encoding: chunkedx", "Transfer-Encoding: chunked, chunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked, gzip", "Transfer-Encoding: identity",
                                 "Transfer-Encoding: identity, chunked", "Transfer-Encoding: chunked;q=1", "Transfer-Encoding: \"chunked\"", "Transfer-Encoding:", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                                 "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chun ked", "Transfer-Encoding: \x0bchunked", "Transfer-Encoding: chunked\x0c",
                                 "Transfer-Encoding: chunked\0", "Transfer-Encoding : chunked", "Transfer-Encoding\t: chunked", " Transfer-Encoding: chunked", "Transfer-Encoding:\r\n chunked", "Transfer-Encoding: chunked\r\n ",
                                 "Transfer-Encoding: identity\r\n , chunked", "X: y\r\n Transfer-Encoding: chunked", "X: y\rTransfer-Encoding: chunked", "X: y\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\n", "Transfer-Encoding: \xffchunked",
                                 "Transfer\0-Encoding: chunked", "Transfer-Encoding\xa0: chunked"], HEAD, end)
    for lines in ("Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 5", "Transfer-Encoding: chunked\r\nX: y\r\nContent-Length: 0", "Content-Length: 0\r\nTransfer-Encoding: chunked",
                  "Transfer-Encoding: identity\r\nContent-Length: 5", "Content-Length: 5\r\nTransfer-Encoding: identity", "Content-Length: 5\r\nTransfer-Encoding:", "Content-Length: 15\r\nTransfer-Encoding: Chunked",
                  "Transfer-Encoding: chunked\r\nContent-Length: 15\r\nTransfer-Encoding: chunked"):
        yield from fields("both", [lines], HEAD, end)
    for more in ("", "Connection: keep-alive\r\n"):
        yield from fields("1.0", [more + "Transfer-Encoding: chunked", more + "Content-Length: 5\r\nTransfer-Encoding: chunked"], HEAD, end, version="HTTP/1.0")
    yield from fields("1.0", ["Connection: keep-alive\r\nContent-Length: 5"], WHOLE, version="HTTP/1.0")


def targets():
    for target in ("«open»/x?\"", "«open»/x?<a>", "«open»/x?a=b|c", "https://a«open»/x", "HTTPS://a«open»/x"):
        yield Odd(f"target {target}", ask("odd", target=target), WHOLE)
    for target in ("https://b«open»/x", "http://b«open»/x", "https://u@a«open»/x", "https://a:1«open»/x", "ftp://a«open»/x", "«open»/\"", "«open»/<x>"):
        yield Odd(f"target {target}", ask("odd", target=target), FOREIGN)
    for target in ("«open»/x#", "«open»/x#a", "«open»/x?#a", "#«open»/x", "https://a«open»/x#a", "«open»/x#a HTTP/1.1\r\nX: y", "«open»/x y", "«open»/\tx", "«open»/x\t", "«open»/\0x", "«open»/\x7f", "«open»/\xfc", "«open»/x\x0b",
                   "«open»/x\r", "«open»/x\n"):
        yield Odd(f"target {target!r}", ask("odd", target=target), HEAD)


def lines():
    plain = ask("odd")
    yield Odd("HTTP/1.2", ask("odd", version="HTTP/1.2"), WHOLE)
    yield Odd("CRLF before", "\r\n" + plain, WHOLE)
    yield Odd("CRLF before a body", "\r\n" + ask("odd", "Content-Length: 5\r\n", "hello", "POST"), WHOLE)
    yield Odd("value with a tab, and 8-bit", ask("odd", "X: a\tb\xe4\r\n"), WHOLE)
    for before in ("\n", "\r", "\r\n\r\n", "\r\r\n", "\r\n\n", " ", "\t", "\0", "\r\n "):
        yield Odd(f"{before!r} before", before + plain, HEAD)
    for version in ("HTTP/2.0", "HTTP/0.9", "HTTP/1.", "HTTP/1.10", "HTTP/01.1", "HTTP/1.1 ", "HTTP/1.1\t", " HTTP/1.1", "http/1.1", "HTTP/1.1\r", "HTTP/1,1", "HTTP/1.1\0", ""):
        yield Odd(f"version {version!r}", ask("odd", version=version), HEAD)
    for method in ("G T", "GET\t", " GET", "G\0T", "GET\r", "\"GET\"", "", "G\xc9T", "GET:"):
        yield Odd(f"method {method!r}", ask("odd", method="GET").replace("GET ", f"{method} ", 1), HEAD)
    for old, new in (("\r\n", "\n"), ("\r\n", "\r"), ("\r\n", "\n\r"), ("\r\n", "\r\r\n")):
        for count, where in ((-1, "throughout"), (1, "after the request line")):
            yield Odd(f"{new!r} {where}", plain.replace(old, new, count), HEAD)
    yield Odd("bare LF for the empty line", plain[:-2] + "\n", HEAD)
    yield Odd("CR for the empty line", plain[:-2] + "\r", HEAD)
    yield from fields("field", ["X: a\rb", "X: a\0b", "X: a\1b", "X: a\x7f", "X : a", "X\t: a", "X\0: a", "no colon", ": a", " X: a", "X: a\r\n b", "X: a\r\n\tb", "X Y: a", "X[]: a", "\xfc: a", "X: a\n", "X: a\nY: b", "X: a\r\r"], HEAD, "")


def odd_requests():
    return [odd for family in (terminators, chunk_lines, lengths, codings, targets, lines) for odd in family()]
