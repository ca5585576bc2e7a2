"""The second half of make.py: records, slices, segments, cut points, paths and names."""

import struct

from make import (MASTER, REPOSITORY, File, blake3, blob_id, extension, frames, header, pattern, payload, r_bytes,
                  r_int, r_list, r_sint, r_str, secrets, sub_key, time, varint, vbytes, wire_frame, zigzag)

U64 = (1 << 64) - 1


def with_object(kind, name, record):
    """What a case says of the whole object around its record."""
    key, nonce = secrets(name)
    body, encodes = payload(record)
    return {"object": header(kind, key, nonce) + frames(kind, key, body), "key": key, "nonce": nonce,
            "object_encodes": encodes}


def record_file(name, description, kind):
    f = File(name, description, repository=REPOSITORY, master=MASTER)

    def ok(name, record, value, encodes=True):
        f.ok(name, record=record, value=value, encodes=encodes, **with_object(kind, name, record))

    def bad(name, record, expect="damaged"):
        f.bad(name, expect, record=record)

    return f, ok, bad


# Sections 7, 9, 10 -----------------------------------------------------------------------------------


def index():
    f, ok, bad = record_file("index.json", "Index records (section 7) and the objects that hold them.", 2)
    ids = [pattern(f"id {i}", 32) for i in range(9)]
    frame = lambda stored, raw, codec, kind, *blobs: {
        "stored": stored, "raw": raw, "compressed": codec == 1, "kind": ["data", "meta"][kind],
        "blobs": [{"id": i, "length": n} for i, n in blobs]}
    wire = lambda fr: wire_frame(fr["stored"], fr["raw"], int(fr["compressed"]), ["data", "meta"].index(fr["kind"]),
                                 [(b["id"], b["length"]) for b in fr["blobs"]])

    def record(packs, replaces=(), extensions=()):
        return r_list(p["id"] + r_int(p["size"]) + r_list(map(wire, p["frames"])) for p in packs) \
            + r_list(replaces) + r_list(extensions)

    def case(name, packs, replaces=(), extensions=(), encodes=True):
        ok(name, record(packs, replaces, extensions), {"packs": packs, "replaces": replaces}, encodes)

    one = {"id": ids[0], "size": 500, "frames": [frame(116, 100, 0, 0, (ids[1], 60), (ids[2], 40)),
                                                 frame(90, 251, 1, 1, (ids[3], 251))]}
    big = {"id": ids[4], "size": 1 << 30, "frames": [frame((16 << 20) + 16, 16 << 20, 0, 0, (ids[5], 16 << 20)),
                                                     frame(70000, 70001, 1, 0, (ids[1], 1), (ids[1], 70000))]}
    case("empty", [])
    case("one pack", [one])
    case("two packs, replaces", [one, big], [ids[6], ids[7]])
    case("replaces only", [], [ids[8]])
    case("pack without frames", [{"id": ids[0], "size": 115, "frames": []}])
    case("optional extension", [one], [], [extension(65535, 0, b"")], False)
    bad("required extension", record([one], [], [extension(1, 1, b"x")]), "unsupported")
    bad("extension's bool is 2", record([one], [], [extension(1, 2, b"x")]))
    bad("empty record", b"")
    bad("bytes left over", record([one]) + b"\0")
    bad("cut short", record([one])[:-1])
    bad("more packs promised than there are", b"\xfd" + struct.pack("<Q", 1 << 60) + record([one])[1:])
    bad("count in a form beyond 64 bits", b"\xfe" + bytes(16) + b"\0\0")
    bad("pack smaller than a header", record([{**one, "size": 79, "frames": []}]))
    bad("frames beyond the pack", record([{**one, "size": 80 + 116 + 89}]))
    bad("pack beyond 1 GiB", record([{**one, "size": (1 << 30) + 1}]))

    def frame_case(name, fr, expect="damaged"):
        bad(name, record([{**one, "frames": [fr]}]), expect)

    good = one["frames"][0]
    frame_case("stored too small for its tag", frame(16, 100, 1, 0, (ids[1], 100)))
    frame_case("stored too large", {**good, "stored": 117})
    frame_case("compressed to the same length", {**good, "compressed": True})
    frame_case("raw differs from the blobs", {**good, "raw": 101, "stored": 117})
    frame_case("no blobs", frame(17, 0, 1, 0))
    frame_case("blob of no bytes", frame(116, 100, 0, 0, (ids[1], 100), (ids[2], 0)))
    frame_case("sum of lengths beyond 32 bits", frame(116, 100, 0, 0, *[(ids[1], 1 << 31)] * 2, (ids[2], 100)))
    wide = ids[0] + r_int(500) + b"\x01" + b"\xfd" + struct.pack("<Q", 116)
    bad("64-bit form of a 32-bit number", b"\x01" + wide + wire(good)[1:] + b"\0\0")
    raw = lambda codec, kind: b"\x01" + ids[0] + r_int(500) + r_list([wire_frame(116, 100, codec, kind, [(ids[1], 100)])]) \
        + b"\0\0"
    bad("codec 2", raw(2, 0), "unsupported")
    bad("blob kind 2", raw(0, 2), "unsupported")
    f.write()


