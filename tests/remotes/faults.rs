//! Servers that fail, cut short or hang, and an rclone that dies: requests succeed in the end, or end with
//! an error in bounded time, and nothing half-done is taken for good.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use exuvia::rclone::Settings;
use exuvia::remote::{Fault, Rclone, Remote, RemoteError};

use crate::proxy::{Action, Proxy, Request};
use crate::servers::{BOTH, Kind, Service, Version, kill_transports, quick, transports};
use crate::support::{noise, until};

/// Bodies of this size are cut in the middle; on S3 they are one request each.
const LEN: usize = 300_000;
/// The object is there before anything goes wrong.
const OLD: &str = "packs/ol/old";
const NEW: &str = "packs/ne/new";

/// A service that is reached through a proxy, and directly.
struct Scene {
    service: Service,
    proxy: Proxy,
    direct: Rclone,
    /// Through the proxy.
    remote: Arc<Rclone>,
}

impl Scene {
    /// Everything passes at first. Holds the object [`OLD`].
    fn new(kind: Kind, version: Version, settings: Settings) -> Self {
        let service = Service::start(kind);
        let proxy = Proxy::start(service.port(), |_| Action::Pass);
        let direct = service.remote(Version::New);
        direct.put(OLD, &old()).unwrap();
        let remote = Arc::new(service.remote_at(version, proxy.port(), settings));
        // So that rclone runs, and asks nothing more of its own.
        remote.size(OLD).unwrap();
        Self { service, proxy, direct, remote }
    }

    /// Every request works, and says what is true.
    #[track_caller]
    fn works(&self) {
        assert_eq!(self.remote.get(OLD, LEN as u64).unwrap(), old());
        assert_eq!(self.remote.get_range(OLD, 1000, 100_000).unwrap(), old()[1000..101_000]);
        assert_eq!(self.remote.size(OLD).unwrap(), LEN as u64);
        self.remote.put(NEW, &new()).unwrap();
        self.holds_new();
        let mut names: Vec<_> = self.remote.list("packs").unwrap().into_iter().map(|l| l.name).collect();
        names.sort();
        assert_eq!(names, [NEW, OLD]);
    }

    #[track_caller]
    fn holds_new(&self) {
        assert_eq!(self.direct.get(NEW, LEN as u64).unwrap(), new());
        assert_eq!(self.direct.size(NEW).unwrap(), LEN as u64);
    }

    /// Every request fails, in time, for a reason that does not say that objects are missing.
    #[track_caller]
    fn fails(&self, faults: &[Fault]) {
        let results = [
            ("get", self.timed(|remote| remote.get(OLD, LEN as u64).map(drop))),
            ("range", self.timed(|remote| remote.get_range(OLD, 1000, 100_000).map(drop))),
            ("put", self.timed(|remote| remote.put(NEW, &new()))),
            ("list", self.timed(|remote| remote.list("packs").map(drop))),
            ("size", self.timed(|remote| remote.size(OLD).map(drop))),
        ];
        for (what, result) in results {
            match result {
                Err(RemoteError::Service { ref message, fault, .. }) => {
                    assert!(faults.contains(&fault), "{what}: {fault:?}: {message}");
                    assert!(!message.is_empty(), "{what}");
                }
                other => panic!("{what}: {other:?}"),
            }
        }
    }

    #[track_caller]
    fn timed<T>(&self, request: impl FnOnce(&Rclone) -> T) -> T {
        let begun = Instant::now();
        let result = request(&self.remote);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(60), "that took {took:?}");
        result
    }
}

fn old() -> Vec<u8> {
    noise(1, LEN)
}

fn new() -> Vec<u8> {
    noise(2, LEN)
}

/// Settings under which nothing is tried for long.
fn impatient() -> Settings {
    Settings { idle_timeout: Duration::from_secs(2), deadline: Duration::from_secs(4), ..quick() }
}

/// The first `times` requests for each thing, and then no more.
fn at_first(times: usize, action: Action) -> impl Fn(&Request) -> Action {
    move |request| if request.earlier < times { action.clone() } else { Action::Pass }
}

const INTERNAL: Action = Action::Answer(500, "", "");
const UNAVAILABLE: Action = Action::Answer(503, "", "");
const TOO_MANY: Action = Action::Answer(429, "Retry-After: 1\r\n", "");
const ENDED: &[Fault] = &[Fault::Deadline, Fault::Transient];

fn errors_pass(kind: Kind, version: Version) {
    for answer in [INTERNAL, UNAVAILABLE, TOO_MANY] {
        let scene = Scene::new(kind, version, quick());
        scene.proxy.script(at_first(2, answer));
        scene.works();
    }
}

fn resets_and_delays_pass(kind: Kind, version: Version) {
    let scene = Scene::new(kind, version, quick());
    scene.proxy.script(|request| match request.earlier {
        0 => Action::Reset,
        _ => Action::Delay(Duration::from_millis(200)),
    });
    scene.works();
}

/// For ever: an error, in time.
fn errors_that_stay(kind: Kind, version: Version) {
    let scene = Scene::new(kind, version, impatient());
    for answer in [UNAVAILABLE, TOO_MANY, Action::Reset] {
        scene.proxy.script(move |_| answer.clone());
        scene.fails(ENDED);
    }
    // Nothing of it sticks.
    scene.proxy.script(|_| Action::Pass);
    scene.works();
}

