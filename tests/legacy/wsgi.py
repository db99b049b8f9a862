"""A service on wsgiref, which speaks HTTP/1.0 and knows no chunks: a body without a length is answered 411."""

import sys
import zlib
from urllib.parse import parse_qs
from wsgiref.simple_server import make_server
from wsgiref.util import application_uri


def application(environ, start_response):
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    body = b""
    if method in ("POST", "PUT", "PATCH"):
        if not environ.get("CONTENT_LENGTH"):
            start_response("411 Length Required", [("Content-Type", "text/plain")])
            return [b"length required\n"]
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    if path == "/login":
        user = parse_qs(body.decode())["user"][0]
        # As frameworks make it from the name by which the service is called.
        fields = [("Location", application_uri(environ) + "home"), ("Set-Cookie", f"user={user}; Path=/")]
        start_response("302 Found", fields)
        return [b""]
    if path == "/again":
        start_response("307 Temporary Redirect", [("Location", "/upload")])
        return [b""]
    start_response("200 OK", [("Content-Type", "text/plain")])
    told = f"{method} {path}, {len(body)} bytes, sum {zlib.crc32(body)}, cookies: {environ.get('HTTP_COOKIE', 'none')}\n"
    return [told.encode()]


make_server("127.0.0.1", int(sys.argv[1]), application).serve_forever()