def gc():
    f, ok, bad = record_file("gc.json", "gc records (section 10) and the objects that hold them.", 4)
    ids = [pattern(f"pack {i}", 32) for i in range(3)]
    record = lambda t, packs, extensions=(): time(t) + r_list(packs) + r_list(extensions)
    for name, t, packs in (("one", (1771459200, 5), ids[:1]), ("none", (0, 0), []), ("before 1970", (-1, 999999999), ids),
                           ("ends of time", ((1 << 63) - 1, 0), ids[:2]), ("beginning of time", (-(1 << 63), 0), [])):
        ok(name, record(t, packs), {"time": t, "packs": packs})
    ok("longer form than needed", b"\xfd" + struct.pack("<Q", 2) + b"\xfb\x05\x00" + r_list(ids) + b"\0",
       {"time": (1, 5), "packs": ids}, False)
    ok("optional extension", record((1, 0), ids, [extension(0, 0, b"abc"), extension(300, 0, b"")]),
       {"time": (1, 0), "packs": ids}, False)
    bad("required extension", record((1, 0), ids, [extension(0, 0, b"abc"), extension(300, 1, b"")]), "unsupported")
    bad("nanoseconds", record((1, 1000000000), ids))
    bad("64-bit form of a 32-bit number", b"\x02\xfd" + struct.pack("<Q", 5) + r_list(ids) + b"\0")
    bad("32-bit form of a 16-bit number", record((1, 0), ids) [:-1] + b"\x01\xfc" + struct.pack("<I", 5) + b"\0\0")
    bad("first byte 255", b"\xff\x00\x00\x00")
    bad("id cut short", record((1, 0), ids)[:-2])
    bad("bytes left over", record((1, 0), ids) + b"\0")
    bad("list of 1,025 extensions", record((1, 0), [], [extension(0, 0, b"")] * 1025))
    f.write()


def acceptance():
    f, ok, bad = record_file("acceptance.json", "Acceptances (section 10.1) and the objects that hold them.", 6)
    ids = [pattern(f"marked {i}", 32) for i in range(3)]
    record = lambda t, snapshots, extensions=(): time(t) + r_list(snapshots) + r_list(extensions)
    for name, t, snapshots in (("one", (1771459200, 5), ids[:1]), ("three", (-1, 999999999), ids), ("none", (0, 0), [])):
        ok(name, record(t, snapshots), {"time": t, "snapshots": snapshots})
    ok("optional extension", record((1, 0), ids, [extension(1, 0, b"abc")]), {"time": (1, 0), "snapshots": ids}, False)
    bad("required extension", record((1, 0), ids, [extension(1, 1, b"")]), "unsupported")
    bad("nanoseconds", record((1, 1000000000), ids))
    bad("id cut short", record((1, 0), ids)[:-2])
    bad("bytes left over", record((1, 0), ids) + b"\0")
    f.write()


def removal():
    f, ok, bad = record_file("removal.json", "Removal records (section 10.2) and the objects that hold them.", 7)
    ids = sorted(pattern(f"removed {i}", 32) for i in range(3))
    writers = sorted(pattern(f"writer {i}", 16) for i in range(2))
    run = lambda r: r[0] + r_int(r[1]) + r_int(r[2])
    record = lambda t, runs, snapshots=(), extensions=(): \
        time(t) + r_list([run(r) for r in runs]) + r_list(list(snapshots)) + r_list(list(extensions))
    value = lambda t, runs, snapshots=(): {
        "time": t, "runs": [{"writer": w, "first": a, "last": b} for w, a, b in runs], "snapshots": list(snapshots)}
    a, b = writers
    for name, t, runs, snapshots in (
        ("none", (0, 0), [], []),
        ("one number", (1771459200, 5), [(a, 1, 1)], []),
        ("runs of two writers", (-1, 999999999), [(a, 1, 250), (a, 252, 70000), (b, 3, U64)], ids),
        ("ids only", (1, 0), [], ids[:1]),
    ):
        ok(name, record(t, runs, snapshots), value(t, runs, snapshots))
    ok("optional extension", record((1, 0), [(a, 1, 2)], [], [extension(1, 0, b"abc")]), value((1, 0), [(a, 1, 2)]), False)
    bad("required extension", record((1, 0), [], [], [extension(1, 1, b"")]), "unsupported")
    bad("nanoseconds", record((1, 1000000000), []))
    bad("sequence 0", record((1, 0), [(a, 0, 1)]))
    bad("backwards", record((1, 0), [(a, 2, 1)]))
    bad("runs that overlap", record((1, 0), [(a, 1, 5), (a, 5, 9)]))
    bad("runs that touch", record((1, 0), [(a, 1, 5), (a, 6, 9)]))
    bad("run after the last number", record((1, 0), [(a, 1, U64), (a, 3, 4)]))
    bad("runs out of order", record((1, 0), [(a, 7, 9), (a, 1, 5)]))
    bad("writers out of order", record((1, 0), [(b, 1, 1), (a, 1, 1)]))
    bad("ids out of order", record((1, 0), [], [ids[1], ids[0]]))
    bad("id twice", record((1, 0), [], [ids[0], ids[0]]))
    bad("bytes left over", record((1, 0), []) + b"\0")
    bad("more runs promised than there are", time((1, 0)) + b"\xfd" + struct.pack("<Q", 1 << 60) + b"\0\0")
    f.write()


