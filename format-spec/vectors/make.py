#!/usr/bin/env python3
"""Writes the test vectors beside this file, from the text of ../README.md alone.

It shares no code with the program: that the two agree is what the vectors prove. Needs the packages
blake3, cryptography, PyNaCl and zstandard. Everything is derived from fixed seeds, so running it again
changes nothing (compressed payloads may change with the version of zstd; they are for decoding only).
"""

import hashlib
import json
import os
import struct

import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as xaead_encrypt

HERE = os.path.dirname(os.path.abspath(__file__))


# Section 1 -------------------------------------------------------------------------------------------


def pattern(seed, n):
    """The stated pseudo-random input: extended output of BLAKE3 of the seed."""
    return blake3(seed.encode()).digest(length=n)


def keyed(key, message):
    return blake3(message, key=key).digest()


def derive(context, material):
    return blake3(material, derive_key_context=context).digest()


def varint(n):
    assert 0 <= n < 1 << 64
    out = bytearray()
    while True:
        byte, n = n & 127, n >> 7
        out.append(byte | (128 if n else 0))
        if not n:
            return bytes(out)


def signed64(n):
    """n modulo 2^64, read as signed."""
    n &= (1 << 64) - 1
    return n - (1 << 64) if n >> 63 else n


def zigzag(n):
    n = signed64(n)
    return varint(2 * n if n >= 0 else -2 * n - 1)


def vbytes(b):
    return varint(len(b)) + b


def r_int(n):
    if n <= 250:
        return bytes([n])
    for first, form, bits in ((251, "<H", 16), (252, "<I", 32), (253, "<Q", 64)):
        if n < 1 << bits:
            return bytes([first]) + struct.pack(form, n)
    raise ValueError(n)


def r_sint(n):
    return r_int(2 * n if n >= 0 else -2 * n - 1)


def r_bytes(b):
    return r_int(len(b)) + b


def r_str(s):
    return r_bytes(s.encode())


def r_list(items):
    items = list(items)
    return r_int(len(items)) + b"".join(items)


def extension(tag, required, value):
    return r_int(tag) + bytes([required]) + r_bytes(value)


def time(t):
    return r_sint(t[0]) + r_int(t[1])


# The fixed secrets of all files ----------------------------------------------------------------------

REPOSITORY = pattern("repository", 16)
MASTER = pattern("master", 32)
KINDS = {"pack": 1, "index": 2, "snapshot": 3, "gc": 4, "full archive": 5, "acceptance": 6, "removal": 7,
         "full mark": 8}
CONTEXTS = [
    "blob id, data",
    "blob id, meta",
    "content hash",
    "chunker",
    "wrap, packs",
    "wrap, index",
    "wrap, snapshots",
    "owner x25519",
    "writers",
]


def sub_key(use, master=MASTER):
    return derive("exuvia format 1: " + use, master)


WRAPS = {1: "wrap, packs", 2: "wrap, index", 3: "wrap, snapshots", 4: "wrap, index", 5: "wrap, packs",
         6: "wrap, snapshots", 7: "wrap, snapshots", 8: "wrap, snapshots"}


# Sections 4.2, 4.3 -----------------------------------------------------------------------------------

LATER = [pattern(f"master {n}", 32) for n in range(1, 256)]
WRITER = pattern("writer", 24)


def master_of(generation):
    return LATER[generation - 1] if generation else MASTER


def x25519(secret, public=None):
    """The public key of a secret, or what the two have in common."""
    key = X25519PrivateKey.from_private_bytes(secret)
    if public is None:
        return key.public_key().public_bytes_raw()
    return key.exchange(X25519PublicKey.from_public_bytes(public))


def owner_public(generation):
    return x25519(sub_key("owner x25519", master_of(generation)))


def writer_secret(generation, writer=WRITER):
    return keyed(sub_key("writers", master_of(generation)), writer)


def owner_bundle(generation=0, inner=REPOSITORY, created=1771459200, label="first", extensions=(), later=None):
    later = LATER[:generation] if later is None else later
    extensions = [*([extension(1, 1, r_list(later))] if later else []), *extensions]
    return b"\x01" + inner + MASTER + r_sint(created) + r_str(label) + r_list(extensions)


def writer_bundle(generation=0, inner=REPOSITORY, created=1771459200, label="first", extensions=(), index=None):
    ids = b"".join(sub_key(use) for use in CONTEXTS[:4])
    index = [sub_key("wrap, index", master_of(g)) for g in range(generation + 1)] if index is None else index
    return (b"\x02" + inner + WRITER + writer_secret(generation) + owner_public(generation) + ids + r_list(index)
            + r_sint(created) + r_str(label) + r_list(extensions))


# Section 5 -------------------------------------------------------------------------------------------


def header(kind, key, nonce, repository=REPOSITORY, head=None, wrap_use=None, generation=0):
    head = head or b"EXUV" + bytes([1, kind, 1, generation])
    use = wrap_use or WRAPS[kind]
    return head + nonce + xaead_encrypt(key, head + repository, nonce, sub_key(use, master_of(generation)))


