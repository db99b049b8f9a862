#!/usr/bin/env python3
"""Instructions per request, counted by valgrind: the same on any machine, so that two commits can be compared.

    bench/instructions.py                                  HTTP/1.1, HTTP/2, HTTP/1.1 without policy, with new tokens, with DPoP
    bench/instructions.py --only http1 --functions 40      also the functions with the most instructions
    bench/instructions.py --against ../before/target/dist/portcullis
    bench/instructions.py --calls                          system calls per request instead

One connection, one request at a time (HTTP/2: eight streams). The counters are set to zero after a warm-up. The threads of the audit log and of
the control plane are counted apart. Instructions of the kernel are not counted. Cryptography is left out of the figure that is compared,
because no change of this repository changes it. The rest repeats within about 1 %.
"""

import argparse
import collections
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

from lib import tokens
from lib.load import wrk
from lib.proofs import ProofKey, bound_token, with_proofs
from lib.testbed import LOAD_CORE, PORTCULLIS, Testbed, progress, require

WARM_UP = 500

SCENARIOS = {
    "http1": ("full", ["--h1", "-c1", "-m1"]),
    "http2": ("full", ["-c1", "-m8"]),
    "http1-off": ("bare", ["--h1", "-c1", "-m1"]),
    # Tokens that the gateway has not seen before.
    "http1-miss": ("full", None),
    # One token, and a DPoP proof for each request.
    "http1-dpop": ("full", None),
}

# A function belongs to the group whose pattern comes first in its name.
GROUPS = [
    ("cryptography", r"aws_lc_|aws_lc_rs|_?aesni_|_?ghash|_?gcm_|sha256|sha512|curve25519|x25519|poly1305"),
    ("TLS", r"rustls|tokio_rustls|webpki"),
    ("HTTP", r"hyper|http::|h2::|httparse|http_body|hpack"),
    ("runtime", r"tokio|mio::|futures|parking_lot"),
    ("portcullis", r"portcullis"),
    ("allocator", r"mi_|_mi_|mimalloc"),
    ("libc, memory", r"mem(cpy|move|set|cmp|chr)|bcmp|__|_?(read|write|epoll|recv|send|clock)"),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=SCENARIOS, action="append")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--functions", type=int, default=0, help="the number of functions to print, the most expensive first")
    parser.add_argument("--calls", action="store_true", help="count system calls instead")
    parser.add_argument("--binary", default=PORTCULLIS)
    parser.add_argument("--against", help="another binary to compare with")
    options = parser.parse_args()
    require(options.binary, "nginx", "h2load", "wrk", "openssl", "taskset", "valgrind")
    if not options.calls:
        print(f"{'instructions per request':28}{'all':>10}{'cryptography':>14}{'without':>10}{'other threads':>15}")
    for name in options.only or SCENARIOS:
        figure = measure(options.binary, name, options)
        if options.against and options.calls:
            measure(options.against, name, options)
        elif options.against:
            before = measure(options.against, name, options)
            print(f"{'':28}against {before:,.0f}: {(figure / before - 1) * 100:+.1f} %")


def measure(binary, name, options):
    """Instructions of the worker per request, without cryptography."""
    # Under valgrind a signature takes as long as many requests without one.
    requests = options.requests // 5 if SCENARIOS[name][1] is None else options.requests
    folder = tempfile.mkdtemp(prefix="portcullis-instructions-")
    testbed = Testbed(folder, os.path.abspath(binary))
    try:
        testbed.start_upstream()
        policy, load = SCENARIOS[name]
        # A first start, at native speed, creates the signing key.
        tokens.prepare(testbed, rotating=1)
        token = testbed.token
        process, port = under_callgrind(testbed, policy, options.calls)
        progress(f"{name}: warming up")
        ask(port, SCENARIOS["http1"][1], token, WARM_UP)
        new = scripted(testbed, name, requests) if load is None else None
        control(process, "--zero")
        progress(f"{name}: {requests} requests")
        start = os.path.getsize(testbed.path("calls")) if options.calls else 0
        ask_new(port, new, requests) if new else ask(port, load, token, requests)
        if options.calls:
            return report_calls(name, system_calls(testbed, start), requests)
        control(process, "--dump")
        threads = read_dumps(testbed)
        progress("")
        return report(name, threads, requests, options.functions)
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)


def scripted(testbed, name, requests):
    """A script for wrk: requests that are all different."""
    if name == "http1-miss":
        return tokens.once_each(testbed, tokens.tokens_file(testbed, "fresh", testbed.sign(requests)))
    key = ProofKey()
    return with_proofs(testbed, key, bound_token(testbed, {"jkt": key.thumbprint()}), requests)


