#!/usr/bin/env python3
"""Backs up and restores a generated state dir while every database in it is being written.

  live.py EXUVIA GENERATOR [--scale medium] [--seed 7]

EXUVIA is the program, GENERATOR the state dir generator. A thread for each database commits rows to two
witness tables, one transaction a row. Afterwards: every file but the databases must be identical (content,
mode, times, links), and every restored database must pass integrity_check, open without a -wal, and hold
exactly the rows committed at some moment during the capture. Exits 1 when anything differs.
"""
import argparse
import glob
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

from state import lines, writer

ap = argparse.ArgumentParser()
ap.add_argument("exuvia")
ap.add_argument("generator")
ap.add_argument("--scale", default="medium")
ap.add_argument("--seed", default="7")
opt = ap.parse_args()
base = tempfile.mkdtemp(prefix="live-")
src, dst = base + "/src", base + "/dst"
env = dict(os.environ, EXUVIA_REPO=base + "/repo", EXUVIA_CACHE_DIR=base + "/cache", EXUVIA_PASSPHRASE="live")
bad = []


def run(*args):
    t = time.time()
    p = subprocess.run([opt.exuvia, *args], env=env, capture_output=True, text=True)
    print("%-9s %5.2f s, exit %d" % ([a for a in args if not a.startswith(("-", "/"))][0], time.time() - t, p.returncode))
    if p.returncode:
        sys.exit(p.stderr)
    return p.stdout


try:
    subprocess.run([sys.executable, opt.generator, src, "--seed", opt.seed, "--scale", opt.scale], check=True)
    run("init")
    dbs = glob.glob(src + "/**/*.sqlite", recursive=True)
    counts, stop = {}, threading.Event()
    threads = [threading.Thread(target=writer, args=(p, counts, stop)) for p in dbs]
    for t in threads:
        t.start()
    while len(counts) < len(dbs):
        time.sleep(0.01)
    want = lines(src)
    before = dict(counts)
    run("--state-dir", src, "backup", "--profile", "none")
    after = dict(counts)
    stop.set()
    for t in threads:
        t.join()
    run("restore", "--to", dst, "--verify")
    got = lines(dst)
    for r in sorted(set(want) | set(got)):
        if want.get(r) != got.get(r):
            bad.append("differs: " + r)
    for p in dbs:
        r = os.path.relpath(p, src)
        q = os.path.join(dst, r)
        if [s for s in ("-wal", "-shm", "-journal") if os.path.exists(q + s)]:
            bad.append(r + ": has companions")
        con = sqlite3.connect(q)
        if con.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
            bad.append(r + ": integrity check failed")
        a, b, top = con.execute(
            "SELECT (SELECT count(*) FROM witness_a), (SELECT count(*) FROM witness_b), "
            "(SELECT max(n) FROM witness_a)").fetchone()
        ok = a == b == top and before[p] <= top <= after[p]
        print("%-60s rows %d before, %d restored, %d after: %s" % (r, before[p], top, after[p], "ok" if ok else "BAD"))
        if not ok:
            bad.append(r + ": rows are not those of one moment")
        con.close()
    run("check", "--read-data")
    print("%d files and directories compared, %d databases" % (len(want), len(dbs)))
finally:
    shutil.rmtree(base)
print("\n".join(bad[:20]) or "all as it should be")
sys.exit(bool(bad))
