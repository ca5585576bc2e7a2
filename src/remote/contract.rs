//! What every remote must do.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::{Local, Memory, Remote, RemoteError};

fn contract(remote: &dyn Remote) {
    assert!(remote.list("packs").unwrap().is_empty(), "a missing folder is empty");
    assert!(matches!(remote.get("keys/a", 10), Err(RemoteError::NotFound { .. })));
    assert!(matches!(remote.get_range("keys/a", 0, 1), Err(RemoteError::NotFound { .. })));
    assert!(matches!(remote.size("keys/a"), Err(RemoteError::NotFound { .. })));
    remote.delete("keys/a").unwrap();

    remote.put("exuvia.json", b"marker").unwrap();
    remote.put("packs/ab/one", b"0123456789").unwrap();
    remote.put("packs/cd/two", b"").unwrap();
    assert_eq!(remote.get("packs/ab/one", 10).unwrap(), b"0123456789");
    assert!(matches!(remote.get("packs/ab/one", 9), Err(RemoteError::Size { .. })), "bounded");
    assert_eq!(remote.get_range("packs/ab/one", 3, 4).unwrap(), b"3456");
    assert_eq!(remote.get_range("packs/ab/one", 10, 0).unwrap(), b"");
    assert!(matches!(remote.get_range("packs/ab/one", 8, 4), Err(RemoteError::Size { .. })));
    assert!(remote.get_range("packs/ab/one", u64::MAX, 4).is_err());
    assert_eq!(remote.size("packs/ab/one").unwrap(), 10);

    let mut listed: Vec<_> = remote.list("packs").unwrap().into_iter().map(|l| (l.name, l.size)).collect();
    listed.sort();
    assert_eq!(listed, [("packs/ab/one".to_string(), 10), ("packs/cd/two".to_string(), 0)]);
    assert_eq!(remote.list("packs/ab").unwrap().len(), 1);
    assert!(remote.list("pack").unwrap().is_empty(), "a folder, not a prefix");

    remote.put("packs/ab/one", b"other").unwrap();
    assert_eq!(remote.get("packs/ab/one", 10).unwrap(), b"0123456789", "nothing is overwritten");

    remote.delete("packs/ab/one").unwrap();
    assert!(remote.get("packs/ab/one", 10).unwrap_err().is_not_found());

    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                for i in 0..20 {
                    remote.put(&format!("index/{}", i % 10), b"same bytes").unwrap();
                    remote.put(&format!("index/{thread}-{i}"), b"x").unwrap();
                }
            });
        }
    });
    assert_eq!(remote.list("index").unwrap().len(), 10 + 160);
}

#[test]
fn memory() {
    contract(&Memory::default());
}

#[test]
fn local() {
    let dir = tempfile::tempdir().unwrap();
    contract(&Local::new(dir.path().join("repository")));
}

#[test]
fn local_refuses_names_that_leave_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let remote = Local::new(dir.path().join("repository"));
    for name in ["../x", "/etc/x", "a/../b", "", "a//b", ".", "packs/./x"] {
        assert!(remote.put(name, b"x").is_err(), "{name}");
        assert!(remote.get(name, 10).is_err(), "{name}");
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
