//! What every remote must do, as cases that can be run against any of them: by the tests against the
//! remotes that we know, by users against theirs.
//!
//! A case stores objects of its own in the scratch remote that it is given. Nobody else may use that
//! remote meanwhile, and it must be empty at the start.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use super::{Listed, Remote, RemoteError};

/// Requests that are under way at once in the cases about concurrency.
const THREADS: usize = 8;
/// Objects that each of these threads stores for itself, and objects that all of them store.
const OWN: usize = 10;
const SHARED: usize = 5;

/// How much is asked of the remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Objects in the long listing. Services hand out 1,000 names a page, so that more than these show
    /// whether pages are put together.
    pub listing: usize,
    /// Bytes of the big object: more than fits into one part of an upload.
    pub big: usize,
    /// Whether objects may be deleted. Without, what the cases store stays.
    pub deletes: bool,
}

impl Options {
    /// Thorough: for servers on this machine.
    pub const THOROUGH: Self = Self { listing: 10_000, big: 12 << 20, deletes: true };
    /// For services that cost time and money for each request.
    pub const GENTLE: Self = Self { listing: 40, big: 1 << 20, deletes: true };
}

/// What is wrong with a remote, for people.
pub type Failure = String;

/// One demand.
pub struct Case {
    /// What is demanded.
    pub name: &'static str,
    /// Whether it deletes objects.
    pub deletes: bool,
    run: fn(&Scratch<'_>) -> Result<(), Failure>,
}

/// Every demand, in the order of running.
pub const CASES: &[Case] = &[
    Case { name: "a missing folder is empty", deletes: false, run: missing_folder },
    Case { name: "missing objects are told from failures", deletes: false, run: missing_objects },
    Case { name: "what was stored is there at once", deletes: false, run: read_after_write },
    Case { name: "an empty object is an object", deletes: false, run: empty_object },
    Case { name: "an object at the root", deletes: false, run: root_object },
    Case { name: "ranges", deletes: false, run: ranges },
    Case { name: "reading is bounded", deletes: false, run: bounded },
    Case { name: "listings are of folders, with those below", deletes: false, run: folders },
    Case { name: "odd names", deletes: false, run: odd_names },
    Case { name: "names that leave the remote are refused", deletes: false, run: refused_names },
    Case { name: "nothing is overwritten", deletes: false, run: overwriting },
    Case { name: "objects stored at once", deletes: false, run: concurrent },
    Case { name: "one object stored by many at once", deletes: false, run: concurrent_same },
    Case { name: "a big object", deletes: false, run: big_object },
    Case { name: "an object of unknown length", deletes: false, run: streamed },
    Case { name: "an object given up in the midst", deletes: true, run: given_up },
    Case { name: "a long listing", deletes: false, run: long_listing },
    Case { name: "deleted objects are gone", deletes: true, run: deletions },
];

/// How it went.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Cases that the remote passed.
    pub passed: Vec<&'static str>,
    /// Cases that it failed, and how.
    pub failed: Vec<(&'static str, Failure)>,
    /// Cases that were not run, since objects may not be deleted.
    pub left_out: Vec<&'static str>,
    /// Objects that the cases stored and that are there still.
    pub remaining: Vec<String>,
}

/// Runs every case against a scratch remote, tells `report` how each went, and takes away what they
/// stored.
pub fn run(
    remote: &dyn Remote,
    options: &Options,
    report: &mut dyn FnMut(&'static str, Result<(), &str>),
) -> Outcome {
    let scratch = Scratch { remote, options, stored: Mutex::default() };
    let mut outcome = Outcome::default();
    for case in CASES {
        if case.deletes && !options.deletes {
            outcome.left_out.push(case.name);
            continue;
        }
        let result = (case.run)(&scratch);
        report(
            case.name,
            match &result {
                Ok(()) => Ok(()),
                Err(failure) => Err(failure),
            },
        );
        match result {
            Ok(()) => outcome.passed.push(case.name),
            Err(failure) => outcome.failed.push((case.name, failure)),
        }
    }
    outcome.remaining = scratch.clean_up();
    outcome
}

/// Compares a listing with names and sizes that must be in it; nothing else may be.
pub fn listing_is(remote: &dyn Remote, folder: &str, wanted: &BTreeMap<String, u64>) -> Result<(), Failure> {
    let mut found = BTreeMap::new();
    for Listed { name, size } in remote.list(folder).map_err(failed("list"))? {
        if found.contains_key(&name) {
            return Err(format!("the listing of {folder} has {name} twice"));
        }
        found.insert(name, size);
    }
    for (name, size) in wanted {
        match found.get(name) {
            Some(there) => ensure(there == size, || {
                format!("{name} has {size} bytes, and {there} in the listing of {folder}")
            })?,
            None => {
                let (all, some) = (wanted.len(), found.len());
                return Err(format!("{name} is not in the listing of {folder}: {some} of {all} objects are"));
            }
        }
    }
    match found.keys().find(|name| !wanted.contains_key(*name)) {
        Some(name) => Err(format!("{name} is in the listing of {folder}, and was never stored")),
        None => Ok(()),
    }
}

/// The remote, and what has been stored in it.
struct Scratch<'a> {
    remote: &'a dyn Remote,
    options: &'a Options,
    stored: Mutex<BTreeMap<String, u64>>,
}

impl Scratch<'_> {
    fn stored(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the object before it is stored: a put that fails may have left something.
    fn note(&self, name: &str, bytes: &[u8]) {
        self.stored().insert(name.to_string(), bytes.len() as u64);
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        self.note(name, bytes);
        self.remote.put(name, bytes).map_err(failed("put"))
    }

    fn delete(&self, name: &str) -> Result<(), Failure> {
        self.remote.delete(name).map_err(failed("delete"))?;
        self.stored().remove(name);
        Ok(())
    }

    /// Fails unless the object is whole by every way to look at it, listings aside.
    fn holds(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let len = bytes.len() as u64;
        let size = self.remote.size(name).map_err(failed("size"))?;
        ensure(size == len, || format!("{name} has {len} bytes, and is said to have {size}"))?;
        same(name, &self.remote.get(name, len).map_err(failed("get"))?, bytes)
    }

    /// Objects noted whose names begin so.
    fn below(&self, prefix: &str) -> BTreeMap<String, u64> {
        let stored = self.stored();
        let inside = stored.iter().filter(|(name, _)| name.starts_with(prefix));
        inside.map(|(name, size)| (name.clone(), *size)).collect()
    }

    /// Takes away what was stored, as far as that works; returns what stays.
    fn clean_up(self) -> Vec<String> {
        let names: Vec<String> =
            self.stored.into_inner().unwrap_or_else(PoisonError::into_inner).into_keys().collect();
        if !self.options.deletes {
            return names;
        }
        let remote = self.remote;
        let share = names.len().div_ceil(THREADS).max(1);
        thread::scope(|scope| {
            let workers: Vec<_> = names
                .chunks(share)
                .map(|names| {
                    let stays = |name: &&String| remote.delete(name).is_err();
                    scope.spawn(move || names.iter().filter(stays).cloned().collect::<Vec<_>>())
                })
                .collect();
            // A worker that died has deleted nothing that we know of; `delete` does not die.
            workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
        })
    }
}

fn ensure(holds: bool, message: impl FnOnce() -> Failure) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(message()) }
}

