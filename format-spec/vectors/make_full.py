"""The third part of make.py: full archives and their marks (section 16)."""

import gzip
import hashlib
import io
import struct
import tarfile

import zstandard
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from make import MASTER, REPOSITORY, WRITER, File, extension, frame, frames, header, pattern, r_bytes, r_int, r_list
from make import r_str, secrets, time, writer_header
from make_records import U64, record_file

SEALED, FRAME = 5, 1 << 20


def tar():
    """A small stream of every kind of member, with a name that only an extended header has room for."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        def add(name, data=b"", **fields):
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(data), 1771459200, 0o644
            for key, value in fields.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data))

        add("state", type=tarfile.DIRTYPE, mode=0o755)
        add("state/notes.txt", b"notes\n" * 100, mtime=1771459200.25, uname="me", gname="us")
        add("state/" + "n" * 200, b"long")
        add("state/link", type=tarfile.SYMTYPE, linkname="notes.txt")
        add("state/again", type=tarfile.LNKTYPE, linkname="state/notes.txt")
    return out.getvalue()


def raw_zstd(content, window=None):
    """A zstd frame (RFC 8878) of raw blocks: no compressor decides its bytes. `window` is its exponent, else the frame is
    a single segment."""
    if window is None:
        head = b"\xa0" + struct.pack("<I", len(content))
    else:
        head = bytes([0, (window - 10) << 3])
    blocks = [content[i : i + 131072] for i in range(0, len(content), 131072)] or [b""]
    body = b"".join(struct.pack("<I", int(i + 1 == len(blocks)) | len(b) << 3)[:3] + b for i, b in enumerate(blocks))
    return b"\x28\xb5\x2f\xfd" + head + body


def archives():
    f = File("full_sealed.json", "Full archives in the sealed form (section 16.2). `object` decompresses to `tar`. Long ones: the "
             "plaintext is a zstd frame of raw blocks of `pattern`, see make_full.py, and `object_sha256` the archive's.",
             repository=REPOSITORY, master=MASTER)
    stream = tar()
    zstd = zstandard.ZstdCompressor(level=3).compress(stream)

    def build(name, plaintext, kind=SEALED, **a):
        key, nonce = secrets(name)
        return header(kind, key, nonce, **a) + frames(kind, key, plaintext)

    def ok(name, plaintext, content=stream, object=None):
        key, nonce = secrets(name)
        f.ok(name, object=object or build(name, plaintext), tar=content, key=key, nonce=nonce, writer=None)

    ok("one zstd frame", zstd)
    ok("two zstd frames", zstandard.ZstdCompressor().compress(stream[:700]) + zstandard.ZstdCompressor().compress(stream[700:]))
    ok("size not stated, with checksum", zstandard.ZstdCompressor(write_content_size=False, write_checksum=True).compress(stream))
    ok("raw blocks", raw_zstd(stream))
    ok("a window of 8 MiB", raw_zstd(stream, 23))
    ok("an empty frame at the end", zstd + raw_zstd(b""))
    ok("nothing", raw_zstd(b""), b"")
    start, key = writer_header(SEALED, secrets("by a writer")[0])
    fresh, nonce = secrets("by a writer")
    f.ok("by a writer", object=start + frames(SEALED, key, zstd), tar=stream, key=fresh, nonce=nonce, writer=WRITER)
    # A plaintext of exactly two frames, and one of two and a little.
    for name, length in (("two full frames", 2 * FRAME - 9 - 16 * 3), ("two frames and a byte", 2 * FRAME - 9 - 16 * 3 + 1)):
        content = pattern(name, length)
        plaintext = raw_zstd(content)
        assert len(plaintext) == 2 * FRAME + (length % 2 == 0), len(plaintext)
        key, nonce = secrets(name)
        f.ok(name, pattern={"seed": name, "length": length}, key=key, nonce=nonce,
             object_sha256=hashlib.sha256(build(name, plaintext)).digest())

    def bad(name, object, expect="damaged"):
        f.bad(name, expect, object=object)

    good = build("bad", zstd)
    key, nonce = secrets("bad")
    start = header(SEALED, key, nonce)
    put = lambda at, b: good[:at] + bytes([b]) + good[at + 1 :]
    bad("nothing at all", b"")
    bad("header cut short", good[:79])
    bad("header only", good[:80])
    bad("cut short", good[:-1])
    bad("byte left over", good + b"\0")
    bad("frame altered", put(90, good[90] ^ 1))
    bad("tag altered", put(len(good) - 1, good[-1] ^ 1))
    bad("wrapped key altered", put(40, good[40] ^ 1))
    bad("generation that is not there", put(7, 1), "wrong-key")
    bad("version 2", put(4, 2), "unsupported")
    bad("a pack", build("bad", zstd, kind=1))
    bad("another repository", build("bad", zstd, repository=bytes(16)))
    bad("last frame not marked", start + frame(SEALED, key, 0, 0, zstd))
    bad("frame number 1 first", start + frame(SEALED, key, 1, 1, zstd))
    bad("frame of another kind", start + frame(1, key, 0, 1, zstd))
    bad("a frame after the last", start + frame(SEALED, key, 0, 1, zstd) + frame(SEALED, key, 1, 1, zstd))
    bad("a short frame before the last", start + frame(SEALED, key, 0, 0, zstd[:50]) + frame(SEALED, key, 1, 1, zstd[50:]))
    bad("empty frame", start + frame(SEALED, key, 0, 1, b""))
    bad("zstd frame cut short", build("bad", zstd[:-1]))
    bad("bytes after the zstd frame", build("bad", zstd + b"abcd"))
    bad("no zstd frame", build("bad", stream[:100]))
    bad("a window of 16 MiB", build("bad", raw_zstd(stream, 24)))
    f.write()


def openssl():
    f = File("full_openssl.json", "Full archives in the openssl form (section 16.4) and, where `passphrase` is null, in the gzip form. "
             "`object` decompresses to `tar`.")
    stream = tar()
    packed = gzip.compress(stream, mtime=0)
    passphrase = b"correct horse battery staple"

    def build(plaintext, salt=pattern("salt of an archive", 8), padding=None):
        secret = hashlib.pbkdf2_hmac("sha256", passphrase, salt, 100000, 48)
        cipher = Cipher(algorithms.AES(secret[:32]), modes.CBC(secret[32:])).encryptor()
        n = 16 - len(plaintext) % 16
        return b"Salted__" + salt + cipher.update(plaintext + (padding or bytes([n]) * n)) + cipher.finalize()

    f.ok("encrypted", object=build(packed), passphrase=passphrase, tar=stream)
    f.ok("passphrase of several lines", object=build(packed), passphrase=passphrase + b"\nmore", tar=stream)
    two = gzip.compress(stream[:512], mtime=0) + gzip.compress(stream[512:], mtime=0)
    f.ok("two members", object=build(two), passphrase=passphrase, tar=stream)
    f.ok("gzip", object=packed, passphrase=None, tar=stream)
    f.ok("gzip of two members", object=two, passphrase=None, tar=stream)
    good = build(packed)
    bad = lambda name, object, passphrase=passphrase, expect="damaged": f.bad(name, expect, object=object, passphrase=passphrase)
    bad("another passphrase", good, b"incorrect", "wrong-key")
    bad("a block missing", good[:-16])
    bad("a byte missing", good[:-1])
    bad("a block left over", good + bytes(16))
    bad("padding of 0", build(packed, padding=bytes(16 - len(packed) % 16)))
    bad("salt only", good[:16])
    bad("salt only, another passphrase", good[:16], b"incorrect")
    bad("salt cut short", good[:15])
    bad("not salted", b"salted__" + good[8:])
    bad("gzip that should be encrypted", packed)
    bad("encrypted that should be gzip", good, None)
    bad("gzip cut short", packed[:-1], None)
    bad("gzip with a wrong checksum", packed[:-5] + bytes([packed[-5] ^ 1]) + packed[-4:], None)
    bad("bytes after gzip", packed + b"abc", None)
    bad("no gzip", b"\x1f\x8b", None)
    f.write()


def marks():
    f, ok, bad = record_file("full_mark.json", "Marks of full archives (section 16.3) and the objects that hold them.", 8)
    base = {
        "name": "backup-20260219T000000Z.tar.zst.sealed", "size": 70000, "sha256": pattern("sha256", 32),
        "time": (1771459200, 123456789), "host": "h\u00f6st", "user": "me", "program": "exuvia 0.1.0",
        "writer": pattern("writer", 16), "root": b"/home/me/.state\xff", "selection": ["sessions", "--exclude", "*.tmp"],
        "tags": ["daily", "nightly"], "counts": [1000, 900, 250000, 300000], "complete": False,
        "errors": [(b"a/b\xfe", "permission denied"), (b"", "?")], "error_count": 3,
    }

    def record(v, extensions=()):
        return r_str(v["name"]) + r_int(v["size"]) + v["sha256"] + time(v["time"]) + r_str(v["host"]) + r_str(v["user"]) \
            + r_str(v["program"]) + v["writer"] + r_bytes(v["root"]) + r_list(map(r_str, v["selection"])) \
            + r_list(map(r_str, v["tags"])) + b"".join(map(r_int, v["counts"])) + bytes([v["complete"]]) \
            + r_list(r_bytes(p) + r_str(m) for p, m in v["errors"]) + r_int(v["error_count"]) + r_list(extensions)

    little = {"size": 0, "host": "", "user": "", "program": "", "root": b"", "selection": [], "tags": [], "counts": [0] * 4,
              "complete": True, "errors": [], "error_count": 0}
    for name, changes in (
        ("everything", {}),
        ("little", {"name": "backup-19700101T000000Z.tar.gz", "time": (0, 0), **little}),
        ("openssl", {"name": "backup-20260219T000001Z.tar.gz.enc", "counts": [U64] * 4, "size": U64}),
        ("before 1970", {"name": "backup-19691231T235959Z.tar.gz.enc", "time": (-1, 999999999)}),
    ):
        value = {**base, **changes}
        ok(name, record(value), value)
    ok("optional extension", record(base, [extension(1, 0, b"abc")]), base, False)
    case = lambda title, expect="damaged", **changes: bad(title, record({**base, **changes}), expect)
    bad("required extension", record(base, [extension(1, 1, b"")]), "unsupported")
    bad("bytes left over", record(base) + b"\0")
    bad("cut short", record(base)[:-1])
    bad("empty record", b"")
    bad("complete is 2", record(base).replace(r_int(300000) + b"\0", r_int(300000) + b"\2"))
    case("nanoseconds", time=(1, 1000000000))
    case("path of an error", errors=[(b"../a", "?")])
    case("1,001 errors", errors=[(b"a", "")] * 1001)
    for n, name in enumerate(("full/backup-20260219T000000Z.tar.gz", "backup-20260219T000000Z", "backup-20261319T000000Z.tar.gz", "",
                              "backup-20260219T000000Z.tar.gz.mark", "backup-20260219t000000z.tar.gz")):
        case(f"name {n} of no archive", name=name)
    f.write()


ALL = (archives, openssl, marks)
