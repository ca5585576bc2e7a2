//! Names in the folder of full archives come from the remote, names of members from archives.
#![no_main]

use exuvia::full::{ArchiveObject, safe_path};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|name: &[u8]| {
    if let Ok(path) = safe_path(name) {
        assert!(!name.starts_with(b"/"));
        assert!(
            path.components()
                .all(|component| component != b".." && name.windows(component.len()).any(|w| w == component))
        );
        // A path is safe, too, and stays what it is; the target itself has no name.
        assert!(path.is_root() || safe_path(path.as_bytes()) == Ok(path));
    }
    let Some(object) = std::str::from_utf8(name).ok().and_then(ArchiveObject::parse) else { return };
    let again = match object {
        ArchiveObject::Archive(archive) => archive.to_string(),
        ArchiveObject::Mark(archive) => archive.mark(),
        ArchiveObject::Checksum(archive) => archive.checksum(),
    };
    assert_eq!(again.as_bytes(), name);
});