def snapshot():
    f, ok, bad = record_file("snapshot.json", "Snapshot records (section 9) and the objects that hold them.", 3)
    stats = ["files", "dirs", "others", "bytes", "files_new", "files_changed", "files_unmodified", "files_removed",
             "bytes_read", "bytes_added_raw", "bytes_added_stored", "duration_ms"]
    base = {
        "time": (1771459200, 123456789), "kind": 0, "reason": 1, "host": "h\u00f6st", "user": "me",
        "program": "exuvia 0.1.0", "writer": pattern("writer", 16), "sequence": 7, "parent": pattern("parent", 32),
        "root": b"/home/me/.state\xff", "paths": [b"/home/me/.state\xff", b"/etc/x"], "selection": ["--exclude", "*.tmp"],
        "tags": ["daily", "nightly"], "manifest": (pattern("root segment", 32), 1), "complete": False,
        "errors": [(b"a/b\xfe", "permission denied"), (b"", "?")], "error_count": 3,
        "databases": [
            {"path": b"memory/main.sqlite", "captured": (1771459201, 1), "raw": False, "size": 70000, "user_version": 4,
             "application_id": 252322, "integrity": 0, "checked": (0, 0), "message": ""},
            {"path": b"b.db", "captured": (-2, 999999999), "raw": True, "size": U64, "user_version": (1 << 32) - 1,
             "application_id": 0, "integrity": 2, "checked": (1771459000, 0), "message": "row 5 missing"},
            {"path": b"c.db", "captured": (0, 0), "raw": False, "size": 0, "user_version": 0, "application_id": 0,
             "integrity": 1, "checked": (1771459000, 9), "message": ""},
        ],
        "statistics": dict(zip(stats, [1, 2, 3, 250, 251, 65535, 65536, 1 << 31, 1 << 32, (1 << 63), U64, 0])),
    }
    small = {**base, "parent": None, "paths": [], "selection": [], "tags": [], "complete": True, "errors": [],
             "error_count": 0, "databases": [], "manifest": (pattern("leaf", 32), 0), "kind": 1, "reason": 4}

    def record(v, extensions=()):
        database = lambda d: (r_bytes(d["path"]) + time(d["captured"]) + bytes([d["raw"]]) + r_int(d["size"])
                              + r_int(d["user_version"]) + r_int(d["application_id"]) + bytes([d["integrity"]])
                              + time(d["checked"]) + r_str(d["message"]))
        return b"".join([
            time(v["time"]), bytes([v["kind"], v["reason"]]), r_str(v["host"]), r_str(v["user"]), r_str(v["program"]),
            v["writer"], r_int(v["sequence"]), b"\0" if v["parent"] is None else b"\1" + v["parent"], r_bytes(v["root"]),
            r_list(map(r_bytes, v["paths"])), r_list(map(r_str, v["selection"])), r_list(map(r_str, v["tags"])),
            v["manifest"][0], bytes([v["manifest"][1]]), bytes([v["complete"]]),
            r_list(r_bytes(p) + r_str(m) for p, m in v["errors"]), r_int(v["error_count"]),
            r_list(map(database, v["databases"])), b"".join(r_int(n) for n in v["statistics"].values()),
            r_list(extensions),
        ])

    ok("everything", record(base), base)
    ok("little", record(small), small)
    ok("optional extension", record(small, [extension(2, 0, b"\0" * 300)]), small, False)
    ok("unknown reason", record({**small, "reason": 200}), {**small, "reason": 0}, False)
    for number in range(5):
        value = {**small, "reason": number, "time": (-1771459200, 0)}
        ok(f"reason {number}", record(value), value)
    loss = lambda what, path, before: bytes([what]) + r_bytes(path) + r_int(before)
    shrunk = lambda *losses: extension(1, 0, r_list(losses))
    losses = [{"what": 0, "before": 40000}, {"what": 1, "before": 1 << 40},
              {"what": 2, "path": b"memory/main.sqlite", "before": 140001}, {"what": 2, "path": b"gone.db", "before": 0}]
    wire = [loss(each["what"], each.get("path", b""), each["before"]) for each in losses]
    ok("losses", record(base, [shrunk(*wire)]), {**base, "losses": losses})
    ok("one loss", record(small, [shrunk(wire[0])]), {**small, "losses": losses[:1]})
    ok("losses marked as required, beside an unknown extension",
       record(small, [extension(7, 0, b"x"), extension(1, 1, r_list(wire[:1]))]), {**small, "losses": losses[:1]}, False)
    bad("no loss", record(small, [shrunk()]))
    bad("losses twice", record(small, [shrunk(wire[0]), shrunk(wire[0])]))
    bad("bytes after the losses", record(small, [extension(1, 0, r_list(wire[:1]) + b"\0")]))
    bad("losses cut short", record(small, [extension(1, 0, r_list(wire[:1])[:-1])]))
    bad("more losses promised than there are", record(small, [extension(1, 0, b"\xfd" + struct.pack("<Q", 1 << 60) + wire[0])]))
    bad("kind of loss 3", record(small, [shrunk(loss(3, b"", 1))]), "unsupported")
    bad("loss of files with a path", record(small, [shrunk(loss(0, b"a", 1))]))
    bad("lost database's path", record(small, [shrunk(loss(2, b"/etc", 1))]))
    change = lambda **a: record({**base, **a})
    database = lambda **a: record({**base, "databases": [{**base["databases"][0], **a}]})
    bad("required extension", record(base, [extension(2, 1, b"")]), "unsupported")
    bad("kind 2", change(kind=2), "unsupported")
    bad("nanoseconds", change(time=(0, 1000000000)))
    bad("level 11", change(manifest=(bytes(32), 11)))
    bad("complete is 2", change(complete=2))
    bad("1,001 errors", change(errors=[(b"", "")] * 1001))
    bad("error's path", change(errors=[(b"../x", "")]))
    bad("database's path", database(path=b"/etc"))
    bad("database's nanoseconds", database(captured=(0, 1 << 31)))
    bad("integrity 3", database(integrity=3), "unsupported")
    bad("time of a check not made", database(checked=(1, 0)))
    bad("message of a good check", database(integrity=1, message="bad"))
    bad("raw is 2", database(raw=2))
    text = record({**small, "host": "HOST"})
    bad("host not UTF-8", text.replace(b"HOST", b"HO\xff\xff"))
    at = text.index(small["writer"]) + 16 + 1
    bad("option is 2", text[:at] + b"\2" + text[at + 1:])
    bad("cut short", record(base)[:-1])
    bad("bytes left over", record(base) + b"\0")
    bad("empty record", b"")
    f.write()


