#!/usr/bin/env python3
"""Full archives of a state dir whose databases are being written to, restored and judged.

    tests/bench/full_live.py EXUVIA STATE_DIR [--s3]

Works on a copy of STATE_DIR. A process writes to every database: rows in pairs, one transaction each, with
checkpoints. Each form is made, restored and looked at: every database passes SQLite's integrity check and holds an
unbroken run of pairs with at least those that were there before; every other file that archives have by default is as in
the copy. Prints seconds, peak memory by program, and what was written below TMPDIR.
"""

import argparse
import filecmp
import multiprocessing
import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path

from full import PASS, free_port, run, size_of


def databases(root):
    return sorted(p for p in root.rglob("*.sqlite") if p.is_file())


def prepare(paths):
    for path in paths:
        with sqlite3.connect(path) as con:
            con.execute("CREATE TABLE witness_a(n INTEGER PRIMARY KEY, pad BLOB)")
            con.execute("CREATE TABLE witness_b(n INTEGER PRIMARY KEY)")
        con.close()


def write(paths, stop):
    connections = [sqlite3.connect(p, isolation_level=None, timeout=60) for p in paths]
    number = 0
    while not stop.is_set():
        number += 1
        for con in connections:
            con.execute("BEGIN IMMEDIATE")
            con.execute("INSERT INTO witness_a VALUES (?, randomblob(900))", (number,))
            con.execute("INSERT INTO witness_b VALUES (?)", (number,))
            con.execute("COMMIT")
            if number % 50 == 0:
                con.execute("PRAGMA wal_checkpoint(PASSIVE)")
    for con in connections:
        con.close()


def last(path):
    con = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60)
    n = con.execute("SELECT coalesce(max(n), 0) FROM witness_b").fetchone()[0]
    con.close()
    return n


def judge(state, restored, before):
    for path in databases(state):
        other = restored / path.relative_to(state)
        con = sqlite3.connect(other)
        assert con.execute("PRAGMA integrity_check").fetchone()[0] == "ok", other
        a = [r[0] for r in con.execute("SELECT n FROM witness_a ORDER BY n")]
        b = [r[0] for r in con.execute("SELECT n FROM witness_b ORDER BY n")]
        con.close()
        assert a == b == list(range(1, len(a) + 1)), f"{other}: a torn or broken run"
        assert len(a) >= before[path], f"{other}: {len(a)} rows, {before[path]} were there before"
    files = 0
    for path in state.rglob("*"):
        name = path.name
        if path.is_symlink() or not path.is_file() or ".sqlite" in name:
            continue
        other = restored / path.relative_to(state)
        if not other.exists():
            # What no archive has, as no snapshot has it: what is made again, or lasts no longer than a process.
            made_again = "node_modules" in path.parts or name.endswith((".lock", ".tmp", ".sock", ".pid"))
            assert made_again, f"{other} is missing"
            continue
        assert filecmp.cmp(path, other, shallow=False), other
        files += 1
    return files


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exuvia", type=Path)
    parser.add_argument("state", type=Path)
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--dir", help="where to work")
    args = parser.parse_args()
    exuvia, rclone = args.exuvia.resolve(), os.environ.get("EXUVIA_RCLONE", "rclone")
    with tempfile.TemporaryDirectory(dir=args.dir) as temporary:
        base = Path(temporary)
        state = base / "state"
        shutil.copytree(args.state, state, symlinks=True)
        for name in ("home", "tmp"):
            (base / name).mkdir()
        repository, server = str(base / "repo"), None
        if args.s3:
            port = free_port()
            (base / "store/bucket").mkdir(parents=True)
            command = [rclone, "serve", "s3", "--auth-key", "key,secret", "--addr", f"127.0.0.1:{port}", base / "store"]
            server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while socket.socket().connect_ex(("127.0.0.1", port)):
                assert server.poll() is None, f"{rclone} has no `serve s3`"
                time.sleep(0.05)
            repository = (f"rclone::s3,provider=Other,endpoint='http://127.0.0.1:{port}',access_key_id=key,"
                          "secret_access_key=secret:bucket/repo")
        env = {**os.environ, "HOME": str(base / "home"), "TMPDIR": str(base / "tmp"), "EXUVIA_PASSPHRASE": PASS,
               "EXUVIA_STATE_DIR": str(state), "EXUVIA_REPO": repository}
        subprocess.run([exuvia, "init", "--kdf-log-n", "15"], env=env, check=True, capture_output=True)
        paths = databases(state)
        prepare(paths)
        stop = multiprocessing.Event()
        writer = multiprocessing.Process(target=write, args=(paths, stop))
        writer.start()
        try:
            print(f"{size_of(state) / 2**20:.0f} MiB, {len(paths)} databases written to")
            for form in ("sealed", "openssl"):
                before = {path: last(path) for path in paths}
                took, memory = run([str(exuvia), "-q", "full", "create", "--form", form], env, False)
                shown = ", ".join(f"{program} {value / 1024:.1f} MiB" for program, value in sorted(memory.items()))
                written = size_of(base / "tmp")
                restored = base / "restored"
                subprocess.run([exuvia, "-q", "full", "restore", "--to", restored], env=env, check=True)
                # The earlier plugin's names begin with the folder's own.
                files = judge(state, restored / state.name if form == "openssl" else restored, before)
                shutil.rmtree(restored)
                print(f"{form}: {took:.1f} s, peak {shown}, {written} bytes below TMPDIR; "
                      f"{len(paths)} databases whole, {files} files as they were")
        finally:
            stop.set()
            writer.join()
            if server:
                server.kill()


if __name__ == "__main__":
    main()
