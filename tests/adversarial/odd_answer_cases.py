"""The answers of odd_answers.py, and what becomes of each.

A case is the bytes that an upstream writes instead of an answer, what it does then, and what the gateway must make of them. The rules are
those of RFC 9112; a rule's name is the one that the gateway logs.
"""

from collections import namedtuple

Case = namedtuple("Case", "name pieces ends expected request")
# `kind` is one of KINDS. `rules`: the gateway names one of these. `fields`: fields of the answer, None where there must be none.
Expected = namedtuple("Expected", "kind status body rules fields")

KINDS = {
    "kept": "forwarded, and the connection is used again",
    "closed": "forwarded, and the connection is closed",
    "forwarded": "forwarded; the connection may be used again or not",
    "either": "forwarded or 502, by what comes first; the connection may be used again or not",
    "refused": "502",
    "broken": "the head is forwarded, and then the client's answer is broken off too",
    "late": "504",
}
# EARLY is a GET whose answer is written as soon as the connection is open.
GET, EARLY = "GET", "EARLY"
STRAY = "HTTP/1.1 200 OK\r\nX-Echo: stray\r\nContent-Length: 5\r\n\r\nstray"


def kept(body=b"hello", status=200, **fields):
    return Expected("kept", status, body, (), fields)


def closed(body=b"hello", status=200, **fields):
    return Expected("closed", status, body, (), fields)


def forwarded(body=b"hello", status=200, **fields):
    return Expected("forwarded", status, body, (), fields)


def refused(*rules):
    return Expected("refused", 502, None, rules, {})


def broken(*rules, status=200):
    return Expected("broken", status, None, rules, {})


LATE = Expected("late", 504, None, (), {})
EITHER = Expected("either", 200, None, (), {})


def case(name, answer, expected, ends="stays", request=GET):
    """`ends`: the upstream `stays` and reads on, `closes`, or `resets`. An answer in pieces has a pause between two of them."""
    pieces = answer if isinstance(answer, (list, tuple)) else [answer]
    return Case(name, [piece.encode("latin-1") if isinstance(piece, str) else piece for piece in pieces], ends, expected, request)


def sized(fields="", body="hello", line="HTTP/1.1 200 OK"):
    """An answer with a length, and these fields before it."""
    return f"{line}\r\n{fields}Content-Length: {len(body)}\r\n\r\n{body}"


def chunked(body, fields="", line="HTTP/1.1 200 OK"):
    return f"{line}\r\n{fields}Transfer-Encoding: chunked\r\n\r\n{body}"


def head(fields, body="", line="HTTP/1.1 200 OK"):
    return f"{line}\r\n{fields}\r\n{body}"


def status_lines():
    for name, line in (
        ("no reason, no space", "HTTP/1.1 200"),
        ("empty reason", "HTTP/1.1 200 "),
        ("8-bit reason", "HTTP/1.1 200 Tr\xe8s bien"),
        ("reason with a tab", "HTTP/1.1 200 O\tK"),
        ("HTTP/1.2", "HTTP/1.2 200 OK"),
    ):
        yield case(name, sized(line=line), kept())
    yield case("status 299", sized(line="HTTP/1.1 299 Odd"), kept(status=299))
    yield case("status 999", sized(line="HTTP/1.1 999 Odd"), kept(status=999))
    for name, line, *rules in (
        ("`ICY 200 OK`", "ICY 200 OK", "version", "status_line"),
        ("HTTP/2.0", "HTTP/2.0 200 OK", "version", "status_line"),
        ("HTTP/0.9 in its line", "HTTP/0.9 200 OK", "version", "status_line"),
        ("`http/1.1` in lower case", "http/1.1 200 OK", "version", "status_line"),
        ("two spaces before the status", "HTTP/1.1  200 OK", "status_line"),
        ("a tab before the status", "HTTP/1.1\t200 OK", "version", "status_line"),
        ("a space before the version", " HTTP/1.1 200 OK", "version", "status_line"),
        ("status of two digits", "HTTP/1.1 20 OK", "status_line"),
        ("status of four digits", "HTTP/1.1 2000 OK", "status_line"),
        ("status `2OO`", "HTTP/1.1 2OO OK", "status_line"),
        ("status `099`", "HTTP/1.1 099 Low", "status_line"),
        ("no status", "HTTP/1.1", "status_line", "version"),
        ("NUL in the reason", "HTTP/1.1 200 O\0K", "nul"),
        ("control character in the reason", "HTTP/1.1 200 O\x01K", "status_line"),
        ("an empty line first", "\r\nHTTP/1.1 200 OK", "status_line", "version"),
    ):
        yield case(name, sized(line=line), refused(*rules))
    yield case("HTTP/0.9, a body only", "<html>hello</html>\r\n\r\n", refused("status_line", "version"), "closes")
    yield case("the banner of another protocol", "SSH-2.0-OpenSSH_9.9\r\n\r\n", refused("status_line", "version"), "closes")


