//! Manifest segments: what is accepted stays within bounds and survives being written again.
#![no_main]

use exuvia::format::limits;
use exuvia::format::segment_v1::{LeafBuilder, Segment, decode, encode_node};
use exuvia::model::{RepoPath, Slices};
use libfuzzer_sys::fuzz_target;

fn check_paths<'a>(paths: impl Iterator<Item = &'a RepoPath>, input: usize) {
    let paths: Vec<&RepoPath> = paths.collect();
    assert!(!paths.is_empty() && paths.len() <= input);
    assert!(paths.is_sorted_by(|a, b| a < b));
    assert!(paths.iter().map(|p| p.as_bytes().len()).sum::<usize>() <= limits::SEGMENT_PATHS);
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(segment) = decode(bytes) else { return };
    let again = match &segment {
        Segment::Leaf(entries) => {
            check_paths(entries.iter().map(|e| &e.path), bytes.len());
            let mut held = 0;
            for entry in entries {
                held += entry.meta.xattrs.iter().map(|x| 1 + x.name.len() + x.value.len()).sum::<usize>();
                held += match entry.content().map(|c| &c.slices) {
                    Some(Slices::Inline(slices)) => slices.len(),
                    Some(Slices::Lists(lists)) => 32 * lists.len(),
                    None => 0,
                };
            }
            assert!(held <= bytes.len());
            let mut builder = LeafBuilder::default();
            entries.iter().for_each(|e| builder.push(e));
            builder.finish()
        }
        Segment::Node(level, children) => {
            check_paths(children.iter().map(|c| &c.first), bytes.len() / 32);
            encode_node(*level, children)
        }
    };
    assert!(again.len() <= bytes.len(), "our spelling is the shortest");
    assert_eq!(decode(&again), Ok(segment));
});
