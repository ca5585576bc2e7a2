//! Putting metadata onto files: by handle where there is one, else by directory and name, never
//! through a link.
//!
//! The order that works: owner, then mode (changing the owner clears set-id bits), then times.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Gid, Timespec, Timestamps, UTIME_OMIT, Uid};

use super::Dir;
use super::dir::permissions;
use crate::model::Timestamp;

/// Times to set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Last modification.
    pub modified: Timestamp,
    /// Last access; left as it is when `None`.
    pub accessed: Option<Timestamp>,
}

impl From<Timestamp> for Times {
    fn from(modified: Timestamp) -> Self {
        Self { modified, accessed: None }
    }
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

// Which of these conversions can fail depends on the system.
#[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)]
fn timespec(time: Timestamp) -> io::Result<Timespec> {
    if time.nanos >= 1_000_000_000 {
        // Larger numbers have meanings of their own: "now" and "leave it".
        return Err(invalid("nanoseconds out of range"));
    }
    let secs = time.secs.try_into().map_err(|_| invalid("time out of this system's range"))?;
    let nanos = time.nanos.try_into().map_err(|_| invalid("nanoseconds out of range"))?;
    Ok(Timespec { tv_sec: secs, tv_nsec: nanos })
}

fn timestamps(times: Times) -> io::Result<Timestamps> {
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let last_access = times.accessed.map(timespec).transpose()?.unwrap_or(omit);
    Ok(Timestamps { last_access, last_modification: timespec(times.modified)? })
}

fn ids(uid: u32, gid: u32) -> io::Result<(Option<Uid>, Option<Gid>)> {
    if uid == u32::MAX || gid == u32::MAX {
        // To the system it means "leave unchanged": a hostile snapshot must not make us believe
        // that an owner was set.
        return Err(invalid("owner id out of range"));
    }
    Ok((Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))))
}

/// Sets the owner and group of an open file or directory.
pub fn set_owner(file: impl AsFd, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = ids(uid, gid)?;
    Ok(rustix::fs::fchown(file, uid, gid)?)
}

/// Sets the owner and group of a name; of the link itself if it is one.
pub fn set_owner_at(dir: &Dir, name: &[u8], uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = ids(uid, gid)?;
    Ok(rustix::fs::chownat(dir, dir.checked(name)?, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Sets the mode of an open file or directory to the bits of `mode` that are in `mask`
/// (`0o777` drops set-id and sticky bits).
pub fn set_mode(file: impl AsFd, mode: u32, mask: u32) -> io::Result<()> {
    Ok(rustix::fs::fchmod(file, permissions(mode & mask))?)
}

/// Sets the mode of a fifo or device, which are not opened because that may block or act. A symbolic
/// link is refused: links have no mode of their own.
pub fn set_mode_at(dir: &Dir, name: &[u8], mode: u32, mask: u32) -> io::Result<()> {
    set_mode_unopened(dir, dir.checked(name)?, mode & mask)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_mode_unopened(dir: &Dir, name: &[u8], mode: u32) -> io::Result<()> {
    use rustix::fs::{CWD, FileType, Mode, OFlags};
    use std::os::fd::AsRawFd;

    // There is no fchmodat that does not follow links before Linux 6.6. A handle that only names the
    // file, and the way back to it through /proc, do the same on every kernel.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    let raw_mode = rustix::fs::fstat(&file)?.st_mode;
    if FileType::from_raw_mode(raw_mode) == FileType::Symlink {
        return Err(invalid("a symbolic link has no mode"));
    }
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::chmodat(CWD, path, permissions(mode), AtFlags::empty())?)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_mode_unopened(dir: &Dir, name: &[u8], mode: u32) -> io::Result<()> {
    Ok(rustix::fs::chmodat(dir, name, permissions(mode), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Sets the times of an open file or directory.
pub fn set_times(file: impl AsFd, times: Times) -> io::Result<()> {
    Ok(rustix::fs::futimens(file, &timestamps(times)?)?)
}

/// Sets the times of a name; of the link itself if it is one.
pub fn set_times_at(dir: &Dir, name: &[u8], times: Times) -> io::Result<()> {
    let times = timestamps(times)?;
    Ok(rustix::fs::utimensat(dir, dir.checked(name)?, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
