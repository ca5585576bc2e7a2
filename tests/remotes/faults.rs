//! Servers that fail, cut short or hang, and an rclone that dies: requests succeed in the end, or end with
//! an error in bounded time, and nothing half-done is taken for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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

type Ask = (&'static str, fn(&Rclone) -> Result<(), RemoteError>);

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
        // So that rclone runs, and asks nothing more of its own. It would remember the size of one that is
        // there.
        assert!(remote.size("keys/none").unwrap_err().is_not_found());
        Self { service, proxy, direct, remote }
    }

    /// Every request works, and says what is true.
    #[track_caller]
    fn works(&self) {
        self.works_when(|| |_: &Request| Action::Pass);
    }

    /// The same, with a new script for each of them.
    #[track_caller]
    fn works_when<S: Fn(&Request) -> Action + Send + Sync + 'static>(&self, script: impl Fn() -> S) {
        let begin = || self.proxy.script(script());
        begin();
        assert_eq!(self.timed(|remote| remote.get(OLD, LEN as u64)).unwrap(), old());
        begin();
        let range = self.timed(|remote| remote.get_range(OLD, 1000, 100_000));
        assert_eq!(range.unwrap(), old()[1000..101_000]);
        begin();
        assert_eq!(self.timed(|remote| remote.size(OLD)).unwrap(), LEN as u64);
        begin();
        self.timed(|remote| remote.put(NEW, &new())).unwrap();
        self.holds_new();
        begin();
        let listed = self.timed(|remote| remote.list("packs")).unwrap();
        let mut names: Vec<_> = listed.into_iter().map(|l| l.name).collect();
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
        let asks: [Ask; 5] = [
            ("get", |remote| remote.get(OLD, LEN as u64).map(drop)),
            ("range", |remote| remote.get_range(OLD, 1000, 100_000).map(drop)),
            ("put", |remote| remote.put(NEW, &new())),
            ("list", |remote| remote.list("packs").map(drop)),
            ("size", |remote| remote.size(OLD).map(drop)),
        ];
        // At once: each takes its time.
        let results = thread::scope(|scope| {
            asks.map(|(what, ask)| (what, scope.spawn(move || self.timed(ask))))
                .map(|(what, asked)| (what, asked.join().unwrap()))
        });
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

/// So it is with the first `times` requests that `which` is true of, and then no more.
fn at_first(
    times: usize,
    which: fn(&Request) -> bool,
    action: &Action,
) -> impl Fn(&Request) -> Action + use<> {
    let (left, action) = (AtomicUsize::new(times), action.clone());
    move |request| {
        let take = |left: usize| left.checked_sub(1);
        let now = which(request) && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if now { action.clone() } else { Action::Pass }
    }
}

fn any(_: &Request) -> bool {
    true
}

fn upload(request: &Request) -> bool {
    request.method == "PUT"
}

fn download(request: &Request) -> bool {
    request.method == "GET"
}

const INTERNAL: Action = Action::Answer(500, "", "");
const UNAVAILABLE: Action = Action::Answer(503, "", "");
const TOO_MANY: Action = Action::Answer(429, "Retry-After: 1\r\n", "");
const ENDED: &[Fault] = &[Fault::Deadline, Fault::Transient];

fn errors_pass(kind: Kind, version: Version) {
    let scene = Scene::new(kind, version, quick());
    for (times, answer) in [(1, INTERNAL), (2, UNAVAILABLE), (1, TOO_MANY)] {
        scene.works_when(|| at_first(times, any, &answer));
        scene.remote.delete(NEW).unwrap();
    }
}

fn resets_and_delays_pass(kind: Kind, version: Version) {
    let scene = Scene::new(kind, version, quick());
    scene.works_when(|| at_first(1, any, &Action::Reset));
    scene.remote.delete(NEW).unwrap();
    scene.works_when(|| |_: &Request| Action::Delay(Duration::from_millis(200)));
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
    scene.works_when(|| at_first(2, upload, &Action::CutUp));

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
    scene.works_when(|| at_first(1, download, &Action::CutDown));

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
        let before = scene.proxy.count();
        scene.proxy.script(at_first(1, download, &action));
        let bytes = scene.timed(|remote| remote.get(OLD, LEN as u64)).unwrap();
        assert_eq!(bytes, old(), "{action:?}");
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
    for method in ["PUT", "GET"] {
        scene.proxy.script(at_first(1, if method == "PUT" { upload } else { download }, &Action::Hold));
        let held = scene.proxy.held();
        let remote = Arc::clone(&scene.remote);
        let request = thread::spawn(move || match method {
            "PUT" => remote.put(NEW, &new()),
            _ => remote.get(OLD, LEN as u64).map(|bytes| assert_eq!(bytes, old())),
        });
        until("the request", || scene.proxy.held() > held || request.is_finished());
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
