//! The remote on local directories, through rclone as it is.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::clock::SystemClock;
use crate::rclone::tests::{environment, programs};
use crate::rclone::{Secret, Settings};
use crate::report::Silent;

fn target(program: &Path, spec: &str) -> Target {
    Target {
        spec: Secret::new(spec.into()),
        env: vec![],
        display: spec.into(),
        settings: Settings { program: program.into(), ..Settings::default() },
    }
}

fn service(program: &Path, dir: &Path) -> Service {
    let mut service = Service::new(target(program, dir.to_str().unwrap()), Arc::new(Silent));
    service.environment = environment();
    service
}

fn each(test: impl Fn(&Service, &Path)) {
    for program in programs() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("an odd, \"quoted\" 'place':x=y");
        test(&service(&program, &root), &root);
    }
}

#[test]
fn objects_come_and_go() {
    each(|remote, root| {
        assert!(remote.list("packs").unwrap().is_empty(), "a missing folder is empty");
        assert!(remote.get("keys/a", 10).unwrap_err().is_not_found());
        assert!(remote.get_range("keys/a", 0, 1).unwrap_err().is_not_found());
        assert!(remote.get_range("keys/a", 0, 0).unwrap_err().is_not_found());
        assert!(remote.size("keys/a").unwrap_err().is_not_found());
        remote.delete("keys/a").unwrap();

        remote.put("exuvia.json", b"marker").unwrap();
        remote.put("packs/ab/ab01", b"0123456789").unwrap();
        remote.put("packs/cd/cd02", b"").unwrap();
        remote.put("index/a-b_c.d", b"odd").unwrap();
        assert_eq!(fs::read(root.join("packs/ab/ab01")).unwrap(), b"0123456789");
        assert_eq!(remote.get("packs/ab/ab01", 10).unwrap(), b"0123456789");
        assert_eq!(remote.get("packs/cd/cd02", 10).unwrap(), b"");
        assert_eq!(remote.get_range("packs/ab/ab01", 3, 4).unwrap(), b"3456");
        assert_eq!(remote.get_range("packs/ab/ab01", 0, 4).unwrap(), b"0123");
        assert_eq!(remote.get_range("packs/ab/ab01", 0, 10).unwrap(), b"0123456789");
        assert_eq!(remote.get_range("packs/ab/ab01", 9, 1).unwrap(), b"9");
        assert!(matches!(remote.get_range("packs/cd/cd02", 0, 1), Err(RemoteError::Size { found: 0, .. })));
        assert_eq!(remote.get_range("packs/ab/ab01", 10, 0).unwrap(), b"");
        assert_eq!(remote.size("packs/ab/ab01").unwrap(), 10);

        let mut listed: Vec<_> =
            remote.list("packs").unwrap().into_iter().map(|l| (l.name, l.size)).collect();
        listed.sort();
        assert_eq!(listed, [("packs/ab/ab01".to_string(), 10), ("packs/cd/cd02".to_string(), 0)]);
        let inner = remote.list("packs/ab").unwrap();
        assert_eq!(inner, [Listed { name: "packs/ab/ab01".into(), size: 10 }]);
        assert!(remote.list("pack").unwrap().is_empty(), "a folder, not a prefix");
        assert!(matches!(remote.create("index/a-b_c.d", b"x"), Err(RemoteError::Exists { .. })));

        remote.delete("packs/ab/ab01").unwrap();
        assert!(remote.get("packs/ab/ab01", 10).unwrap_err().is_not_found());
        assert!(remote.get("packs/cd", 10).unwrap_err().is_not_found(), "a folder is no object");
    });
}

#[test]
fn sizes_are_checked() {
    each(|remote, root| {
        remote.put("index/a", b"0123456789").unwrap();
        let size = |result: Result<Vec<u8>, RemoteError>| match result {
            Err(RemoteError::Size { expected, found, .. }) => (expected, found),
            other => panic!("{other:?}"),
        };
        assert_eq!(size(remote.get("index/a", 9)), (9, 10));
        assert_eq!(size(remote.get_range("index/a", 8, 4)), (12, 10));
        assert_eq!(size(remote.get_range("index/a", 10, 4)), (14, 10));
        assert_eq!(size(remote.get_range("index/a", 50, 4)), (54, 10));
        assert_eq!(size(remote.get_range("index/a", 11, 0)), (11, 10));
        assert!(remote.get_range("index/a", u64::MAX, 4).is_err());

        // Behind rclone's back, which remembers what was stored.
        fs::remove_file(root.join("index/a")).unwrap();
        assert!(remote.get("index/a", 10).unwrap_err().is_not_found());
        let gone = remote.get_range("index/a", 1, 2).unwrap_err();
        assert!(gone.is_not_found(), "{gone:?}");
        remote.delete("index/a").unwrap();
    });
}

#[test]
fn large_objects_pass_unharmed_many_at_once() {
    each(|remote, _| {
        let body: Vec<u8> =
            (0..5_000_000_u32).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        std::thread::scope(|scope| {
            for thread in 0..12 {
                let body = &body[thread..];
                scope.spawn(move || {
                    let name = format!("packs/ab/ab{thread}");
                    remote.put(&name, body).unwrap();
                    assert!(remote.get(&name, 5_000_000).unwrap() == body);
                    let part = remote.get_range(&name, 1_000_000, 2_000_000).unwrap();
                    assert!(part == body[1_000_000..3_000_000]);
                    // Too long by one: taken no further than the bound.
                    assert!(remote.get(&name, body.len() as u64 - 1).is_err());
                });
            }
            for thread in 0..8 {
                scope.spawn(move || {
                    for i in 0..20 {
                        remote.put(&format!("index/{}", i % 10), b"same bytes").unwrap();
                        remote.put(&format!("index/{thread}-{i}"), b"x").unwrap();
                    }
                });
            }
        });
        assert_eq!(remote.list("index").unwrap().len(), 10 + 160);
        assert_eq!(remote.list("packs").unwrap().len(), 12);
    });
}