def writer_header(kind, fresh, generation=0, writer=WRITER, secret=None, repository=REPOSITORY, public=None, head=None):
    """Header and object key of an object that a writer seals to the owner."""
    start = (head or b"EXUV" + bytes([1, kind, 2, generation])) + (public or x25519(fresh)) + writer
    owner = owner_public(generation)
    shared = bytes(32) if public else x25519(fresh, owner)
    m = shared + (secret or writer_secret(generation, writer)) + owner + start + repository
    proof = derive("exuvia format 1: object proof, x25519", m)[:16]
    return start + proof, derive("exuvia format 1: object key, x25519", m)


def frame(kind, key, number, last, plaintext, repository=REPOSITORY):
    tail = struct.pack("<Q", number)
    nonce = tail + bytes(3) + bytes([last])
    aad = repository + bytes([kind, 1]) + tail + bytes([last])
    return ChaCha20Poly1305(key).encrypt(nonce, plaintext, aad)


def payload(record):
    """Codec, length and bytes; and whether an encoder must give the same."""
    packed = zstandard.ZstdCompressor(level=3).compress(record)
    if len(packed) < len(record):
        return b"\x01" + struct.pack("<I", len(record)) + packed, False
    return b"\x00" + struct.pack("<I", len(record)) + record, True


def frames(kind, key, body):
    pieces = [body[i : i + 1048576] for i in range(0, len(body), 1048576)]
    return b"".join(frame(kind, key, i, i + 1 == len(pieces), p) for i, p in enumerate(pieces))


def secrets(name):
    return pattern("key of " + name, 32), pattern("nonce of " + name, 24)


# Writing ---------------------------------------------------------------------------------------------


def plain(value):
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


class File:
    def __init__(self, name, description, **shared):
        self.name, self.description, self.shared, self.cases = name, description, shared, []

    def ok(self, name, **fields):
        self.add(name, "ok", fields)

    def bad(self, name, expect, **fields):
        self.add(name, expect, fields)

    def add(self, name, expect, fields):
        assert name not in [c["name"] for c in self.cases], name
        self.cases.append(plain({"name": name, "expect": expect, **fields}))

    def write(self):
        document = {"description": self.description, **plain(self.shared), "cases": self.cases}
        with open(os.path.join(HERE, self.name), "w") as f:
            json.dump(document, f, indent=1)
            f.write("\n")


# Section 3 -------------------------------------------------------------------------------------------


def marker():
    f = File("marker.json", "Markers (section 3), and what each operation makes of their features.")
    base = {"magic": "exuvia-repository", "format": 1, "id": REPOSITORY.hex(), "created": "2026-02-19T00:00:00Z"}

    def text(**changes):
        return json.dumps({k: v for k, v in {**base, **changes}.items() if v is not None}).encode()

    every = lambda **which: {op: which.get(op, "ok") for op in ("read", "write", "check", "delete")}
    known = {"id": REPOSITORY, "created": base["created"]}
    f.ok("plain", bytes=text(), **known, operations=every())
    lists = {"read": [], "write": [], "check": [], "delete": []}
    f.ok("empty features", bytes=text(features=lists), **known, operations=every())
    f.ok("other keys", bytes=text(color="blue", deep=[[{}]], features={"fly": ["x"]}), **known, operations=every())
    f.ok("without created", bytes=text(created=None), id=REPOSITORY, created="", operations=every())
    u = "unsupported"
    f.ok("read feature", bytes=text(features={"read": ["a"]}), **known, operations=every(read=u, write=u, check=u, delete=u))
    f.ok("write feature", bytes=text(features={"write": ["a"]}), **known, operations=every(write=u))
    f.ok("delete and check features", bytes=text(features={"delete": ["a"], "check": ["b", "c"]}), **known,
         operations=every(delete=u, check=u))
    f.bad("format 2", u, bytes=text(format=2))
    f.bad("format 2 with other fields", u, bytes=text(format=2, id=7, features=9))
    f.bad("format 0", u, bytes=text(format=0))
    f.bad("format as text", "damaged", bytes=text(format="1"))
    f.bad("format negative", "damaged", bytes=text(format=-1))
    f.bad("format missing", "damaged", bytes=text(format=None))
    f.bad("other magic", "damaged", bytes=text(magic="restic"))
    f.bad("magic missing", "damaged", bytes=text(magic=None))
    f.bad("id missing", "damaged", bytes=text(id=None))
    f.bad("id too short", "damaged", bytes=text(id="00" * 15))
    f.bad("id in upper case", "damaged", bytes=text(id=REPOSITORY.hex().upper()))
    f.bad("features as list", "damaged", bytes=text(features=[[], [], [], []]))
    f.bad("feature not in a list", "damaged", bytes=text(features={"read": "a"}))
    f.bad("an array", "damaged", bytes=json.dumps(list(base.values())).encode())
    f.bad("key twice", "damaged", bytes=text()[:-1] + b', "format": 1}')
    f.bad("bytes after the object", "damaged", bytes=text() + b"x")
    f.bad("cut short", "damaged", bytes=text()[:-1])
    f.bad("empty", "damaged", bytes=b"")
    f.bad("byte order mark", "damaged", bytes=b"\xef\xbb\xbf" + text())
    f.bad("not UTF-8", "damaged", bytes=text(note="NOTE").replace(b"NOTE", b"\xff"))
    f.bad("longer than 64 KiB", "damaged", bytes=text() + b" " * 65536)
    f.write()


# Section 4 -------------------------------------------------------------------------------------------

PASSPHRASE = "correct horse \u00e9".encode()


