//! The program from outside: what it prints, how it exits, what it leaves behind. One binary, so that
//! the library is linked once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

mod auto_restore;
mod bench;
mod cli;
mod codes;
mod concurrent;
mod config;
mod crash;
mod daemon;
mod damage;
mod diff;
mod drill;
mod fidelity;
mod forget;
mod full;
mod golden;
mod health;
mod history;
mod incremental;
mod keys;
mod prune;
mod remote_config;
mod repair;
mod retention;
mod rollback;
mod scrub;
mod service;
mod setup;
mod shrink;
mod sources;
mod sqlite_live;
mod status;
mod support;
mod tree;
mod trigger;
mod writer;