#[test]
fn a_listing_that_fails_is_not_empty() {
    each(|remote, root| {
        remote.put("index/a", b"x").unwrap();
        fs::write(root.join("gc"), b"a file where a folder should be").unwrap();
        let listed = remote.list("gc");
        assert!(listed.is_err(), "{listed:?}");
        let refused = remote.put("gc/a", b"x");
        assert!(refused.is_err(), "{refused:?}");
    });
}

#[test]
fn a_process_that_dies_is_replaced() {
    each(|remote, _| {
        remote.put("index/a", b"x").unwrap();
        let first = remote.server().ok().unwrap();
        first.kill();
        assert_eq!(remote.get("index/a", 1).unwrap(), b"x");
        assert!(!Arc::ptr_eq(&first, &remote.server().ok().unwrap()));
        // While a request is under way.
        let server = remote.server().ok().unwrap();
        let body = vec![7; 64 << 20];
        let result = std::thread::scope(|scope| {
            let put = scope.spawn(|| remote.put("index/b", &body));
            server.kill();
            put.join().unwrap()
        });
        if let Err(error) = result {
            assert!(
                matches!(error, RemoteError::Service { fault: Fault::Transient | Fault::Other, .. }),
                "{error}"
            );
        }
        remote.put("index/b", b"x").unwrap();
    });
}

#[test]
fn a_process_that_hangs_is_replaced() {
    for program in programs() {
        let dir = tempfile::tempdir().unwrap();
        let remote = service(&program, dir.path());
        remote.put("index/a", b"x").unwrap();
        let server = remote.server().ok().unwrap();
        server.set_idle(Duration::from_millis(200));
        let pid = i32::try_from(server.id()).unwrap();
        drop(server);
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        // A signal is on its way when it is sent; this returns when it has arrived.
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::UNTRACED).unwrap();
        let error = remote.get("index/a", 1).unwrap_err();
        assert!(matches!(error, RemoteError::Service { fault: Fault::Transient, .. }), "{error}");
        assert_eq!(remote.get("index/a", 1).unwrap(), b"x");
        assert!(rustix::process::test_kill_process(pid).is_err(), "nothing is left of it");
    }
}

#[test]
fn failures_of_setup_are_not_tried_again() {
    for program in programs() {
        let remote =
            Rclone::new(target(&program, "nosuch:x"), Arc::new(Silent), Arc::new(SystemClock::new()));
        let Err(RemoteError::Service { fault: Fault::Setup, message, .. }) = remote.list("index") else {
            panic!("an unknown remote is a fault of setup")
        };
        assert!(message.contains("didn't find section"), "{message}");
        assert_eq!(remote.parallel_requests(), Settings::CONNECTIONS);
    }
}

#[test]
fn names_that_leave_the_repository_are_refused() {
    // No program is needed to refuse them.
    let remote = service(Path::new("/nowhere/rclone"), Path::new("/nowhere"));
    for name in ["../x", "/etc/x", "a/../b", "", "a//b", ".", "packs/./x", "data/ab", "a\0b"] {
        let setup =
            |e: RemoteError| matches!(e, RemoteError::Service { message, .. } if message.contains("no name"));
        assert!(setup(remote.put(name, b"x").unwrap_err()), "{name}");
        assert!(setup(remote.get(name, 10).unwrap_err()), "{name}");
        assert!(setup(remote.list(name).unwrap_err()), "{name}");
        assert!(setup(remote.delete(name).unwrap_err()), "{name}");
    }
}

#[test]
fn turns_are_taken_by_name_and_number() {
    let turns = Arc::new(Turns::new(2));
    let first = turns.take("a", &|| false);
    assert!(first.is_some());
    let asked = AtomicBool::new(false);
    // Cancelled at the second look.
    let give_up = || asked.swap(true, Ordering::Relaxed);
    assert!(turns.take("a", &give_up).is_none(), "one request for each name");
    let second = turns.take("b", &|| false);
    asked.store(false, Ordering::Relaxed);
    assert!(turns.take("c", &give_up).is_none(), "two at once");
    drop(second);
    assert!(turns.take("c", &|| false).is_some());
    drop(first);
}

#[test]
fn what_is_streamed_takes_no_turn_from_others() {
    let turns = Arc::new(Turns::new(1));
    let streamed = turns.take_beside("a", &|| false);
    assert!(streamed.is_some());
    let other = turns.take("b", &|| false);
    assert!(other.is_some(), "beside the streamed one");
    let asked = AtomicBool::new(false);
    let give_up = || asked.swap(true, Ordering::Relaxed);
    assert!(turns.take("a", &give_up).is_none(), "still one request for each name");
    drop((streamed, other));
    assert!(turns.take("a", &|| false).is_some());
}

#[test]
fn full_names_are_made_again() {
    let full = |folder: &str, name: &str| {
        full_name(folder, BaseName { name: name.into(), size: 0 }).map(|listed| listed.name)
    };
    assert_eq!(full("packs", "ab12").as_deref(), Some("packs/ab/ab12"));
    assert_eq!(full("packs/ab", "ab12").as_deref(), Some("packs/ab/ab12"));
    assert_eq!(full("index", "a").as_deref(), Some("index/a"));
    for odd in ["a", "", "aé", "é"] {
        assert!(full("packs", odd).is_none_or(|name| name == "packs/é/é"), "{odd}");
    }
}
