//! Where something is mounted. A bind mount may be of the same device as what is around it, and of a single
//! file, so that device numbers do not tell.

use std::io;

use super::{Dir, Stat};

impl Dir {
    /// True when something is mounted on this name: it can be neither replaced nor removed.
    ///
    /// Where the system cannot tell (Linux before 5.8 without `/proc`, and other systems), only what is
    /// mounted from another device is noticed.
    pub fn is_mount_point(&self, name: &[u8]) -> io::Result<bool> {
        let (above, here): (Stat, Stat) = (self.stat()?, self.stat_at(name)?);
        Ok(above.dev != here.dev || bind::is_mounted(self, name)?)
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod bind {
    use std::ffi::{CString, OsStr, OsString};
    use std::io;
    use std::os::fd::{AsFd, AsRawFd};
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use rustix::fs::{AtFlags, StatxFlags, statx};

    use super::Dir;

    /// The number of the mount through which a name is seen; `None` where the kernel does not tell.
    fn mount(dir: &Dir, name: &[u8], flags: AtFlags) -> io::Result<Option<u64>> {
        let name = CString::new(name)?;
        match statx(dir, &name, flags | AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID) {
            Ok(found) => {
                let told = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID);
                Ok(told.then_some(found.stx_mnt_id))
            }
            Err(rustix::io::Errno::NOSYS) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn is_mounted(dir: &Dir, name: &[u8]) -> io::Result<bool> {
        let above = mount(dir, b"", AtFlags::EMPTY_PATH)?;
        let here = mount(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if let (Some(above), Some(here)) = (above, here) {
            return Ok(above != here);
        }
        // Where there is no /proc, nobody knows.
        let Ok(mounts) = std::fs::read("/proc/self/mountinfo") else { return Ok(false) };
        let path = std::fs::read_link(format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd()));
        Ok(path.is_ok_and(|path| is_listed(&mounts, &path.join(OsStr::from_bytes(name)))))
    }

    /// True when `mountinfo` has something mounted on this path.
    pub(super) fn is_listed(mountinfo: &[u8], path: &Path) -> bool {
        // The fifth word; blanks and the like are escaped in octal.
        let place = |line: &[u8]| line.split(|&b| b == b' ').nth(4).map(unescape);
        mountinfo.split(|&b| b == b'\n').filter_map(place).any(|place| place == path)
    }

    fn unescape(word: &[u8]) -> PathBuf {
        let (mut bytes, mut rest) = (Vec::with_capacity(word.len()), word);
        while let [first, after @ ..] = rest {
            let octal = |digits: &[u8]| {
                let value = digits
                    .iter()
                    .try_fold(0u32, |value, digit| Some(value * 8 + char::from(*digit).to_digit(8)?))?;
                u8::try_from(value).ok()
            };
            match (first, after.split_at_checked(3).and_then(|(digits, rest)| Some((octal(digits)?, rest)))) {
                (b'\\', Some((byte, after))) => {
                    bytes.push(byte);
                    rest = after;
                }
                (byte, _) => {
                    bytes.push(*byte);
                    rest = after;
                }
            }
        }
        OsString::from_vec(bytes).into()
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod bind {
    pub(super) fn is_mounted(_: &super::Dir, _: &[u8]) -> std::io::Result<bool> {
        Ok(false)
    }
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn mount_points_are_told_from_what_is_beside_them() {
        let root = Dir::open(Path::new("/")).unwrap();
        assert!(root.is_mount_point(b"proc").unwrap());
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), b"").unwrap();
        std::fs::create_dir(dir.path().join("dir")).unwrap();
        std::os::unix::fs::symlink("/proc", dir.path().join("link")).unwrap();
        let here = Dir::open(dir.path()).unwrap();
        for name in [&b"file"[..], b"dir", b"link"] {
            assert!(!here.is_mount_point(name).unwrap(), "{}", name.escape_ascii());
        }
        assert!(here.is_mount_point(b"missing").is_err());
        assert!(here.is_mount_point(b"../x").is_err());
    }

    #[test]
    fn what_the_system_lists_is_understood() {
        let list = b"22 1 0:21 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
            40 22 0:21 /srv/a\\040b /state/with\\040blank\\134 rw - ext4 /dev/vda rw\n\
            41 22 0:21 /x /state/dir/file rw shared:9 master:2 - ext4 /dev/vda rw\n\
            short line\n";
        for (path, listed) in [
            ("/state/dir/file", true),
            ("/state/with blank\\", true),
            ("/", true),
            ("/state/dir", false),
            ("/state/dir/file/x", false),
            ("/srv/a b", false),
            ("line", false),
        ] {
            assert_eq!(bind::is_listed(list, Path::new(path)), listed, "{path}");
        }
        // As it is here and now.
        let now = std::fs::read("/proc/self/mountinfo").unwrap();
        assert!(bind::is_listed(&now, Path::new("/proc")));
        assert!(!bind::is_listed(&now, Path::new("/proc/self")));
    }
}
