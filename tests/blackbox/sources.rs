//! A repository that several directories and machines share: which snapshot a word means, and that it is said.

use std::fs;

use crate::support::{Place, put, with_repository};

/// A place with snapshots of two directories: of `a` two, of `b` one between them and one after.
fn shared() -> (Place, [String; 4]) {
    let place = with_repository();
    let take = |dir: &str, text: &str| {
        put(&place.path(dir), "file", text.as_bytes());
        place.backup(dir)["snapshot"].as_str().unwrap().to_owned()
    };
    let taken = [take("a", "a1"), take("b", "b1"), take("a", "a2"), take("b", "b2")];
    (place, taken)
}

fn cat(place: &Place, args: &[&str]) -> (String, String) {
    let run = place.run(&[&["cat"], args].concat()).exits(0);
    (run.text().to_owned(), run.stderr)
}

#[test]
fn what_a_word_was_taken_for_is_said() {
    let (place, taken) = shared();
    let (text, stderr) = cat(&place, &["latest", "file"]);
    assert_eq!(text, "b2");
    let b = place.path("b").canonicalize().unwrap();
    assert!(stderr.contains(&taken[3][..8]) && stderr.contains(b.to_str().unwrap()), "{stderr}");
    for args in [&["ls", "latest"][..], &["restore", "latest", "--to", "to"], &["diff", "latest~1", "latest"]]
    {
        let stderr = place.run(args).exits(0).stderr;
        assert!(stderr.contains("other directories or machines"), "{args:?}: {stderr}");
    }
    // Whoever names one, or says whose, knows.
    for args in [&[&taken[3][..12], "file"][..], &["latest", "file", "--root", "b"]] {
        let (text, stderr) = cat(&place, args);
        assert_eq!((text.as_str(), stderr.as_str()), ("b2", ""), "{args:?}");
    }
    // And where there is one source, there is nothing to say.
    let alone = with_repository();
    put(&alone.path("a"), "file", b"1");
    alone.backup("a");
    assert_eq!(cat(&alone, &["latest", "file"]), ("1".to_owned(), String::new()));
}

#[test]
fn host_and_root_choose() {
    let (place, taken) = shared();
    let root = place.path("a").canonicalize().unwrap();
    let root = root.to_str().unwrap();
    assert_eq!(cat(&place, &["latest", "file", "--root", root]).0, "a2");
    assert_eq!(cat(&place, &["latest~1", "file", "--root", root]).0, "a1");
    assert_eq!(cat(&place, &["today", "file", "--root", "a"]).0, "a2");
    assert_eq!(cat(&place, &["now", "file", "--root", "a"]).0, "a2");
    // An id is one whatever else is said.
    assert_eq!(cat(&place, &[&taken[1], "file", "--root", "a"]).0, "b1");
    let host = exuvia::fs::hostname();
    assert_eq!(cat(&place, &["latest", "file", "--host", &host]).0, "b2");
    for args in [
        &["latest~2", "file", "--root", "a"][..],
        &["latest", "file", "--root", "c"],
        &["latest", "file", "--host", "no-such-machine"],
        &["latest", "file", "--host", "no-such-machine", "--root", "a"],
    ] {
        let run = place.run(&[&["--json", "cat"], args].concat()).exits(2);
        assert!(run.error()["message"].as_str().unwrap().contains("no snapshot matches"), "{args:?}");
    }
    place.run(&["restore", "--root", "a", "--to", "to"]).exits(0);
    assert_eq!(fs::read(place.path("to/file")).unwrap(), b"a2");
    let listed = place.run(&["--json", "ls", "latest", "--root", "a"]).exits(0);
    assert!(listed.stderr.is_empty(), "{}", listed.stderr);
    let summary = place.run(&["--json", "diff", "latest~1", "latest", "--root", "a"]).exits(0).summary();
    assert_eq!((&summary["old"], &summary["new"]), (&taken[0].as_str().into(), &taken[2].as_str().into()));
}

#[test]
fn a_comparison_with_what_is_there_means_snapshots_of_that() {
    let (mut place, taken) = shared();
    let a = place.path("a");
    let old = |place: &Place, args: &[&str]| {
        let summary = place.run(&[&["--json", "diff"], args].concat()).exits(0).summary();
        (
            summary["old"].as_str().unwrap().to_owned(),
            summary["live"]["path"].as_str().unwrap_or("").to_owned(),
        )
    };
    // No state dir has a snapshot: the newest there is, and the directory that it is of.
    let b = place.path("b").canonicalize().unwrap().to_str().unwrap().to_owned();
    assert_eq!(old(&place, &["latest"]), (taken[3].clone(), b));
    place.set("EXUVIA_STATE_DIR", a.to_str().unwrap());
    let a = a.canonicalize().unwrap().to_str().unwrap().to_owned();
    assert_eq!(old(&place, &[]), (taken[2].clone(), a.clone()));
    assert_eq!(old(&place, &["latest~1"]), (taken[0].clone(), a.clone()));
    assert_eq!(old(&place, &["now"]), (taken[2].clone(), a));
    // One that is named is taken, with the directory that it is of.
    assert_eq!(old(&place, &[&taken[1]]).0, taken[1]);
}
