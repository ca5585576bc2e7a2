//! What rclone says: lines of its log, listings, its version, reasons of failures.
#![no_main]

use exuvia::rclone::{Version, classify, meaning, parse_line, parse_listing, path_of};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(listed) = parse_listing(bytes) {
        for item in listed {
            assert!(!item.name.is_empty() && !item.name.contains('/'), "a base name: {:?}", item.name);
        }
    }
    let line = parse_line(bytes);
    let _ = (classify(&line.message), meaning(&line.message));
    let text = String::from_utf8_lossy(bytes);
    if let Some(version) = Version::parse(&text) {
        let again = Version::parse(&format!("rclone v{version}")).expect("it reads what it writes");
        assert_eq!(again, version);
    }
    if let Ok(path) = path_of(&text) {
        assert!(!path.bytes().any(|b| b.is_ascii_control() || b == b' ' || b == b'?' || b == b'#'), "{path}");
        assert!(!path.split('/').any(|part| part == ".."), "{path}");
    }
});