def key_object(passphrase=PASSPHRASE, log_n=10, r=1, p=1, salt=pattern("salt", 32), nonce=pattern("key nonce", 24),
               created=1771459200, label="first", extensions=(), bundle=None, repository=REPOSITORY,
               inner=REPOSITORY, head=None, damage=None, generation=0, tail=b""):
    head = head or b"EXUVIKEY" + bytes([1, 1, log_n, r, p, generation, 0, 0])
    root = hashlib.scrypt(passphrase, salt=salt, n=1 << log_n, r=r, p=p, dklen=32)
    bound = head + salt + derive("exuvia format 1: key commitment", root)
    if bundle is None:
        bundle = owner_bundle(0, inner, created, label, extensions)
    wrapped = xaead_encrypt(bundle, bound + repository, nonce, derive("exuvia format 1: key encryption", root))
    if damage:
        wrapped = damage(wrapped)
    object = bound + nonce + struct.pack("<I", len(wrapped)) + wrapped
    return object + (tail(object) if callable(tail) else tail)


def description(kind=0, created=1771459200, label="first", extensions=(), nonce=pattern("description nonce", 24),
                master=MASTER, repository=REPOSITORY, record=None, damage=None):
    """What follows the wrapped bundle of a key object (4.4)."""
    if record is None:
        record = bytes([1, kind]) + r_sint(created) + r_str(label) + r_list(extensions)

    def tail(object):
        aad = hashlib.sha256(object).digest() + repository
        sealed = xaead_encrypt(record, aad, nonce, derive("exuvia format 1: key description", master))
        if damage:
            sealed = damage(sealed)
        return nonce + struct.pack("<I", len(sealed)) + sealed

    return tail


def keys():
    f = File("key.json", "Key objects (section 4), opened with `passphrase` for `repository`. `later` of a case says how many "
             "of the file's list of later master keys it has; with `writer`, it is the bundle of that writer key.",
             repository=REPOSITORY, later=LATER)

    def ok(name, encodes=True, **a):
        values = {"passphrase": PASSPHRASE, "log_n": 10, "r": 1, "p": 1, "salt": pattern("salt", 32),
                  "nonce": pattern("key nonce", 24), "created": 1771459200, "label": "first"}
        given = {k: v for k, v in a.items() if k in values}
        more = {"later": a.get("generation", 0)}
        if a.pop("writes", False):
            more["writer"] = WRITER
        f.ok(name, bytes=key_object(**a), master=MASTER, encodes=encodes, **{**values, **given}, **more)

    ok("r 1")
    ok("generated key", r=8, passphrase=pattern("generated", 32).hex().encode())
    ok("r 8, p 2", r=8, p=2, log_n=11)
    ok("made before 1970", created=-86400, label="")
    ok("empty passphrase", passphrase=b"")
    ok("label of 300 bytes", label="\u00e9" * 150, salt=pattern("salt 2", 32))
    ok("optional extension", encodes=False, extensions=[extension(7, 0, b"later")])
    ok("recovery phrase", r=8, passphrase=phrase(pattern("phrase", 16)).encode())
    # How the bundle is opened does not depend on what a description says, as long as there is room for one.
    ok("with a description", encodes=False, tail=description())
    ok("with a description of nothing", encodes=False, tail=bytes(24) + struct.pack("<I", 0))
    ok("with a description of noise", encodes=False, tail=bytes(24) + struct.pack("<I", 40) + bytes(40))

    for n in (1, 2, 255):
        ok(f"rotated {n} times", generation=n, bundle=owner_bundle(n))
    for n in (0, 1, 255):
        ok(f"writer of generation {n}", generation=n, bundle=writer_bundle(n), writes=True)
    ok("rotated, optional extension", encodes=False, generation=1, bundle=owner_bundle(1, extensions=[extension(2, 0, b"")]))
    ok("writer, optional extension", encodes=False, bundle=writer_bundle(extensions=[extension(1, 0, b"")]), writes=True)

    def bad(name, expect, object, passphrase=PASSPHRASE):
        f.bad(name, expect, bytes=object, passphrase=passphrase)

    good = key_object()
    bad("another passphrase", "wrong-key", good, b"correct horse e")
    bad("line feed kept", "wrong-key", good, PASSPHRASE + b"\n")
    put = lambda at, b: good[:at] + bytes([b]) + good[at + 1 :]
    bad("magic", "damaged", put(0, 0x65))
    bad("version 2", "unsupported", put(8, 2))
    bad("KDF 2", "unsupported", put(9, 2))
    bad("N below the limit", "damaged", put(10, 9))
    bad("N above the limit", "damaged", put(10, 21))
    bad("r zero", "damaged", put(11, 0))
    bad("r above the limit", "damaged", put(11, 17))
    bad("p zero", "damaged", put(12, 0))
    bad("p above the limit", "damaged", put(12, 5))
    bad("more than 1 GiB", "damaged", good[:10] + bytes([20, 16]) + good[12:])
    bad("reserved byte", "damaged", put(15, 1))
    bad("generation altered", "damaged", put(13, 1))
    bad("generation beyond the bundle", "damaged", key_object(generation=1))
    bad("generation below the bundle", "damaged", key_object(generation=1, bundle=owner_bundle(2)))
    bad("later keys, none", "damaged", key_object(bundle=owner_bundle(extensions=[extension(1, 1, r_list([]))])))
    bad("256 later keys", "damaged", key_object(generation=255, bundle=owner_bundle(later=LATER + LATER[:1])))
    bad("later keys twice", "damaged", key_object(generation=1, bundle=owner_bundle(1, extensions=[extension(1, 1, r_list(LATER[:1]))])))
    bad("bytes after the later keys", "damaged",
        key_object(generation=1, bundle=owner_bundle(extensions=[extension(1, 1, r_list(LATER[:1]) + b"\0")])))
    bad("writer, generation beyond the bundle", "damaged", key_object(generation=1, bundle=writer_bundle()))
    bad("writer without a key of the index", "damaged", key_object(bundle=writer_bundle(index=[])))
    bad("writer with 257 keys of the index", "damaged", key_object(generation=255, bundle=writer_bundle(index=LATER + LATER[:2])))
    bad("writer of another repository", "damaged", key_object(bundle=writer_bundle(inner=bytes(16))))
    bad("writer, required extension", "unsupported", key_object(bundle=writer_bundle(extensions=[extension(1, 1, b"")])))
    bad("writer, bytes after the record", "damaged", key_object(bundle=writer_bundle() + b"\0"))
    bad("writer, cut short", "damaged", key_object(bundle=writer_bundle()[:-1]))
    bad("salt altered", "wrong-key", put(16, good[16] ^ 1))
    bad("commitment altered", "wrong-key", put(48, good[48] ^ 1))
    bad("nonce altered", "damaged", put(80, good[80] ^ 1))
    bad("length too small", "damaged", put(104, good[104] - 1))
    bad("length too large", "damaged", put(104, good[104] + 1))
    bad("wrapped bundle altered", "damaged", put(len(good) - 1, good[-1] ^ 128))
    bad("cut short", "damaged", good[:-1])
    bad("byte left over", "damaged", good + b"\0")
    bad("empty", "damaged", b"")
    bad("no room for a tag", "damaged", key_object(damage=lambda w: w[:15]))
    bad("sealed for another repository", "damaged", key_object(repository=bytes(16)))
    bad("bundle of another repository", "damaged", key_object(inner=bytes(16)))
    bad("bundle version 3", "unsupported", key_object(bundle=b"\x03and something else"))
    bad("required extension", "unsupported", key_object(extensions=[extension(8, 1, b"")]))
    bad("empty bundle", "damaged", key_object(bundle=b""))
    bundle = b"\x01" + REPOSITORY + MASTER + r_sint(0) + r_str("") + r_list([])
    bad("bytes after the bundle's record", "damaged", key_object(bundle=bundle + b"\0"))
    bad("label not UTF-8", "damaged", key_object(bundle=bundle[:-2] + b"\x01\xff\x00"))
    bad("longer than 64 KiB", "damaged", key_object(label="a" * 65536))
    whole = key_object(tail=description())
    bad("description cut short", "damaged", whole[:-1])
    bad("byte left over after the description", "damaged", whole + b"\0")
    bad("description without its length", "damaged", good + bytes(27))
    bad("longer than 64 KiB with its description", "damaged", key_object(tail=description(label="a" * 65536)))
    f.write()