fn failed(what: &'static str) -> impl Fn(RemoteError) -> Failure {
    move |error| format!("{what}: {error}")
}

fn same(name: &str, found: &[u8], wanted: &[u8]) -> Result<(), Failure> {
    let (here, there) = (wanted.len(), found.len());
    ensure(here == there, || format!("{name}: {here} bytes were wanted, {there} came"))?;
    match found.iter().zip(wanted).position(|(a, b)| a != b) {
        Some(at) => Err(format!("{name}: byte {at} is not what was stored")),
        None => Ok(()),
    }
}

fn not_found<T>(what: &str, result: Result<T, RemoteError>) -> Result<(), Failure> {
    match result {
        Err(e) if e.is_not_found() => Ok(()),
        Err(e) => Err(format!("{what} of a missing object should say that it is missing, and says: {e}")),
        Ok(_) => Err(format!("{what} of a missing object succeeds")),
    }
}

fn wrong_size<T>(what: &str, result: Result<T, RemoteError>) -> Result<(), Failure> {
    match result {
        Err(RemoteError::Size { .. }) => Ok(()),
        Err(e) => Err(format!("{what} should say that the size is wrong, and says: {e}")),
        Ok(_) => Err(format!("{what} succeeds")),
    }
}

/// Bytes without a pattern, the same for the same seed: a part that comes twice or from elsewhere shows.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn missing_folder(scratch: &Scratch<'_>) -> Result<(), Failure> {
    for folder in ["packs", "index", "missing"] {
        listing_is(scratch.remote, folder, &BTreeMap::new())?;
    }
    Ok(())
}

