#!/usr/bin/env python3
"""How much really changed between two copies of a state dir, compressed.

  real_change.py OLD NEW

Counts what any incremental backup must store: whole new and rewritten files, what was appended to files
that grew, and the pages of SQLite databases that no page of the old version equals. Content that OLD has
under another name (renamed files) counts nothing. Everything is compressed as one stream by `zstd -3`, per
kind. Prints bytes.
"""
import hashlib
import os
import subprocess
import sys


def files(root):
    for d, _, names in os.walk(root):
        for n in sorted(names):
            p = os.path.join(d, n)
            if not os.path.islink(p):
                yield os.path.relpath(p, root), p


def zstd(parts):
    z = subprocess.Popen(["zstd", "-q", "-3", "-T1", "-c"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    import threading
    size = [0]

    def read():
        while b := z.stdout.read(1 << 20):
            size[0] += len(b)
    t = threading.Thread(target=read)
    t.start()
    raw = 0
    for p in parts:
        raw += len(p)
        z.stdin.write(p)
    z.stdin.close()
    t.join()
    z.wait()
    return raw, size[0]


def main():
    old, new = sys.argv[1:3]
    known = {hashlib.blake2b(open(p, "rb").read()).digest() for _, p in files(old)}
    kinds = {"new or rewritten files": [], "appended": [], "database pages": []}
    for rel, p in sorted(files(new)):
        b = open(p, "rb").read()
        if hashlib.blake2b(b).digest() in known:
            continue
        q = os.path.join(old, rel)
        a = open(q, "rb").read() if os.path.isfile(q) and not os.path.islink(q) else None
        if b.startswith(b"SQLite format 3\0") and a:
            size = int.from_bytes(b[16:18], "big")
            size = 65536 if size == 1 else size
            have = {a[i:i + size] for i in range(0, len(a), size)}
            kinds["database pages"] += [b[i:i + size] for i in range(0, len(b), size) if b[i:i + size] not in have]
        elif a and len(b) > len(a) and b.startswith(a):
            kinds["appended"].append(b[len(a):])
        else:
            kinds["new or rewritten files"].append(b)
    total = 0
    for kind, parts in kinds.items():
        raw, packed = zstd(parts)
        total += packed
        print("%-24s %6d pieces %12d bytes, %12d compressed" % (kind, len(parts), raw, packed))
    print("%-24s %s %35d compressed" % ("all", "", total))


main()
