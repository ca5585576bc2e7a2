//! Content-addressed, encrypted, incremental snapshots of an application's state directory.
//!
//! The on-disk format is specified in `format-spec/`; this crate follows it. Modules form layers,
//! each importing only from those below it; `tests/architecture.rs` holds the table:
//!
//! | layer | modules |
//! |---|---|
//! | front doors | `cli`, `daemon` |
//! | use cases | `app`, `ops` |
//! | storage and input | `repo`, `gather`, `remote`, `full`, `format` |
//! | tools | `fs`, `chunk`, `rclone`, `crypto`, `config`, `report` |
//! | ground | `clock`, `model` |

pub mod app;
pub mod chunk;
pub mod cli;
pub mod clock;
pub mod config;
pub mod crypto;
pub mod daemon;
pub mod format;
pub mod fs;
pub mod full;
pub mod gather;
pub mod model;
pub mod ops;
pub mod rclone;
pub mod remote;
pub mod repo;
pub mod report;

#[cfg(test)]
mod simulation;