fn missing_objects(scratch: &Scratch<'_>) -> Result<(), Failure> {
    let remote = scratch.remote;
    let look = |name: &str| {
        not_found("get", remote.get(name, 10))?;
        not_found("a range", remote.get_range(name, 0, 1))?;
        not_found("a range further on", remote.get_range(name, 100, 1))?;
        not_found("size", remote.size(name))
    };
    // In a folder that does not exist, beside an object, and at the root.
    look("nowhere/a")?;
    look("packs/ab/ab")?;
    scratch.put("here/a", b"a")?;
    look("here/b")?;
    look("absent")?;
    if scratch.options.deletes {
        scratch.delete("here/b")?;
        scratch.delete("nowhere/a")?;
    }
    scratch.holds("here/a", b"a")
}

fn read_after_write(scratch: &Scratch<'_>) -> Result<(), Failure> {
    for i in 0..5 {
        let (name, bytes) = (format!("fresh/{i}"), noise(i, 1000));
        // Looked for before it is there: an answer that is kept would be wrong afterwards.
        not_found("size", scratch.remote.size(&name))?;
        scratch.put(&name, &bytes)?;
        listing_is(scratch.remote, "fresh", &scratch.below("fresh/"))?;
        scratch.holds(&name, &bytes)?;
        same(&name, &scratch.remote.get_range(&name, 500, 500).map_err(failed("range"))?, &bytes[500..])?;
    }
    Ok(())
}

fn empty_object(scratch: &Scratch<'_>) -> Result<(), Failure> {
    scratch.put("empty/object", b"")?;
    scratch.holds("empty/object", b"")?;
    same("empty/object", &scratch.remote.get("empty/object", 10).map_err(failed("get"))?, b"")?;
    same("empty/object", &scratch.remote.get_range("empty/object", 0, 0).map_err(failed("range"))?, b"")?;
    wrong_size("a byte of nothing", scratch.remote.get_range("empty/object", 0, 1))?;
    listing_is(scratch.remote, "empty", &scratch.below("empty/"))
}

fn root_object(scratch: &Scratch<'_>) -> Result<(), Failure> {
    scratch.put("exuvia.json", b"marker")?;
    scratch.holds("exuvia.json", b"marker")
}

