#!/usr/bin/env python3
"""Makes a golden repository: make.py EXUVIA FOLDER

The folder gets `repo/` and `expected.json`. The latter is written from the directory that was backed up, entry by
entry, at the time of each snapshot; only the hash of a database's image, which is no file of that directory, is
taken from a first restore, after its rows were compared with the source's.
"""

import base64
import hashlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile

PASSPHRASE = "golden passphrase"
WRITER = "golden passphrase of a writer"
TIME = 1_771_459_200  # 2026-02-19


def noise(seed, length):
    return hashlib.shake_256(str(seed).encode()).digest(length)


def prose(seed, length):
    words = "shed skin of the cicada left behind on bark when it grows out a summer night".split()
    choice = noise(seed, length)
    return " ".join(words[byte % len(words)] for byte in choice)[:length].encode()


class Place:
    def __init__(self, program, folder):
        self.program, self.folder = os.path.abspath(program), os.path.abspath(folder)
        self.work = tempfile.mkdtemp(prefix="exuvia-golden-")
        # Always the same path: it is in the records.
        self.state = "/tmp/exuvia-golden-state"
        shutil.rmtree(self.state, ignore_errors=True)
        os.mkdir(self.state)
        self.snapshots = []

    def run(self, *args, codes=(0,), passphrase=PASSPHRASE, home="owner"):
        home = os.path.join(self.work, home)
        os.makedirs(home, exist_ok=True)
        environment = {
            "HOME": home,
            "PATH": os.environ["PATH"],
            "TZ": "UTC",
            "EXUVIA_REPO": os.path.join(self.folder, "repo"),
            "EXUVIA_PASSPHRASE": passphrase,
            "EXUVIA_NEW_PASSPHRASE": WRITER,
            "EXUVIA_STATE_DIR": self.state,
        }
        done = subprocess.run([self.program, *args], env=environment, stdin=subprocess.DEVNULL, capture_output=True)
        if done.returncode not in codes:
            sys.exit(f"{args}: exit {done.returncode}\n{done.stdout.decode()}\n{done.stderr.decode()}")
        return done.stdout.decode()

    def path(self, name):
        path = os.path.join(os.fsencode(self.state), name if isinstance(name, bytes) else name.encode())
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def write(self, name, content):
        with open(self.path(name), "wb") as file:
            file.write(content)

    def settle(self):
        """Gives everything times of its own, parts of a second included."""
        count = 0
        for folder, folders, files in os.walk(os.fsencode(self.state), topdown=False):
            for name in sorted(files) + sorted(folders):
                count += 1
                path = os.path.join(folder, name)
                os.utime(path, ns=(0, (TIME + count * 61) * 10**9 + count), follow_symlinks=False)
        os.utime(self.state, ns=(0, TIME * 10**9))

    def backup(self, name, *args, **more):
        self.settle()
        expected = listing(os.fsencode(self.state))
        summary = json.loads(self.run("--json", "backup", "--no-progress", *args, **more).splitlines()[-1])
        self.remember(name, summary["snapshot"], expected)

    def remember(self, name, snapshot, expected):
        """Fills in the images of databases."""
        target = os.path.join(self.work, "restored")
        shutil.rmtree(target, ignore_errors=True)
        self.run("restore", snapshot, "--to", target)
        for path, entry in expected.items():
            if "rows" in entry:
                image = os.path.join(os.fsencode(target), base64.b64decode(path))
                assert rows(image) == entry["rows"], path
                entry["sha256"] = digest(image)
        self.snapshots.append({"name": name, "id": snapshot, "entries": expected})


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def rows(path):
    database = sqlite3.connect(os.fsdecode(path))
    try:
        text = "".join(f"{number} {body}\n" for number, body in database.execute("select id, body from notes order by id"))
        return hashlib.sha256(text.encode()).hexdigest()
    finally:
        database.close()


def listing(root):
    """What is below a directory, by base64 of the path."""
    found, groups = {}, {}
    todo = [b""]
    while todo:
        name = todo.pop()
        path = os.path.join(root, name) if name else root
        info = os.lstat(path)
        entry = {"mode": stat.S_IMODE(info.st_mode), "mtime": str(info.st_mtime_ns)}
        if stat.S_ISDIR(info.st_mode):
            entry["type"] = "directory"
            todo += [os.path.join(name, child) if name else child for child in os.listdir(path)]
        elif stat.S_ISLNK(info.st_mode):
            entry["type"] = "symlink"
            entry["target"] = os.fsdecode(os.readlink(path))
        elif stat.S_ISFIFO(info.st_mode):
            entry["type"] = "fifo"
        else:
            entry["type"] = "file"
            entry["size"] = info.st_size
            if name.endswith(b".sqlite"):
                entry["rows"] = rows(path)
            else:
                entry["sha256"] = digest(path)
            if info.st_nlink > 1:
                entry["links"] = groups.setdefault(info.st_ino, len(groups) + 1)
            # No security labels: they are the machine's.
            names = [x for x in os.listxattr(path) if x.startswith("user.")]
            entry["xattrs"] = {x: base64.b64encode(os.getxattr(path, x)).decode() for x in sorted(names)}
        found[base64.b64encode(name).decode()] = entry
    return found


