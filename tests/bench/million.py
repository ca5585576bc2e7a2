#!/usr/bin/env python3
"""A repository of a million blobs: time, processor time and peak memory of the work that grows with their number.

  million.py EXUVIA [--restic RESTIC] [--rustic RUSTIC] [--files 1000000] [--dir DIR]

Makes so many small files (one blob each, in directories of 1,000), backs them up, and prints a line for each of: first
backup, backup without changes, check, prune --dry-run after a snapshot of half of the files was taken and the first one
forgotten. With --restic and --rustic the same is done with them. Needs some 6 GB in DIR (default: the temporary folder).
"""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time

ap = argparse.ArgumentParser()
ap.add_argument("exuvia")
ap.add_argument("--restic")
ap.add_argument("--rustic")
ap.add_argument("--files", type=int, default=1_000_000)
ap.add_argument("--dir")
opt = ap.parse_args()
base = tempfile.mkdtemp(prefix="million-", dir=opt.dir)
src = base + "/src"
env = dict(os.environ, EXUVIA_REPO=base + "/repo", EXUVIA_CACHE_DIR=base + "/cache", EXUVIA_PASSPHRASE="x",
           EXUVIA_STATE_DIR=src, RESTIC_REPOSITORY=base + "/restic", RESTIC_PASSWORD="x",
           RESTIC_CACHE_DIR=base + "/restic-cache", RUSTIC_REPOSITORY=base + "/rustic", RUSTIC_PASSWORD="x",
           RUSTIC_CACHE_DIR=base + "/rustic-cache")
failed = False


def run(label, *args):
    """One line: wall time, processor time, peak memory."""
    global failed
    start = time.monotonic()
    process = subprocess.Popen(list(args), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    stderr = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall, code = time.monotonic() - start, os.waitstatus_to_exitcode(status)
    print("%-28s %8.2f s wall, %8.2f s processor, %6d MiB peak, exit %d" % (
        label, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss >> 10, code), flush=True)
    if code:
        failed = True
        sys.stderr.write(stderr.decode(errors="replace")[-2000:])


def make(first, last):
    for i in range(first, last):
        if i % 1000 == 0:
            os.makedirs("%s/%04d" % (src, i // 1000), exist_ok=True)
        with open("%s/%04d/%d" % (src, i // 1000, i), "w") as f:
            f.write("note %d of a very long list of notes, %x\n" % (i, i * 2654435761 % 2**32))


def tool(name, first, unchanged, check, forget, prune):
    run(name + ": first backup", *first)
    run(name + ": no change", *unchanged)
    run(name + ": check", *check)
    return lambda: (run(name + ": backup of half", *first), run(name + ": forget", *forget),
                    run(name + ": prune --dry-run", *prune))


try:
    make(0, opt.files)
    rest = []
    ours = [opt.exuvia, "backup", "--profile", "none"]
    run("exuvia: init", opt.exuvia, "init")
    rest.append(tool("exuvia", ours, ours, [opt.exuvia, "check"],
                     [opt.exuvia, "forget", "--keep-last", "1", "--yes"], [opt.exuvia, "prune", "--dry-run"]))
    if opt.restic:
        run("restic: init", opt.restic, "init")
        theirs = [opt.restic, "backup", "--quiet", src]
        rest.append(tool("restic", theirs, theirs, [opt.restic, "check"],
                         [opt.restic, "forget", "--keep-last", "1"], [opt.restic, "prune", "--dry-run"]))
    if opt.rustic:
        run("rustic: init", opt.rustic, "init")
        theirs = [opt.rustic, "--no-progress", "backup", src]
        rest.append(tool("rustic", theirs, theirs, [opt.rustic, "--no-progress", "check"],
                         [opt.rustic, "forget", "--keep-last", "1"], [opt.rustic, "--dry-run", "prune"]))
    # Every second directory goes: packs are left half used.
    for number in range(0, opt.files // 1000, 2):
        shutil.rmtree("%s/%04d" % (src, number))
    for step in rest:
        step()
finally:
    shutil.rmtree(base)
sys.exit(failed)
