"""The clients and the upstream of `reload_storm.py`: each runs in a process of its own.

A client keeps its connections open, sends its requests at a fixed rate and writes a line for each answer: request id, path, status, the number
in the answer's field `X-Number`, and the number that the upstream received or the gateway's own body. It counts what must not happen.
"""

import asyncio
import contextlib
import functools
import ssl
import time

PATHS = ("/flip", "/through")
ANSWER_WITHIN = 10
COUNTED_RATE = 20
# The example of RFC 6455, section 1.3.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def upstream(port):
    asyncio.run(_serve(port))


async def _serve(port):
    server = await asyncio.start_server(_answer, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


async def _answer(reader, writer):
    with contextlib.suppress(asyncio.IncompleteReadError, OSError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            path = head.split(" ", 2)[1]
            if path in ("/live", "/events"):
                await _stream(path, writer)
                return
            number = head.split("x-number: ", 1)[1].split("\r\n", 1)[0]
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(number)}\r\n\r\n{number}".encode())


async def _stream(path, writer):
    """A frame of a WebSocket, or an event, every half second."""
    if path == "/live":
        writer.write(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n".encode())
        piece = b"\x81\x01t"
    else:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        piece = b"data: t\n\n"
    while True:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.5)


@functools.cache
def context(protocol):
    """One for all connections: to make one takes some milliseconds."""
    made = ssl.create_default_context()
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.set_alpn_protocols([protocol])
    return made


def load(port, protocol, rate, connections, ends, log, results):
    """`rate` requests a second over all connections. Puts (answers, failures) into `results`."""
    results.put(asyncio.run(_load(port, protocol, rate, connections, ends, log)))


async def _load(port, protocol, rate, connections, ends, log):
    failures = []
    with open(log, "w") as lines:
        make = Http1 if protocol == "http/1.1" else Http2
        tasks = [_requests(make, port, rate / connections, number, ends, lines, failures) for number in range(connections)]
        counts = await asyncio.gather(*tasks)
    return protocol, sum(counts), failures


async def _requests(make, port, rate, number, ends, lines, failures):
    connection = await make.open(port)
    await asyncio.sleep(number / rate / 64)
    began, count = time.monotonic(), 0
    while time.monotonic() < ends:
        path = PATHS[count % 2]
        try:
            status, fields, body = await asyncio.wait_for(connection.get(path), ANSWER_WITHIN)
            lines.write(f"{fields['x-request-id']} {path} {status} {fields.get('x-number', '-')} {body.decode() if status == 200 else '-'}\n")
        except Exception as error:  # Whatever it is, the request has failed.
            failures.append(f"{make.__name__} {path}: {error!r}")
            connection = await make.open(port)
        count += 1
        await asyncio.sleep(max(0, began + count / rate - time.monotonic()))
    return count


class Http1:
    @classmethod
    async def open(cls, port):
        self = cls()
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port, ssl=context("http/1.1"), server_hostname="localhost")
        return self

    async def get(self, path):
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
        body = await self.reader.readexactly(int(fields["content-length"]))
        if "close" in fields.get("connection", ""):
            raise ConnectionError("the connection ends")
        return int(lines[0].split(" ")[1]), fields, body


class Http2:
    """One request at a time, on one connection."""

    @classmethod
    async def open(cls, port):
        import h2.connection  # Only where HTTP/2 is spoken: it is not in the standard library.
        self = cls()
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port, ssl=context("h2"), server_hostname="localhost")
        self.h2 = h2.connection.H2Connection()
        self.h2.initiate_connection()
        self.writer.write(self.h2.data_to_send())
        return self

    async def get(self, path):
        from h2 import events
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", path)], end_stream=True)
        self.writer.write(self.h2.data_to_send())
        fields, body = {}, b""
        while True:
            data = await self.reader.read(65536)
            if not data:
                raise ConnectionError("the connection has ended")
            for event in self.h2.receive_data(data):
                if isinstance(event, (events.ConnectionTerminated, events.StreamReset)):
                    raise ConnectionError(repr(event))
                if getattr(event, "stream_id", None) != stream:
                    continue
                if isinstance(event, events.ResponseReceived):
                    fields = {name.decode(): value.decode() for name, value in event.headers}
                elif isinstance(event, events.DataReceived):
                    body += event.data
                    self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
                elif isinstance(event, events.StreamEnded):
                    self.writer.write(self.h2.data_to_send())
                    return int(fields[":status"]), fields, body
            self.writer.write(self.h2.data_to_send())


def streams(port, count, ends, results):
    """`count` WebSockets and as many event streams. Puts the number that ended, or was silent for 5 s, into `results`."""
    results.put(asyncio.run(_streams(port, count, ends)))


async def _streams(port, count, ends):
    kinds = ["/live"] * count + ["/events"] * count
    return "streams", len(kinds), [ended for ended in await asyncio.gather(*(_follow(port, path, ends) for path in kinds)) if ended]


async def _follow(port, path, ends):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context("http/1.1"), server_hostname="localhost")
    upgrade = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n" if path == "/live" else ""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith((b"HTTP/1.1 101", b"HTTP/1.1 200")):
        return f"{path}: {head[:80]!r}"
    while time.monotonic() < ends:
        try:
            if not await asyncio.wait_for(reader.read(4096), 5):
                return f"{path} ended"
        except (OSError, asyncio.TimeoutError) as error:
            return f"{path}: {error!r}"
    writer.close()
    return None


def counted(port, ends, results):
    """Requests of the limited route. Puts the times of those that passed into `results`."""
    results.put(asyncio.run(_counted(port, ends)))


async def _counted(port, ends):
    connection, passed, failures = await Http1.open(port), [], []
    began = time.monotonic()
    while time.monotonic() < ends:
        try:
            status, _, _ = await asyncio.wait_for(connection.get("/counted"), ANSWER_WITHIN)
            if status == 200:
                passed.append(time.monotonic() - began)
            elif status != 429:
                failures.append(f"/counted: {status}")
        except Exception as error:  # Whatever it is, the request has failed.
            failures.append(f"/counted: {error!r}")
            connection = await Http1.open(port)
        await asyncio.sleep(1 / COUNTED_RATE)
    return "counted", (passed, time.monotonic() - began), failures