def descriptions():
    f = File("key_description.json", "Descriptions of key objects (4.4), read with `master` for `repository`.",
             repository=REPOSITORY, master=MASTER)

    def ok(name, encodes=True, **a):
        values = {"kind": 0, "created": 1771459200, "label": "first", "nonce": pattern("description nonce", 24)}
        for tag, value in (1, "fingerprint"), (2, "writer"):
            if value in a:
                values[value] = a.pop(value)
                a["extensions"] = [*a.get("extensions", []), extension(tag, 0, values[value])]
        f.ok(name, bytes=key_object(tail=description(**a)), key_object=key_object(), encodes=encodes,
             **{**values, **{k: v for k, v in a.items() if k in values}})

    ok("owner")
    ok("writer", kind=1, label="m\u00fcller's phone", created=-1)
    ok("no label", label="", nonce=pattern("description nonce 2", 24))
    ok("claim", kind=2, label="rotation")
    fingerprint = derive("exuvia format 1: key fingerprint", MASTER)[:16]
    ok("with a fingerprint", fingerprint=fingerprint)
    ok("writer with its id", kind=1, fingerprint=fingerprint, writer=pattern("writer id", 24))
    ok("optional extension", encodes=False, extensions=[extension(7, 0, b"later")])
    f.ok("none", bytes=key_object(), key_object=key_object(), kind=None, encodes=False)

    def bad(name, expect, object=None, **a):
        f.bad(name, expect, bytes=object or key_object(tail=description(**a)))

    good = key_object(tail=description())
    at = len(key_object())
    put = lambda at, b: good[:at] + bytes([b]) + good[at + 1 :]
    bad("kind 3", "unsupported", kind=3)
    bad("version 2", "unsupported", record=b"\2anything")
    bad("required extension", "unsupported", extensions=[extension(8, 1, b"")])
    bad("short fingerprint", "damaged", extensions=[extension(1, 0, bytes(15))])
    bad("long writer id", "damaged", extensions=[extension(2, 0, bytes(25))])
    bad("two fingerprints", "damaged", extensions=[extension(1, 0, bytes(16))] * 2)
    bad("another repository", "damaged", repository=bytes(16))
    bad("another master key", "damaged", master=bytes(32))
    bad("that of another key object", "damaged", key_object(salt=pattern("salt 2", 32))
        + description()(key_object()))
    bad("wrapped bundle altered", "damaged", put(at - 1, good[at - 1] ^ 1))
    bad("nonce altered", "damaged", put(at, good[at] ^ 1))
    bad("altered", "damaged", put(len(good) - 1, good[-1] ^ 1))
    bad("length too small", "damaged", put(at + 24, good[at + 24] - 1))
    bad("length too large", "damaged", put(at + 24, good[at + 24] + 1))
    bad("no room for a tag", "damaged", damage=lambda s: s[:15])
    bad("empty record", "damaged", record=b"")
    bad("bytes after the record", "damaged", record=bytes([1, 0]) + r_sint(0) + r_str("") + r_list([]) + b"\0")
    bad("label not UTF-8", "damaged", record=bytes([1, 0]) + r_sint(0) + b"\1\xff" + r_list([]))
    bad("not a key object", "damaged", b"EXUVIKEX" + good[8:])
    f.write()


