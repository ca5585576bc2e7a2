//! Failures that no patience cures: they end at once, say what is wrong, and are never taken for objects
//! that are missing.

use std::thread;
use std::time::Duration;

use exuvia::rclone::Settings;
use exuvia::remote::{Fault, Remote, RemoteError};

use crate::proxy::{Action, Proxy};
use crate::servers::{BOTH, Kind, Service, Version, quick};
use crate::support::noise;

const UNKNOWN_KEY: Action = Action::Answer(
    403,
    "Content-Type: application/xml\r\n",
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>InvalidAccessKeyId</Code><Message>The AWS Access \
     Key Id you provided does not exist in our records.</Message><RequestId>1</RequestId></Error>",
);
const ACCESS_DENIED: Action = Action::Answer(
    403,
    "Content-Type: application/xml\r\n",
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>AccessDenied</Code><Message>Access Denied\
     </Message><RequestId>1</RequestId></Error>",
);
const UNAUTHORIZED: Action =
    Action::Answer(401, "WWW-Authenticate: Basic realm=\"rclone\"\r\n", "401 Unauthorized\n");
/// Requests that one of ours may cost when it is refused.
const FEW: usize = 8;

const OLD: &str = "packs/ol/old";

type Ask = (&'static str, fn(&dyn Remote) -> Result<(), RemoteError>);

const ASKS: [Ask; 9] = [
    ("get", |r| r.get(OLD, 1000).map(drop)),
    ("get of what is missing", |r| r.get("keys/missing", 1000).map(drop)),
    ("range", |r| r.get_range(OLD, 1, 10).map(drop)),
    ("size", |r| r.size(OLD).map(drop)),
    ("size of what is missing", |r| r.size("keys/missing").map(drop)),
    ("list", |r| r.list("packs").map(drop)),
    ("put", |r| r.put("packs/ne/new", &noise(2, 1000))),
    ("create", |r| r.create("exuvia.json", &noise(2, 1000))),
    ("delete", |r| r.delete(OLD)),
];

fn refused(kind: Kind, answer: &Action) {
    for version in BOTH {
        let service = Service::start(kind);
        let direct = service.remote(Version::New);
        direct.put(OLD, &noise(1, 1000)).unwrap();
        let proxy = Proxy::start(service.port(), |_| Action::Pass);
        for running in [false, true] {
            for (what, ask) in ASKS {
                // With an rclone that worked before, and with one that finds it so at its start.
                proxy.script(|_| Action::Pass);
                let remote = service.remote_at(version, proxy.port(), quick());
                if running {
                    // Of one that is there rclone would remember the size.
                    assert!(remote.size("keys/none").unwrap_err().is_not_found());
                }
                let answer = answer.clone();
                proxy.script(move |_| answer.clone());
                let before = proxy.count();
                let at = format!("{what} on {kind:?} with {version:?}, running {running}");
                match ask(&remote) {
                    Err(RemoteError::Service {
                        fault: Fault::Authentication | Fault::Permission,
                        message,
                        ..
                    }) => {
                        assert!(!message.is_empty(), "{at}");
                    }
                    other => panic!("{at}: {other:?}"),
                }
                let asked = &proxy.requests()[before..];
                assert!(asked.len() <= FEW, "{at}: {asked:#?}");
            }
        }
        assert_eq!(direct.get(OLD, 1000).unwrap(), noise(1, 1000));
        assert!(direct.size("exuvia.json").unwrap_err().is_not_found());
    }
}

#[test]
fn s3_that_does_not_know_the_key() {
    refused(Kind::S3, &UNKNOWN_KEY);
}

#[test]
fn s3_that_denies_access() {
    refused(Kind::S3, &ACCESS_DENIED);
}

#[test]
fn webdav_that_does_not_know_the_user() {
    refused(Kind::WebDav, &UNAUTHORIZED);
}

/// A policy that allows reading and listing, and nothing else, by the path of the object.
#[test]
fn s3_that_denies_writing() {
    for version in BOTH {
        let service = Service::start(Kind::S3);
        service.remote(Version::New).put(OLD, &noise(1, 1000)).unwrap();
        let proxy = Proxy::start(service.port(), |request| match request.method.as_str() {
            "GET" | "HEAD" => Action::Pass,
            _ => ACCESS_DENIED,
        });
        let remote = service.remote_at(version, proxy.port(), quick());
        assert_eq!(remote.get(OLD, 1000).unwrap(), noise(1, 1000));
        for result in [remote.put("packs/ne/new", b"new"), remote.delete(OLD)] {
            match result {
                Err(RemoteError::Service { fault: Fault::Authentication | Fault::Permission, .. }) => {}
                other => panic!("{version:?}: {other:?}"),
            }
        }
        assert_eq!(remote.list("packs").unwrap().len(), 1);
    }
}

/// A missing bucket answers as an empty place does: S3 says 404 without a word to the question for an object,
/// and rclone takes the same answer to a listing for an empty one. So there is no repository, which the
/// command line explains; what matters is that nothing is taken for stored that is not.
#[test]
fn nothing_is_taken_for_stored_in_a_missing_bucket() {
    for version in BOTH {
        let service = Service::without_bucket(Kind::Moto);
        let remote = service.remote(version);
        for result in [remote.get("exuvia.json", 1000).map(drop), remote.size("exuvia.json").map(drop)] {
            match result {
                Err(RemoteError::NotFound { .. }) => {}
                Err(RemoteError::Service { fault: Fault::NoContainer, .. }) => {}
                other => panic!("{version:?}: {other:?}"),
            }
        }
        match remote.put("index/a", b"bytes") {
            // rclone may make the bucket.
            Ok(()) => assert_eq!(remote.get("index/a", 10).unwrap(), b"bytes", "{version:?}"),
            Err(RemoteError::Service { fault: Fault::NoContainer, message, .. }) => {
                assert!(!message.is_empty())
            }
            other => panic!("{version:?}: {other:?}"),
        }
    }
}

/// Where there is no server, either.
fn nobody_there(kind: Kind) {
    let mut service = Service::start(kind);
    service.kill();
    let short = Duration::from_secs(3);
    let settings = Settings { deadline: short, idle_timeout: short, ..quick() };
    for version in BOTH {
        let remote = service.remote_at(version, service.port(), settings.clone());
        thread::scope(|scope| {
            for (what, ask) in ASKS.into_iter().filter(|(what, _)| *what != "delete") {
                let remote = &remote;
                scope.spawn(move || match ask(remote) {
                    Err(RemoteError::Service { message, .. }) if !message.is_empty() => {}
                    other => panic!("{what} on {kind:?} with {version:?}: {other:?}"),
                });
            }
        });
    }
}

#[test]
fn no_s3_server_is_no_missing_object() {
    nobody_there(Kind::S3);
}

#[test]
fn no_webdav_server_is_no_missing_object() {
    nobody_there(Kind::WebDav);
}

#[test]
fn no_ssh_server_is_no_missing_object() {
    nobody_there(Kind::Sftp);
}
