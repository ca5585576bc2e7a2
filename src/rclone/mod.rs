//! Running rclone: which remote it is to reach, starting it, its version, its messages.
//!
//! [`Server`] is one long-lived `rclone serve restic --stdio`; [`command`] runs anything else once. What
//! rclone says is made sense of by pure functions ([`parse_line`], [`parse_listing`], [`classify`],
//! [`Version::parse`]), since all of it is input from outside.

mod environment;
mod fault;
mod http2;
mod known;
mod listing;
mod log;
mod once;
mod process;
mod server;
mod sums;
mod target;
mod version;

#[cfg(test)]
pub(crate) mod tests;

pub use environment::{Environment, REMOTE};
pub use fault::{Failure, Fault, Meaning, classify, meaning};
pub use known::{KNOWN_FAULTS, KnownFault, known_faults};
pub use listing::{BaseName, parse_listing};
pub use log::{Line, parse_line};
pub use once::{Output, command, version};
pub use server::{Answer, Ask, Posting, Problem, Server, path_of};
pub use sums::{has_sha256, sha256};
pub use target::{Secret, Settings, Target};
pub use version::Version;