# The list is not copied here: this reads the one that the program has, and holds it against the hash in 4.5.
with open(os.path.join(HERE, "../../src/crypto/words.txt"), "rb") as words:
    WORDS = words.read()
assert hashlib.sha256(WORDS).hexdigest() == "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda"
WORDS = WORDS.decode().split()


def phrase(entropy, checksum=0):
    bits = f"{int.from_bytes(entropy, 'big'):0128b}" + f"{(hashlib.sha256(entropy).digest()[0] >> 4) ^ checksum:04b}"
    return " ".join(WORDS[int(bits[i : i + 11], 2)] for i in range(0, 132, 11))


def phrases():
    f = File("phrase.json", "Recovery phrases (4.5): texts as people type them, and the phrase that they stand for.")
    one, two = pattern("phrase", 16), pattern("phrase 2", 16)

    def ok(name, entropy, text=None):
        f.ok(name, text=text or phrase(entropy), phrase=phrase(entropy), entropy=entropy)

    words = phrase(one).split()
    ok("as it is", one)
    ok("another", two)
    ok("all bits zero", bytes(16))
    ok("all bits one", b"\xff" * 16)
    ok("upper case", one, phrase(one).upper())
    ok("four letters", two, " ".join(word[:4] for word in phrase(two).split()))
    ok("five letters", one, " ".join(word[:5] for word in words))
    ok("lines", one, "\r\n".join(words) + "\n\n")
    ok("numbered", one, "\n".join(f" {n}. {word}," for n, word in enumerate(words, 1)))
    ok("hyphens", one, "-".join(words))

    def bad(name, problem, text):
        f.bad(name, "damaged", text=text, problem=problem)

    bad("checksum", "checksum", phrase(one, checksum=1))
    swapped = words[1:2] + words[:1] + words[2:]
    assert swapped != words
    bad("order", "checksum", " ".join(swapped))
    bad("eleven words", "count 11", " ".join(words[1:]))
    bad("thirteen words", "count 13", " ".join(words + words[:1]))
    bad("a word that is none", "unknown 3", " ".join(words[:2] + ["exuvia"] + words[3:]))
    bad("three letters of a longer word", "unknown 12", " ".join(words[:11] + ["aba"]))
    bad("letters after a word", "unknown 1", " ".join(["abandonx"] + words[1:]))
    bad("a word with an accent", "unknown 2", " ".join(words[:1] + ["\u00e9nergie"] + words[2:]))
    f.write()


def sub_keys():
    f = File("sub_keys.json", "Sub-keys (4.3), and ids, block and content hashes and gear words under them.")
    for name, master in (("pattern", MASTER), ("zeros", bytes(32))):
        keys = {use: sub_key(use, master) for use in CONTEXTS}
        blobs = [b"\0", b"abc", pattern("blob", 3000)]
        content = pattern("content", 5000)
        blocks = [content[i : i + 512] for i in range(0, 5000, 512)]
        hashes = [keyed(keys["content hash"], b)[:16] for b in blocks]
        gear = blake3(b"", key=keys["chunker"]).digest(length=2048)
        f.ok(
            name,
            master=master,
            sub_keys={"exuvia format 1: " + use: key for use, key in keys.items()},
            blobs=[{"bytes": b, "data_id": keyed(keys["blob id, data"], b), "meta_id": keyed(keys["blob id, meta"], b)}
                   for b in blobs],
            content={"bytes": content, "block_log2": 9, "blocks": hashes,
                     "hash": keyed(keys["content hash"], b"".join(hashes))},
            gear_first=[str(n) for n in struct.unpack("<4Q", gear[:32])],
            gear_last=str(struct.unpack("<Q", gear[-8:])[0]),
        )
    f.write()


# Sections 5.1, 5.3 -----------------------------------------------------------------------------------


