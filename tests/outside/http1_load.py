"""wrk, h2load and ab: every answer is complete and a success."""

import os
import re
import subprocess
import tempfile

from surroundings import ORIGIN, tell

# A TLS handshake for each request takes its time.
COUNT, UNKEPT = "100", "20"


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


def wrk(path):
    said = run("wrk", "-t1", "-c8", "-d1s", ORIGIN + path)
    return {"many": int(re.search(r"(\d+) requests in", said)[1]) > 20, "errors": re.findall(r"Socket errors.*|Non-2xx.*", said)}


def h2load(path, *more):
    said = run("h2load", "--h1", "-n", COUNT, "-c8", *more, ORIGIN + path)
    return re.findall(r"requests: .*|status codes: .*", said)


def ab(path, *more):
    said = run("ab", "-q", "-n", COUNT if "-k" in more else UNKEPT, "-c8", *more, ORIGIN + path)
    return re.findall(r"(Document Length|Complete requests|Failed requests|Non-2xx responses|Keep-Alive requests): +(\d+)", said)


with tempfile.NamedTemporaryFile() as upload:
    upload.write(os.urandom(20_000))
    upload.flush()
    tell(
        wrk=[wrk("/plain"), wrk("/chunks")],
        h2load=[h2load("/plain"), h2load("/chunks"), h2load("/echo", "-d", upload.name)],
        ab=[ab("/plain"), ab("/plain", "-k"), ab("/plain", "-i"), ab("/echo", "-k", "-p", upload.name, "-T", "text/plain")],
    )
