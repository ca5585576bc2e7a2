//! The contract of remotes, on every server and with both versions of rclone.

use std::fs;

use exuvia::remote::contract::{self, Options};

use crate::servers::{Kind, Service, Version, many};

/// Where the long listing is not stored through rclone; see [`ten_thousand`].
const MOST: Options = Options { listing: 100, ..Options::THOROUGH };

fn keeps_the_contract(kind: Kind, version: Version, options: &Options) {
    let service = Service::start(kind);
    let remote = service.remote(version);
    let outcome = contract::run(&remote, options, &mut |_, _| {});
    assert_eq!(outcome.failed, [], "{kind:?} {version:?}");
    assert_eq!(outcome.remaining, [""; 0]);
    assert_eq!(outcome.left_out, [""; 0]);
}

/// Ten thousand objects that are there already: to store each by a request would take a minute.
fn ten_thousand(kind: Kind, version: Version) {
    let service = Service::start(kind);
    let wanted = many("index", 10_000);
    fs::create_dir_all(service.folder().join("index")).unwrap();
    for (name, size) in &wanted {
        let bytes = &b"1234567"[..usize::try_from(*size).unwrap()];
        fs::write(service.folder().join(name), bytes).unwrap();
    }
    contract::listing_is(&service.remote(version), "index", &wanted).unwrap();
}

macro_rules! on {
    ($($name:ident: $test:ident($($argument:expr),*);)*) => {
        $(#[test] fn $name() { $test($($argument),*); })*
    };
}

on! {
    directory_old: keeps_the_contract(Kind::Directory, Version::Old, &MOST);
    directory_new: keeps_the_contract(Kind::Directory, Version::New, &MOST);
    moto_old: keeps_the_contract(Kind::Moto, Version::Old, &MOST);
    // More than a page, since puts are slow here.
    moto_new: keeps_the_contract(Kind::Moto, Version::New, &Options { listing: 1_020, ..Options::THOROUGH });
    s3_old: keeps_the_contract(Kind::S3, Version::Old, &MOST);
    s3_new: keeps_the_contract(Kind::S3, Version::New, &MOST);
    webdav_old: keeps_the_contract(Kind::WebDav, Version::Old, &MOST);
    webdav_new: keeps_the_contract(Kind::WebDav, Version::New, &MOST);
    sftp_old: keeps_the_contract(Kind::Sftp, Version::Old, &MOST);
    sftp_new: keeps_the_contract(Kind::Sftp, Version::New, &MOST);
    directory_lists_ten_thousand_old: ten_thousand(Kind::Directory, Version::Old);
    directory_lists_ten_thousand_new: ten_thousand(Kind::Directory, Version::New);
    s3_lists_ten_thousand_old: ten_thousand(Kind::S3, Version::Old);
    s3_lists_ten_thousand_new: ten_thousand(Kind::S3, Version::New);
    webdav_lists_ten_thousand: ten_thousand(Kind::WebDav, Version::New);
    sftp_lists_ten_thousand: ten_thousand(Kind::Sftp, Version::New);
}