def under_callgrind(testbed, policy, calls):
    binary = testbed.binary
    # Writing the trace takes time, in which the runtime does other work: it is not written while instructions are
    # counted.
    trace = f"--trace-syscalls=yes --log-file={testbed.path('calls')}" if calls else ""
    wrapper = testbed.write("callgrind", f"""#!/bin/sh
exec valgrind -q --tool=callgrind --separate-threads=yes --callgrind-out-file={testbed.path("counted")} {trace} {binary} "$@"
""")
    os.chmod(wrapper, 0o755)
    testbed.binary = wrapper
    try:
        return testbed.portcullis(policy)
    finally:
        testbed.binary = binary


def control(process, what):
    done = subprocess.run(["callgrind_control", what, str(process.pid)], capture_output=True, text=True, check=False)
    if done.returncode or "OK" not in done.stdout:
        sys.exit(f"callgrind_control {what}: {done.stdout}{done.stderr}")


def ask(port, load, token, requests):
    command = ["taskset", "-c", LOAD_CORE, "h2load", "-t1", f"-n{requests}", *load, "-H", f"authorization: Bearer {token}"]
    text = subprocess.run([*command, f"https://localhost:{port}/data"], check=True, capture_output=True, text=True).stdout
    done = re.search(r"status codes: (\d+) 2xx", text)
    if not done or int(done.group(1)) != requests:
        sys.exit(f"answers other than 2xx:\n{text}")


def ask_new(port, script, requests):
    """Sends each token of the script once. wrk stops when there are no more tokens."""
    done = wrk(port, 5 + requests // 20, connections=1, script=script)
    if not requests - 5 <= done <= requests:
        sys.exit(f"{done} answers instead of {requests}")


def read_dumps(testbed):
    """Instructions by function, for each thread."""
    threads = [by_function(path) for path in glob.glob(testbed.path("counted") + "*") if os.path.getsize(path)]
    threads = [functions for functions in threads if functions]
    if not threads:
        sys.exit("valgrind counted nothing")
    return sorted(threads, key=lambda functions: -sum(functions.values()))


def system_calls(testbed, start):
    """System calls by name, of the thread that makes the most of them."""
    threads = collections.defaultdict(collections.Counter)
    with open(testbed.path("calls"), errors="replace") as log:
        log.seek(start)
        for thread, name in re.findall(r"SYSCALL\[\d+,(\d+)\]\(\s*\d+\) (?:sys_)?(\w+)", log.read()):
            threads[thread][name] += 1
    return max(threads.values(), key=lambda names: names.total(), default=collections.Counter())


def by_function(path):
    """A function's own instructions, from callgrind's format: a line after `calls=` counts those of the called function."""
    names, own, current, skip = {}, collections.Counter(), None, False
    for line in open(path, errors="replace"):
        if line.startswith("fn="):
            number, _, name = line[3:].strip().partition(" ")
            names.setdefault(number, name)
            current = names[number]
        elif line.startswith("cfn="):
            number, _, name = line[4:].strip().partition(" ")
            names.setdefault(number, name)
        elif line.startswith("calls="):
            skip = True
        elif line[:1] in "0123456789+-*" and current:
            if not skip:
                own[current] += int(line.split()[1])
            skip = False
    return own


def group_of(function):
    """The group whose pattern matches first in the function's name."""
    found = [(match.start(), name) for name, pattern in GROUPS if (match := re.search(rf"(?<![A-Za-z]){pattern}", function))]
    return min(found)[1] if found else "other"


def report(name, threads, requests, functions):
    worker, others = threads[0], threads[1:]
    groups = collections.Counter()
    for function, count in worker.items():
        groups[group_of(function)] += count / requests
    total, cryptography = sum(groups.values()), groups.pop("cryptography", 0)
    if not cryptography:
        sys.exit("valgrind found no names of functions in the binary: build it with the default linker, and do not strip it")
    rest = sum(sum(each.values()) for each in others) / requests
    print(f"{name:28}{total:10,.0f}{cryptography:14,.0f}{total - cryptography:10,.0f}{rest:15,.0f}")
    print(f"{'':4}{', '.join(f'{group} {count:,.0f}' for group, count in groups.most_common())}")
    for function, count in worker.most_common(functions):
        print(f"{count / requests:12,.0f}  {group_of(function):14}{function[:140]}")
    return total - cryptography


def report_calls(name, calls, requests):
    """Prints system calls without those that read the clock: reading it is a system call under valgrind only."""
    clock = calls.pop("clock_gettime", 0)
    print(f"{name:28}{calls.total() / requests:.2f} system calls: "
          f"{', '.join(f'{call} {count / requests:.2f}' for call, count in calls.most_common() if count * 100 >= requests)}; "
          f"the clock is read {clock / requests:.1f} times")


if __name__ == "__main__":
    main()
