"""What the scripts here share: a tree to compare, and a writer to a database."""
import os
import sqlite3
import time


def lines(path):
    """(kind, content or target, mode, mtime ns) of everything that is no database or companion"""
    out = {}
    for d, ds, fs in os.walk(path):
        for n in ds + fs + ([] if d != path else [""]):
            p = os.path.join(d, n).rstrip("/")
            st = os.lstat(p)
            r = os.path.relpath(p, path)
            if ".sqlite" in n:
                continue
            if os.path.islink(p):
                out[r] = ("link", os.readlink(p), 0, st.st_mtime_ns)
            elif os.path.isdir(p):
                # The directory of a database changes when its companions come and go.
                live = any(x.endswith(".sqlite") for x in os.listdir(p))
                out[r] = ("dir", "", st.st_mode, 0 if live else st.st_mtime_ns)
            else:
                out[r] = ("file", open(p, "rb").read(), st.st_mode, st.st_mtime_ns)
    return out


def writer(path, counts, stop, first=0):
    con = sqlite3.connect(path, timeout=60, isolation_level=None)
    con.execute("PRAGMA journal_mode=WAL")
    con.execute("CREATE TABLE IF NOT EXISTS witness_a(n INTEGER PRIMARY KEY, x BLOB)")
    con.execute("CREATE TABLE IF NOT EXISTS witness_b(n INTEGER PRIMARY KEY)")
    n = first
    while not stop.is_set():
        n += 1
        con.execute("BEGIN IMMEDIATE")
        con.execute("INSERT INTO witness_a VALUES(?, randomblob(200))", (n,))
        con.execute("INSERT INTO witness_b VALUES(?)", (n,))
        con.execute("COMMIT")
        counts[path] = n
        time.sleep(0.001)
    con.close()
