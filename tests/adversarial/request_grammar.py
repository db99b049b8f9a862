"""The requests in a stream of bytes, read by RFC 9112 to the letter, written apart from the gateway.

Where the RFC leaves a choice, a reader that refuses is right: bare CR and LF, folded lines, both framing fields, repeated lengths.
"""

import re
from collections import namedtuple

# `requests`: those that are whole. `end`: what comes then, of ENDS. `begun`: a request whose head is whole and whose body is not.
Reading = namedtuple("Reading", "requests end begun rule")
Request = namedtuple("Request", "method target case")
ENDS = {
    "end": "nothing, or bytes after a request that ends the connection",
    "head": "a head with a fault: it is refused with 400 or 501",
    "body": "a whole head, and a body with a fault",
    "cut": "a head or a body that is valid so far",
}

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([\x21-\x7e]+) HTTP/1\.([0-9])")
FIELD_LINE = re.compile(rb"(" + TOKEN + rb"):[ \t]*((?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[ \t]*")
EXTENSION = rb"(?:[ \t]*;[ \t]*" + TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + TOKEN + rb'|"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"))?)*'
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(" + EXTENSION + rb")")
MAX_LENGTH, MAX_OVERHEAD = 1 << 63, 16 * 1024


class Fault(Exception):
    pass


class Cut(Exception):
    pass


def read(data):
    """Reads until the first fault, the last byte, or the end that a request asks for."""
    requests, begun = [], None
    try:
        while data:
            method, target, fields, minor, data = request_head(data)
            length = framing(fields, minor)
            begun = Request(method, target, dict(fields).get("x-case", "-"))
            data = exact(data, length) if length != "chunked" else chunks(data)
            requests.append(begun)
            begun = None
            if not stays_open(fields, minor):
                break
    except Fault as fault:
        return Reading(requests, "body" if begun else "head", begun, str(fault))
    except Cut:
        return Reading(requests, "cut", begun, "")
    return Reading(requests, "end", None, "")


def request_head(data):
    # One empty line may come first (RFC 9112 §2.2).
    data = data.removeprefix(b"\r\n")
    line, fields, rest = head(data, "request line")
    matched = REQUEST_LINE.fullmatch(line)
    if not matched:
        raise Fault("request line")
    method, target, minor = matched[1].decode(), matched[2].decode(), int(matched[3])
    if "#" in target:
        raise Fault("fragment")
    return method, target, fields, minor, rest


def head(data, what):
    """(first line, fields, rest). A fault in a head that has no end yet is a fault at once."""
    end = data.find(b"\r\n\r\n")
    block = data[:end + 4] if end >= 0 else data
    # The last byte of a head without an end may still become a CRLF.
    if re.search(rb"\r[^\n]|\0|(?<!\r)\n", block):
        raise Fault(f"bare CR, bare LF or NUL in a {what}")
    if end < 0:
        raise Cut
    first, *lines = block[:-4].split(b"\r\n")
    return first, [field(line) for line in lines], data[end + 4:]


def field(line):
    matched = FIELD_LINE.fullmatch(line)
    if not matched:
        raise Fault(f"field line {line[:40]!r}")
    return matched[1].decode().lower(), matched[2].decode("latin-1")


def framing(fields, minor):
    """A number, or "chunked" (RFC 9112 §6.3)."""
    lengths = [value for name, value in fields if name == "content-length"]
    codings = [value for name, value in fields if name == "transfer-encoding"]
    if codings:
        if lengths:
            raise Fault("length and coding")
        if minor == 0:
            raise Fault("coding in HTTP/1.0")
        if [coding.lower() for coding in codings] != ["chunked"]:
            raise Fault("coding")
        return "chunked"
    if not lengths:
        return 0
    if len(lengths) > 1 or not re.fullmatch("[0-9]+", lengths[0]) or int(lengths[0]) > MAX_LENGTH:
        raise Fault("length")
    return int(lengths[0])


def exact(data, length):
    if len(data) < length:
        raise Cut
    return data[length:]


def chunks(data):
    overhead = 0
    while True:
        line, data = crlf_line(data)
        matched = CHUNK_LINE.fullmatch(line)
        if not matched:
            raise Fault(f"chunk line {line[:40]!r}")
        overhead += len(matched[2])
        if overhead > MAX_OVERHEAD:
            raise Fault("extensions")
        size = int(matched[1], 16)
        if not size:
            return trailers(data)
        data = exact(data, size)
        if data[:2] != b"\r\n"[:len(data)]:
            raise Fault("end of a chunk")
        data = exact(data, 2)


def crlf_line(data):
    end = data.find(b"\r\n")
    line = data[:end] if end >= 0 else data
    if re.search(rb"[\0\n]|\r.", line, re.DOTALL):
        raise Fault(f"chunk line {line[:40]!r}")
    if end < 0:
        raise Cut
    return line, data[end + 2:]


def trailers(data):
    if data.startswith(b"\r\n"):
        return data[2:]
    # As a head whose first line is empty.
    _, _, rest = head(b"\r\n" + data, "trailer")
    return rest


def stays_open(fields, minor):
    options = {option.strip().lower() for name, value in fields if name == "connection" for option in value.split(",")}
    return "close" not in options and (minor > 0 or "keep-alive" in options)
