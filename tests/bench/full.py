#!/usr/bin/env python3
"""Full archives beside the pipelines of standard programs, on the same state dir and in one run.

    tests/bench/full.py EXUVIA STATE_DIR [--s3] [--rounds N]

Prints a table: seconds (best of the rounds), peak memory of the program that makes the archive (all processes of a
pipeline added up), bytes that the run wrote to this machine's disk beside the archive, size of the archive. With --s3
the archives go to an S3 server on this machine (`rclone serve s3`, of rclone 1.65 or later: EXUVIA_RCLONE names it).
"""

import argparse
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

PASS = "correct horse battery staple"


def children(pid):
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in task.read_text().split():
                found += children(int(child))
        except OSError:
            pass
    return found


def peak(pid, ignore=()):
    """KiB of the highest resident sets of a process and those below it, by name."""
    total = {}
    for one in children(pid):
        try:
            text = Path(f"/proc/{one}/status").read_text()
        except OSError:
            continue
        fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        name = fields["Name"].strip()
        if "VmHWM" in fields:
            total[(one, name)] = int(fields["VmHWM"].split()[0])
    return total


def run(command, env, shell):
    """Seconds, and KiB by name of program."""
    highest = {}
    begun = time.monotonic()
    process = subprocess.Popen(command, env=env, shell=shell, executable="/bin/bash" if shell else None,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = []
    reader = threading.Thread(target=lambda: errors.append(process.stderr.read()))
    reader.start()
    while process.poll() is None:
        for key, value in peak(process.pid).items():
            highest[key] = max(highest.get(key, 0), value)
        time.sleep(0.02)
    took = time.monotonic() - begun
    reader.join()
    if process.returncode:
        raise SystemExit(f"{command}: {process.returncode}\n{errors[0].decode()}")
    names = {}
    for (_, name), value in highest.items():
        if name not in ("bash", "sh"):
            names[name] = names.get(name, 0) + value
    return took, names


def size_of(folder):
    return sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exuvia", type=Path)
    parser.add_argument("state", type=Path)
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    state, exuvia = args.state.resolve(), args.exuvia.resolve()
    rclone = os.environ.get("EXUVIA_RCLONE", "rclone")
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        (base / "home").mkdir()
        (base / "tmp").mkdir()
        env = {**os.environ, "HOME": str(base / "home"), "TMPDIR": str(base / "tmp"),
               "EXUVIA_STATE_DIR": str(state), "EXUVIA_PASSPHRASE": PASS}
        server = None
        if args.s3:
            port, store = free_port(), base / "store"
            (store / "bucket").mkdir(parents=True)
            server = subprocess.Popen([rclone, "serve", "s3", "--auth-key", "key,secret", "--addr", f"127.0.0.1:{port}",
                                       str(store)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while socket.socket().connect_ex(("127.0.0.1", port)):
                if server.poll() is not None:
                    raise SystemExit(f"{rclone} has no `serve s3`")
                time.sleep(0.05)
            remote = (f":s3,provider=Other,endpoint='http://127.0.0.1:{port}',access_key_id=key,"
                      "secret_access_key=secret:bucket/repo")
            repository, folder = f"rclone:{remote}", store / "bucket/repo/full"
            out = lambda name: f"{rclone} rcat \"{remote}/full/{name}\""
        else:
            repository, folder = str(base / "repo"), base / "repo/full"
            out = lambda name: f"cat > {folder}/{name}"
        try:
            measure(args, env, exuvia, state, repository, folder, out, base)
        finally:
            if server:
                server.kill()


def measure(args, env, exuvia, state, repository, folder, out, base):
    env["EXUVIA_REPO"] = repository
    subprocess.run([exuvia, "init", "--kdf-log-n", "15"], env=env, check=True, capture_output=True)
    tar = f"tar c -C {state.parent} {state.name}"
    enc = f"openssl enc -aes-256-cbc -salt -pbkdf2 -iter 100000 -pass 'pass:{PASS}'"
    ways = [
        ("exuvia full create", [str(exuvia), "full", "create"], False),
        ("tar c | zstd | openssl enc", f"set -o pipefail; {tar} | zstd -q | {enc} | {out('t.zst.enc')}", True),
        ("exuvia full create --form openssl", [str(exuvia), "-q", "full", "create", "--form", "openssl"], False),
        ("tar cz | openssl enc", f"set -o pipefail; {tar} | gzip | {enc} | {out('t.gz.enc')}", True),
    ]
    subprocess.run(f"{tar} > /dev/null", shell=True, check=True)
    rows = {}
    for round_number in range(args.rounds):
        for name, command, shell in ways:
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
            took, memory = run(command, env, shell)
            stored = max((f.stat().st_size for f in folder.iterdir()), default=0)
            written = size_of(base / "tmp")
            best = rows.get(name)
            if best is None or took < best[0]:
                rows[name] = (took, memory, written, stored)
    total = size_of(state)
    print(f"{total / 2**20:.1f} MiB in {state}, {'S3 on this machine' if args.s3 else 'local'}, "
          f"{os.cpu_count()} processors, best of {args.rounds}\n")
    print("| way | seconds | MiB/s | peak memory, MiB | on disk beside it | stored, MiB |")
    print("|---|---|---|---|---|---|")
    for name, (took, memory, written, stored) in rows.items():
        shown = ", ".join(f"{program} {value / 1024:.1f}" for program, value in sorted(memory.items()))
        print(f"| `{name}` | {took:.2f} | {total / 2**20 / took:.0f} | {shown} | {written} B | {stored / 2**20:.1f} |")


if __name__ == "__main__":
    main()
