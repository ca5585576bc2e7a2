//! Paths from a repository are hostile until [`RepoPath::new`] has accepted them.
#![no_main]

use std::cmp::Ordering;

use exuvia::model::{RepoPath, compare_paths};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Three paths from one input, cut at a byte no path may hold, so that order is tested as well.
    let paths: Vec<RepoPath> =
        bytes.splitn(3, |&b| b == 0).filter_map(|part| RepoPath::new(part.to_vec()).ok()).collect();

    for path in &paths {
        assert_eq!(RepoPath::new(path.as_bytes().to_vec()).as_ref(), Ok(path));
        let mut rebuilt = RepoPath::root();
        for name in path.components() {
            assert!(!matches!(name, b"" | b"." | b".."));
            assert!(!name.contains(&b'/') && !name.contains(&0));
            rebuilt = rebuilt.join(name).expect("a component of a path is a name");
        }
        assert_eq!(&rebuilt, path);
        if let Some(parent) = path.parent() {
            assert!(path.starts_with(&parent));
            assert!(parent < *path, "a walk yields a folder before what it holds");
            assert_eq!(parent.join(path.name()).as_ref(), Ok(path));
        }
    }

    for a in &paths {
        for b in &paths {
            let order = compare_paths(a.as_bytes(), b.as_bytes());
            assert_eq!(order.reverse(), compare_paths(b.as_bytes(), a.as_bytes()));
            assert_eq!(order == Ordering::Equal, a == b);
            // The order stated in other words: lists of names, compared name by name.
            assert_eq!(order, a.components().cmp(b.components()));
            for c in &paths {
                assert!(!(a <= b && b <= c) || a <= c);
            }
        }
    }
});
