#!/usr/bin/env python3
"""A full disk, three ways: no answer without its line in the audit log, and the gateway recovers within two seconds.

    tests/adversarial/audit_disk.py
    tests/adversarial/audit_disk.py --seconds 5

The ways: the log is a link to /dev/full; a tmpfs fills up under load (needs the right to mount; without it, the output says so); a file
size limit of the process (prlimit) tears a line in the middle. Clients request tokens and, with one, a route, before, during and after. Every
2xx must have its line: target 0 without. The time from free space to the first token is at most 2 s. The chain must verify.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from lib.token_client import TokenClient, gateway_folder
from lib.testbed import PORTCULLIS, Testbed, progress, require

PORT = 9120


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3, help="with a full disk")
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require(options.binary, "nginx", "openssl", "taskset")
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    testbed = Testbed(folder, options.binary)
    missed = False
    try:
        testbed.start_upstream()
        print(f"{'':12}{'2xx':>8}{'503':>8}{'2xx without a line':>20}{'recovery':>12}{'chain':>10}")
        for name, way in WAYS.items():
            missed |= not one(testbed, options, name, way)
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if missed else 0)


def one(testbed, options, name, way):
    folder = gateway_folder(testbed, name.strip("/").replace("/", "-"), PORT, "file: log/audit.jsonl")
    os.makedirs(os.path.join(folder, "log"))
    way = way(folder)
    if not way.prepare():
        print(f"{name:12}left out: {way.why}")
        return True
    try:
        process = testbed.run("0", [testbed.binary, "run"], PORT, cwd=folder)
        client = TokenClient(PORT)
        threads = [threading.Thread(target=client.until_stopped) for _ in range(4)]
        for thread in threads:
            thread.start()
        progress(f"{name}: room")
        time.sleep(1)
        way.fill(process)
        progress(f"{name}: full")
        time.sleep(options.seconds)
        refused = client.refused
        way.free(process)
        recovery = client.next_grant_after(time.monotonic())
        progress("")
        time.sleep(1)
        client.stop(threads)
        process.terminate()
        process.wait()
        testbed.running.remove(process)
        files = [os.path.join(folder, "log", file) for file in sorted(os.listdir(os.path.join(folder, "log"))) if "checkpoints" not in file]
        lines = {json.loads(line).get("gateway.request_id") for file in files if os.path.isfile(file) for line in open(file)}
        without = [answered for answered in client.acknowledged if answered not in lines]
        verified = subprocess.run([testbed.binary, "audit", "verify"], cwd=folder, capture_output=True, text=True)
        print(f"{name:12}{len(client.acknowledged):>8}{client.refused:>8}{len(without):>20}{recovery:>10.2f} s{'sound' if verified.returncode == 0 else 'BROKEN':>10}")
        if verified.returncode != 0:
            print(verified.stdout, verified.stderr)
        return not without and recovery <= 2 and refused > 0 and verified.returncode == 0
    finally:
        way.undo()


class DevFull:
    """The log is a link to a device that is always full."""

    why = ""

    def __init__(self, folder):
        self.log = os.path.join(folder, "log/audit.jsonl")

    def prepare(self):
        return os.path.exists("/dev/full")

    def fill(self, process):
        os.rename(self.log, self.log + ".1")
        os.symlink("/dev/full", self.log)

    def free(self, process):
        os.unlink(self.log)

    def undo(self):
        pass


class Tmpfs:
    """A small file system, in which a file of another program takes all free space."""

    why = "no right to mount a tmpfs"

    def __init__(self, folder):
        self.folder = os.path.join(folder, "log")
        self.ballast = os.path.join(self.folder, "ballast")
        self.mounted = False

    def prepare(self):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m,mode=700", "tmpfs", self.folder], capture_output=True)
        self.mounted = done.returncode == 0
        return self.mounted

    def fill(self, process):
        with open(self.ballast, "wb", buffering=0) as file:
            try:
                while file.write(bytes(1 << 16)):
                    pass
            except OSError:
                pass

    def free(self, process):
        os.unlink(self.ballast)

    def undo(self):
        if self.mounted:
            subprocess.run(["umount", "-l", self.folder], check=False)


class FileSize:
    """The process may not let a file grow beyond a size that ends within a line."""

    why = "no prlimit (Debian: util-linux)"

    def __init__(self, folder):
        self.log = os.path.join(folder, "log/audit.jsonl")

    def prepare(self):
        return shutil.which("prlimit") is not None

    def fill(self, process):
        self.limit(process, os.path.getsize(self.log) + 20_000 + 137)

    def free(self, process):
        self.limit(process, "unlimited")

    def limit(self, process, size):
        subprocess.run(["prlimit", "--pid", str(process.pid), f"--fsize={size}:unlimited"], check=True)

    def undo(self):
        pass


WAYS = {"/dev/full": DevFull, "tmpfs": Tmpfs, "prlimit": FileSize}

main()