def database(place, count, changed=None):
    path = place.path("memory/main.sqlite")
    connection = sqlite3.connect(os.fsdecode(path))
    connection.execute("pragma page_size = 1024")
    connection.execute("create table if not exists notes (id integer primary key, body text)")
    have = connection.execute("select count(*) from notes").fetchone()[0]
    for number in range(have, count):
        connection.execute("insert into notes values (?, ?)", (number, prose(number, 300).decode()))
    if changed is not None:
        connection.execute("update notes set body = ? where id = ?", (prose(1000 + changed, 300).decode(), changed))
    connection.commit()
    connection.close()


def main():
    program, folder = sys.argv[1:]
    if os.path.exists(os.path.join(folder, "repo")):
        sys.exit("golden repositories are never made anew")
    os.makedirs(folder, exist_ok=True)
    place = Place(program, folder)
    place.run("init", "--kdf-log-n", "15", "--label", "golden")

    # The first state: a file of each kind.
    place.write("AGENTS.md", prose(1, 900))
    place.write("empty", b"")
    place.write("sessions/log.jsonl", b"".join(b'{"n":%d}\n' % n for n in range(4000)))
    place.write("large.bin", prose(2, 8_000) + bytes(90_000) + noise(3, 6_000))
    place.write(b"name \xff\n not text", b"a name is bytes")
    place.write("a/first name", b"one file, two names")
    os.link(place.path("a/first name"), place.path("b/second name"))
    os.symlink("../AGENTS.md", place.path("a/link"))
    os.symlink("/nowhere", place.path("dangling"))
    os.mkfifo(place.path("pipe"))
    os.mkdir(place.path("nothing in it"))
    place.write("attributes", b"has attributes")
    os.setxattr(place.path("attributes"), "user.kind", b"golden")
    os.setxattr(place.path("attributes"), "user.bytes", bytes(range(256)))
    with open(place.path("sparse"), "wb") as file:
        file.write(b"before a hole")
        file.seek(1 << 20)
        file.write(b"after it")
    os.chmod(place.path("a"), 0o750)
    os.chmod(place.path("attributes"), 0o400)
    for number in range(30):
        place.write(f"many/{number:03}.md", prose(100 + number, 150))
    database(place, 120)
    place.backup("first", "--tag", "golden")

    # Files that grew and changed: slices.
    with open(place.path("sessions/log.jsonl"), "ab") as file:
        file.write(b"".join(b'{"n":%d}\n' % n for n in range(4000, 4100)))
    database(place, 125, changed=7)
    os.remove(place.path("many/003.md"))
    place.write("many/004.md", prose(4, 200))
    place.backup("second", "--reason", "before-compaction")
    database(place, 126, changed=90)
    place.backup("third")

    # A rollback, with its safety snapshot.
    before = listing(os.fsencode(place.state))
    rolled = json.loads(place.run("--json", "rollback", place.snapshots[0]["id"], "--yes").splitlines()[-1])
    place.remember("safety", rolled["safety_snapshot"], before)

    # A great loss, and its acceptance.
    for number in range(30):
        if os.path.exists(place.path(f"many/{number:03}.md")):
            os.remove(place.path(f"many/{number:03}.md"))
    for name in ["large.bin", "sparse", "AGENTS.md", "attributes"]:
        os.remove(place.path(name))
    place.backup("marked")
    place.run("snapshots", "--accept", place.snapshots[-1]["id"][:16])
    extras(place)

    place.run("check", "--read-data")
    with open(os.path.join(folder, "expected.json"), "w") as file:
        json.dump({"passphrase": PASSPHRASE, "snapshots": place.snapshots}, file, indent=1, sort_keys=True)
        file.write("\n")
    # What the file system adds is no part of a repository.
    for path, _, files in os.walk(folder):
        assert not [name for name in files if name.startswith(".exuvia-tmp")], path
    shutil.rmtree(place.state)
    shutil.rmtree(place.work)


def extras(place):
    """What programs can make since they prune and have writer keys; `v1` is from before."""
    if "prune" not in place.run("--help"):
        place.run("key", "add", "--label", "second")
        return
    # A snapshot of a writer, in a home of its own.
    place.run("key", "add", "--write-only", "--label", "writer")
    place.write("written.md", prose(5, 700))
    place.settle()
    expected = listing(os.fsencode(place.state))
    made = place.run("--json", "backup", "--no-progress", passphrase=WRITER, home="writer")
    place.remember("writer", json.loads(made.splitlines()[-1])["snapshot"], expected)
    # One that nobody needs any more: its packs are condemned.
    place.write("soon gone", noise(7, 5_000))
    place.backup("gone")
    os.remove(place.path("soon gone"))
    place.backup("after")
    gone = next(snapshot for snapshot in place.snapshots if snapshot["name"] == "gone")
    place.run("forget", gone["id"], "--yes")
    place.snapshots.remove(gone)
    place.run("prune")
    assert os.listdir(os.path.join(place.folder, "repo", "gc"))
    # A new master key for what comes.
    place.run("key", "rotate", "--yes")
    place.write("written.md", prose(6, 800))
    place.backup("rotated")


if __name__ == "__main__":
    main()
