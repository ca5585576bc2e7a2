//! Full archives: a directory as one tar stream that is stored while it is made, and read back as it comes.
//!
//! They lie under `full/` of a repository (`format-spec/` section 16) and share nothing with its snapshots. What
//! decides whether an archive is whole is its mark, which is stored last: whatever cuts a run off, there is no mark.
//! Archives of other programs, which know no marks, are read from a place of their own.

mod archives;
mod create;
mod error;
mod export;
mod extract;
mod import;
mod laid;
mod links;
mod live;
mod open;
mod prune;
#[cfg(test)]
mod reading_tests;
mod restore;
mod store;
mod tape;
#[cfg(test)]
mod tests;
mod verify;

pub use self::archives::{Archives, Listed, Place, State};
pub use self::create::{CreateRequest, Created, create};
pub use self::error::Error;
pub use self::export::{ExportRequest, Exported, Target, export};
pub use self::import::{ImportRequest, Imported, Passed, import};
pub use self::prune::{Plan, plan, remove};
pub use self::restore::{RestoreRequest, Restored, restore};
pub use self::verify::{Verified, VerifyRequest, verify};
