//! With the programs that archives of the openssl form are exchanged with: tar, gzip and openssl.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::{EFFORT, drain, limits, noise, text};
use crate::crypto::Passphrase;
use crate::full::tar::{Member, MemberKind, Reader, Writer};
use crate::full::{Decoder, Encoder, safe_path};
use crate::model::Timestamp;

const PASSPHRASE: &str = "correct horse battery";

/// Runs a script in a folder; the passphrase is in `PW`.
fn run(dir: &Path, script: &str) -> String {
    let out = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(dir)
        .env("PW", PASSPHRASE)
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{script}: {errors}");
    errors.into_owned()
}

fn passphrase() -> Passphrase {
    Passphrase::new(PASSPHRASE.as_bytes().to_vec())
}

/// What a file, link or folder is, in a form that compares.
#[derive(Debug, PartialEq, Eq)]
enum Thing {
    File(u32, i64, Vec<u8>),
    Directory(u32),
    Symlink(Vec<u8>),
    Other,
}

type Things = BTreeMap<Vec<u8>, Thing>;

fn on_disk(root: &Path, at: &Path, found: &mut Things) {
    for entry in fs::read_dir(root.join(at)).unwrap() {
        let path = at.join(entry.unwrap().file_name());
        let full = root.join(&path);
        let meta = fs::symlink_metadata(&full).unwrap();
        let mode = meta.permissions().mode() & 0o7777;
        let thing = if meta.is_dir() {
            on_disk(root, &path, found);
            Thing::Directory(mode)
        } else if meta.is_file() {
            Thing::File(mode, meta.mtime(), fs::read(&full).unwrap())
        } else if meta.is_symlink() {
            Thing::Symlink(fs::read_link(&full).unwrap().as_os_str().as_bytes().to_vec())
        } else {
            Thing::Other
        };
        found.insert(path.as_os_str().as_bytes().to_vec(), thing);
    }
}

fn things(root: &Path) -> Things {
    let mut found = Things::new();
    on_disk(root, Path::new(""), &mut found);
    found
}

/// What an archive holds, hard links as the files that they are.
fn in_archive(decoder: impl std::io::Read) -> Things {
    let mut reader = Reader::new(decoder, limits());
    let mut found = Things::new();
    while let Some(member) = reader.next_member().unwrap() {
        let mut data = Vec::new();
        let mut piece = vec![0; 30_000];
        loop {
            match reader.read_data(&mut piece).unwrap() {
                0 => break,
                n => data.extend_from_slice(&piece[..n]),
            }
        }
        let thing = match &member.kind {
            MemberKind::File => Thing::File(member.mode, member.mtime.secs, data),
            MemberKind::Directory => Thing::Directory(member.mode),
            MemberKind::Symlink(to) => Thing::Symlink(to.clone()),
            MemberKind::Hardlink(to) => match &found[safe_path(to).unwrap().as_bytes()] {
                Thing::File(mode, mtime, data) => Thing::File(*mode, *mtime, data.clone()),
                other => panic!("a link to {other:?}"),
            },
            _ => Thing::Other,
        };
        found.insert(safe_path(&member.path).unwrap().as_bytes().to_vec(), thing);
    }
    found
}

fn write(path: impl AsRef<Path>, bytes: &[u8], secs: u64) {
    let path = path.as_ref();
    fs::write(path, bytes).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(secs);
    File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
}

