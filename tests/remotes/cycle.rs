//! The program from outside, with its repository behind rclone: whole cycles, interruptions, and servers
//! and transports that die in the middle.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::proxy::{Action, Proxy, Request};
use crate::servers::{BOTH, Kind, Service, Version, kill_transports, transports};
use crate::support::{
    PASSPHRASE, Picture, Place, Run, database, ended, insert, noise, picture, prose, put, same, until,
};

/// A place whose repository is on the service, at a port of its own or of a proxy.
pub(crate) fn place(service: &Service, version: Version, port: u16) -> Place {
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

pub(crate) fn fill(tree: &Path) {
    for i in 0..40 {
        put(tree, &format!("notes/{}/{i}.md", i % 7), &prose(i, 4000 + 700 * usize::try_from(i).unwrap()));
    }
    put(tree, "log.txt", &prose(99, 1 << 20));
    put(tree, "media/picture", &noise(1, 6 << 20));
    put(tree, "empty", b"");
    symlink("notes/1/1.md", tree.join("link")).unwrap();
    insert(&database(&tree.join("d.sqlite"), 500, 4096), 10);
}

fn change(tree: &Path, round: u64) {
    put(tree, "log.txt", &prose(99, (1 << 20) + 5000 * usize::try_from(round).unwrap()));
    put(tree, &format!("notes/new-{round}.md"), &prose(200 + round, 20_000));
    put(tree, "media/picture", &noise(1 + round, 3 << 20));
    fs::remove_file(tree.join(format!("notes/1/{}.md", 1 + 7 * round))).unwrap();
}

/// Takes a snapshot of `tree`; returns its id and what it holds.
#[track_caller]
fn snapshot(place: &Place) -> (String, Picture) {
    let id = place.backup("tree")["snapshot"].as_str().unwrap().to_owned();
    (id, picture(&place.path("tree")))
}

#[track_caller]
pub(crate) fn forget_the_cache(place: &Place) {
    fs::remove_dir_all(place.path("home/.cache")).unwrap();
}

#[track_caller]
pub(crate) fn no_transport_is_left(service: &Service) {
    until("the end of rclone", || transports(&service.mark()).is_empty());
}

fn whole_cycle(kind: Kind, version: Version) {
    let service = Service::start(kind);
    let place = place(&service, version, service.port());
    place.run(&["snapshots"]).exits(10);
    place.run(&["init", "--kdf-log-n", "15"]).exits(0);
    place.run(&["init", "--kdf-log-n", "15"]).exits(1);
    let tree = place.path("tree");
    fill(&tree);
    let mut taken = vec![snapshot(&place)];
    change(&tree, 1);
    taken.push(snapshot(&place));
    // As on another machine.
    forget_the_cache(&place);
    change(&tree, 2);
    taken.push(snapshot(&place));
    let idle = place.backup("tree");
    assert_eq!(idle["unchanged"], true, "{idle}");
    for (id, wanted) in &taken {
        same(&place.restored(id), wanted, &format!("{kind:?} {version:?}, {id}"));
    }
    forget_the_cache(&place);
    same(&place.restored("latest"), &taken[2].1, "without a cache");
    place.is_sound();
    no_transport_is_left(&service);
}

#[test]
fn whole_cycle_on_s3() {
    BOTH.iter().for_each(|version| whole_cycle(Kind::S3, *version));
}

#[test]
fn whole_cycle_on_another_s3() {
    BOTH.iter().for_each(|version| whole_cycle(Kind::Moto, *version));
}

#[test]
fn whole_cycle_on_webdav() {
    BOTH.iter().for_each(|version| whole_cycle(Kind::WebDav, *version));
}

#[test]
fn whole_cycle_on_sftp() {
    BOTH.iter().for_each(|version| whole_cycle(Kind::Sftp, *version));
}

/// One repository, through rclone and as the directory that it is, in turns.
#[test]
fn through_rclone_and_directly() {
    for (version, rclone_first) in [(Version::New, true), (Version::Old, false)] {
        let service = Service::start(Kind::Directory);
        let mut place = place(&service, version, 0);
        let through = format!("rclone:{}", service.spec());
        let directly = service.folder().to_str().unwrap().to_owned();
        let ways = if rclone_first { [&through, &directly] } else { [&directly, &through] };
        place.set("EXUVIA_REPO", ways[0]).run(&["init", "--kdf-log-n", "15"]).exits(0);
        let tree = place.path("tree");
        fill(&tree);
        let mut taken = Vec::new();
        for round in 0..4 {
            place.set("EXUVIA_REPO", ways[round % 2]);
            taken.push(snapshot(&place));
            change(&tree, 1 + round as u64);
            place.set("EXUVIA_REPO", ways[(round + 1) % 2]);
            place.is_sound();
            assert_eq!(place.snapshots().len(), taken.len());
            if round == 2 {
                forget_the_cache(&place);
            }
        }
        for way in ways {
            place.set("EXUVIA_REPO", way);
            for (id, wanted) in &taken {
                same(&place.restored(id), wanted, &format!("{way}, {id}"));
            }
        }
        no_transport_is_left(&service);
    }
}

/// Stores of packs; `nth` of them, counted from the start of the proxy.
fn pack_put(request: &Request) -> bool {
    matches!(request.method.as_str(), "PUT" | "POST")
        && request.path.contains("/packs/")
        && request.len > 100_000
}

/// Holds the packs after the first `passed`.
fn hold_packs(passed: usize) -> impl Fn(&Request) -> Action {
    let seen = std::sync::atomic::AtomicUsize::new(0);
    move |request| {
        let hold = pack_put(request) && seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= passed;
        if hold { Action::Hold } else { Action::Pass }
    }
}

/// A repository behind a proxy, with one snapshot of a small tree, and much that is new in the tree.
struct Scene {
    service: Service,
    proxy: Proxy,
    place: Place,
    /// The repository without the proxy.
    direct: Place,
    first: (String, Picture),
}

fn scene(kind: Kind, version: Version) -> Scene {
    let service = Service::start(kind);
    let proxy = Proxy::start(service.port(), |_| Action::Pass);
    let direct = place(&service, Version::New, service.port());
    let place = place(&service, version, proxy.port());
    place.run(&["init", "--kdf-log-n", "15"]).exits(0);
    put(&place.path("tree"), "small", &prose(1, 50_000));
    let first = snapshot(&place);
    for i in 0..40 {
        put(&place.path("tree"), &format!("big/{i}"), &noise(i, 2 << 20));
    }
    Scene { service, proxy, place, direct, first }
}

impl Scene {
    /// The repository is sound, holds what it held, and takes the next backup.
    #[track_caller]
    fn goes_on(&self) {
        self.direct.is_sound();
        assert_eq!(self.direct.snapshots(), [self.first.0.as_str()]);
        let (id, wanted) = snapshot(&self.place);
        same(&self.place.restored(&id), &wanted, "after the interruption");
        same(&self.direct.restored(&self.first.0), &self.first.1, "the first");
        self.direct.is_sound();
        no_transport_is_left(&self.service);
    }
}

/// A program at work, which a test that fails takes with it.
struct Running(Option<Child>);

impl Running {
    fn backup(place: &Place) -> Self {
        Self(Some(place.start(&["--json", "backup", "tree"])))
    }

    fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    #[track_caller]
    fn ended(mut self) -> Run {
        ended(self.0.take().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn signals_end_it(kind: Kind, version: Version) {
    for signal in [Signal::INT, Signal::TERM] {
        let scene = scene(kind, version);
        // One pack arrives, the next never does.
        scene.proxy.script(hold_packs(1));
        let mut child = Running::backup(&scene.place);
        until("a pack on its way", || scene.proxy.held() > 0);
        let begun = Instant::now();
        kill_process(Pid::from_child(child.child()), signal).unwrap();
        until("the end of the program", || child.child().try_wait().unwrap().is_some());
        let run = child.ended().exits(130);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(10), "{signal:?} took {took:?}");
        assert_eq!((run.text(), &run.error()["class"]), ("", &"interrupted".into()));
        no_transport_is_left(&scene.service);
        scene.proxy.script(|_| Action::Pass);
        scene.proxy.release();
        scene.goes_on();
    }
}

fn a_kill_leaves_no_rclone(kind: Kind, version: Version) {
    let scene = scene(kind, version);
    scene.proxy.script(hold_packs(1));
    let mut child = Running::backup(&scene.place);
    until("a pack on its way", || scene.proxy.held() > 0);
    assert!(!transports(&scene.service.mark()).is_empty());
    child.child().kill().unwrap();
    assert_eq!(child.ended().code, None);
    no_transport_is_left(&scene.service);
    scene.proxy.script(|_| Action::Pass);
    scene.proxy.release();
    scene.goes_on();
}

fn rclone_is_killed(kind: Kind, version: Version) {
    let scene = scene(kind, version);
    scene.proxy.script(hold_packs(1));
    let child = Running::backup(&scene.place);
    until("a pack on its way", || scene.proxy.held() > 0);
    scene.proxy.script(|_| Action::Pass);
    kill_transports(&scene.service.mark());
    let summary = child.ended().exits(0).summary();
    scene.proxy.release();
    scene.direct.is_sound();
    let restored = scene.place.restored(summary["snapshot"].as_str().unwrap());
    same(&restored, &picture(&scene.place.path("tree")), "after rclone was killed");
    no_transport_is_left(&scene.service);
}

/// The server goes while packs are on their way, and comes back with what it had.
fn the_server_is_killed(kind: Kind, version: Version) {
    let mut scene = scene(kind, version);
    scene.proxy.script(hold_packs(1));
    let mut child = Running::backup(&scene.place);
    until("a pack on its way", || scene.proxy.held() > 0);
    scene.service.kill();
    scene.proxy.script(|_| Action::Pass);
    let before = scene.proxy.count();
    scene.proxy.release();
    // It is tried in vain.
    until("another try", || scene.proxy.count() >= before + 2 || child.child().try_wait().unwrap().is_some());
    scene.service.restart();
    let summary = child.ended().exits(0).summary();
    scene.direct.is_sound();
    let restored = scene.place.restored(summary["snapshot"].as_str().unwrap());
    same(&restored, &picture(&scene.place.path("tree")), "after the server was killed");
    no_transport_is_left(&scene.service);
}

macro_rules! interrupted {
    ($($name:ident),*) => {
        mod s3_old { $(#[test] fn $name() { super::$name(super::Kind::S3, super::Version::Old); })* }
        mod s3_new { $(#[test] fn $name() { super::$name(super::Kind::S3, super::Version::New); })* }
        mod webdav_new { $(#[test] fn $name() { super::$name(super::Kind::WebDav, super::Version::New); })* }
    };
}

interrupted!(signals_end_it, a_kill_leaves_no_rclone, rclone_is_killed, the_server_is_killed);

/// What a refused key is to the user: a message that says so, and no talk of a missing repository.
#[test]
fn a_refused_key_is_no_missing_repository() {
    for version in BOTH {
        let scene = scene(Kind::S3, version);
        scene.proxy.script(|_| {
            Action::Answer(
                403,
                "Content-Type: application/xml\r\n",
                "<Error><Code>InvalidAccessKeyId</Code><Message>The key is not known.</Message></Error>",
            )
        });
        for args in [&["snapshots"][..], &["backup", "tree"], &["check"], &["init"]] {
            let run = scene.place.run(&[&["--json"], args].concat()).exits(1);
            assert_eq!(run.text(), "", "{args:?}");
            assert!(!run.stderr.contains("secretsecret"), "{}", run.stderr);
        }
    }
}