# Section 8.3 -----------------------------------------------------------------------------------------

BLOB = 16 << 20


def slices_bytes(slices):
    """Encoded slices and the ids that they take."""
    body, known = varint(len(slices)), []
    for s in slices:
        if "hole" in s:
            body += varint(1) + varint(s["hole"])
            continue
        if s["id"] in known:
            body += varint(len(known) - known.index(s["id"]) + 1)
        else:
            known.append(s["id"])
            body += varint(0)
        body += varint(s["offset"]) + varint(s["length"])
    return body, b"".join(known)


def piece(name, offset, length):
    return {"id": pattern("blob " + name, 32), "offset": offset, "length": length}


MIXED = [piece("a", 0, 100), {"hole": 4096}, piece("b", 5, 1), piece("a", 100, 50), piece("c", 0, BLOB), piece("b", 0, 6),
         piece("c", BLOB - 1, 1), {"hole": 1 << 40}]


def slice_length(s):
    return s.get("hole", s.get("length"))


def slices():
    f = File("slices.json", "Slice lists (8.3): the meta blobs of content in form 1.")
    whole = lambda body, ids: b"\1" + vbytes(body) + ids

    def ok(name, list, encodes=True, bytes=None):
        f.ok(name, bytes=bytes or whole(*slices_bytes(list)), slices=list, size=sum(map(slice_length, list)),
             encodes=encodes)

    ok("one blob", [piece("a", 0, 1)])
    ok("one hole", [{"hole": 1 << 50}])
    ok("mixed", MIXED)
    ok("back to each of 200 blobs", [piece(str(i % 200), i, i + 1) for i in range(400)])
    a = pattern("blob a", 32)
    two = b"\2\0\0\1" + b"\0\1\1"
    ok("one blob introduced twice", [piece("a", 0, 1), piece("a", 1, 1)], False, whole(two, a + a))

    def bad(name, body, ids=b"", expect="damaged"):
        f.bad(name, expect, bytes=whole(body, ids))

    good = slices_bytes(MIXED)
    raw = lambda name, b, expect="damaged": f.bad(name, expect, bytes=b)
    raw("nothing", b"")
    raw("encoding 2", b"\2" + whole(*good)[1:], "unsupported")
    raw("cut short", whole(*good)[:-1])
    raw("bytes left over", whole(*good) + b"\0")
    raw("an id too many", whole(*good) + a)
    raw("length of the slices beyond the end", b"\1\x7f" + good[0])
    bad("empty list", b"\0")
    bad("count beyond the bytes", b"\x20\0\0\1", a)
    bad("count one less", varint(len(MIXED) - 1) + good[0][1:], good[1])
    bad("no id", b"\1\0\0\1")
    bad("back before the first", b"\2\0\0\1" + b"\3\0\1", a)
    bad("back with none", b"\1\2\0\1")
    bad("back far", b"\2\0\0\1" + varint(U64) + b"\0\1", a)
    bad("blob slice of no bytes", b"\1\0\5\0", a)
    bad("hole of no bytes", b"\1\1\0")
    bad("beyond the largest blob", b"\1\0\1" + varint(BLOB), a)
    bad("offset and length beyond 32 bits", b"\1\0" + varint((1 << 32) - 1) * 2, a)
    bad("offset beyond 32 bits", b"\1\0" + varint(1 << 32) + b"\1", a)
    bad("sum beyond the largest file", b"\2\1" + varint(1 << 50) + b"\1\1")
    bad("sum beyond 64 bits", b"\2\1" + varint(U64) + b"\1\1")
    bad("integer longer than needed", b"\1\1\x81\0")
    bad("integer of 11 bytes", b"\1\1" + b"\xff" * 10 + b"\1")
    bad("integer beyond 64 bits", b"\1\1" + b"\xff" * 9 + b"\2")
    bad("integer that does not end", b"\1\1\x81")
    f.write()


# Section 8.2 -----------------------------------------------------------------------------------------

TYPES = ["file", "directory", "symlink", "fifo", "char-device", "block-device"]