def sealed():
    f = File("sealed.json", "Record objects (5.1, 5.3) around any record. Long records are given as `pattern`: that "
             "many bytes of the extended output of BLAKE3 of `seed`; their objects as SHA-256.",
             repository=REPOSITORY, master=MASTER)

    def build(kind, name, body, **a):
        key, nonce = secrets(name)
        return header(kind, key, nonce, **a) + frames(kind, key, body)

    for word, kind in KINDS.items():
        if word in ("pack", "full archive"):
            continue
        name = f"{word}, stored"
        key, nonce = secrets(name)
        record = pattern(name, 40)
        f.ok(name, kind=word, record=record, object=build(kind, name, b"\0" + struct.pack("<I", 40) + record),
             key=key, nonce=nonce, encodes=True)
    for n in (1048571, 1048572, 2097147, 2200000):
        name = f"{n} bytes"
        key, nonce = secrets(name)
        body, stored = payload(pattern(name, n))
        assert stored
        f.ok(name, kind="index", pattern={"seed": name, "length": n}, key=key, nonce=nonce, encodes=True,
             object_sha256=hashlib.sha256(build(2, name, body)).digest())
    record = b"again and " * 500
    zstd = zstandard.ZstdCompressor(level=19, write_checksum=True).compress(record)
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(record)
    raw = struct.pack("<I", 5000)
    for name, compressed in (("compressed, with checksum", zstd), ("compressed, size not stated", unsized)):
        key, nonce = secrets(name)
        f.ok(name, kind="snapshot", record=record, object=build(3, name, b"\1" + raw + compressed), key=key,
             nonce=nonce, encodes=False)
    key, nonce = secrets("empty")
    f.ok("empty", kind="gc", record=b"", object=build(4, "empty", bytes(5)), key=key, nonce=nonce, encodes=True)

    def bad(name, expect, object, kind="gc"):
        f.bad(name, expect, kind=kind, object=object)

    body = b"\0" + struct.pack("<I", 4) + b"abcd"
    good = build(4, "bad", body)
    put = lambda at, b: good[:at] + bytes([b]) + good[at + 1 :]
    bad("magic", "damaged", put(3, 0x57))
    bad("version 2", "unsupported", put(4, 2))
    bad("kind 9", "unsupported", put(5, 9))
    bad("kind 0", "unsupported", put(5, 0))
    bad("another kind", "damaged", good, "index")
    bad("full archive", "damaged", put(5, 5))
    bad("mark of a full archive", "damaged", put(5, 8))
    bad("X25519 wrap", "damaged", put(6, 2))
    bad("wrap kind 3", "unsupported", put(6, 3))
    bad("generation that is not there", "wrong-key", put(7, 1))
    bad("wrap nonce altered", "damaged", put(8, good[8] ^ 1))
    bad("wrapped key altered", "damaged", put(40, good[40] ^ 1))
    bad("frame altered", "damaged", put(80, good[80] ^ 1))
    bad("tag altered", "damaged", put(len(good) - 1, good[-1] ^ 1))
    bad("cut short", "damaged", good[:-1])
    bad("header only", "damaged", good[:80])
    bad("header cut short", "damaged", good[:79])
    bad("nothing", "damaged", b"")
    bad("byte left over", "damaged", good + b"\0")
    bad("another repository", "damaged", build(4, "bad", body, repository=bytes(16)))
    bad("wrapped under another sub-key", "damaged", build(4, "bad", body, wrap_use="wrap, snapshots"))
    key, nonce = secrets("bad")
    bad("frame of another repository", "damaged", header(4, key, nonce) + frame(4, key, 0, 1, body, bytes(16)))
    bad("frame of another kind", "damaged", header(4, key, nonce) + frame(2, key, 0, 1, body))
    bad("last frame not marked", "damaged", header(4, key, nonce) + frame(4, key, 0, 0, body))
    bad("frame number 1 first", "damaged", header(4, key, nonce) + frame(4, key, 1, 1, body))
    bad("empty frame", "damaged", header(4, key, nonce) + frame(4, key, 0, 1, b""))
    bad("body without length", "damaged", build(4, "bad", b"\0\0\0\0"))
    bad("codec 2", "unsupported", build(4, "bad", b"\2" + body[1:]))
    bad("longer than stated", "damaged", build(4, "bad", body + b"e"))
    bad("shorter than stated", "damaged", build(4, "bad", body[:-1]))
    bad("stated beyond 256 MiB", "damaged", build(4, "bad", b"\1" + struct.pack("<I", (256 << 20) + 1) + zstd))
    bad("two zstd frames", "damaged", build(4, "bad", b"\1" + struct.pack("<I", 10000) + zstd + zstd))
    bad("skippable zstd frame after", "damaged",
        build(4, "bad", b"\1" + raw + zstd + b"\x50\x2a\x4d\x18" + struct.pack("<I", 3) + b"abc"))
    bad("zstd frame, byte after", "damaged", build(4, "bad", b"\1" + raw + zstd + b"\0"))
    bad("zstd frame cut short", "damaged", build(4, "bad", b"\1" + raw + zstd[:-1]))
    bad("zstd checksum altered", "damaged", build(4, "bad", b"\1" + raw + zstd[:-1] + bytes([zstd[-1] ^ 1])))
    bad("zstd frame of another size", "damaged", build(4, "bad", b"\1" + struct.pack("<I", 5001) + zstd))
    bad("unsized zstd frame of another size", "damaged", build(4, "bad", b"\1" + struct.pack("<I", 4999) + unsized))
    bad("no zstd frame", "damaged", build(4, "bad", b"\1" + raw + b"abcd"))
    f.write()


