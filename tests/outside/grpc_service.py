"""A gRPC service by grpcio. Says its port, and serves until its standard input ends."""

import json
import sys
import threading
from concurrent import futures

import grpc

cancelled = threading.Semaphore(0)


def unary(request, context):
    context.send_initial_metadata((("x-initial", "early"), ("x-initial-bin", b"\x00\xff")))
    context.set_trailing_metadata((("x-trailing", "late"), ("x-trailing-bin", b"\xfe\x01")))
    return b"echo:" + request


def metadata(request, context):
    """What the service was told besides the message."""
    told = {}
    for key, value in context.invocation_metadata():
        told.setdefault(key, []).append(value.hex() if isinstance(value, bytes) else value)
    told["time_remaining"] = context.time_remaining()
    return json.dumps(told).encode()


def server_stream(request, context):
    for number in range(int(request)):
        yield str(number).encode()


def client_stream(requests, context):
    return str(sum(int(request) for request in requests)).encode()


def echo(requests, context):
    """Answers each message before it reads the next."""
    for request in requests:
        yield request


def greeting(requests, context):
    """Speaks first."""
    yield b"hello"
    for request in requests:
        yield b"you said " + request


def early_end(requests, context):
    """Ends while the client has not."""
    next(requests)
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "enough")


def fail(request, context):
    context.set_trailing_metadata((("grpc-status-details-bin", b"\x08\x05\x12\x02no"),))
    context.abort(grpc.StatusCode.NOT_FOUND, "100% gone: \u00fc\n")


def fail_midway(request, context):
    yield b"first"
    context.abort(grpc.StatusCode.DATA_LOSS, "broke")


def wait_for_cancel(request, context):
    gone = threading.Event()
    context.add_callback(gone.set)
    yield b"waiting"
    if gone.wait(20):
        cancelled.release()


def was_cancelled(request, context):
    return b"yes" if cancelled.acquire(timeout=10) else b"no"


METHODS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Metadata": grpc.unary_unary_rpc_method_handler(metadata),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "Echo": grpc.stream_stream_rpc_method_handler(echo),
    "Greeting": grpc.stream_stream_rpc_method_handler(greeting),
    "EarlyEnd": grpc.stream_stream_rpc_method_handler(early_end),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "FailMidway": grpc.unary_stream_rpc_method_handler(fail_midway),
    "WaitForCancel": grpc.unary_stream_rpc_method_handler(wait_for_cancel),
    "WasCancelled": grpc.unary_unary_rpc_method_handler(was_cancelled),
}

server = grpc.server(futures.ThreadPoolExecutor(max_workers=32))
for service in ("test.Open", "test.Guarded", "test.Admin", "test.Once"):
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, METHODS),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(json.dumps({"port": port}), flush=True)
sys.stdin.read()
server.stop(0)
