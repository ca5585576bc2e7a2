//! Full archives streamed to services: whole ones come back, and whatever cuts a stream leaves none that looks whole.

use std::fs;

use serde_json::Value;

use crate::cycle::{fill, no_transport_is_left, place};
use crate::proxy::{Action, Proxy, Request};
use crate::servers::{BOTH, Kind, Service, Version};
use crate::support::{Numbers, Picture, Place, ended, noise, picture, put, same};

/// Everything below a folder; the folder itself is whoever's who made it.
fn inside(place: &Place, dir: &str) -> Picture {
    let mut picture = picture(&place.path(dir));
    picture.remove(std::path::Path::new(""));
    picture
}

fn of_state(service: &Service, version: Version, port: u16) -> Place {
    let mut place = place(service, version, port);
    place.set("EXUVIA_STATE_DIR", "tree");
    place
}

fn list(place: &Place) -> Vec<Value> {
    place.run(&["--json", "full", "list"]).exits(0).summary().as_array().unwrap().clone()
}

/// Every archive that is said to be whole is so; tells how many are.
#[track_caller]
fn whole(place: &Place, wanted: &Picture) -> usize {
    let mut whole = 0;
    for one in list(place) {
        let name = one["name"].as_str().unwrap();
        match one["state"].as_str().unwrap() {
            "complete" => {
                place.run(&["full", "verify", name]).exits(0);
                place.run(&["full", "restore", name, "--to", "out"]).exits(0);
                same(&inside(place, "out"), wanted, name);
                fs::remove_dir_all(place.path("out")).unwrap();
                whole += 1;
            }
            "partial" => drop(place.run(&["full", "restore", name, "--to", "out"]).exits(13)),
            other => panic!("{name} is {other}"),
        }
    }
    whole
}

fn comes_back(kind: Kind, version: Version) {
    let service = Service::start(kind);
    let place = of_state(&service, version, service.port());
    place.run(&["init", "--kdf-log-n", "15"]).exits(0);
    fill(&place.path("tree"));
    let wanted = inside(&place, "tree");
    place.run(&["full", "create"]).exits(0);
    place.run(&["full", "create", "--form", "openssl"]).exits(0);
    assert_eq!(list(&place).len(), 2);
    place.run(&["full", "verify"]).exits(0);
    for one in list(&place) {
        let name = one["name"].as_str().unwrap();
        place.run(&["full", "restore", name, "--to", "out"]).exits(0);
        let at = if one["form"] == "openssl" { "out/tree" } else { "out" };
        same(&inside(&place, at), &wanted, name);
        fs::remove_dir_all(place.path("out")).unwrap();
    }
    // Archives are made of what the same remote brings, too, even with one request at a time.
    place.run(&["backup"]).exits(0);
    place.run(&["--connections", "1", "full", "export"]).exits(0);
    place.run(&["full", "verify"]).exits(0);
    place.run(&["full", "prune", "--keep-last", "1", "--yes"]).exits(0);
    assert_eq!(list(&place).len(), 1);
    no_transport_is_left(&service);
}

#[test]
fn archives_come_back_from_s3() {
    BOTH.iter().for_each(|version| comes_back(Kind::Moto, *version));
}

#[test]
fn archives_come_back_from_another_s3() {
    comes_back(Kind::S3, Version::New);
}

#[test]
fn archives_come_back_from_webdav() {
    BOTH.iter().for_each(|version| comes_back(Kind::WebDav, *version));
}

#[test]
fn archives_come_back_from_sftp() {
    BOTH.iter().for_each(|version| comes_back(Kind::Sftp, *version));
}

/// A small tree, and a repository with one archive of it.
fn with_archive(place: &Place) -> Picture {
    place.run(&["init", "--kdf-log-n", "15"]).exits(0);
    put(&place.path("tree"), "a", &noise(1, 12 << 20));
    place.run(&["full", "create"]).exits(0);
    inside(place, "tree")
}

fn killed(kind: Kind) {
    const KILLS: usize = 10;
    let service = Service::start(kind);
    let place = of_state(&service, Version::New, service.port());
    let wanted = with_archive(&place);
    let (mut numbers, mut kills, mut finished) = (Numbers::new(5), 0, 1);
    for _ in 0..3 * KILLS {
        if kills == KILLS {
            break;
        }
        let looks = numbers.below(60);
        let mut child = place.start(&["full", "create"]);
        for _ in 0..looks {
            if child.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        child.kill().unwrap();
        match ended(child).code {
            None => kills += 1,
            Some(code) => {
                assert_eq!(code, 0);
                finished += 1;
            }
        }
    }
    no_transport_is_left(&service);
    assert!(whole(&place, &wanted) >= finished);
    place.run(&["full", "create"]).exits(0);
    place.run(&["full", "verify"]).exits(0);
}

#[test]
fn archives_that_are_killed_on_their_way_to_s3_never_look_whole() {
    killed(Kind::Moto);
}

#[test]
fn archives_that_are_killed_on_their_way_to_sftp_never_look_whole() {
    killed(Kind::Sftp);
}

fn of_an_archive(request: &Request) -> bool {
    matches!(request.method.as_str(), "PUT" | "POST")
        && request.path.contains("/full/")
        && request.len > 1_000
}

/// The way to the service is cut while an archive is on it, and stays cut for uploads of archives.
fn cut(kind: Kind, version: Version, action: Action) {
    let service = Service::start(kind);
    let proxy = Proxy::start(service.port(), |_| Action::Pass);
    let place = of_state(&service, version, proxy.port());
    place.write("home/.config/exuvia/config.toml", "timeout = \"3s\"\ndeadline = \"5s\"\n");
    let wanted = with_archive(&place);
    proxy.script(move |request| if of_an_archive(request) { action.clone() } else { Action::Pass });
    let run = place.run(&["--json", "full", "create"]).exits(1);
    assert!(run.stdout.is_empty(), "{}", run.text());
    proxy.script(|_| Action::Pass);
    assert_eq!(whole(&place, &wanted), 1);
    place.run(&["full", "create"]).exits(0);
    assert_eq!(whole(&place, &wanted), 2);
}

#[test]
fn archives_that_are_cut_never_look_whole() {
    cut(Kind::S3, Version::New, Action::CutUp);
    cut(Kind::S3, Version::Old, Action::Reset);
    cut(Kind::WebDav, Version::New, Action::CutUp);
}
