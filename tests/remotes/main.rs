//! Remotes that rclone reaches, on real servers of this machine: the contract, faults on the way, and the
//! program from outside. What a test needs and does not find makes it fail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

mod contract;
mod cycle;
mod denied;
mod faults;
mod full;
mod import;
mod proxy;
mod prune;
mod recovery;
mod servers;
#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../blackbox/support.rs"]
mod support;
