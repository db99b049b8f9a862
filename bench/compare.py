#!/usr/bin/env python3
"""CPU per request, latency and memory beside nginx, HAProxy, Envoy, Caddy and Apache httpd, in one run.

    bench/all.sh                                    installs the peers, builds, measures everything, writes docs/explanation/performance.md
    bench/compare.py --only one-token --rounds 1 --seconds 1
    bench/compare.py --only upload --publish        measures one scenario of the published figures again
    bench/compare.py --render                       writes the page again, from the stored figures

Each server runs alone on core 0 with one worker. The load and a static nginx upstream run on core 1. Every round runs every server once, in
changing order, and one of them twice: if that one differs from itself by more than 5 %, the machine was too noisy, and the figures say so.
CPU per request is the run time of all threads of a server, from the kernel's schedstat, divided by the number of 2xx answers. A single
answer of another status voids the measurement.

A full run writes its figures to docs/performance/figures.json and renders them. A partial run only prints, unless it has `--publish`.
`BENCH_PORTS` moves the ports (9100 and on).
"""

import argparse
import datetime
import json
import os
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

from lib import peers
from lib import render
from lib import tokens
from lib.scenarios import SCENARIOS, judged, ratios
from lib.testbed import PORTCULLIS, ROOT, Testbed, require

FIGURES = os.path.join(ROOT, "docs/performance/figures.json")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=SCENARIOS, metavar="SCENARIO", help=f"of: {', '.join(SCENARIOS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="the length of each measurement, after one second of warm-up")
    parser.add_argument("--connections", type=int, default=5000, help="the number of idle connections")
    parser.add_argument("--tokens", type=int, default=1_000_000, help="the number of tokens that the gateway has seen before")
    parser.add_argument("--binary", default=PORTCULLIS)
    parser.add_argument("--json", help="also write the figures here")
    parser.add_argument("--publish", action="store_true", help="write the figures of a partial run into the pages, too")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    options = parser.parse_args()
    if options.render:
        return render.publish(json.load(open(FIGURES)))
    require(options.binary, "nginx", "haproxy", "caddy", "apache2", "wrk", "h2load", "openssl", "taskset")
    results = measure(options)
    figures = {"machine": machine(), "versions": versions(options.binary), "when": datetime.date.today().isoformat(),
               "rounds": options.rounds, "seconds": options.seconds, "scenarios": results}
    if options.json:
        write(options.json, figures)
    if options.publish or not options.only:
        if options.only and os.path.exists(FIGURES):
            before = json.load(open(FIGURES))
            figures = {**before, "scenarios": {**before["scenarios"], **results}}
        elif os.path.exists(FIGURES):
            figures["scale"] = json.load(open(FIGURES)).get("scale")
        write(FIGURES, figures)
        render.publish(figures)


def measure(options):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    # The started processes are ended, however this function ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    testbed = Testbed(folder, options.binary)
    results = {}
    try:
        testbed.start_upstream()
        tokens.prepare(testbed)
        for name in options.only or SCENARIOS:
            options.scenario = name
            results[name] = SCENARIOS[name].measure(testbed, options)
            report(name, results[name])
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    return results


def report(name, result):
    values = result["values"]
    base = next(server.removesuffix(" again") for server in (*(name for name in values if name.endswith(" again")), *values))
    print(f"\n{name}: {SCENARIOS[name].title}; {SCENARIOS[name].unit}, median of {len(values[base])}")
    print(f"  {'':28} {'':>8}  {'x ' + base:>10}  {'min':>6} {'max':>6}")
    for server, each in values.items():
        found = ratios(values, server, base)
        print(f"  {server:28} {statistics.median(each):8.1f}  {statistics.median(found):10.2f}  {min(found):6.2f} {max(found):6.2f}")
    rows, again = judged(name, result)
    for ours, theirs, found, limit, met in rows:
        print(f"  {f'{ours} / {theirs}' if theirs else ours:46} {found:6.2f}  target <= {limit}  {'met' if met else 'MISSED'}")
    if again:
        print(f"  control, {base} / itself: {again:.3f}{'' if abs(again - 1) <= 0.05 else '  TOO NOISY: measure again'}")
    sys.stdout.flush()


def write(path, figures):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "w") as file:
        json.dump(figures, file, indent=1, default=lambda value: round(value, 2))
        file.write("\n")


def machine():
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown")
    memory = next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemTotal"))
    return {"cpu": cpu, "cores": os.cpu_count(), "memory": f"{memory / (1 << 20):.0f} GiB", "kernel": os.uname().release}


def versions(binary):
    """The version that each tool prints, if it is installed."""
    asked = {"Portcullis": [binary, "--version"], "nginx": ["nginx", "-v"], "HAProxy": ["haproxy", "-v"], "Envoy": [peers.envoy_binary() or "envoy", "--version"],
             "Caddy": ["caddy", "version"], "Apache httpd": ["apache2", "-v"], "mod_auth_openidc": ["dpkg-query", "-W", "-f", "${Version}", "libapache2-mod-auth-openidc"],
             "wrk": ["wrk", "-v"], "h2load": ["h2load", "--version"]}
    found = {}
    for name, command in asked.items():
        try:
            printed = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError:
            continue
        # Some print their own path first, which may contain numbers.
        text = (printed.stdout + printed.stderr).replace(command[0], "")
        number = re.search(r"\d+\.\d+(\.\d+)+|\d+\.\d+", text)
        found[name] = number.group() if number else ""
    return found


if __name__ == "__main__":
    main()
