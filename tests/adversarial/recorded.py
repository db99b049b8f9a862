"""What goes over connections, byte by byte: a recorder before each upstream, its records read strictly, and answers to raw bytes."""

import glob
import os
import re
import select
import ssl
import sys

from lib.echo_testbed import Broken, Connection

RECORDER = """
import asyncio, itertools, sys
listen, upstream, prefix = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
numbers = itertools.count()

async def pump(reader, writer, record=None):
    try:
        while data := await reader.read(65536):
            if record:
                record.write(data)
                record.flush()
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()

async def serve(reader, writer):
    with open(f"{prefix}{next(numbers)}.raw", "wb") as record:
        there, back = await asyncio.open_connection("127.0.0.1", upstream)
        await asyncio.gather(pump(reader, back, record), pump(there, writer))

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", listen, backlog=1024)
    await server.serve_forever()

asyncio.run(main())
"""


def start_recorders(testbed, kinds, first_port):
    """A recorder before the upstream of each of these kinds, on ports from the first on."""
    script = testbed.write("recorder.py", RECORDER)
    for port, kind in enumerate(kinds, first_port):
        testbed.launch([sys.executable, script, str(port), str(testbed.ports[kind]), testbed.path(f"{kind}-")], port, os.devnull)


def step(connection, unsent):
    """Writes and reads without waiting: (bytes left to send, bytes received; empty at the end, None for nothing yet)."""
    try:
        if unsent:
            unsent = unsent[connection.send(unsent[:65536]):]
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        pass
    except OSError:
        unsent = b""  # A closed connection is found by the next read.
    try:
        return unsent, connection.recv(65536)
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        select.select([connection], [connection] if unsent else [], [], 0.5)
        return unsent, None
    except OSError:
        return unsent, b""


class RecordedAnswers(Connection):
    """An answer that has been read already."""

    def __init__(self, data):
        self.unread = data

    def _more(self):
        raise Broken("cut")


HEAD_LINE = re.compile(r"[A-Z]+ /[\x21-\x7e]* HTTP/1\.1")
FIELD = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ?([\t\x20-\x7e\x80-\xff]*)")
HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "http2-settings", "expect", "proxy-authorization"}


def read_records(testbed, kinds):
    """From the bytes written to upstreams: requests as (case, whole), violations of strict HTTP/1.1, and fields that should
    have been removed."""
    requests, malformed, forged = [], [], []
    for kind in kinds:
        for name in glob.glob(testbed.path(f"{kind}-*.raw")):
            data = open(name, "rb").read()
            while data:
                head, found, rest = data.partition(b"\r\n\r\n")
                if not found:
                    break  # cut off while it was written
                case, length, fault, bad = strict(head.decode("latin-1"))
                forged += [(case, each) for each in bad]
                body_end = fault or body(rest, length)
                if isinstance(body_end, str):
                    malformed.append((kind, case, body_end, data[:300]))
                    break
                requests.append((case, body_end is not None))
                data = b"" if body_end is None else rest[body_end:]
    return requests, malformed, forged


def strict(head):
    """Parses a head strictly: (case, length or "chunked", fault, fields that should have been removed)."""
    first, *lines = head.split("\r\n")
    fields = []
    if not HEAD_LINE.fullmatch(first):
        return "-", 0, f"request line {first[:100]!r}", []
    for line in lines:
        matched = FIELD.fullmatch(line)
        if not matched:
            return "-", 0, f"field {line[:100]!r}", []
        fields.append((matched[1].lower(), matched[2]))
    of = lambda name: [value for field, value in fields if field == name]
    case = (of("x-case") or ["-"])[0]
    lengths, codings = of("content-length"), of("transfer-encoding")
    if len(of("host")) != 1 or len(lengths) + len(codings) > 1 or codings not in ([], ["chunked"]):
        return case, 0, f"host, length or coding of {head[:200]!r}", []
    if lengths and not lengths[0].isdigit():
        return case, 0, f"length {lengths[0]!r}", []
    # `100-continue` is forwarded to services that speak HTTP/1.1.
    kept = ("expect", "100-continue")
    bad = [f"{field}: {value[:60]}" for field, value in fields if (field, value) != kept and (field in HOP_BY_HOP or spoofs(field, value))]
    return case, "chunked" if codings else int(lengths[0]) if lengths else 0, None, bad


def spoofs(field, value):
    ours = ("x-auth-", "x-forwarded-", "forwarded", "via", "x-real-ip", "x-request-id", "x-original-", "x-rewrite-url", "x-client-cert", "x-http-method")
    return "forged" in value and (field == "proxy" or field.replace("_", "-").startswith(ours))


def body(data, length):
    """The end of the body, None if it is incomplete, or a text if it is not a valid body."""
    if length != "chunked":
        return length if len(data) >= length else None
    at = 0
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", data[at:end]):
            return f"chunk size {data[at:end][:40]!r}"
        size = int(data[at:end], 16)
        at = end + 2 + size
        if len(data) < at + 2:
            return None
        if data[at:at + 2] != b"\r\n":
            return f"chunk end {data[at:at + 20]!r}"
        at += 2
        if not size:
            return at
