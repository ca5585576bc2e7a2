//! All that is platform-specific about files: directory handles that never follow links, metadata
//! read and apply, extended attributes, sparse ranges, atomic writes, owner names.
//!
//! Two rules hold everywhere in here. A name given to a [`Dir`] is exactly one component, so that a
//! hostile name cannot leave its directory. And nothing below the path that the user typed is ever
//! reached through a symbolic link, so that a link planted in a tree cannot redirect a read or a write.

mod apply;
mod atomic;
mod dir;
mod holders;
mod listing;
mod lock;
mod lockfile;
mod mounts;
mod owner;
mod peer;
mod power;
mod process;
mod resolve;
#[cfg(test)]
mod scratch;
mod sparse;
mod stat;
mod system;
mod tree;
#[cfg(test)]
pub(crate) mod witness;
mod xattr;

#[cfg(test)]
mod tests;

pub use apply::{Times, set_mode, set_mode_at, set_owner, set_owner_at, set_times, set_times_at};
pub use atomic::{
    TempFile, create_private_dir_all, remove_empty_dirs, remove_file, remove_old_temporaries, sync_dir,
    write_atomic, write_new,
};
pub use dir::Dir;
pub use holders::{Holder, holders, is_running};
pub use listing::{Listing, NameKind};
pub use lock::Lock;
pub use lockfile::LockFile;
pub use owner::{OwnerNames, home_of};
pub use peer::is_our_peer;
pub use power::on_battery;
pub use process::{Process, give_way, own_session, stop_group};
pub use resolve::{resolve, resolve_ahead};
#[cfg(test)]
pub(crate) use scratch::scratch;
pub use sparse::data_ranges;
pub use stat::{FileKind, Stat, stat_file, stat_path};
#[cfg(all(test, target_os = "linux"))]
pub(crate) use system::without_privilege;
pub use system::{
    effective_uid, free_bytes, hostname, inherited_variables, is_privileged, machine_id,
    raise_open_file_limit, user_name,
};
pub use tree::remove_tree;
pub use xattr::{MAX_XATTR_NAMES, MAX_XATTR_TOTAL, MAX_XATTR_VALUE, read_xattrs, remove_xattr, set_xattr};
