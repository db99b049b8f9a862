"""curl: all cases, each by a call of its own, and what curl does by itself."""

import json
import os
import subprocess
import tempfile

from http1_cases import BODY, CASES, interest, text

from surroundings import CA, ORIGIN, tell

folder = tempfile.TemporaryDirectory()
upload = os.path.join(folder.name, "upload")
with open(upload, "wb") as file:
    file.write(BODY)


def curl(*arguments, data=None):
    """The answers of one call: what curl says of each, and their heads."""
    command = ["curl", "--silent", "--show-error", "--cacert", CA, "--max-time", "20", "--http1.1", *arguments]
    return subprocess.run(command, input=data, check=True, capture_output=True).stdout


def ask(method, path, headers, body, *more):
    saved = os.path.join(folder.name, "body")
    with open(saved, "wb"):
        pass
    fields = [option for name, value in headers.items() for option in ("--header", f"{name}: {value}")]
    how = ["--head"] if method == "HEAD" else ["--request", method]
    if body == "pieces":
        how += ["--upload-file", "-"]
    elif body is not None:
        how += ["--data-binary", "@-"]
    head = curl(*how, *fields, *more, "--dump-header", "-", "--output", saved, ORIGIN + path, data=BODY if body == "pieces" else body)
    # After interim answers.
    lines = head.decode().strip().split("\r\n\r\n")[-1].split("\r\n")
    values = [line.split(": ", 1) for line in lines[1:]]
    answer = b"" if method == "HEAD" else open(saved, "rb").read()
    return interest(int(lines[0].split(" ")[1]), lambda name: [value for field, value in values if field.lower() == name], answer)


def connects(*arguments):
    """How many connections each of the answers needed, and its status."""
    said = curl(*arguments, "--write-out", "%{json}\n").decode()
    found = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return [[answer["num_connects"], answer["http_code"], answer["http_version"]] for answer in found]


null, plain = ["--output", os.devnull], f"{ORIGIN}/plain"
# It would offer only `http/1.0` in the TLS handshake.
old = ["--http1.0", "--no-alpn"]
typed = {"Content-Type": "text/plain"}
tell(
    **{name: ask(*case) for name, case in CASES.items()},
    kept=connects(*null, *null, *null, plain, f"{ORIGIN}/chunks", plain),
    kept_after_head=connects("--head", *null, *null, plain, plain),
    kept_after_upload=connects("--upload-file", upload, *null, f"{ORIGIN}/echo", "--next", "--silent", "--http1.1", "--cacert", CA, *null, plain),
    waits=ask("PUT", "/echo", typed | {"Expect": "100-continue"}, BODY),
    waits_with_pieces=ask("PUT", "/echo", typed | {"Expect": "100-continue"}, "pieces"),
    does_not_wait=ask("PUT", "/echo", typed | {"Expect": ""}, BODY),
    refused=ask("POST", "/refuse", typed | {"Expect": "100-continue"}, BODY),
    old=ask("GET", "/plain", {}, None, *old),
    old_head=ask("HEAD", "/plain", {}, None, *old),
    old_pieces=ask("GET", "/chunks", {}, None, *old)["body"],
    old_upload=ask("POST", "/echo", typed, b"hello", *old)["status"],
    zipped=text(curl("--compressed", f"{ORIGIN}/gzip")),
    followed=text(curl("--location", f"{ORIGIN}/moved")),
)