fn uploads_cut_short(kind: Kind, version: Version) {
    let scene = Scene::new(kind, version, quick());
    scene.proxy.script(|request| match (request.method.as_str(), request.earlier) {
        ("PUT", 0 | 1) => Action::CutUp,
        _ => Action::Pass,
    });
    scene.works();

    let scene = Scene::new(kind, version, impatient());
    scene.proxy.script(|request| if request.method == "PUT" { Action::CutUp } else { Action::Pass });
    let result = scene.timed(|remote| remote.put(NEW, &new()));
    assert!(result.is_err(), "it was never stored whole");
    // Whatever is left of it, the next one who stores it does.
    scene.proxy.script(|_| Action::Pass);
    scene.works();
}

fn downloads_cut_short(kind: Kind, version: Version) {
    let scene = Scene::new(kind, version, quick());
    scene.proxy.script(at_first(1, Action::CutDown));
    scene.works();

    let scene = Scene::new(kind, version, impatient());
    scene.proxy.script(|request| if request.method == "GET" { Action::CutDown } else { Action::Pass });
    let get = scene.timed(|remote| remote.get(OLD, LEN as u64));
    assert!(get.as_ref().is_err_and(|e| !e.is_not_found()), "{:?}", get.map(|bytes| bytes.len()));
    let range = scene.timed(|remote| remote.get_range(OLD, 1000, 100_000));
    assert!(range.as_ref().is_err_and(|e| !e.is_not_found()), "{:?}", range.map(|bytes| bytes.len()));
}

fn hangs_end(kind: Kind, version: Version) {
    let scene = Scene::new(kind, version, Settings { deadline: Duration::from_secs(60), ..impatient() });
    for action in [Action::Hold, Action::HangDown] {
        let body = action == Action::HangDown;
        let hung = move |request: &Request| request.method == "GET" && request.path.contains("old");
        let before = scene.proxy.count();
        let scripted = action.clone();
        // The first of them only; the others pass.
        let first = std::sync::atomic::AtomicBool::new(true);
        scene.proxy.script(move |request| {
            let hang = hung(request) && first.swap(false, std::sync::atomic::Ordering::Relaxed);
            if hang { scripted.clone() } else { Action::Pass }
        });
        let bytes = scene.timed(|remote| remote.get(OLD, LEN as u64)).unwrap();
        assert_eq!(bytes, old(), "{body}");
        assert!(scene.proxy.count() > before + 1, "nothing hung");
    }
}

fn hangs_that_stay(kind: Kind, version: Version) {
    let scene = Scene::new(kind, version, impatient());
    scene.proxy.script(|_| Action::Hold);
    scene.fails(ENDED);
}

/// rclone dies while an object is on its way up, and again on its way down.
fn rclone_dies(kind: Kind, version: Version) {
    let scene = Scene::new(kind, version, quick());
    let mark = scene.service.mark();
    for (method, object) in [("PUT", "new"), ("GET", "old")] {
        let first = std::sync::atomic::AtomicBool::new(true);
        scene.proxy.script(move |request| {
            let it = request.method == method && request.path.contains(object);
            let hold = it && first.swap(false, std::sync::atomic::Ordering::Relaxed);
            if hold { Action::Hold } else { Action::Pass }
        });
        let remote = Arc::clone(&scene.remote);
        let request = thread::spawn(move || match method {
            "PUT" => remote.put(NEW, &new()),
            _ => remote.get(OLD, LEN as u64).map(|bytes| assert_eq!(bytes, old())),
        });
        until("the request", || scene.proxy.held() == 1 || request.is_finished());
        assert!(!request.is_finished(), "{:?}", request.join());
        kill_transports(&mark);
        // Done by another rclone, which is what a person would expect.
        request.join().unwrap().unwrap();
        if method == "PUT" {
            scene.holds_new();
        }
    }
    scene.proxy.release();
    scene.works();
    // The value takes its process with it.
    let Scene { service, proxy, direct, remote } = scene;
    drop((direct, remote));
    until("the end of rclone", || transports(&mark).is_empty());
    drop((service, proxy));
}

fn in_both(test: fn(Kind, Version), kind: Kind) {
    for version in BOTH {
        test(kind, version);
    }
}

macro_rules! faults {
    ($($name:ident),*) => {
        mod s3 { $(#[test] fn $name() { super::in_both(super::$name, super::Kind::S3); })* }
        mod webdav { $(#[test] fn $name() { super::$name(super::Kind::WebDav, super::Version::New); })* }
        // The same with what most people have.
        mod webdav_old { $(#[test] fn $name() { super::$name(super::Kind::WebDav, super::Version::Old); })* }
    };
}

faults!(
    errors_pass,
    resets_and_delays_pass,
    errors_that_stay,
    uploads_cut_short,
    downloads_cut_short,
    hangs_end,
    hangs_that_stay,
    rclone_dies
);

/// Parts of a multipart upload that are cut short or refused are sent again.
#[test]
fn parts_of_a_big_object_fail_and_are_sent_again() {
    let service = Service::start(Kind::Moto);
    let proxy = Proxy::start(service.port(), |request| match request.earlier {
        0 if request.path.contains("partNumber=2") => Action::CutUp,
        1 if request.path.contains("partNumber=2") => INTERNAL,
        0 if request.path.contains("partNumber=3") => Action::Reset,
        _ => Action::Pass,
    });
    for version in BOTH {
        let bytes = noise(3, 12 << 20);
        let name = format!("packs/bi/big-{version:?}").to_lowercase();
        service.remote_at(version, proxy.port(), quick()).put(&name, &bytes).unwrap();
        assert!(service.remote(Version::New).get(&name, 12 << 20).unwrap() == bytes);
    }
    let parts = proxy.requests().iter().filter(|r| r.path.contains("partNumber=")).count();
    assert!(parts >= 6 + 3, "{parts} parts: nothing failed");
}