def roles():
    f = File("roles.json", "Record objects of several key generations (4.2, 5.1) and by writer keys. `later` are the "
             "master keys after `master`, so many of the file's list; `sealed` is the generation it was sealed under, with the writer key of id "
             "`writer` where that is given. `reader` opens it: the owner with all of these keys, or that writer key.",
             repository=REPOSITORY, master=MASTER, later=LATER)
    body = lambda record: b"\0" + struct.pack("<I", len(record)) + record

    def build(kind, name, generation, by_writer, **a):
        key, nonce = secrets(name)
        if by_writer and kind in (1, 3, 8):
            start, object_key = writer_header(kind, key, generation, **a)
            return start + frames(kind, object_key, body(pattern(name, 40)))
        return header(kind, key, nonce, generation=generation, **a) + frames(kind, key, body(pattern(name, 40)))

    def case(kind, later, sealed, by_writer, reader, expect):
        name = f"{kind}, {later} later keys, sealed under {sealed} by the {'writer' if by_writer else 'owner'}, read by the {reader}"
        key, nonce = secrets(name)
        shared = {"kind": kind, "later": later, "sealed": sealed, "writer": WRITER, "by_writer": by_writer,
                  "reader": reader, "object": build(KINDS[kind], name, sealed, by_writer)}
        if expect == "ok":
            f.ok(name, **shared, record=pattern(name, 40), key=key, nonce=nonce)
        else:
            f.bad(name, expect, **shared)

    for later, sealed in ((0, 0), (1, 0), (1, 1), (255, 0), (255, 7), (255, 255)):
        for kind in ("index", "snapshot", "gc", "acceptance"):
            case(kind, later, sealed, False, "owner", "ok")
            if kind != "acceptance":
                case(kind, later, sealed, True, "owner", "ok")
    for kind in ("index", "gc"):
        case(kind, 1, 0, False, "writer", "ok")
        case(kind, 1, 1, True, "writer", "ok")
        case(kind, 0, 1, False, "writer", "wrong-key")
    for kind in ("snapshot", "acceptance"):
        case(kind, 1, 1, False, "writer", "wrong-key")
    case("snapshot", 1, 1, True, "writer", "wrong-key")
    for kind in ("index", "snapshot", "gc", "acceptance"):
        case(kind, 0, 1, False, "owner", "wrong-key")
    case("snapshot", 0, 1, True, "owner", "wrong-key")
    case("full mark", 1, 1, True, "owner", "ok")
    case("full mark", 1, 1, False, "writer", "wrong-key")
    case("full mark", 1, 1, True, "writer", "wrong-key")

    def bad(name, object, kind="snapshot", expect="damaged", reader="owner"):
        f.bad(name, expect, kind=kind, later=0, sealed=0, writer=WRITER, by_writer=True, reader=reader, object=object)

    good = build(3, "bad", 0, True)
    put = lambda at, b: good[:at] + bytes([b]) + good[at + 1 :]
    bad("fresh public key altered", put(8, good[8] ^ 1))
    bad("fresh public key in another spelling", put(39, good[39] ^ 128))
    bad("writer's id altered", put(40, good[40] ^ 1))
    bad("proof altered", put(79, good[79] ^ 1))
    bad("frame altered", put(80, good[80] ^ 1))
    bad("header only", good[:80])
    bad("header cut short", good[:79])
    bad("wrap kind altered", put(6, 1))
    bad("another repository", build(3, "bad", 0, True, repository=bytes(16)))
    bad("another writer's secret", build(3, "bad", 0, True, secret=bytes(32)))
    bad("fresh public key of zeros", build(3, "bad", 0, True, public=bytes(32)))
    bad("fresh public key of small order", build(3, "bad", 0, True, public=b"\x01" + bytes(31)))
    for word in ("index", "gc", "acceptance"):
        start, object_key = writer_header(KINDS[word], secrets("bad")[0])
        bad(f"{word} sealed to the owner", start + frames(KINDS[word], object_key, body(b"x")), word)
    start, object_key = writer_header(3, secrets("bad")[0])
    bad("frame of another kind", start + frame(2, object_key, 0, 1, body(b"x")))
    f.write()


# Section 6 -------------------------------------------------------------------------------------------


def wire_frame(stored, raw, codec, kind, blobs):
    return (r_int(stored) + r_int(raw) + bytes([codec, kind])
            + r_list(id + r_int(n) for id, n in blobs))


def blob_id(kind, b):
    return keyed(sub_key("blob id, meta" if kind else "blob id, data"), b)


