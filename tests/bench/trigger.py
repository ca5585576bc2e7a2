#!/usr/bin/env python3
"""How long `exuvia trigger gateway-stop --detach` holds up whoever calls it, with a daemon and without one.

  trigger.py EXUVIA [--runs 20] [--files 2000]

Makes a state dir, calls the trigger so many times in each way, and waits after each for its snapshot. Prints median
and maximum of the time until the trigger returned, and how often its snapshot was there by then. Exits 1 when a
call took longer than 300 ms, or a snapshot did not come.
"""
import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

LIMIT = 0.3

ap = argparse.ArgumentParser()
ap.add_argument("exuvia")
ap.add_argument("--runs", type=int, default=20)
ap.add_argument("--files", type=int, default=2000)
opt = ap.parse_args()
exuvia = os.path.abspath(opt.exuvia)
base = tempfile.mkdtemp(prefix="trigger-")
src = base + "/state"
env = dict(PATH=os.environ["PATH"], HOME=base, EXUVIA_REPO=base + "/repo", EXUVIA_STATE_DIR=src, EXUVIA_PASSPHRASE="x")
bad = False


def run(*args):
    p = subprocess.run([exuvia, "--json", *args], env=env, capture_output=True, text=True)
    if p.returncode:
        sys.exit("%s: %s" % (" ".join(args), p.stderr))
    return p.stdout


def snapshots():
    return len(json.loads(run("snapshots")))


def until(count):
    end = time.monotonic() + 60
    while snapshots() < count:
        if time.monotonic() > end:
            sys.exit("the snapshot did not come")
        time.sleep(0.05)


def measure(label, results):
    global bad
    times, early = [], 0
    for n in range(opt.runs):
        with open("%s/%d" % (src, n % opt.files), "w") as f:
            f.write("%s %d" % (label, time.time_ns()))
        before = snapshots()
        start = time.monotonic()
        result = json.loads(run("trigger", "gateway-stop", "--detach"))["result"]
        times.append(time.monotonic() - start)
        early += snapshots() > before
        if result not in results:
            sys.exit("%s: the result is %s" % (label, result))
        until(before + 1)
    bad |= max(times) > LIMIT
    print("%-16s %3d calls: median %4.0f ms, longest %4.0f ms; the snapshot was there already: %d" % (
        label, opt.runs, 1000 * statistics.median(times), 1000 * max(times), early), flush=True)


try:
    os.makedirs(src)
    for n in range(opt.files):
        with open("%s/%d" % (src, n), "w") as f:
            f.write("file %d\n" % n * 50)
    os.makedirs(base + "/.config/exuvia")
    with open(base + "/.config/exuvia/config.toml", "w") as f:
        f.write('[schedule]\nbackup = "off"\nprune = "off"\ncheck = "off"\n')
    run("init")
    run("backup")
    measure("without a daemon", ["detached"])
    with open(base + "/log", "w") as log:
        daemon = subprocess.Popen([exuvia, "daemon"], env=env, stderr=log)
        while '"daemon":null' in run("status").replace(" ", "") or "begins" not in open(base + "/log").read():
            time.sleep(0.05)
        measure("with a daemon", ["accepted"])
        daemon.send_signal(signal.SIGTERM)
        daemon.wait()
finally:
    shutil.rmtree(base, ignore_errors=True)
sys.exit(bad)
