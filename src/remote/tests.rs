//! The contract, and what only some remotes promise.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::contract::{self, CASES, Options};
use super::{Counting, Listed, Local, Memory, Remote, RemoteError, RequestCounts, Streaming};

/// Runs every case; fails with all that is wrong.
fn keeps_the_contract(remote: &dyn Remote, options: &Options) {
    let mut told = Vec::new();
    let outcome = contract::run(remote, options, &mut |name, result| told.push((name, result.is_ok())));
    assert_eq!(outcome.failed, []);
    assert_eq!(outcome.remaining, [""; 0]);
    assert_eq!(told, CASES.iter().map(|case| (case.name, true)).collect::<Vec<_>>());
}

#[test]
fn memory() {
    let remote = Memory::default();
    keeps_the_contract(&remote, &Options::THOROUGH);
    for folder in ["packs", "long", "many"] {
        assert_eq!(remote.list(folder).unwrap(), []);
    }
}

#[test]
fn local() {
    let dir = tempfile::tempdir().unwrap();
    // Each object is synced; the long listing is made below without that.
    let options = Options { listing: 300, ..Options::THOROUGH };
    keeps_the_contract(&Local::new(dir.path().join("repository")), &options);
}

#[test]
fn local_lists_ten_thousand_objects() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("index")).unwrap();
    let objects: BTreeMap<String, u64> = (0..10_000).map(|i| (format!("index/{i:05}"), i % 7)).collect();
    for (name, size) in &objects {
        let bytes = &b"1234567"[..usize::try_from(*size).unwrap()];
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    contract::listing_is(&Local::new(dir.path().to_path_buf()), "index", &objects).unwrap();
}

#[test]
fn counting_passes_the_contract_on() {
    let remote = Counting::new(Arc::new(Memory::default()));
    keeps_the_contract(&remote, &Options::GENTLE);
    assert_ne!(remote.counts(), RequestCounts::default());
}

#[test]
fn without_deletes_everything_stays_and_is_named() {
    let remote = NoDeletes(Memory::default());
    let options = Options { deletes: false, ..Options::GENTLE };
    let outcome = contract::run(&remote, &options, &mut |_, _| {});
    assert_eq!(outcome.failed, []);
    assert_eq!(outcome.left_out, ["an object given up in the midst", "deleted objects are gone"]);
    assert!(outcome.remaining.contains(&"exuvia.json".to_string()), "{:?}", outcome.remaining);

    // Where deletes were expected, it is said that they do not work.
    let outcome = contract::run(&NoDeletes(Memory::default()), &Options::GENTLE, &mut |_, _| {});
    assert!(outcome.failed.iter().any(|(name, _)| *name == "deleted objects are gone"), "{outcome:?}");
    assert!(!outcome.remaining.is_empty());
}

/// What is stored stays.
#[test]
fn memory_and_local_never_overwrite() {
    let dir = tempfile::tempdir().unwrap();
    let remotes: [&dyn Remote; 2] = [&Memory::default(), &Local::new(dir.path().join("r"))];
    for remote in remotes {
        remote.put("packs/on/one", b"0123456789").unwrap();
        remote.put("packs/on/one", b"other").unwrap();
        assert_eq!(remote.get("packs/on/one", 10).unwrap(), b"0123456789");
    }
}

#[test]
fn local_listing_leaves_out_temporary_files() {
    let dir = tempfile::tempdir().unwrap();
    let remote = Local::new(dir.path().to_path_buf());
    remote.put("index/a", b"x").unwrap();
    std::fs::write(dir.path().join("index/.exuvia-tmp-123-0"), b"torn").unwrap();
    assert_eq!(remote.list("index").unwrap().len(), 1);
}

/// A remote that does one thing wrong; the contract must see it.
struct Wrong(Memory, Sin);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Sin {
    ShortListing,
    DoubleListing,
    PrefixListing,
    WrongSizes,
    ShortRanges,
    UnboundedGet,
    MissingIsEmpty,
    MissingFails,
    Overwrites,
    CutsBigOnes,
    LosesSome,
    KeepsDeleted,
    DeleteOfMissingFails,
}

impl Remote for Wrong {
    fn get(&self, name: &str, max: u64) -> Result<Vec<u8>, RemoteError> {
        match self.0.get(name, if self.1 == Sin::UnboundedGet { u64::MAX } else { max }) {
            Err(e) if e.is_not_found() => self.missing(e).map(|()| Vec::new()),
            other => other,
        }
    }

    fn stream(&self, name: &str) -> Result<Box<dyn Streaming>, RemoteError> {
        self.0.stream(name)
    }

    fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Vec<u8>, RemoteError> {
        match (self.0.get_range(name, offset, len), self.1) {
            (Err(RemoteError::Size { .. }), Sin::ShortRanges) => {
                let all = self.0.get(name, u64::MAX)?;
                Ok(all.get(usize::try_from(offset).unwrap()..).unwrap_or_default().to_vec())
            }
            (Err(e), _) if e.is_not_found() => self.missing(e).map(|()| Vec::new()),
            (other, _) => other,
        }
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        match self.1 {
            Sin::CutsBigOnes if bytes.len() > 500_000 => self.0.put(name, &bytes[..500_000]),
            Sin::LosesSome if name.ends_with('9') => Ok(()),
            _ => self.0.put(name, bytes),
        }
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        if self.1 == Sin::Overwrites {
            self.put(name, b"")?;
            self.0.tamper(name, bytes.to_vec());
            return Ok(());
        }
        self.0.create(name, bytes)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, RemoteError> {
        let mut found = self.0.list(folder)?;
        match self.1 {
            Sin::ShortListing => found.truncate(30),
            Sin::DoubleListing => found.extend(found.first().cloned()),
            Sin::PrefixListing if folder == "pack" => found = self.0.list("packs")?,
            _ => {}
        }
        Ok(found)
    }

    fn size(&self, name: &str) -> Result<u64, RemoteError> {
        match self.0.size(name) {
            Ok(size) => Ok(size + u64::from(self.1 == Sin::WrongSizes)),
            Err(e) => self.missing(e).map(|()| 0),
        }
    }

    fn delete(&self, name: &str) -> Result<(), RemoteError> {
        match self.1 {
            Sin::KeepsDeleted => Ok(()),
            Sin::DeleteOfMissingFails => self.0.size(name).and_then(|_| self.0.delete(name)),
            _ => self.0.delete(name),
        }
    }

    fn location(&self) -> String {
        String::new()
    }
}

impl Wrong {
    fn missing(&self, error: RemoteError) -> Result<(), RemoteError> {
        match self.1 {
            Sin::MissingIsEmpty => Ok(()),
            Sin::MissingFails => Err(refusal()),
            _ => Err(error),
        }
    }
}

fn refusal() -> RemoteError {
    let source = std::io::ErrorKind::PermissionDenied.into();
    RemoteError::Io { verb: super::Verb::Delete, name: String::new(), source }
}

#[test]
fn the_contract_sees_what_is_wrong() {
    for sin in [
        Sin::ShortListing,
        Sin::DoubleListing,
        Sin::PrefixListing,
        Sin::WrongSizes,
        Sin::ShortRanges,
        Sin::UnboundedGet,
        Sin::MissingIsEmpty,
        Sin::MissingFails,
        Sin::Overwrites,
        Sin::CutsBigOnes,
        Sin::LosesSome,
        Sin::KeepsDeleted,
        Sin::DeleteOfMissingFails,
    ] {
        let outcome = contract::run(&Wrong(Memory::default(), sin), &Options::GENTLE, &mut |_, _| {});
        assert!(!outcome.failed.is_empty(), "{sin:?}");
    }
}

/// A service that lets nobody delete.
struct NoDeletes(Memory);

impl Remote for NoDeletes {
    fn get(&self, name: &str, max: u64) -> Result<Vec<u8>, RemoteError> {
        self.0.get(name, max)
    }

    fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Vec<u8>, RemoteError> {
        self.0.get_range(name, offset, len)
    }

    fn stream(&self, name: &str) -> Result<Box<dyn Streaming>, RemoteError> {
        self.0.stream(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        self.0.put(name, bytes)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, RemoteError> {
        self.0.list(folder)
    }

    fn size(&self, name: &str) -> Result<u64, RemoteError> {
        self.0.size(name)
    }

    fn delete(&self, _name: &str) -> Result<(), RemoteError> {
        Err(refusal())
    }

    fn location(&self) -> String {
        String::new()
    }
}

#[test]
fn a_local_object_handed_over_in_pieces_is_there_at_its_end_only() {
    let dir = tempfile::tempdir().unwrap();
    let remote = Counting::new(Arc::new(Local::new(dir.path().join("r"))));
    let name = "packs/ab/ab12";
    let mut dropped = remote.begin("packs").unwrap().unwrap();
    dropped.write(b"half").unwrap();
    assert!(remote.list("packs").unwrap().is_empty(), "what is being written is not listed");
    drop(dropped);
    assert_eq!(std::fs::read_dir(dir.path().join("r/packs")).unwrap().count(), 0, "and nothing stays behind");

    for content in [&b"first, second"[..], b"another"] {
        let mut upload = remote.begin("packs").unwrap().unwrap();
        content.chunks(5).for_each(|piece| upload.write(piece).unwrap());
        upload.finish(name).unwrap();
        // One of that name stays as it is.
        assert_eq!(remote.get(name, 100).unwrap(), b"first, second");
    }
    let listed = vec![Listed { name: name.into(), size: 13 }];
    assert_eq!(remote.list("packs").unwrap(), listed);
    assert_eq!((remote.counts().put, remote.counts().bytes_put), (2, 20));
}
