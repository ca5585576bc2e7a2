//! See the crate documentation for the place of this module.

pub mod sqlite;