def path_delta(before, path):
    n = 0
    while n < min(len(before), len(path)) and before[n] == path[n]:
        n += 1
    return varint(n) + vbytes(path[n:])


def extensions_bytes(e):
    items = []
    if e["xattrs"]:
        items.append((2, varint(len(e["xattrs"])) + b"".join(vbytes(n) + vbytes(v) for n, v in e["xattrs"])))
    if e["link_group"]:
        items.append((4, varint(e["link_group"])))
    if e["capture"]:
        items.append((6, bytes([e["capture"][0]]) + varint(e["capture"][1])))
    return items


def leaf_bytes(entries):
    table, body, ids = [], b"", b""
    path, mtime, inode = b"", 0, 0
    for e in entries:
        attribute = (varint(e["mode"]) + varint(e["uid"]) + varint(e["gid"]) + vbytes(e["user"].encode())
                     + vbytes(e["group"].encode()))
        if attribute not in table:
            table.append(attribute)
        items = extensions_bytes(e)
        one = e["slices"] and len(e["slices"]) == 1 and e["slices"][0]
        single = bool(one) and one.get("offset") == 0 and one["length"] == e["size"]
        flags = (TYPES.index(e["type"]) | e["unsettled"] << 3 | bool(items) << 4 | single << 5
                 | (e["ctime"] == e["mtime"]) << 6)
        body += path_delta(path, e["path"]) + bytes([flags]) + varint(table.index(attribute))
        body += zigzag(e["mtime"][0] - mtime) + varint(e["mtime"][1])
        if e["ctime"] != e["mtime"]:
            body += zigzag(e["ctime"][0] - e["mtime"][0]) + varint(e["ctime"][1])
        body += zigzag(e["inode"] - inode)
        if e["type"] == "file":
            body += varint(e["size"])
            if single:
                ids += one["id"]
            elif e["lists"] is None:
                more = slices_bytes(e["slices"])
                body, ids = body + b"\0" + more[0], ids + more[1]
            else:
                body, ids = body + b"\1" + varint(len(e["lists"])), ids + b"".join(e["lists"])
            if e["hash"]:
                body, ids = body + bytes([e["hash"][0]]), ids + e["hash"][1]
        elif e["type"] == "symlink":
            body += vbytes(e["target"])
        elif e["type"].endswith("device"):
            body += varint(e["device"][0]) + varint(e["device"][1])
        if items:
            body += varint(len(items)) + b"".join(varint(t) + vbytes(v) for t, v in items)
        path, mtime, inode = e["path"], e["mtime"][0], e["inode"]
    return leaf_parts(table, len(entries), body, ids)


def leaf_parts(table, count, body, ids=b"", head=b"\1\0"):
    return head + varint(len(table)) + b"".join(table) + varint(count) + vbytes(body) + ids


def entry(path, type, **fields):
    base = {"path": path, "type": type, "mode": 0o755 if type == "directory" else 0o644, "uid": 1000, "gid": 1000,
            "user": "me", "group": "staff", "mtime": (1771459200, 5), "ctime": (1771459200, 5), "inode": 100,
            "unsettled": False, "link_group": 0, "xattrs": [], "size": 0, "slices": None, "lists": None, "hash": None,
            "capture": None, "target": None, "device": None}
    if type == "file":
        base["slices"] = []
    return {**base, **fields}


ROOT = entry(b"", "directory")