def old_versions():
    old = "HTTP/1.0 200 OK"
    yield case("HTTP/1.0 until the connection closes", head("", "hello", old), closed(), "closes")
    yield case("HTTP/1.1 until the connection closes", head("", "hello"), closed(), "closes")
    yield case("HTTP/1.0 until close, `keep-alive`", head("Connection: keep-alive\r\n", "hello", old), closed(), "closes")
    yield case("HTTP/1.0 without a body, until close", head("", "", old), closed(b""), "closes")
    yield case("until close, and a reset", [head("Connection: close\r\n", "hello"), ""], broken(), "resets")
    yield case("HTTP/1.0 with a length", sized(line=old), closed())
    yield case("HTTP/1.0 with a length and `keep-alive`", sized("Connection: keep-alive\r\n", line=old), kept(connection=None))
    yield case("HTTP/1.0 with chunks", chunked("5\r\nhello\r\n0\r\n\r\n", line=old), closed())
    yield case("HTTP/1.0 with chunks and `keep-alive`", chunked("5\r\nhello\r\n0\r\n\r\n", "Connection: keep-alive\r\n", old), closed())
    yield case("HTTP/1.0 with chunks and a length", chunked("5\r\nhello\r\n0\r\n\r\n", "Content-Length: 3\r\n", old), closed())


