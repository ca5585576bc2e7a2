//! Names in a listing come from the remote.
#![no_main]

use exuvia::model::Timestamp;
use exuvia::repo::{Folder, pack_name, parse_name, record_name};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|name: &str| {
    let Some((folder, time, id)) = parse_name(name) else { return };
    match (folder, time) {
        (Folder::Packs, None) => assert_eq!(pack_name(&id), name),
        (Folder::Keys | Folder::Index, None) => assert_eq!(format!("{}/{id}", folder.name()), name),
        (folder, Some(time)) => assert_eq!(record_name(folder, Timestamp::from_secs(time), &id), name),
        other => panic!("a name of {other:?}"),
    }
});
