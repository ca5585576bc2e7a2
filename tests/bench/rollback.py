#!/usr/bin/env python3
"""Ten days of a generated state dir with a snapshot each, while every database is being written; back to day 3,
and back again.

  rollback.py EXUVIA GENERATOR [--restic RESTIC] [--scale medium] [--seed 7] [--days 10] [--to 3]

EXUVIA is the program, GENERATOR the state dir generator. After the rollback every file must be as on day 3 and
after the undo as on the last day (content, mode, times, links); every table of every database too, but for the
witness tables, which hold an unbroken run of rows up to the snapshot and those written since. With --restic the
same days go into a repository of restic, and `restic restore --delete` does what the rollback did. Exits 1 when
anything differs.
"""
import argparse
import glob
import hashlib
import json
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
ap.add_argument("--restic")
ap.add_argument("--scale", default="medium")
ap.add_argument("--seed", default="7")
ap.add_argument("--days", type=int, default=10)
ap.add_argument("--to", type=int, default=3)
opt = ap.parse_args()
base = tempfile.mkdtemp(prefix="rollback-")
src, other = base + "/src", base + "/other"
env = dict(os.environ, EXUVIA_REPO=base + "/repo", EXUVIA_CACHE_DIR=base + "/cache", EXUVIA_PASSPHRASE="x",
           EXUVIA_STATE_DIR=src, RESTIC_REPOSITORY=base + "/restic", RESTIC_PASSWORD="x",
           RESTIC_CACHE_DIR=base + "/restic-cache")
bad = []


def run(*args, quiet=False):
    t = time.time()
    p = subprocess.run(list(args), env=env, capture_output=True, text=True)
    if not quiet or p.returncode:
        print("%-60s %6.2f s, exit %d" % (" ".join(os.path.basename(a) for a in args)[:60], time.time() - t, p.returncode))
    if p.returncode:
        bad.append("failed: %s: %s" % (args, p.stderr[-2000:]))
    return p.stdout


def tables(path):
    """A hash of the rows of every table that is no witness."""
    con = sqlite3.connect("file:%s?mode=ro" % path, uri=True, timeout=60)
    con.execute("BEGIN")
    h = hashlib.sha256()
    names = [r[0] for r in con.execute("SELECT name FROM sqlite_master WHERE type='table' AND sql NOT LIKE "
                                       "'CREATE VIRTUAL%' ORDER BY name") if not r[0].startswith("witness")]
    for name in names:
        for row in con.execute('SELECT * FROM "%s"' % name):
            h.update(repr(row).encode())
    con.close()
    return h.hexdigest()


def state():
    dbs = sorted(glob.glob(src + "/**/*.sqlite", recursive=True))
    return lines(src), {os.path.relpath(p, src): tables(p) for p in dbs}


def compare(what, want, got):
    for part in (0, 1):
        for r in sorted(set(want[part]) | set(got[part])):
            if want[part].get(r) != got[part].get(r):
                bad.append("%s: differs: %s" % (what, r))


def witness(what, upto, since):
    """Rows 1..k without a gap, k in the range of the snapshot's moment; then only rows written since."""
    for p, (low, high) in upto.items():
        con = sqlite3.connect("file:%s?mode=ro" % p, uri=True, timeout=60)
        rows = [r[0] for r in con.execute("SELECT n FROM witness_a ORDER BY n")]
        pair = [r[0] for r in con.execute("SELECT n FROM witness_b ORDER BY n")]
        verdict = con.execute("PRAGMA quick_check").fetchone()[0]
        con.close()
        old = [n for n in rows if n <= since[p]]
        ok = rows == pair and old == list(range(1, len(old) + 1)) and low <= len(old) <= high and verdict == "ok"
        if not ok:
            bad.append("%s: %s: rows of no one moment: %d of %d..%d, %s" % (what, p, len(old), low, high, verdict))


class Writers:
    """A writer for each database; days are generated while none writes."""

    def __init__(self):
        self.counts = {}

    def __enter__(self):
        self.stop = threading.Event()
        dbs = glob.glob(src + "/**/*.sqlite", recursive=True)
        before = dict(self.counts)
        self.threads = [threading.Thread(target=writer, args=(p, self.counts, self.stop, before.get(p, 0))) for p in dbs]
        [t.start() for t in self.threads]
        while any(self.counts.get(p, 0) <= before.get(p, 0) for p in dbs):
            time.sleep(0.01)
        return self

    def __exit__(self, *_):
        self.stop.set()
        [t.join() for t in self.threads]


try:
    subprocess.run([sys.executable, opt.generator, src, "--seed", opt.seed, "--scale", opt.scale], check=True)
    run(opt.exuvia, "init")
    if opt.restic:
        run(opt.restic, "init")
    writers, kept, moments, ids = Writers(), {}, {}, {}
    for day in range(1, opt.days + 1):
        subprocess.run([sys.executable, opt.generator, src, "--seed", opt.seed, "--mutate", str(day)], check=True)
        with writers:
            before = dict(writers.counts)
            summary = json.loads(run(opt.exuvia, "--json", "backup", "--profile", "none", quiet=day > 1).splitlines()[-1])
            moments[day] = {p: (before[p], writers.counts[p]) for p in before}
            ids[day] = summary["snapshot"]
        if opt.restic:
            run(opt.restic, "backup", "--quiet", "--tag", str(day), src, quiet=day > 1)
        if day in (opt.to, opt.days):
            kept[day] = state()
    with writers:
        since = dict(writers.counts)
        moments["undo"] = {}
        out = run(opt.exuvia, "--json", "rollback", "--yes", ids[opt.to])
        after = dict(writers.counts)
    done = json.loads(out.splitlines()[-1])
    print({k: done[k] for k in ("changes", "files_written", "bytes_written", "bytes_local", "remote_requests", "duration_ms")})
    compare("day %d" % opt.to, kept[opt.to], state())
    witness("day %d" % opt.to, moments[opt.to], since)
    with writers:
        again = dict(writers.counts)
        out = run(opt.exuvia, "--json", "undo", "--yes")
    done = json.loads(out.splitlines()[-1])
    print({k: done[k] for k in ("changes", "files_written", "bytes_written", "bytes_local", "duration_ms")})
    compare("day %d" % opt.days, kept[opt.days], state())
    witness("day %d" % opt.days, {p: (moments[opt.days][p][0], after[p]) for p in since}, since)
    run(opt.exuvia, "check", "--read-data")
    if opt.restic:
        snaps = json.loads(run(opt.restic, "snapshots", "--json", quiet=True))
        sid = [s["id"] for s in snaps if str(opt.to) in s["tags"]][0]
        run(opt.restic, "restore", "--delete", "--target", "/", "--include", src, sid)
    print("%d files and directories compared, %d databases" % (len(kept[opt.to][0]), len(kept[opt.to][1])))
finally:
    shutil.rmtree(base)
print("\n".join(bad[:20]) or "all as it should be")
sys.exit(bool(bad))