def packs():
    f = File("pack.json", "Whole packs (section 6). `payload` is a frame's plaintext. An encoder is given key, nonce and "
             "payloads.", repository=REPOSITORY, master=MASTER)
    secret, nonce = secrets("pack")
    text = b"All that is gold does not glitter. " * 20

    def contents():
        a, b, c = pattern("a", 100), b"x", text
        seg = pattern("segment", 70)
        return [
            {"kind": 0, "codec": 0, "blobs": [a, b]},
            {"kind": 0, "codec": 1, "blobs": [c[:300], c[300:]]},
            {"kind": 1, "codec": 0, "blobs": [seg]},
        ]

    def build(frames, toc=None, n=None, trailer=None, extensions=(), last=1, edit=None, number=None, by_writer=False):
        key, lines = secret, []
        out = header(1, key, nonce)
        if by_writer:
            out, key = writer_header(1, secret)
        for i, fr in enumerate(frames):
            raw = b"".join(fr["blobs"])
            fr["payload"] = fr.get("payload", zstandard.ZstdCompressor().compress(raw) if fr["codec"] else raw)
            sealed = frame(1, key, i, 0, fr["payload"])
            fr.update(stored=len(sealed), raw=len(raw), ids=[blob_id(fr["kind"], b) for b in fr["blobs"]])
            lines.append([fr["stored"], fr["raw"], fr["codec"], fr["kind"],
                          [(i, len(b)) for i, b in zip(fr["ids"], fr["blobs"])]])
            out += sealed
        if edit:
            edit(lines)
        record = r_list(wire_frame(*line) for line in lines) + r_list(extensions)
        body, encodes = payload(record) if toc is None else toc(record)
        n = len(frames) if n is None else n
        sealed = frame(1, key, n if number is None else number, last, body)
        out += sealed + (trailer or struct.pack("<II", len(sealed), n) + b"EXTC")
        return out, encodes

    def ok(name, frames, encodes=True, **a):
        pack, same = build(frames, **a)
        more = {"writer": WRITER} if a.get("by_writer") else {}
        f.ok(name, pack=pack, key=secret, nonce=nonce, encodes=encodes and same, **more, frames=[
            {"stored": x["stored"], "raw": x["raw"], "compressed": x["codec"] == 1, "kind": ["data", "meta"][x["kind"]],
             "payload": x["payload"], "blobs": [{"id": i, "bytes": b} for i, b in zip(x["ids"], x["blobs"])]}
            for x in frames])

    ok("three frames", contents())
    ok("one frame", contents()[:1])
    ok("no frame", [])
    ok("three frames by a writer", contents(), by_writer=True)
    ok("optional extension", contents()[:1], encodes=False, extensions=[extension(3, 0, b"abc")])
    zipped = lambda record: (b"\1" + struct.pack("<I", len(record)) + zstandard.ZstdCompressor().compress(record), False)
    ok("compressed table of contents", contents(), toc=zipped)

    def bad(name, expect, frames=None, **a):
        f.bad(name, expect, pack=build(frames or contents(), **a)[0])

    good = build(contents())[0]
    raw_bad = lambda name, pack, expect="damaged": f.bad(name, expect, pack=pack)
    sealed = build(contents(), by_writer=True)[0]
    raw_bad("proof altered", sealed[:79] + bytes([sealed[79] ^ 1]) + sealed[80:])
    raw_bad("trailer's magic", good[:-1] + b"D")
    raw_bad("trailer cut short", good[:-1])
    raw_bad("byte left over", good + b"\0")
    raw_bad("nothing", b"")
    raw_bad("trailer only", good[-12:])
    raw_bad("byte missing from a frame", good[:100] + good[101:])
    raw_bad("first frame altered", good[:80] + bytes([good[80] ^ 1]) + good[81:])
    raw_bad("header's version", good[:4] + b"\2" + good[5:], "unsupported")
    raw_bad("table longer than the pack", good[:-12] + struct.pack("<II", len(good), 3) + b"EXTC")
    raw_bad("table's length", good[:-12] + struct.pack("<II", struct.unpack("<I", good[-12:-8])[0] - 1, 3) + b"EXTC")
    raw_bad("number of frames in the trailer", good[:-8] + struct.pack("<I", 2) + b"EXTC")
    bad("table not marked last", "damaged", last=0)
    bad("trailer and table agree on a wrong number", "damaged", n=2)
    bad("codec 9 of the table", "unsupported", toc=lambda r: (b"\x09" + struct.pack("<I", len(r)) + r, False))
    bad("bytes after the table's record", "damaged", toc=lambda r: payload(r + b"\0"))
    bad("required extension", "unsupported", extensions=[extension(4, 1, b"")])

    def line(at, value, i=0):
        def edit(lines):
            lines[i][at] = value(lines[i][at])
        return edit

    bad("stored one more", "damaged", edit=line(0, lambda v: v + 1))
    bad("raw one less", "damaged", edit=line(1, lambda v: v - 1))
    bad("codec 2", "unsupported", edit=line(2, lambda v: 2))
    bad("blob kind 2", "unsupported", edit=line(3, lambda v: 2))
    bad("frame without blobs", "damaged", edit=line(4, lambda v: []))
    bad("blob of no bytes", "damaged", edit=line(4, lambda v: v + [(bytes(32), 0)]))
    bad("blob lengths do not add up", "damaged", edit=line(4, lambda v: v[:1]))
    bad("data called meta", "damaged", edit=line(3, lambda v: 1))
    bad("wrong blob id", "damaged", edit=line(4, lambda v: [(bytes(32), v[0][1]), v[1]]))
    bad("order of blobs", "damaged", edit=line(4, lambda v: [(v[1][0], v[0][1]), (v[0][0], v[1][1])]))

    def huge(lines):
        lines[0][:2] = [(16 << 20) + 17, (16 << 20) + 1]
        lines[0][4] = [(bytes(32), (16 << 20) + 1)]

    bad("frame beyond 16 MiB", "damaged", edit=huge)
    stored = contents()
    stored[1]["payload"] = zstandard.ZstdCompressor().compress(text) * 2
    bad("two zstd frames", "damaged", stored)
    grown = contents()
    grown[1]["blobs"] = [b"short"]
    grown[1]["payload"] = zstandard.ZstdCompressor().compress(b"short")
    bad("compressed frame longer than its content", "damaged", grown)
    f.write()


if __name__ == "__main__":
    import make_full
    import make_records

    for write in (marker, keys, descriptions, phrases, sub_keys, sealed, roles, packs, *make_records.ALL, *make_full.ALL):
        write()