/// A tree of which every form of tar can store everything but, if asked for, its long names.
fn tree(root: &Path, long_names: bool) {
    let odd = root.join(OsStr::from_bytes(b"state/odd \xff\n\\ \"name\""));
    fs::create_dir_all(root.join("state/sub/empty")).unwrap();
    write(root.join("state/notes.txt"), &text(200_000), 1_700_000_000);
    write(root.join("state/empty"), b"", 1);
    write(root.join("state/sub/one block"), &noise(1, 512), 1_000_000_000);
    write(&odd, b"odd", 1_700_000_001);
    fs::set_permissions(&odd, fs::Permissions::from_mode(0o4750)).unwrap();
    fs::hard_link(root.join("state/notes.txt"), root.join("state/sub/again")).unwrap();
    symlink("../notes.txt", root.join("state/sub/link")).unwrap();
    symlink("/etc/passwd", root.join("state/absolute")).unwrap();
    let mut sparse = File::create(root.join("state/sparse")).unwrap();
    for at in [100_000u64, 1 << 20, 3 << 20] {
        sparse.seek(SeekFrom::Start(at)).unwrap();
        sparse.write_all(&noise(2, 5_000)).unwrap();
    }
    sparse.set_len(5 << 20).unwrap();
    drop(sparse);
    // Its time goes back to what it was when it was written to.
    let file = File::options().append(true).open(root.join("state/sparse")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    if long_names {
        let deep = format!("state/{0}/{0}/{0}", "d".repeat(120));
        fs::create_dir_all(root.join(&deep)).unwrap();
        write(root.join(&deep).join("f".repeat(200)), b"deep", 2);
        symlink("t".repeat(300), root.join("state/long link")).unwrap();
        fs::hard_link(root.join(&deep).join("f".repeat(200)), root.join("state/deep again")).unwrap();
    }
}

#[test]
fn archives_of_tar_gzip_and_openssl_are_read() {
    for (format, long_names) in [
        ("--format=pax", true),
        ("--format=pax -S", true),
        ("--format=pax -S --sparse-version=0.0", true),
        ("--format=pax -S --sparse-version=0.1", true),
        ("--format=gnu", true),
        ("--format=gnu -S", true),
        ("--format=oldgnu -S", true),
        ("--format=ustar", false),
        ("--format=v7", false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path(), long_names);
        let want = things(dir.path());
        let archives = dir.path().join("archives");
        fs::create_dir(&archives).unwrap();
        run(dir.path(), &format!("tar {format} -czf archives/plain.tar.gz state"));
        let plain = fs::read(archives.join("plain.tar.gz")).unwrap();
        let found = in_archive(Decoder::openssl(plain.as_slice(), None, limits()).unwrap());
        assert!(found == want, "{format}: {:?}", found.keys().zip(want.keys()).find(|(a, b)| a != b));
        if format == "--format=pax" {
            let pipe =
                "tar -c state | gzip | openssl enc -aes-256-cbc -salt -pbkdf2 -iter 100000 -pass env:PW";
            run(dir.path(), &format!("{pipe} > archives/state.tar.gz.enc"));
            let sealed = fs::read(archives.join("state.tar.gz.enc")).unwrap();
            let decoder = Decoder::openssl(sealed.as_slice(), Some(&passphrase()), limits()).unwrap();
            assert!(in_archive(decoder) == want);
        }
    }
}

/// An archive of the tree by our own hands: what is in it, in an order in which links find what they name.
fn archive(root: &Path, encoder: Encoder<Vec<u8>>) -> Vec<u8> {
    let mut writer = Writer::new(encoder);
    let mut links: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for path in things(root).into_keys() {
        let full = root.join(OsStr::from_bytes(&path));
        let meta = fs::symlink_metadata(&full).unwrap();
        let kind = match () {
            () if meta.is_dir() => MemberKind::Directory,
            () if meta.is_symlink() => {
                MemberKind::Symlink(fs::read_link(&full).unwrap().into_os_string().as_bytes().to_vec())
            }
            () => match links.get(&meta.ino()) {
                Some(first) => MemberKind::Hardlink(first.clone()),
                None => MemberKind::File,
            },
        };
        let data = if kind == MemberKind::File { fs::read(&full).unwrap() } else { Vec::new() };
        links.entry(meta.ino()).or_insert_with(|| path.clone());
        let member = Member {
            mode: meta.mode() & 0o7777,
            uid: u64::from(meta.uid()),
            gid: u64::from(meta.gid()),
            mtime: Timestamp { secs: meta.mtime(), nanos: u32::try_from(meta.mtime_nsec()).unwrap() },
            size: data.len() as u64,
            ..Member::new(path, kind)
        };
        writer.member(&member).unwrap();
        writer.data(&data).unwrap();
    }
    writer.finish().unwrap().finish().unwrap().out
}

#[test]
fn standard_programs_read_what_we_write() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    fs::create_dir_all(&source).unwrap();
    tree(&source, true);
    let want = things(&source);
    let encrypted = archive(&source, Encoder::openssl(Vec::new(), Some(&passphrase()), EFFORT).unwrap());
    fs::write(dir.path().join("a.tar.gz.enc"), &encrypted).unwrap();
    let plain = archive(&source, Encoder::openssl(Vec::new(), None, EFFORT).unwrap());
    fs::write(dir.path().join("a.tar.gz"), &plain).unwrap();
    for script in [
        "openssl enc -d -aes-256-cbc -pbkdf2 -iter 100000 -pass env:PW -in ../a.tar.gz.enc | tar xzp",
        "gzip -t ../a.tar.gz && gzip -dc ../a.tar.gz | tar xp",
        "tar xpzf ../a.tar.gz",
    ] {
        fs::create_dir(&target).unwrap();
        let said = run(&target, script);
        assert!(said.is_empty(), "{script}: {said}");
        assert!(things(&target) == want, "{script}");
        let ino = |path| fs::metadata(target.join(path)).unwrap().ino();
        assert_eq!(ino("state/notes.txt"), ino("state/sub/again"));
        fs::remove_dir_all(&target).unwrap();
    }
    // And we read both again.
    let (_, end) = drain(Decoder::openssl(encrypted.as_slice(), Some(&passphrase()), limits()).unwrap());
    end.unwrap();
    assert!(in_archive(Decoder::openssl(plain.as_slice(), None, limits()).unwrap()) == want);
}

#[test]
fn extended_attributes_are_exchanged() {
    const NAME: &str = "user.odd=%25 name";
    const VALUE: &[u8] = b"a\0b\n=";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"x").unwrap();
    if rustix::fs::setxattr(&file, NAME, VALUE, rustix::fs::XattrFlags::empty()).is_err() {
        // Not every file system has them.
        return;
    }
    run(dir.path(), "tar --xattrs --format=pax -czf theirs.tar.gz file");
    let theirs = fs::read(dir.path().join("theirs.tar.gz")).unwrap();
    let mut reader = Reader::new(Decoder::openssl(theirs.as_slice(), None, limits()).unwrap(), limits());
    let member = reader.next_member().unwrap().unwrap();
    assert_eq!(member.xattrs, [(NAME.as_bytes().to_vec(), VALUE.to_vec())]);

    let mut writer = Writer::new(Encoder::openssl(Vec::new(), None, EFFORT).unwrap());
    writer.member(&member).unwrap();
    writer.data(b"x").unwrap();
    let ours = writer.finish().unwrap().finish().unwrap().out;
    fs::write(dir.path().join("ours.tar.gz"), ours).unwrap();
    fs::remove_file(&file).unwrap();
    run(dir.path(), "tar --xattrs -xzf ours.tar.gz");
    let mut value = [0; 64];
    let n = rustix::fs::getxattr(&file, NAME, &mut value[..]).unwrap();
    assert_eq!(&value[..n], VALUE);
}
