//! Configurations of other programs, in which single strings are exchanged.
#![no_main]

use exuvia::gather::json5::{exchange, leaves};
use libfuzzer_sys::fuzz_target;

/// What is put behind each string, and has to be escaped.
const MARK: &str = "'\"\\\n\u{2028}";

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(paths) = leaves(text) {
        assert!(paths.len() <= text.len());
        assert!(paths.iter().all(|path| path.len() <= 128));
    }
    let mut strings = Vec::new();
    let Ok(same) = exchange(text, &mut |string| {
        strings.push(string.to_owned());
        None
    }) else {
        return;
    };
    assert_eq!(same, (text.to_owned(), 0));
    // What is put in comes out again, and nothing else has changed.
    let (new, count) =
        exchange(text, &mut |string| Some(format!("{string}{MARK}"))).expect("it was read before");
    assert_eq!(count, strings.len() as u64);
    let mut seen = Vec::new();
    exchange(&new, &mut |string| {
        seen.push(string.to_owned());
        None
    })
    .expect("what was written is read");
    let wanted: Vec<_> = strings.iter().map(|string| format!("{string}{MARK}")).collect();
    assert_eq!(seen, wanted);
});
