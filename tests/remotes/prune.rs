//! Prunes of a repository behind rclone.

use std::fs;

use exuvia::remote::Remote;

use crate::proxy::{Action, Proxy};
use crate::servers::{Kind, Service, Version};
use crate::support::{PASSPHRASE, Place, noise, picture, put, same};

fn place(service: &Service, version: Version, port: u16) -> Place {
    let mut place = Place::new();
    place
        .set("EXUVIA_PASSPHRASE", PASSPHRASE)
        .set("EXUVIA_REPO", &format!("rclone:{}", service.spec()))
        .set("EXUVIA_RCLONE", version.program().to_str().unwrap());
    for (name, value) in service.env(version, port) {
        place.set(&name, &value);
    }
    place
}

/// A repository with one snapshot, of which most was needed by another one that is forgotten.
fn wasteful(service: &Service, place: &Place) -> String {
    place.run(&["init", "--kdf-log-n", "15"]).exits(0);
    let tree = place.path("tree");
    put(&tree, "keep", &noise(1, 1 << 20));
    put(&tree, "waste", &noise(2, 4 << 20));
    let first = place.backup("tree")["snapshot"].as_str().unwrap().to_owned();
    fs::remove_file(tree.join("waste")).unwrap();
    let second = place.backup("tree")["snapshot"].as_str().unwrap().to_owned();
    // On another machine, whose way there lets it delete. The shrink alarm holds it back.
    let elsewhere = self::place(service, Version::New, service.port());
    elsewhere.run(&["forget", &first, "--force", "--yes"]).exits(0);
    second
}

fn stored(service: &Service) -> u64 {
    service.remote(Version::New).list("packs").unwrap().iter().map(|pack| pack.size).sum()
}

fn prunes(kind: Kind, version: Version) {
    let service = Service::start(kind);
    let place = place(&service, version, service.port());
    let left = wasteful(&service, &place);
    let before = stored(&service);
    let summary = place.run(&["--json", "prune"]).exits(0).summary();
    assert_eq!(summary["done"]["repacked"]["packs"], 1, "{summary}");
    place.is_sound();
    let summary = place.run(&["--json", "prune", "--grace", "0"]).exits(0).summary();
    assert_eq!(summary["done"]["deleted"]["packs"], 1, "{summary}");
    assert!(stored(&service) < before / 2, "{} of {before}", stored(&service));
    place.is_sound();
    same(&place.restored(&left), &picture(&place.path("tree")), "after the prune");
    place.backup("tree");
    place.is_sound();
}

#[test]
fn on_s3() {
    prunes(Kind::S3, Version::New);
    prunes(Kind::Moto, Version::Old);
}

#[test]
fn on_webdav() {
    prunes(Kind::WebDav, Version::New);
}

/// A key that may do everything but delete.
#[test]
fn where_deleting_is_denied_nothing_is_changed() {
    let service = Service::start(Kind::S3);
    let proxy = Proxy::start(service.port(), |request| match request.method.as_str() {
        "DELETE" => Action::Answer(
            403,
            "Content-Type: application/xml\r\n",
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>AccessDenied</Code><Message>Access Denied\
             </Message><RequestId>1</RequestId></Error>",
        ),
        _ => Action::Pass,
    });
    let place = place(&service, Version::New, proxy.port());
    let left = wasteful(&service, &place);
    let before = stored(&service);
    let run = place.run(&["--json", "prune"]).exits(1);
    let summary = run.summary();
    assert_eq!(
        (&summary["plan"]["repack"]["packs"], &summary["done"]),
        (&1.into(), &serde_json::Value::Null)
    );
    assert!(run.error()["message"].as_str().unwrap().contains("does not allow"), "{}", run.stderr);
    assert_eq!(stored(&service), before);
    assert_eq!(service.remote(Version::New).list("gc").unwrap().len(), 0);
    place.is_sound();
    same(&place.restored(&left), &picture(&place.path("tree")), "where nothing may be removed");
}