fn ranges(scratch: &Scratch<'_>) -> Result<(), Failure> {
    let name = "packs/ra/range";
    let range = |offset, len| scratch.remote.get_range(name, offset, len);
    scratch.put(name, b"0123456789")?;
    for (offset, len, wanted) in [
        (0, 10, &b"0123456789"[..]),
        (3, 4, b"3456"),
        (0, 1, b"0"),
        (9, 1, b"9"),
        (4, 6, b"456789"),
        (0, 0, b""),
        (10, 0, b""),
    ] {
        same(name, &range(offset, len).map_err(failed("range"))?, wanted)
            .map_err(|failure| format!("{len} bytes from {offset}: {failure}"))?;
    }
    for (offset, len) in [(8, 4), (0, 11), (10, 1), (11, 1), (1 << 40, 4), (0, 1 << 40)] {
        wrong_size(&format!("reading {len} bytes from {offset} of 10"), range(offset, len))?;
    }
    // No service can be asked for these.
    for (offset, len) in [(u64::MAX, 4), (u64::MAX, u64::MAX), (0, u64::MAX), (1, u64::MAX)] {
        match range(offset, len) {
            Err(e) if !e.is_not_found() => {}
            other => return Err(format!("{len} bytes from {offset}: {other:?}")),
        }
    }
    Ok(())
}

fn bounded(scratch: &Scratch<'_>) -> Result<(), Failure> {
    let (name, bytes) = ("packs/bo/bounded", noise(3, 70_000));
    scratch.put(name, &bytes)?;
    for max in [0, 1, 69_999] {
        wrong_size(&format!("reading 70,000 bytes where {max} are allowed"), scratch.remote.get(name, max))?;
    }
    for max in [70_000, 70_001, u64::MAX] {
        same(name, &scratch.remote.get(name, max).map_err(failed("get"))?, &bytes)?;
    }
    Ok(())
}

fn folders(scratch: &Scratch<'_>) -> Result<(), Failure> {
    for (name, len) in
        [("packs/on/one", 10), ("packs/on/onetwo", 0), ("packs/tw/two", 20_000), ("packages/three", 3)]
    {
        scratch.put(name, &noise(9, len))?;
    }
    for folder in ["packs", "packs/on", "packs/tw", "packages"] {
        listing_is(scratch.remote, folder, &scratch.below(&format!("{folder}/")))?;
    }
    // A folder, not a prefix.
    for folder in ["pack", "packs/o", "package", "packs/on/on"] {
        listing_is(scratch.remote, folder, &BTreeMap::new())?;
    }
    Ok(())
}

fn odd_names(scratch: &Scratch<'_>) -> Result<(), Failure> {
    let mut names: Vec<String> = [
        "a-b_c.d",
        "0",
        "0123",
        "-dash",
        "_low",
        "a..b",
        "a.tmp",
        "trailing-",
        "trailing.x.y.z",
        "2026-02-15T10-00-00Z-0f",
    ]
    .map(|base| format!("odd/{base}"))
    .to_vec();
    names.push(format!("odd/{}", "n".repeat(200)));
    names.push(format!("odd/{}{}", "n".repeat(199), "o"));
    names.push(format!("packs/0d/0d{}", "9".repeat(62)));
    names.push("9/digit".to_string());
    names.push("odd-folder_1.x/name".to_string());
    for (seed, name) in (0..).zip(&names) {
        scratch.put(name, &noise(seed, 33))?;
    }
    for (seed, name) in (0..).zip(&names) {
        scratch.holds(name, &noise(seed, 33))?;
    }
    for folder in ["odd", "9", "odd-folder_1.x", "packs/0d"] {
        listing_is(scratch.remote, folder, &scratch.below(&format!("{folder}/")))?;
    }
    Ok(())
}

