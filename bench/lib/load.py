"""Load: wrk, h2load, and idle connections. Any answer other than 2xx is an error, unless a function says otherwise."""

import base64
import re
import socket
import ssl
import subprocess
import time

from lib.testbed import LOAD_CORE, SECRET


class BadAnswers(Exception):
    """Some answers were not 2xx, or there were none."""


def output_of(command):
    """The output of a load generator. If it ends with an error, the server does not listen, or no longer listens."""
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    if run.returncode:
        raise BadAnswers(run.stderr or run.stdout)
    return run.stdout


def wrk(port, seconds, connections=64, token=None, script=None, path="/data", scheme="https", arguments=()):
    """The number of answered requests."""
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    command += ["-H", f"Authorization: Bearer {token}"] if token else []
    command += ["-s", script] if script else []
    command += [f"{scheme}://localhost:{port}{path}"]
    command += ["--", *map(str, arguments)] if arguments else []
    text = output_of(command)
    done = re.search(r"(\d+) requests in", text)
    if not done or done.group(1) == "0" or re.search(r"Non-2xx or 3xx responses|Socket errors", text):
        raise BadAnswers(text)
    return int(done.group(1))


def goodput(port, connections, seconds, arguments, path):
    """Per second: (answered with 2xx, answered otherwise). For servers that may refuse."""
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", *arguments]
    text = subprocess.run([*command, f"https://localhost:{port}{path}"], check=True, capture_output=True, text=True).stdout
    done = int(re.search(r"(\d+) requests in", text).group(1))
    refused = sum(int(number) for number in re.findall(r"Non-2xx or 3xx responses: (\d+)", text))
    took = float(re.search(r"requests in ([\d.]+)s", text).group(1))
    return (done - refused) / took, refused / took


def basic_credentials():
    """Of `Testbed`'s client."""
    return "Basic " + base64.b64encode(f"bench:{SECRET}".encode()).decode()


def grant_script(testbed):
    """For wrk: requests of a token, as `Testbed`'s client."""
    return testbed.write("grant.lua", f"""
        wrk.method, wrk.body = "POST", "grant_type=client_credentials"
        wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
        wrk.headers["Authorization"] = "{basic_credentials()}" """)


def h2load(port, arguments, token=None, path="/data"):
    command = ["taskset", "-c", LOAD_CORE, "h2load", "-t1", *arguments]
    command += ["-H", f"authorization: Bearer {token}"] if token else []
    text = output_of([*command, f"https://localhost:{port}{path}"])
    done = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
    if not done or any(int(done.group(n)) for n in (2, 3, 4)) or not int(done.group(1)):
        raise BadAnswers(text)
    return int(done.group(1))


def fresh_connections(port, seconds, token):
    """One request on each connection. Uses h2load, which makes a full handshake for each: wrk resumes TLS sessions."""
    end, done = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        done += h2load(port, ["--h1", "-c100", "-n100"], token)
    return done


def latencies(port, seconds, rate, token, log):
    """The latencies of all requests at a fixed rate, in microseconds."""
    open(log, "w").close()
    h2load(port, ["--h1", "-c64", f"-D{seconds}", "--warm-up-time=0", f"--rps={rate / 64:.3f}", f"--log-file={log}"], token)
    return sorted(int(line.split("\t")[2]) for line in open(log) if line.strip())


def idle_connections(port, count, token):
    """TLS connections that have had one answer each, and stay open."""
    context = tls_context()
    return [_answered_with_token(context, port, token) for _ in range(count)]


def tls_context():
    """The TLS context of a client that trusts any certificate and speaks HTTP/1.1."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def answered_connection(context, port):
    """A connection that has had one answer, for which no token is needed."""
    connection = context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost")
    connection.sendall(b"GET /.well-known/jwks.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
    if not connection.recv(65536).startswith(b"HTTP/1.1 200"):
        raise BadAnswers("not 200")
    return connection


def _answered_with_token(context, port, token):
    connection = socket.create_connection(("127.0.0.1", port), 10)
    # The end of the handshake and the request are two writes: without TCP_NODELAY the second would wait for the delayed
    # acknowledgement of some servers.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = context.wrap_socket(connection, server_hostname="localhost")
    connection.sendall(f"GET /data HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    answer = connection.recv(65536)
    while not answer.endswith((b"x" * 300, b"0\r\n\r\n")):
        more = connection.recv(65536)
        if not more:
            break
        answer += more
    if not answer.startswith(b"HTTP/1.1 200"):
        raise BadAnswers(answer[:200])
    return connection
