//! Any entries, children and slices that a writer may hold are read back as they were.
#![no_main]

use exuvia::format::segment_v1::{LeafBuilder, Segment, decode, encode_node};
use exuvia::format::slices_v1::{decode_list, encode_list};
use exuvia::model::Slice;
use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut u = Unstructured::new(bytes);
    let Ok(entries) = exuvia_fuzz::entries(&mut u) else { return };
    let mut builder = LeafBuilder::default();
    entries.iter().for_each(|e| builder.push(e));
    assert_eq!(decode(&builder.finish()), Ok(Segment::Leaf(entries)));
    assert!(builder.is_empty());

    let Ok(children) = exuvia_fuzz::children(&mut u) else { return };
    let level = 1 + children.len() as u8 % 10;
    assert_eq!(decode(&encode_node(level, &children)), Ok(Segment::Node(level, children)));

    let Ok(slices) = exuvia_fuzz::slices(&mut u) else { return };
    let size = slices.iter().map(Slice::len).sum();
    assert_eq!(decode_list(&encode_list(&slices)), Ok((slices, size)));
});
