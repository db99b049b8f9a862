"""Requests that every client over HTTP/1.1 sends, and what is of interest in their answers."""

import hashlib

BODY = b"0123456789abcdef" * 20_000
FIELDS = ("content-type", "content-length", "transfer-encoding", "content-encoding", "etag", "location", "cache-control", "x-field")
# name: (method, path, header fields, body; an iterator of pieces for one of unknown length)
CASES = {
    "plain": ("GET", "/plain", {}, None),
    "again": ("GET", "/plain", {}, None),
    "query": ("GET", "/echo?a=b&c=%20d", {}, None),
    "head": ("HEAD", "/plain", {}, None),
    "head_of_large": ("HEAD", "/large", {}, None),
    "chunks": ("GET", "/chunks", {}, None),
    "large": ("GET", "/large", {}, None),
    "not_modified": ("GET", "/plain", {"If-None-Match": '"one"'}, None),
    "no_content": ("GET", "/status/204", {}, None),
    "missing": ("GET", "/status/404", {}, None),
    "failed": ("GET", "/status/500", {}, None),
    "moved": ("GET", "/moved", {}, None),
    "post": ("POST", "/echo", {"Content-Type": "text/plain"}, b"hello"),
    "post_nothing": ("POST", "/echo", {"Content-Type": "text/plain"}, b""),
    "put_large": ("PUT", "/echo", {"Content-Type": "text/plain"}, BODY),
    "put_pieces": ("PUT", "/echo", {"Content-Type": "text/plain"}, "pieces"),
    "delete": ("DELETE", "/echo", {}, None),
    "options": ("OPTIONS", "/echo", {}, None),
    "after_all": ("GET", "/plain", {}, None),
}


def pieces():
    for start in range(0, len(BODY), 50_000):
        yield BODY[start:start + 50_000]


def interest(status, fields, body):
    """`fields` gives all values of a name."""
    found = {name: ", ".join(fields(name)) for name in FIELDS if fields(name)}
    return {"status": status, "fields": found, "cookies": sorted(fields("set-cookie")), "body": text(body)}


def text(body):
    return body.decode() if len(body) < 300 else hashlib.sha256(body).hexdigest()