def leaves():
    f = File("leaf.json", "Leaf segments (8.2).")
    digest = pattern("content hash", 32)

    def ok(name, entries, encodes=True, bytes=None):
        f.ok(name, bytes=bytes or leaf_bytes(entries), entries=entries, encodes=encodes)

    ok("root alone", [ROOT])
    ok("every type", [
        entry(b"", "directory", mode=0o7777, uid=0, gid=0, user="root", group=""),
        entry(b"block", "block-device", device=((1 << 32) - 1, 0)),
        entry(b"char", "char-device", device=(1, 3), ctime=(1771459200, 6)),
        entry(b"dir", "directory", inode=U64),
        entry(b"dir/empty", "file", inode=0, mtime=(-1, 999999999)),
        entry(b"dir/hole", "file", size=1 << 40, slices=[{"hole": 1 << 40}], uid=(1 << 32) - 1, mode=0),
        entry(b"dir/one", "file", size=5, slices=[piece("a", 0, 5)], unsettled=True),
        entry(b"dir/part", "file", size=4, slices=[piece("a", 1, 4)]),
        entry(b"fifo", "fifo", mtime=(0, 0)),
        entry(b"link", "symlink", target=b"../else\xff/where", mode=0o777),
    ])
    ok("order of names around the slash", [ROOT] + [
        entry(p, "directory") for p in (b"a", b"a/b", b"a/b/\x01", b"a\x01", b"a-b", b"a.b", b"a0", b"\xff\xfe", b"\xff\xff")])
    ok("times", [
        entry(b"", "directory", mtime=(-(1 << 63), 0), ctime=((1 << 63) - 1, 999999999)),
        entry(b"a", "file", mtime=((1 << 63) - 1, 1), ctime=(-(1 << 63), 0), inode=1 << 63),
        entry(b"b", "file", mtime=(-1771459200, 1), ctime=(-1771459200, 2), inode=0),
        entry(b"c", "file", mtime=(0, 0), ctime=(0, 0), inode=U64),
        entry(b"d", "file", mtime=(0, 0), ctime=(1, 0), inode=U64 >> 1),
    ])
    ok("contents", [
        ROOT,
        entry(b"largest blob", "file", size=BLOB, slices=[piece("z", 0, BLOB)]),
        entry(b"lists", "file", size=1 << 33, slices=None, lists=[pattern("list 1", 32), pattern("list 2", 32)],
              hash=(9, digest), capture=(1, 65536)),
        entry(b"mixed", "file", size=sum(map(slice_length, MIXED)), slices=MIXED, hash=(24, digest)),
        entry(b"raw database", "file", size=7, slices=[piece("r", 0, 7)], capture=(2, 0)),
        entry(b"small database", "file", size=1024, slices=[piece("s", 0, 512), piece("s", 1024, 512)], hash=(9, digest),
              capture=(1, 512)),
        entry(b"two names a", "file", size=3, slices=[piece("t", 0, 3)], link_group=1),
        entry(b"two names b", "file", size=3, slices=[piece("t", 0, 3)], link_group=U64),
        entry(b"xattrs", "file", xattrs=[(b"user.a", b""), (b"user.b", b"\0\xff"), (b"user.b\xff", b"v" * 300)],
              link_group=5, capture=(2, 0)),
        entry(b"y", "directory", xattrs=[(b"security.x", b"1")]),
    ])
    ok("a segment that does not begin with the root", [
        entry(b"deep/" * 9 + b"er", "fifo"), entry(b"deep/" * 9 + b"er/\xc3\x28", "symlink", target=b"\xc3\x28")])
    ok("a name of 1,024 bytes", [entry(b"n" * 1024, "file")])
    attribute = varint(0o644) + varint(1000) + varint(1000) + vbytes(b"me") + vbytes(b"staff")
    minimal = lambda path=b"\0\0", flags=0x41, attr=b"\0", mtime=b"\0\0", inode=b"\0", rest=b"": (
        path + bytes([flags]) + attr + mtime + inode + rest)
    rooted = {**ROOT, "mode": 0o644, "mtime": (0, 0), "ctime": (0, 0), "inode": 0}
    unknown = b"\2\x08\0\x0a\3abc"
    ok("unknown optional extensions", [rooted], False, leaf_parts([attribute], 1, minimal(flags=0x51, rest=unknown)))
    ok("unused attribute", [rooted], False, leaf_parts([attribute, attribute], 1, minimal()))
    ok("shares less than it could", [rooted, {**rooted, "path": b"ab"}, {**rooted, "path": b"abc"}], False,
       leaf_parts([attribute], 3, minimal() + minimal(b"\0\2ab") + minimal(b"\1\2bc")))
    ok("form 0 for a single blob", [{**rooted, "type": "file", "size": 5, "slices": [piece("a", 0, 5)]}], False,
       leaf_parts([attribute], 1, minimal(flags=0x40, rest=b"\5\0\1\0\0\5"), pattern("blob a", 32)))

    raw = lambda name, b, expect="damaged": f.bad(name, expect, bytes=b)
    one = lambda name, body, expect="damaged", ids=b"", count=1: raw(name, leaf_parts([attribute], count, body, ids), expect)
    good = leaf_parts([attribute], 1, minimal())
    raw("nothing", b"")
    raw("encoding 2", b"\2" + good[1:], "unsupported")
    raw("level 11", b"\1\x0b" + good[2:])
    raw("cut short", good[:-1])
    raw("bytes left over", good + b"\0")
    raw("an id too many", good + bytes(32))
    raw("no entry", leaf_parts([attribute], 0, b""))
    raw("no attribute", leaf_parts([], 1, minimal()))
    one("attribute beyond the table", minimal(attr=b"\1"))
    one("entry left over", minimal() + minimal(b"\0\1a"))
    one("fewer entries than promised", minimal(), count=2)
    one("more entries than bytes", minimal(), count=9)
    raw("count of attributes beyond the bytes", b"\1\0\x7f" + attribute)
    raw("mode of 13 bits", leaf_parts([varint(0o10000) + attribute[2:]], 1, minimal()))
    raw("uid beyond 32 bits", leaf_parts([varint(0) + varint(1 << 32) + b"\0\0\0"], 1, minimal()))
    raw("user not UTF-8", leaf_parts([b"\0\0\0\1\xff\0"], 1, minimal()))
    file = lambda path: minimal(path, 0x40, rest=b"\0\0\0")
    one("same path twice", minimal() + file(b"\0\1a") + file(b"\1\0"), count=3)
    one("paths descend", minimal() + file(b"\0\1b") + file(b"\0\1a"), count=3)
    one("slash sorts first", minimal() + file(b"\0\3a-b") + file(b"\1\2/b"), count=3)
    one("root after another", file(b"\0\1a") + minimal(), count=2)
    one("shares more than there is", minimal() + file(b"\1\1a"), count=2)
    for name, path in (("absolute path", b"/a"), ("empty component", b"a//b"), ("slash at the end", b"a/"), ("dot", b"a/."),
                       ("two dots", b"../a"), ("NUL", b"a\0b"), ("name of 1,025 bytes", b"n" * 1025)):
        one("path: " + name, file(b"\0" + vbytes(path)))
    one("path of 65,536 bytes", file(b"\0" + vbytes(b"ab/" * 21845 + b"a")))
    one("flags: bit 7", minimal(flags=0xC1))
    one("flags: single blob that is no file", minimal(flags=0x61), ids=bytes(32))
    one("type 6", minimal(flags=0x46), "unsupported")
    one("type 7", minimal(flags=0x47), "unsupported")
    one("mtime's nanoseconds", minimal(mtime=b"\0" + varint(1000000000)))
    one("ctime's nanoseconds", minimal(flags=1, mtime=b"\0\0\0" + varint(1 << 32)))
    one("integer longer than needed", minimal(attr=b"\x80\0"))
    link = lambda target: minimal(flags=0x42, rest=vbytes(target))
    one("symlink to nothing", link(b""))
    one("symlink with NUL", link(b"a\0"))
    one("symlink of 65,536 bytes", link(b"a" * 65536))
    one("device number beyond 32 bits", minimal(flags=0x44, rest=varint(1 << 32) + b"\0"))
    single = lambda n: minimal(flags=0x60, rest=varint(n))
    one("single blob of no bytes", single(0), ids=bytes(32))
    one("single blob beyond 16 MiB", single(BLOB + 1), ids=bytes(32))
    one("single blob without id", single(1), ids=bytes(31))
    content = lambda b: minimal(flags=0x40, rest=b)
    one("file beyond 2^50", content(varint((1 << 50) + 1) + b"\0\1\1" + varint((1 << 50) + 1)))
    one("size above the slices", content(b"\6\0\1\0\0\5"), ids=bytes(32))
    one("size below the slices", content(b"\4\0\1\0\0\5"), ids=bytes(32))
    one("size without slices", content(b"\1\0\0"))
    one("form 2", content(b"\0\2\0"), "unsupported")
    one("no slice list", content(b"\1\1\0\x09"), ids=bytes(32))
    one("fewer ids than slice lists", content(b"\1\1\3\x09"), ids=bytes(96))
    one("slice lists beyond all bytes", content(b"\1\1" + varint(U64) + b"\x09"), ids=bytes(96))
    one("hash of blocks of 2^8", content(b"\1\1\1\x08"), ids=bytes(64))
    one("hash of blocks of 2^25", content(b"\1\1\1\x19"), ids=bytes(64))
    one("two slices without hash", content(b"\2\0\2\0\0\1\2\1\1"), ids=bytes(32))
    extended = lambda b, flags=0x51: minimal(flags=flags, rest=b)
    one("extensions descend", extended(b"\2\x0a\0\x08\0"))
    one("extension twice", extended(b"\2\x08\0\x08\0"))
    one("unknown required extension", extended(b"\1\x09\0"), "unsupported")
    one("link group zero", extended(b"\1\4\1\0"))
    one("bytes after a link group", extended(b"\1\4\2\1\0"))
    one("directory captured", extended(b"\1\6\2\2\0"))
    captured = lambda kind, size: extended(b"\0\0\0\1\6" + vbytes(bytes([kind]) + varint(size)), 0x50)
    one("capture kind 3", captured(3, 0), "unsupported")
    one("page of 256 bytes", captured(1, 256))
    one("page of 1,000 bytes", captured(1, 1000))
    one("page of 131,072 bytes", captured(1, 131072))
    one("raw database with a page size", captured(2, 512))
    xattrs = lambda items, n=None: extended(b"\1\2" + vbytes(
        varint(len(items) if n is None else n) + b"".join(vbytes(k) + vbytes(v) for k, v in items)))
    one("attributes not sorted", xattrs([(b"b", b""), (b"a", b"")]))
    one("attribute twice", xattrs([(b"a", b""), (b"a", b"")]))
    one("attribute without name", xattrs([(b"", b"")]))
    one("attribute's name with NUL", xattrs([(b"a\0", b"")]))
    one("fewer attributes than promised", xattrs([(b"a", b"")], 2))
    one("more attributes than promised", xattrs([(b"a", b""), (b"b", b"")], 1))
    one("1,001 attributes", xattrs([(b"%04d" % i, b"") for i in range(1001)]))
    one("attribute of 64 KiB and a byte", xattrs([(b"a", bytes(65537))]))
    f.write()