fn refused_names(scratch: &Scratch<'_>) -> Result<(), Failure> {
    let remote = scratch.remote;
    for name in ["../x", "/etc/x", "a/../b", "", "a//b", ".", "..", "a/", "/", "packs/./x", "a\0b"] {
        let quoted = name.escape_debug();
        // Refused by us: whether such a thing exists is not to be found out.
        let refused = |what: &str, error: Option<RemoteError>| match error {
            Some(e) if !e.is_not_found() => Ok(()),
            Some(e) => Err(format!("{what} of \"{quoted}\" should be refused, and says: {e}")),
            None => Err(format!("{what} of \"{quoted}\" should be refused")),
        };
        refused("put", remote.put(name, b"x").err())?;
        refused("create", remote.create(name, b"x").err())?;
        refused("get", remote.get(name, 10).err())?;
        refused("a range", remote.get_range(name, 0, 1).err())?;
        refused("size", remote.size(name).err())?;
        refused("delete", remote.delete(name).err())?;
        refused("list", remote.list(name).err())?;
    }
    Ok(())
}

fn overwriting(scratch: &Scratch<'_>) -> Result<(), Failure> {
    let (name, bytes) = ("keys/made", b"made first");
    scratch.note(name, bytes);
    scratch.remote.create(name, bytes).map_err(failed("create"))?;
    for again in [&b"another"[..], b"made first", b""] {
        match scratch.remote.create(name, again) {
            Err(RemoteError::Exists { .. }) => {}
            other => return Err(format!("an object is made where there is one: {other:?}")),
        }
        scratch.holds(name, bytes)?;
    }
    // The same bytes are welcome any number of times.
    scratch.put(name, bytes)?;
    scratch.put(name, bytes)?;
    scratch.holds(name, bytes)?;
    listing_is(scratch.remote, "keys", &scratch.below("keys/"))
}

/// Runs `work` in several threads; returns the first failure.
fn at_once(work: impl Fn(usize) -> Result<(), Failure> + Sync) -> Result<(), Failure> {
    let work = &work;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || work(thread))).collect();
        let results: Vec<_> =
            workers.into_iter().map(|w| w.join().unwrap_or_else(|_| Err("a thread died".into()))).collect();
        results.into_iter().collect()
    })
}

fn concurrent(scratch: &Scratch<'_>) -> Result<(), Failure> {
    let bytes = |thread: usize, i: usize| noise((thread * OWN + i) as u64, 1 + 3000 * i);
    at_once(|thread| {
        for i in 0..OWN {
            let name = format!("many/{thread}-{i}");
            scratch.put(&name, &bytes(thread, i))?;
            scratch.holds(&name, &bytes(thread, i))?;
        }
        Ok(())
    })?;
    listing_is(scratch.remote, "many", &scratch.below("many/"))?;
    // Each by another than the one who stored it.
    at_once(|thread| {
        let other = (thread + 1) % THREADS;
        (0..OWN).try_for_each(|i| scratch.holds(&format!("many/{other}-{i}"), &bytes(other, i)))
    })
}

fn concurrent_same(scratch: &Scratch<'_>) -> Result<(), Failure> {
    at_once(|_| {
        for i in 0..SHARED {
            let (name, bytes) = (format!("shared/{i}"), noise(i as u64, 20_000));
            scratch.put(&name, &bytes)?;
            scratch.holds(&name, &bytes)?;
        }
        Ok(())
    })?;
    listing_is(scratch.remote, "shared", &scratch.below("shared/"))
}

fn big_object(scratch: &Scratch<'_>) -> Result<(), Failure> {
    let (name, bytes) = ("packs/bi/big", noise(77, scratch.options.big));
    scratch.put(name, &bytes)?;
    scratch.holds(name, &bytes)?;
    listing_is(scratch.remote, "packs/bi", &scratch.below("packs/bi/"))?;
    let len = bytes.len();
    // From the start, across the end of a part of 5 MiB, and to the end.
    for at in [0, len / 3, (5 << 20) - 500, len.saturating_sub(1000)] {
        let Some(part) = bytes.get(at..len.min(at + 1000)) else { continue };
        let found = scratch.remote.get_range(name, at as u64, part.len() as u64).map_err(failed("range"))?;
        same(name, &found, part).map_err(|failure| format!("from {at}: {failure}"))?;
    }
    wrong_size("reading beyond its end", scratch.remote.get_range(name, len as u64 - 1, 2))?;
    // By many at once, each its own part.
    at_once(|thread| {
        let share = len / THREADS;
        let part = &bytes[thread * share..(thread + 1) * share];
        let range = scratch.remote.get_range(name, (thread * share) as u64, share as u64);
        same(name, &range.map_err(failed("range"))?, part)
    })
}

