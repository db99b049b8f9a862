"""Calls a gRPC service through the gateway by grpcio: every kind of call, and every refusal."""

import itertools
import json
import os
import queue
import time
from concurrent import futures

import grpc
from surroundings import CA, ORIGIN, TOKEN, tell

with open(CA, "rb") as file:
    tls = grpc.ssl_channel_credentials(file.read())
channel = grpc.secure_channel(ORIGIN.removeprefix("https://"), tls)
bearer = grpc.access_token_call_credentials(TOKEN)

KINDS = {
    "ServerStream": channel.unary_stream,
    "FailMidway": channel.unary_stream,
    "WaitForCancel": channel.unary_stream,
    "ClientStream": channel.stream_unary,
    "Echo": channel.stream_stream,
    "Greeting": channel.stream_stream,
    "EarlyEnd": channel.stream_stream,
}


def method(name, service="Guarded"):
    return KINDS.get(name, channel.unary_unary)(f"/test.{service}/{name}")


def call(name, request, service="Guarded", credentials=bearer, **options):
    return method(name, service)(request, credentials=credentials, timeout=options.pop("timeout", 20), **options)


def failure(run):
    """Status, message and trailers of a call that fails."""
    try:
        run()
    except grpc.RpcError as error:
        fields = [field for field in error.trailing_metadata() or () if field.key not in ("date", "x-request-id")]
        trailers = {key: value if isinstance(value, str) else value.hex() for key, value in fields}
        return error.code().name, error.details(), trailers
    return "OK", "", {}


def unary():
    response, done = method("Unary").with_call(b"x", credentials=bearer, timeout=20)
    initial, trailing = dict(done.initial_metadata()), dict(done.trailing_metadata())
    return [
        response.decode(),
        initial["x-initial"],
        initial["x-initial-bin"].hex(),
        trailing["x-trailing"],
        trailing["x-trailing-bin"].hex(),
        done.code().name,
    ]


def metadata():
    sent = (("x-mine", "1"), ("x-mine", "2"), ("x-mine-bin", b"\x00\x80"), ("x-auth-subject", "forged"))
    told = json.loads(call("Metadata", b"", metadata=sent, timeout=15))
    names = ["x-mine", "x-mine-bin", "x-auth-subject", "x-auth-client-id", "authorization"]
    return {name: told.get(name) for name in names} | {"deadline": 10 < told["time_remaining"] < 16}


def in_turn(name):
    """Sends a message only when the one before has been answered."""
    ours = queue.Queue()
    answers = call(name, iter(ours.get, None))
    for number in range(1000):
        ours.put(str(number).encode())
        if next(answers) != str(number).encode():
            return False
    ours.put(None)
    return list(answers) == []


def greeting():
    """The service speaks first, before any message of ours."""
    ours = queue.Queue()
    answers = call("Greeting", iter(ours.get, None))
    first = next(answers)
    ours.put(b"hi")
    second = next(answers)
    ours.put(None)
    return [first.decode(), second.decode(), len(list(answers))]


def early_end():
    """The service ends the call while we go on sending."""
    def requests():
        for number in itertools.count():
            yield str(number).encode()
            time.sleep(0.01)

    began = time.monotonic()
    code, details, _ = failure(lambda: list(call("EarlyEnd", requests())))
    return [code, details, time.monotonic() - began < 0.9]


def cancel():
    waiting = call("WaitForCancel", b"")
    next(waiting)
    waiting.cancel()
    return call("WasCancelled", b"").decode()


def deadline():
    code, _, _ = failure(lambda: list(call("WaitForCancel", b"", timeout=0.5)))
    return [code, call("WasCancelled", b"").decode()]


def crowd():
    with futures.ThreadPoolExecutor(16) as pool:
        calls = [pool.submit(call, "Unary", str(number).encode()) for number in range(300)]
        return all(done.result() == b"echo:%d" % number for number, done in enumerate(calls))


def midway():
    came = []

    def run():
        for message in call("FailMidway", b""):
            came.append(message.decode())

    return [*failure(run)[:2], came]


large = os.urandom(3 << 20)
tell(
    unary=unary(),
    large=call("Unary", large) == b"echo:" + large,
    metadata=metadata(),
    server_stream=[message.decode() for message in call("ServerStream", b"1000")] == [str(i) for i in range(1000)],
    client_stream=call("ClientStream", (str(number).encode() for number in range(1000))).decode(),
    in_turn=in_turn("Echo"),
    greeting=greeting(),
    early_end=early_end(),
    error=failure(lambda: call("Fail", b"")),
    midway=midway(),
    cancel=cancel(),
    deadline=deadline(),
    crowd=crowd(),
    unknown_method=failure(lambda: call("None", b""))[0],
    no_token=failure(lambda: call("Unary", b"", credentials=None))[:2],
    forged=failure(lambda: call("Unary", b"", credentials=grpc.access_token_call_credentials("a.b.c")))[:2],
    no_scope=failure(lambda: call("Unary", b"", service="Admin"))[:2],
    no_route=failure(lambda: call("Unary", b"", service="Nowhere"))[:2],
    once=call("Unary", b"", service="Once", credentials=None).decode(),
    limited=failure(lambda: call("Unary", b"", service="Once", credentials=None)),
    down=failure(lambda: call("Unary", b"", service="Down", credentials=None))[:2],
)