# Section 8.6 -----------------------------------------------------------------------------------------


def nodes():
    f = File("node.json", "Node segments (8.6).")
    child = lambda path, n: {"first": path, "entries": n, "id": pattern("child " + path.hex(), 32)}

    def build(children, head=b"\1\1", count=None):
        body, before = b"", b""
        for c in children:
            body += path_delta(before, c["first"]) + varint(c["entries"])
            before = c["first"]
        return head + varint(len(children) if count is None else count) + vbytes(body) \
            + b"".join(c["id"] for c in children)

    some = [child(b"", 1), child(b"a/b", 1024), child(b"a/b/c", 1 << 40), child(b"a\xff", 5)]
    for name, level, children in (("one child", 1, some[:1]), ("some", 2, some), ("highest level", 10, some[1:])):
        f.ok(name, bytes=build(children, bytes([1, level])), level=level, children=children)
    bad = lambda name, b, expect="damaged": f.bad(name, expect, bytes=b)
    bad("encoding 2", build(some, b"\2\1"), "unsupported")
    bad("level 11", build(some, b"\1\x0b"))
    bad("no child", build([]))
    bad("order", build(some[::-1]))
    bad("same first path", build([some[1], some[1]]))
    bad("path that leads out", build([child(b"../x", 1)]))
    bad("child without entries", build([child(b"", 0)]))
    bad("entries beyond 64 bits", build([child(b"", U64), child(b"a", 1)]))
    bad("fewer children than promised", build(some, count=5))
    bad("more children than promised", build(some, count=3))
    bad("promise beyond the bytes", build(some, count=U64))
    bad("id cut short", build(some)[:-1])
    bad("bytes left over", build(some) + b"\0")
    f.write()


