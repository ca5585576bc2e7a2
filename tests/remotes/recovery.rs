//! Getting back what there was, with the repository behind rclone: what is fetched, and what becomes of the
//! state dir when the server is not there, or goes in the middle.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use exuvia::app::{self, Location, Passphrase, RollbackRequest, RollbackTo, RolledBack, Session};
use exuvia::clock::SystemClock;
use exuvia::rclone::{Secret, Target};
use exuvia::report::{Monitor, Phase};

use crate::cycle::{fill, forget_the_cache, no_transport_is_left, place};
use crate::proxy::{Action, Proxy, Request};
use crate::servers::{BOTH, Kind, Service, Version, quick};
use crate::support::{
    PASSPHRASE, Picture, Place, Run, ended, files, names, noise, picture, prose, put, same, until,
};

/// Gives up after so many seconds in which nothing succeeds.
fn impatient(place: &Place, seconds: u32) {
    let file = place.write("home/.config/exuvia/config.toml", &format!("deadline = \"{seconds}s\"\n"));
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A program at work, which a test that fails takes with it.
struct Running(Option<Child>);

impl Running {
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

/// Holds reads of packs after the first `passed`.
fn hold_reads(passed: usize) -> impl Fn(&Request) -> Action {
    let seen = AtomicUsize::new(0);
    move |request| {
        let read = request.method == "GET" && request.path.contains("/packs/");
        if read && seen.fetch_add(1, Ordering::Relaxed) >= passed { Action::Hold } else { Action::Pass }
    }
}

/// Holds reads of packs from when a rollback has left its note on.
fn hold_reads_of_rollback(tree: &Path) -> impl Fn(&Request) -> Action + use<> {
    let note = tree.join(".exuvia-rollback/journal.json");
    let hold = hold_reads(0);
    move |request| if note.exists() { hold(request) } else { Action::Pass }
}

/// Where `auto-restore` is asked to work: a state dir that is missing, and one that is empty.
const STATE_DIRS: [&str; 2] = ["missing/.openclaw", "empty/.openclaw"];

/// A machine that has nothing but an empty state dir, and a repository with a snapshot of another.
fn new_machine(service: &Service, version: Version, port: u16) -> (Place, Picture) {
    let place = place(service, version, port);
    place.run(&["init", "--kdf-log-n", "15"]).exits(0);
    let state = place.path("old/.openclaw");
    fill(&state);
    for i in 0..12 {
        put(&state, &format!("media/{i}"), &noise(50 + i, 3 << 20));
    }
    place.backup("old/.openclaw");
    let wanted = picture(&state);
    fs::remove_dir_all(place.path("old")).unwrap();
    forget_the_cache(&place);
    fs::create_dir_all(place.path("empty/.openclaw")).unwrap();
    (place, wanted)
}

fn auto_restore(dir: &str) -> [&str; 4] {
    ["--json", "--state-dir", dir, "auto-restore"]
}

/// Nothing was restored, and nothing is left of the attempt.
#[track_caller]
fn came_to_nothing(place: &Place, run: Run) {
    let run = run.exits(1);
    let error = run.error();
    assert_eq!(error["class"], "failed", "{error}");
    assert!(!error["message"].as_str().unwrap().is_empty() && run.text().is_empty());
    assert!(!run.stderr.contains("secretsecret"), "{}", run.stderr);
    assert!(!place.path("missing").exists());
    assert_eq!(names(&place.path("empty/.openclaw")), [""; 0]);
}

#[track_caller]
fn restores(place: &Place, dir: &str, wanted: &Picture) {
    let summary = place.run(&auto_restore(dir)).exits(0).summary();
    assert_eq!(summary["restored"], true, "{summary}");
    is_restored(place, dir, wanted);
}

#[track_caller]
fn is_restored(place: &Place, dir: &str, wanted: &Picture) {
    let mut found = picture(&place.path(dir));
    found.retain(|path, _| !path.starts_with(".exuvia-auto-restore"));
    same(&found, wanted, dir);
}

fn nobody_answers_an_auto_restore(kind: Kind, version: Version) {
    let mut service = Service::start(kind);
    let (place, wanted) = new_machine(&service, version, service.port());
    impatient(&place, 2);
    service.kill();
    for dir in STATE_DIRS {
        came_to_nothing(&place, place.run(&auto_restore(dir)));
    }
    service.restart();
    for dir in STATE_DIRS {
        restores(&place, dir, &wanted);
    }
    no_transport_is_left(&service);
}

fn an_auto_restore_loses_its_server(kind: Kind, version: Version) {
    for dir in STATE_DIRS {
        let mut service = Service::start(kind);
        let proxy = Proxy::start(service.port(), |_| Action::Pass);
        let (place, wanted) = new_machine(&service, version, proxy.port());
        impatient(&place, 4);
        // Not the first: by then the tree is being written.
        proxy.script(hold_reads(6));
        let mut child = Running(Some(place.start(&auto_restore(dir))));
        let tree = place.path(dir).join(".exuvia-auto-restore/tree");
        until("a read on its way", || proxy.held() > 0 || child.child().try_wait().unwrap().is_some());
        assert!(!files(&tree).is_empty(), "it had not begun to write");
        service.kill();
        proxy.script(|_| Action::Pass);
        proxy.release();
        came_to_nothing(&place, child.ended());
        service.restart();
        restores(&place, dir, &wanted);
        no_transport_is_left(&service);
    }
}

/// A server that comes back in time is waited for.
fn an_auto_restore_outlasts_an_outage(kind: Kind, version: Version) {
    let mut service = Service::start(kind);
    let proxy = Proxy::start(service.port(), |_| Action::Pass);
    let (place, wanted) = new_machine(&service, version, proxy.port());
    proxy.script(hold_reads(6));
    let mut child = Running(Some(place.start(&auto_restore(STATE_DIRS[0]))));
    until("a read on its way", || proxy.held() > 0);
    service.kill();
    proxy.script(|_| Action::Pass);
    let before = proxy.count();
    proxy.release();
    until("another try", || proxy.count() >= before + 2 || child.child().try_wait().unwrap().is_some());
    service.restart();
    assert_eq!(child.ended().exits(0).summary()["restored"], true);
    is_restored(&place, STATE_DIRS[0], &wanted);
    no_transport_is_left(&service);
}

/// A repository behind a proxy that holds a snapshot of a tree, which has changed since.
struct Scene {
    service: Arc<Mutex<Service>>,
    proxy: Proxy,
    place: Place,
    version: Version,
    before: Picture,
    after: Picture,
}

/// Bytes that have to come from the repository: no file of the changed tree has them any more.
const MISSING: usize = (5 << 20) + 40_000;

fn scene(kind: Kind, version: Version) -> Scene {
    let service = Service::start(kind);
    let proxy = Proxy::start(service.port(), |_| Action::Pass);
    let mut place = place(&service, version, proxy.port());
    let tree = place.path("tree");
    place.set("EXUVIA_STATE_DIR", tree.to_str().unwrap());
    place.run(&["init", "--kdf-log-n", "15"]).exits(0);
    fill(&tree);
    put(&tree, "gone/large", &noise(7, 5 << 20));
    put(&tree, "gone/small", &noise(8, 40_000));
    for i in 0..4 {
        put(&tree, &format!("stays/{i}"), &noise(20 + i, 4 << 20));
    }
    place.backup("tree");
    let before = picture(&tree);
    fs::remove_dir_all(tree.join("gone")).unwrap();
    // What has only another name, or another end, is there.
    fs::rename(tree.join("media/picture"), tree.join("media/renamed")).unwrap();
    fs::rename(tree.join("stays/3"), tree.join("stays/moved")).unwrap();
    let mut log = fs::read(tree.join("log.txt")).unwrap();
    log.extend_from_slice(b"one more line\n");
    fs::write(tree.join("log.txt"), log).unwrap();
    put(&tree, "new/file", &prose(500, 30_000));
    let after = picture(&tree);
    Scene { service: Arc::new(Mutex::new(service)), proxy, place, version, before, after }
}

impl Scene {
    fn tree(&self) -> std::path::PathBuf {
        self.place.path("tree")
    }

    #[track_caller]
    fn is(&self, wanted: &Picture, what: &str) {
        same(&picture(&self.tree()), wanted, what);
        let ours: Vec<_> = names(&self.tree()).into_iter().filter(|n| n.contains("exuvia")).collect();
        assert_eq!(ours, [""; 0], "{what}");
    }

    fn service(&self) -> std::sync::MutexGuard<'_, Service> {
        self.service.lock().unwrap()
    }

    /// What is there while a rollback is unfinished, and where that is written.
    #[track_caller]
    fn tells_of_a_mixture(&self) {
        assert!(self.tree().join(".exuvia-rollback/journal.json").is_file());
        // Also one that needs no server, and one that does.
        for args in [&["config", "show"][..], &["snapshots"]] {
            let told = self.place.run(args).stderr;
            assert!(told.contains("was interrupted") && told.contains("--continue"), "{args:?}: {told}");
        }
        self.place.run(&["rollback", "--yes"]).exits(11);
    }
}

fn only_what_is_missing_is_fetched(kind: Kind, version: Version) {
    let scene = scene(kind, version);
    let place = &scene.place;
    let stored: u64 = files(&scene.service().folder().join("packs")).values().sum();
    assert!(usize::try_from(stored).unwrap() > 4 * MISSING, "{stored} bytes would prove nothing");
    let (requests, fetched) = (scene.proxy.count(), scene.proxy.fetched("/packs/"));
    let summary = place.run(&["--json", "rollback", "--yes"]).exits(0).summary();
    scene.is(&scene.before, "after the rollback");
    let fetched = scene.proxy.fetched("/packs/") - fetched;
    let requests = scene.proxy.count() - requests;
    let at = format!("{kind:?} {version:?}: {fetched} bytes in {requests} requests: {summary}");
    // What is missing is noise; of the rest, frames are fetched whole, and manifests.
    assert!((MISSING..MISSING + (2 << 20)).contains(&fetched), "{at}");
    let (written, local) = (&summary["bytes_written"], &summary["bytes_local"]);
    assert!(written.as_u64().unwrap() - local.as_u64().unwrap() < (MISSING as u64) + (1 << 20), "{at}");
    assert!(summary["remote_requests"]["get"].as_u64().unwrap() < 20 && requests < 80, "{at}");
    // Back: only the new file is missing, and the line of the log.
    let fetched = scene.proxy.fetched("/packs/");
    place.run(&["undo", "--yes"]).exits(0);
    scene.is(&scene.after, "after the undo");
    let fetched = scene.proxy.fetched("/packs/") - fetched;
    assert!(fetched < 1 << 20, "{kind:?} {version:?}: {fetched}");
    place.run(&["undo", "--yes"]).exits(0);
    scene.is(&scene.before, "after the second undo");
    place.is_sound();
    no_transport_is_left(&scene.service());
}

/// The server goes while content is fetched: nothing has been changed, and nothing is.
fn a_rollback_that_loses_its_server_changes_nothing(kind: Kind, version: Version) {
    let scene = scene(kind, version);
    let place = &scene.place;
    impatient(place, 4);
    scene.proxy.script(hold_reads_of_rollback(&scene.tree()));
    let mut child = Running(Some(place.start(&["--json", "rollback", "--yes"])));
    until("a read on its way", || scene.proxy.held() > 0 || child.child().try_wait().unwrap().is_some());
    assert!(scene.proxy.held() > 0, "it needed nothing");
    scene.service().kill();
    scene.proxy.script(|_| Action::Pass);
    scene.proxy.release();
    let run = child.ended().exits(1);
    assert_eq!(run.error()["class"], "failed", "{}", run.stderr);
    scene.is(&scene.after, "untouched");
    let next = place.run(&["config", "show"]).exits(0);
    assert!(!next.stderr.contains("--continue"), "{}", next.stderr);
    scene.service().restart();
    place.run(&["rollback", "--yes"]).exits(0);
    scene.is(&scene.before, "the next one");
    place.run(&["undo", "--yes"]).exits(0);
    scene.is(&scene.after, "undone");
    no_transport_is_left(&scene.service());
}

/// Server and program end in the middle, as when the machine that runs both loses power.
fn a_killed_rollback_waits_for_its_server(kind: Kind, version: Version) {
    for end in ["--continue", "--abort"] {
        let scene = scene(kind, version);
        let place = &scene.place;
        scene.proxy.script(hold_reads_of_rollback(&scene.tree()));
        let mut child = Running(Some(place.start(&["--json", "rollback", "--yes"])));
        until("a read on its way", || scene.proxy.held() > 0 || child.child().try_wait().unwrap().is_some());
        child.child().kill().unwrap();
        assert_eq!(child.ended().code, None);
        scene.service().kill();
        scene.proxy.script(|_| Action::Pass);
        scene.proxy.release();
        impatient(place, 2);
        scene.tells_of_a_mixture();
        place.run(&["rollback", "--yes", end]).exits(1);
        scene.tells_of_a_mixture();
        scene.service().restart();
        impatient(place, 60);
        place.run(&["rollback", "--yes", end]).exits(0);
        if end == "--continue" {
            scene.is(&scene.before, "finished");
            place.run(&["undo", "--yes"]).exits(0);
        }
        scene.is(&scene.after, "taken back");
        place.is_sound();
        no_transport_is_left(&scene.service());
    }
}

/// Acts when all content is ready and nothing has been changed yet.
struct WhenReady {
    left: AtomicU64,
    act: Box<dyn Fn() + Send + Sync>,
}

impl Monitor for WhenReady {
    fn phase(&self, phase: Phase, bytes: Option<u64>) {
        if phase == Phase::Restore {
            self.left.store(bytes.unwrap_or(0), Ordering::Relaxed);
        }
    }

    fn progress(&self, _: u64, bytes: u64) {
        let left = self.left.load(Ordering::Relaxed);
        if left > 0 && self.left.fetch_sub(bytes.min(left), Ordering::Relaxed) <= bytes {
            (self.act)();
        }
    }
}

/// A rollback through the library, which asks `act` to do something when all content has come.
fn with_act(scene: &Scene, act: impl Fn() + Send + Sync + 'static) -> RolledBack {
    let env = scene.service().env(scene.version, scene.proxy.port());
    let seconds = std::time::Duration::from_secs(3);
    let target = Target {
        spec: Secret::new(scene.service().spec()),
        env: env.into_iter().map(|(name, value)| (name, Secret::new(value))).collect(),
        display: "the service".to_owned(),
        settings: exuvia::rclone::Settings {
            program: scene.version.program(),
            deadline: seconds,
            idle_timeout: seconds,
            ..quick()
        },
    };
    let session = Session {
        repository: Location::Rclone(target),
        passphrase: Passphrase::new(PASSPHRASE.as_bytes().to_vec()),
        cache_dir: scene.place.path("home/.cache/exuvia"),
        key_cache: true,
        monitor: Arc::new(WhenReady { left: AtomicU64::new(0), act: Box::new(act) }),
        clock: Arc::new(SystemClock::new()),
        threads: 2,
    };
    let request = RollbackRequest {
        state_dir: scene.tree(),
        to: RollbackTo::Snapshot("latest".into()),
        paths: Vec::new(),
        keep_extra: false,
        dry_run: false,
        live: false,
        owner: false,
        devices: false,
    };
    app::rollback(&session, &request, &mut |_, _| Ok(true)).unwrap().done.unwrap()
}

/// The server goes when all content has come. What is changed from there on needs it only for the look back
/// at what was done; where that cannot be made, the rollback is not over, and says so.
fn a_server_that_goes_after_the_fetching(kind: Kind, version: Version) {
    let scene = scene(kind, version);
    impatient(&scene.place, 2);
    let service = Arc::clone(&scene.service);
    let done = with_act(&scene, move || service.lock().unwrap().kill());
    if done.errors.is_empty() {
        scene.is(&scene.before, "no server was needed any more");
    } else {
        scene.tells_of_a_mixture();
    }
    scene.service().restart();
    if !done.errors.is_empty() {
        scene.place.run(&["rollback", "--yes", "--continue"]).exits(0);
        scene.is(&scene.before, "finished");
    }
    scene.place.run(&["undo", "--yes"]).exits(0);
    scene.is(&scene.after, "undone");
    assert!(scene.tree().join(Path::new("new/file")).is_file());
}

macro_rules! on {
    ($module:ident, $kind:ident, $version:ident: $($name:ident),*) => {
        mod $module { $(#[test] fn $name() { super::$name(super::Kind::$kind, super::Version::$version); })* }
    };
}

macro_rules! all_on {
    ($module:ident, $kind:ident) => {
        on!($module, $kind, New: nobody_answers_an_auto_restore, an_auto_restore_loses_its_server,
            an_auto_restore_outlasts_an_outage, only_what_is_missing_is_fetched,
            a_rollback_that_loses_its_server_changes_nothing, a_killed_rollback_waits_for_its_server,
            a_server_that_goes_after_the_fetching);
    };
}

all_on!(s3, S3);
all_on!(webdav, WebDav);
// What the old rclone does otherwise is how it fails, and how it reads parts.
on!(s3_old, S3, Old: an_auto_restore_loses_its_server, only_what_is_missing_is_fetched);

/// Over SSH there is no proxy to count with.
#[test]
fn there_and_back_on_sftp() {
    for version in BOTH {
        let service = Service::start(Kind::Sftp);
        let mut place = place(&service, version, service.port());
        let tree = place.path("tree");
        place.set("EXUVIA_STATE_DIR", tree.to_str().unwrap());
        place.run(&["init", "--kdf-log-n", "15"]).exits(0);
        fill(&tree);
        place.backup("tree");
        let before = picture(&tree);
        fs::remove_dir_all(tree.join("notes")).unwrap();
        fs::rename(tree.join("media/picture"), tree.join("media/renamed")).unwrap();
        let after = picture(&tree);
        let summary = place.run(&["--json", "rollback", "--yes"]).exits(0).summary();
        same(&picture(&tree), &before, "after the rollback");
        assert!(summary["bytes_local"].as_u64().unwrap() >= 6 << 20, "{summary}");
        place.run(&["undo", "--yes"]).exits(0);
        same(&picture(&tree), &after, "after the undo");
        no_transport_is_left(&service);
    }
}