/// Pieces of sizes that fit into nothing.
fn stream(scratch: &Scratch<'_>, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    scratch.note(name, bytes);
    let mut upload = scratch.remote.stream(name).map_err(failed("stream"))?;
    for piece in bytes.chunks(333_333) {
        upload.write(piece).map_err(failed("a piece of a stream"))?;
    }
    upload.finish().map_err(failed("the end of a stream"))
}

fn streamed(scratch: &Scratch<'_>) -> Result<(), Failure> {
    for (name, len) in [("full/empty", 0), ("full/small", 10), ("full/big", scratch.options.big)] {
        let bytes = noise(len as u64 + 5, len);
        stream(scratch, name, &bytes)?;
        scratch.holds(name, &bytes)?;
    }
    // Beside others, and others beside it, even where only one request may be under way.
    let (name, bytes) = ("full/beside", noise(9, 100_000));
    scratch.note(name, &bytes);
    let mut upload = scratch.remote.stream(name).map_err(failed("stream"))?;
    for (number, piece) in bytes.chunks(30_000).enumerate() {
        upload.write(piece).map_err(failed("a piece of a stream"))?;
        scratch.put(&format!("full/other-{number}"), piece)?;
        scratch.holds("full/small", &noise(15, 10))?;
    }
    upload.finish().map_err(failed("the end of a stream"))?;
    scratch.holds(name, &bytes)?;
    listing_is(scratch.remote, "full", &scratch.below("full/"))
}

fn given_up(scratch: &Scratch<'_>) -> Result<(), Failure> {
    let (name, bytes) = ("given-up/a", noise(3, scratch.options.big));
    scratch.note(name, &bytes);
    let mut upload = scratch.remote.stream(name).map_err(failed("stream"))?;
    for piece in bytes.chunks(1 << 20) {
        upload.write(piece).map_err(failed("a piece of a stream"))?;
    }
    drop(upload);
    // What a remote may keep of it can be taken away, and the way is free for others.
    scratch.delete(name)?;
    not_found("size", scratch.remote.size(name))?;
    scratch.put("given-up/b", b"bytes")?;
    scratch.holds("given-up/b", b"bytes")
}

fn long_listing(scratch: &Scratch<'_>) -> Result<(), Failure> {
    let count = scratch.options.listing;
    at_once(|thread| {
        for i in (thread..count).step_by(THREADS) {
            scratch.put(&format!("long/{i:05}"), &noise(i as u64, i % 7))?;
        }
        Ok(())
    })?;
    listing_is(scratch.remote, "long", &scratch.below("long/"))
}

fn deletions(scratch: &Scratch<'_>) -> Result<(), Failure> {
    let remote = scratch.remote;
    scratch.put("gone/stays", b"stays")?;
    for name in ["gone/a", "packs/go/gone"] {
        scratch.put(name, b"bytes")?;
        scratch.delete(name)?;
        not_found("get", remote.get(name, 10))?;
        not_found("a range", remote.get_range(name, 0, 1))?;
        not_found("size", remote.size(name))?;
        // Deleting what is gone is no error: two clients may do it.
        scratch.delete(name)?;
    }
    listing_is(remote, "gone", &scratch.below("gone/"))?;
    listing_is(remote, "packs/go", &BTreeMap::new())?;
    scratch.holds("gone/stays", b"stays")?;
    // A name may come back.
    scratch.put("gone/a", b"again")?;
    scratch.holds("gone/a", b"again")?;
    listing_is(remote, "gone", &scratch.below("gone/"))
}