# Sections 14.2, 8.1, 2 -------------------------------------------------------------------------------


def chunker():
    f = File("chunker.json", "Lengths of the chunks (14.2) of the `length` bytes that `seed` expands to (extended output "
             "of BLAKE3), or of as many zero bytes where there is no seed.", master=MASTER)
    gear = struct.unpack("<256Q", blake3(b"", key=sub_key("chunker")).digest(length=2048))

    def cuts(data):
        out, start = [], 0
        while start < len(data):
            h, end = 0, min(len(data), start + 1048576)
            cut = end
            for at in range(start + 65536, end):
                h = (h << 1) + gear[data[at]] & U64
                n = at + 1 - start
                if h >> (44 if n <= 262144 else 48) == 0:
                    cut = at + 1
                    break
            out.append(cut - start)
            start = cut
        return out

    for seed, n in (("chunks", 6000000), ("more chunks", 6000000), ("few", 70000), (None, 2500000)):
        data = pattern(seed, n) if seed else bytes(n)
        f.ok(seed or "zeros", seed=seed, length=n, cuts=cuts(data))
    f.write()


def paths():
    f = File("path.json", "Paths (8.1); `sorted` is in ascending order.",
             sorted=[b"", b"a", b"a/\x01", b"a/b", b"a/b/c", b"a/b-", b"a/\xff", b"a\x01", b"a-", b"a.", b"a0", b"b", b"\xff"])
    for name, path in (("root", b""), ("one name", b"a"), ("dots in names", b"..a/.b/c../..."), ("not UTF-8", b"\xff/\xc3\x28"),
                       ("controls", b"\x01/\n/\\"), ("name of 1,024 bytes", b"n" * 1024),
                       ("65,535 bytes", b"abc/" * 16383 + b"abc")):
        f.ok(name, path=path)
    for name, path in (("absolute", b"/"), ("absolute name", b"/a"), ("slash at the end", b"a/"), ("empty component", b"a//b"),
                       ("dot", b"."), ("dot below", b"a/."), ("dot above", b"./a"), ("two dots", b".."),
                       ("two dots below", b"a/.."), ("two dots between", b"a/../b"), ("NUL", b"\0"), ("NUL in a name", b"a/b\0"),
                       ("name of 1,025 bytes", b"n" * 1025), ("65,536 bytes", b"abc/" * 16384)):
        f.bad(name, "damaged", path=path)
    f.write()


def names():
    f = File("name.json", "Names of objects (section 2); `ignored` ones are not ours.")
    id = pattern("object", 32).hex()
    ok = lambda name, folder, seconds=None: f.ok(name, folder=folder, time=seconds, id=id)
    ok(f"keys/{id}", "keys")
    ok(f"packs/{id[:2]}/{id}", "packs")
    ok(f"index/{id}", "index")
    for folder in ("snapshots", "safety", "gc", "accepted", "removed"):
        ok(f"{folder}/2026-02-19T00-00-00Z-{id}", folder, 1771459200)
    ok(f"snapshots/1969-12-31T23-59-59Z-{id}", "snapshots", -1)
    ok(f"snapshots/2024-02-29T12-34-56Z-{id}", "snapshots", 1709210096)
    for name in (
        "", "/", "exuvia.jso", id, f"packs/{id}", f"packs/{id[2:4]}/{id}", f"packs/{id[:3]}/{id}", f"packs/{id[:2]}/{id}/",
        f"packs//{id}", f"index/{id[:-1]}", f"index/{id}0", f"index/{id.upper()}", f"index/ {id}", f"Index/{id}", f"/index/{id}",
        f"index/{id[:2]}/{id}", f"index/{id}.tmp", f"keys/2026-02-19T00-00-00Z-{id}", f"snapshots/{id}",
        f"snapshots/2026-02-19t00-00-00z-{id}", f"snapshots/2026-02-19T00:00:00Z-{id}", f"snapshots/2026-02-30T00-00-00Z-{id}",
        f"snapshots/2023-02-29T00-00-00Z-{id}", f"snapshots/2026-02-19T24-00-00Z-{id}", f"snapshots/2026-02-19T23-59-60Z-{id}",
        f"snapshots/2026-2-19T00-00-00Z-{id}", f"snapshots/+026-02-19T00-00-00Z-{id}", f"snapshots/2026-02-19T00-00-00Z{id}",
        f"snapshots/2026-02-19T00-00-00Z-{id[:-1]}", f"gc/.tmp-{id}", f"accepted/{id}", f"removed/{id}", f"full/{id}", f"snapshots/\u00e9026-02-19T00-00-00Z-{id}",
    ):
        f.bad(name, "ignored")
    f.write()


ALL = (index, gc, acceptance, removal, snapshot, slices, leaves, nodes, chunker, paths, names)
