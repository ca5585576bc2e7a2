//! Settings from the environment and from the configuration file, as plain values. What they mean
//! together with flags and defaults is decided by the front doors.

mod environment;
mod file;

pub use environment::Environment;
pub use file::{Config, ConfigError};
