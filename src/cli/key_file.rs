//! Files that hold a generated key.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

/// Random bytes of a generated key.
const KEY_BYTES: usize = 32;

/// Makes a file with a fresh key, readable by its owner only, and the folders above it. Leaves a whole key under the
/// name, or nothing; a file that is there stays ([`io::ErrorKind::AlreadyExists`]).
pub(super) fn write(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut random = Zeroizing::new([0u8; KEY_BYTES + 8]);
    getrandom::fill(random.as_mut()).map_err(io::Error::other)?;
    let (key, nonce) = random.split_at(KEY_BYTES);
    let mut text = Zeroizing::new(String::with_capacity(2 * KEY_BYTES + 1));
    HEXLOWER.encode_append(key, &mut text);
    text.push('\n');
    let temporary = folder.join(format!(".exuvia-key-{}", HEXLOWER.encode(nonce)));
    write_new(&temporary, text.as_bytes())?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    match linked {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(e),
        // Some file systems have no hard links. There the key is written in place; a crash within
        // these few bytes leaves a file that is not a key, which is seen when it is read.
        Err(_) => write_new(path, text.as_bytes())?,
        Ok(()) => {}
    }
    File::open(folder)?.sync_all()
}

/// Makes a file with this text, readable by its owner only, and the folders above it. A file that is there stays
/// ([`io::ErrorKind::AlreadyExists`]).
pub(super) fn write_text(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    write_new(path, bytes)?;
    File::open(folder)?.sync_all()
}

/// Whether these bytes, without a line ending, are a generated key.
pub(super) fn is_key(bytes: &[u8]) -> bool {
    bytes.len() == 2 * KEY_BYTES && bytes.iter().all(u8::is_ascii_hexdigit)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_file_is_private_and_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c/exuvia/default.key");
        write(&file).unwrap();
        let key = fs::read(&file).unwrap();
        assert!(key.ends_with(b"\n") && is_key(&key[..64]));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file), 0o600);
        assert_eq!(mode(file.parent().unwrap()), 0o700);
        assert_eq!(write(&file).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&file).unwrap(), key);
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    }
}