def line_ends():
    yield case("bare LF throughout", sized("X: a\r\n").replace("\r\n", "\n"), refused("bare_line_feed"), "closes")
    yield case("bare LF after the status line", "HTTP/1.1 200 OK\nX: a\r\nContent-Length: 5\r\n\r\nhello", refused("bare_line_feed"))
    yield case("bare LF after a field", "HTTP/1.1 200 OK\r\nX: a\nContent-Length: 5\r\n\r\nhello", refused("bare_line_feed"))
    yield case("bare LF for the empty line", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\nhello", refused("bare_line_feed"), "closes")
    yield case("bare CR throughout", sized("X: a\r\n").replace("\r\n", "\r"), refused("bare_carriage_return"), "closes")
    yield case("bare CR in a value", sized("X: a\rb\r\n"), refused("bare_carriage_return"))
    yield case("CR CR LF", sized("X: a\r\r\n"), refused("bare_carriage_return"))
    yield case("LF CR", "HTTP/1.1 200 OK\n\rContent-Length: 5\n\r\n\rhello", refused("bare_line_feed"), "closes")
    yield case("bare LF in a head without an end", "HTTP/1.1 200 OK\nX: a\n", refused("bare_line_feed"))
    yield case("`Location` with CR", sized("Location: /a\rSet-Cookie: b=c\r\n"), refused("bare_carriage_return"))
    yield case("`Location` with LF", sized("Location: /a\nSet-Cookie: b=c\r\n"), refused("bare_line_feed"))


def fields():
    yield case("NUL in a value", sized("X: a\0b\r\n"), refused("nul"))
    yield case("NUL in a name", sized("X\0: a\r\n"), refused("nul"))
    for byte in ("\x01", "\x1b", "\x7f"):
        yield case(f"control character {ord(byte):#04x} in a value", sized(f"X: a{byte}b\r\n"), refused("field_value", "field_line"))
    yield case("8-bit value", sized("X: \xe4\xff\x80\r\n"), kept(x="\xe4\xff\x80"))
    yield case("8-bit name", sized("X\xe4: a\r\n"), refused("field_name", "field_line"))
    yield case("tab in a value", sized("X: a\tb\r\n"), kept(x="a\tb"))
    yield case("empty value", sized("X:\r\n"), kept(x=""))
    yield case("blanks around a value", sized("X: \t  a \t \r\n"), kept(x="a"))
    yield case("folded line", sized("X: a\r\n b\r\n"), closed(x="a b"))
    yield case("folded line, by a tab", sized("X: a\r\n\tb\r\n"), closed(x="a b"))
    yield case("line folded twice", sized("X: a\r\n  b\r\n   c\r\n"), closed(x="a b c"))
    yield case("folded `Transfer-Encoding`", head("Transfer-Encoding:\r\n chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"), closed())
    yield case("folded `Content-Length`", head("Content-Length:\r\n 5\r\n", "hello"), closed())
    yield case("space before the colon", sized("X : a\r\n"), refused("field_name", "field_line"))
    yield case("space before the colon of a length", head("Content-Length : 5\r\n", "hello"), refused("field_name", "field_line"))
    yield case("tab before the colon", sized("X\t: a\r\n"), refused("field_name", "field_line"))
    yield case("no colon", sized("no colon\r\n"), refused("field_line", "field_name"))
    yield case("empty name", sized(": a\r\n"), refused("field_name", "field_line"))
    yield case("space before the first field", sized(" X: a\r\n"), refused("folded_line", "field_line", "field_name"))
    yield case("space in a name", sized("X Y: a\r\n"), refused("field_name", "field_line"))
    yield case("bracket in a name", sized("X[]: a\r\n"), refused("field_name", "field_line"))
    yield case("underscore in a name", sized("x_y: a\r\n"), kept(x_y="a"))


def lengths():
    def length(value, body="hello"):
        return head(f"Content-Length: {value}\r\n", body)

    yield case("`Content-Length: 5` twice", length("5\r\nContent-Length: 5"), closed(content_length="5"))
    yield case("`Content-Length: 5, 5`", length("5, 5"), closed(content_length="5"))
    yield case("`Content-Length: 5` and `5, 5`", length("5\r\nContent-Length: 5, 5"), closed(content_length="5"))
    yield case("`Content-Length: 5 ` with a blank", length("5 "), kept(content_length="5"))
    yield case("`Content-Length: 05`", length("05"), kept())
    yield case("`Content-Length: 5` and `6`", length("5\r\nContent-Length: 6"), refused("several_lengths"))
    yield case("`Content-Length: 5, 6`", length("5, 6"), refused("several_lengths"))
    for value in ("+5", "-5", "0x5", "5 5", "5;", "5.0", "99999999999999999999", "9223372036854775809", "", "five"):
        yield case(f"`Content-Length: {value}`" if value else "`Content-Length` without a value", length(value), refused("length"))
    yield case("`Content-Length: +5` to HEAD", length("+5", ""), refused("length"), request="HEAD")
    yield case("length beyond the body, then close", length("10"), broken(), "closes")
    yield case("length beyond the body, then reset", [length("10"), ""], broken(), "resets")
    yield case("length beyond the body, and silence", length("10"), broken())
    yield case("length below the body", length("5", "hello, more"), closed())
    yield case("length and chunks", chunked("5\r\nhello\r\n0\r\n\r\n", "Content-Length: 3\r\n"), closed(content_length=None))
    yield case("chunks and a length", head("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "5\r\nhello\r\n0\r\n\r\n"), closed(content_length=None))
    yield case("an invalid length, and chunks", chunked("5\r\nhello\r\n0\r\n\r\n", "Content-Length: x\r\n"), closed(content_length=None))


def codings():
    def coding(value, body="5\r\nhello\r\n0\r\n\r\n"):
        return head(f"Transfer-Encoding: {value}\r\n", body)

    yield case("`Transfer-Encoding: CHUNKED`", coding("CHUNKED"), kept())
    yield case("`Transfer-Encoding: chunked ` with a blank", coding("chunked "), kept())
    for value in ("gzip", "identity", "xchunked", "chunked, gzip", "x, identity"):
        yield case(f"`Transfer-Encoding: {value}`", coding(value, "hello"), refused("coding"), "closes")
    for value in ("gzip, chunked", "chunked, chunked", "identity, chunked", "chunked;q=1", "\"chunked\"", "chunked\r\nTransfer-Encoding: chunked", "gzip\r\nTransfer-Encoding: chunked"):
        yield case(f"`Transfer-Encoding: {value}`".replace("\r\nTransfer-Encoding: ", "` and `"), coding(value), refused("coding"), "closes")
    yield case("`Transfer-Encoding` without a value", coding("", "hello"), refused("coding"), "closes")
    yield case("`Transfer-Encoding: gzip` and a length", head("Transfer-Encoding: gzip\r\nContent-Length: 5\r\n", "hello"), refused("coding"), "closes")


def chunks():
    end = "0\r\n\r\n"
    for name, body in (
        ("chunk size in upper case, with zeros", "000A\r\nhellohello\r\n"),
        ("chunk size in lower case", "a\r\nhellohello\r\n"),
    ):
        yield case(name, chunked(body + end), kept(b"hellohello"))
    yield case("last chunk `0000`", chunked("5\r\nhello\r\n0000\r\n\r\n"), kept())
    yield case("chunk extension", chunked("5;a=b\r\nhello\r\n" + end), kept())
    yield case("chunk extension without a value", chunked("5;a\r\nhello\r\n0;b\r\n\r\n"), kept())
    yield case("quoted chunk extension", chunked("5;a=\"b;c\\\"d\"\r\nhello\r\n" + end), kept())
    yield case("chunk extension with blanks", chunked("5 ; a = b\r\nhello\r\n" + end), kept())
    yield case("trailers", chunked("5\r\nhello\r\n0\r\nX-Late: a\r\nX-Later: b\r\n\r\n"), kept(x_late=None))
    yield case("trailers with framing", chunked("5\r\nhello\r\n0\r\nContent-Length: 3\r\nSet-Cookie: a=b\r\n\r\n"), kept(content_length=None, set_cookie=None))
    for name, body, *rules in (
        ("blank behind a chunk's size", "5 \r\nhello\r\n", "chunk_extension", "chunk_size"),
        ("chunk's size padded with blanks", "5       \r\nhello\r\n", "chunk_extension", "chunk_size"),
        ("blank before a chunk's size", " 5\r\nhello\r\n", "chunk_size"),
        ("chunk size `0x5`", "0x5\r\nhello\r\n", "chunk_size"),
        ("chunk size `+5`", "+5\r\nhello\r\n", "chunk_size"),
        ("chunk size `-5`", "-5\r\nhello\r\n", "chunk_size"),
        ("chunk without a size", "\r\nhello\r\n", "chunk_size"),
        ("chunk size of 17 digits", "00000000000000005\r\nhello\r\n", "chunk_size"),
        ("chunk size `FFFFFFFFFFFFFFFFF`", "FFFFFFFFFFFFFFFFF\r\nhello\r\n", "chunk_size"),
        ("chunk extension of a semicolon only", "5;\r\nhello\r\n", "chunk_extension"),
        ("chunk extension with a control character", "5;a\x01\r\nhello\r\n", "chunk_extension"),
        ("chunk extension with NUL", "5;a\0b\r\nhello\r\n", "nul", "chunk_extension"),
        ("chunk extension with a bare CR", "5;a\rb\r\nhello\r\n", "bare_carriage_return", "chunk_extension"),
        ("chunk extension with an open quote", "5;a=\"b\r\nhello\r\n", "chunk_extension"),
        ("chunk extension of 20 KiB", f"5;{'a' * 20480}\r\nhello\r\n", "chunk_overhead"),
        ("bare LF after a chunk's size", "5\nhello\r\n", "bare_line_feed", "chunk_size", "chunk_end"),
        ("bare LF after a chunk's data", "5\r\nhello\n", "bare_line_feed", "chunk_end"),
        ("chunk size above the data", "6\r\nhello\r\n", "bare_line_feed", "chunk_end"),
        ("chunk size below the data", "4\r\nhello\r\n", "chunk_end"),
    ):
        yield case(name, chunked(body + end), broken(*rules), "closes")
    yield case("last chunk, bare LF at its end", chunked("5\r\nhello\r\n0\r\n\n"), broken("bare_line_feed", "chunk_end", "trailer"), "closes")
    yield case("trailer without a colon", chunked("5\r\nhello\r\n0\r\nno colon\r\n\r\n"), broken("trailer", "field_line", "field_name"), "closes")
    yield case("trailer with a bare LF at its end", chunked("5\r\nhello\r\n0\r\nX: a\n\n"), broken("bare_line_feed", "trailer"), "closes")
    yield case("trailers of 100 KiB", chunked(f"5\r\nhello\r\n0\r\nX: {'a' * 102400}\r\n\r\n"), broken("trailers_too_large"), "closes")
    yield case("no CRLF at the end", chunked("5\r\nhello\r\n0\r\n"), broken(), "closes")
    yield case("no last chunk", chunked("5\r\nhello\r\n"), broken(), "closes")
    yield case("chunks that end in a reset", [chunked("5\r\nhello\r\n"), ""], broken(), "resets")


def bodiless():
    yield case("204 with a length and a body", sized(line="HTTP/1.1 204 No Content"), closed(b"", 204, content_length=None))
    yield case("204 with chunks", chunked("5\r\nhello\r\n0\r\n\r\n", line="HTTP/1.1 204 No Content"), closed(b"", 204, transfer_encoding=None))
    yield case("204 with a body and no length", head("", "hello", "HTTP/1.1 204 No Content"), closed(b"", 204))
    yield case("204 with `Content-Length: 0`", sized(body="", line="HTTP/1.1 204 No Content"), kept(b"", 204, content_length=None))
    yield case("304 with a length and a body", sized(line="HTTP/1.1 304 Not Modified"), closed(b"", 304))
    yield case("304 with a length", head("Content-Length: 5\r\n", line="HTTP/1.1 304 Not Modified"), closed(b"", 304))
    yield case("HEAD with a body", sized(), closed(b""), request="HEAD")
    yield case("HEAD with a body, late", [head("Content-Length: 61\r\n"), STRAY], closed(b""), request="HEAD")
    yield case("HEAD with chunks", chunked("5\r\nhello\r\n0\r\n\r\n"), closed(b""), request="HEAD")
    yield case("HEAD without framing", head(""), kept(b""), request="HEAD")
    yield case("205 with a body", sized(line="HTTP/1.1 205 Reset Content"), kept(status=205))


def interim():
    yield case("100, then 200", "HTTP/1.1 100 Continue\r\n\r\n" + sized(), kept())
    yield case("100 with fields, then 200", "HTTP/1.1 100 Continue\r\nX-Interim: a\r\n\r\n" + sized(), kept(x_interim=None))
    yield case("102, 103, then 200", "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + sized(), kept(link=None))
    yield case("103 with a length", "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n" + sized(), forwarded())
    yield case("10,000 × 103, then 200", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 10_000 + sized(), refused("too_many_interim"))
    yield case("103 without end", ["HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"] * 60, refused("too_many_interim"))
    yield case("101 that was not asked for", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n" + STRAY, refused())
    yield case("100, then close", "HTTP/1.1 100 Continue\r\n\r\n", refused(), "closes")


def sizes():
    yield case("head of 65 KiB", sized("".join(f"X-{number}: {'a' * 1000}\r\n" for number in range(66))), refused("head_too_large"))
    yield case("head of 65 KiB without an end", f"HTTP/1.1 200 OK\r\nX: {'a' * 66560}", refused("head_too_large"))
    yield case("head of 60 KiB", sized("".join(f"X-{number}: {'a' * 1000}\r\n" for number in range(59))), kept())
    yield case("`Set-Cookie` of 60 KiB", sized(f"Set-Cookie: a={'b' * 61440}\r\n"), kept(set_cookie="a=" + "b" * 61440))
    yield case("90 fields", sized("".join(f"X-{number}: a\r\n" for number in range(90))), kept())
    yield case("300 fields", sized("".join(f"X-{number}: a\r\n" for number in range(300))), refused("too_many_fields"))
    yield case("300 fields of one name", sized("X: a\r\n" * 300), refused("too_many_fields"))


def connections():
    yield case("`Connection: close`, and it stays open", sized("Connection: close\r\n"), closed(connection=None))
    yield case("`Connection: Close, X`", sized("Connection: Close, X\r\nX: a\r\n"), closed(x=None))
    yield case("`Connection: keep-alive, close`", sized("Connection: keep-alive, close\r\n"), closed())
    yield case("`Keep-Alive: timeout=5`", sized("Connection: Keep-Alive\r\nKeep-Alive: timeout=5, max=100\r\n"), kept(keep_alive=None))
    yield case("`Proxy-Connection: close`", sized("Proxy-Connection: close\r\n"), kept(proxy_connection=None))
    yield case("head byte by byte", list(sized()), kept())
    yield case("chunks byte by byte", list(chunked("5\r\nhello\r\n0\r\n\r\n")), kept())
    yield case("head that never ends", list("HTTP/1.1 200 OK\r\nX: " + "a" * 1000), LATE)
    yield case("no answer", "", LATE)
    yield case("close before the answer", "", refused(), "closes")
    yield case("close in the head", "HTTP/1.1 200 OK\r\nContent-Len", refused(), "closes")
    yield case("reset in the head", ["HTTP/1.1 200 OK\r\nContent-Len", ""], refused(), "resets")
    yield case("two answers at once", sized() + STRAY, closed())
    yield case("two answers, the second late", [sized(), STRAY], closed())
    yield case("CRLF after the body", sized() + "\r\n", closed())
    yield case("junk after the body", sized() + "junk", closed())
    yield case("junk after the body, late", [sized(), "junk"], closed())
    yield case("junk after the last chunk", chunked("5\r\nhello\r\n0\r\n\r\njunk"), closed())
    yield case("answer before the request", sized(), EITHER, request=EARLY)
    yield case("answer before the body of the request", sized(line="HTTP/1.1 413 Too Large"), closed(status=413), request="POST")


# The title of a family in the page, in its order.
FAMILIES = {
    "Status lines": status_lines,
    "Old versions, bodies until close": old_versions,
    "Line ends": line_ends,
    "Fields": fields,
    "`Content-Length`": lengths,
    "`Transfer-Encoding`": codings,
    "Chunks and trailers": chunks,
    "Answers without a body": bodiless,
    "Interim answers": interim,
    "Sizes": sizes,
    "Connections": connections,
}


def cases():
    """(family, case) of all."""
    return [(title, each) for title, family in FAMILIES.items() for each in family()]
